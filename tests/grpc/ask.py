"""Calls METHOD of SERVICE, found by xDS, once for each line that it reads; writes who answered.

For the system test of the xDS server: gRPC's C-core as an application uses it.
"""

import sys

import grpc

service, method = sys.argv[1:]
channel = grpc.insecure_channel(f"xds:///{service}")
call = channel.unary_unary(method)
for _ in sys.stdin:
    try:
        # A message whose only field is a text: its tag, its length and the text.
        answer = call(b"", timeout=15)[2:].decode()
    except grpc.RpcError as error:
        answer = f"error: {error.code().name} {error.details()}"
    print(answer.replace("\n", " "), flush=True)

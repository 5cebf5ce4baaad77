"""Asks flags through the OpenFeature SDK, as an application would.

In, one line: {"provider": "ofrep" or "flagd", "host", "port", "key", "questions": [{"flag", "default", "context"}, …]}.
Out, one line: what the SDK answered, in order; and while the input stays open, another whenever the
provider tells of a change. The default's type says which of the SDK's methods is called.
"""

import json
import sys

from openfeature import api
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent


def provider(kind, host, port, key):
    if kind == "ofrep":
        headers = {"Authorization": f"Bearer {key}"}
        return OFREPProvider(f"http://{host}:{port}", headers_factory=lambda: headers)
    return FlagdProvider(resolver_type=ResolverType.IN_PROCESS, host=host, port=port, deadline_ms=30_000)


def answer(client, question):
    methods = {bool: client.get_boolean_details, str: client.get_string_details}
    context = dict(question["context"])
    context = EvaluationContext(context.pop("targetingKey", None), context)
    details = methods[type(question["default"])](question["flag"], question["default"], context)
    return {
        "value": details.value,
        "variant": details.variant,
        "reason": details.reason,
        "error": details.error_code,
        "revision": details.flag_metadata.get("revision"),
        "generation": details.flag_metadata.get("generation"),
    }


asked = json.loads(sys.stdin.readline())
api.set_provider_and_wait(provider(asked["provider"], asked["host"], asked["port"], asked["key"]))
client = api.get_client()


def tell(_=None):
    print(json.dumps([answer(client, question) for question in asked["questions"]]), flush=True)


tell()
api.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, tell)
sys.stdin.read()
api.shutdown()

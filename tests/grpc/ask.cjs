// Calls METHOD of SERVICE, found by xDS, once for each line that it reads; writes who answered.
// For the system test of the xDS server: grpc-js as an application uses it.

const readline = require('node:readline');
const grpc = require('@grpc/grpc-js');

require('@grpc/grpc-js-xds').register();

const [service, method] = process.argv.slice(2);
const client = new grpc.Client(`xds:///${service}`, grpc.credentials.createInsecure());
const bytes = (buffer) => buffer;

readline.createInterface({ input: process.stdin }).on('line', () => {
  const deadline = new Date(Date.now() + 15_000);
  client.makeUnaryRequest(method, bytes, bytes, Buffer.alloc(0), { deadline }, (error, answer) => {
    // A message whose only field is a text: its tag, its length and the text.
    console.log(error ? `error: ${error.message}` : answer.subarray(2).toString());
  });
}).on('close', () => process.exit(0));

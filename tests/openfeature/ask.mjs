// Asks flags through the OpenFeature SDK, as an application or a web page would.
//
// In, one line: {"provider": "ofrep", "flagd" or "web", "host", "port", "key", "questions": [{"flag", "default",
// "context"}, …]}. Out, one line: what the SDK answered, in order; and while the input stays open, another
// whenever the provider tells of a change. The default's type says which of the SDK's methods is called.

import { createInterface } from 'node:readline';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const asked = JSON.parse((await lines.next()).value);
const { host, port } = asked;
const headers = [['Authorization', `Bearer ${asked.key}`]];

async function server(provider) {
  const { OpenFeature, ProviderEvents } = await import('@openfeature/server-sdk');
  await OpenFeature.setProviderAndWait(provider);
  const client = OpenFeature.getClient();
  return { client, ProviderEvents, details: (method, question) => client[method](question.flag, question.default, question.context) };
}

// A page has one context at a time; all its flags are fetched when it changes.
async function web() {
  const { EventSource } = await import('eventsource');
  // A browser's own sends no headers: there, the page's origin adds the key.
  const withKey = (init) => ({ ...init, headers: { ...init.headers, ...Object.fromEntries(headers) } });
  const fetch = (url, init) => globalThis.fetch(url, withKey(init));
  globalThis.EventSource = class extends EventSource {
    constructor(url) {
      super(url, { fetch });
    }
  };
  const { OpenFeature, ProviderEvents } = await import('@openfeature/web-sdk');
  const { OFREPWebProvider } = await import('@openfeature/ofrep-web-provider');
  const baseUrl = `http://${host}:${port}`;
  const provider = new OFREPWebProvider({ baseUrl, headers, changeDetection: 'sse', cacheMode: 'disabled' });
  let known = asked.questions[0].context;
  await OpenFeature.setProviderAndWait(provider, known);
  const client = OpenFeature.getClient();
  const details = async (method, question) => {
    if (JSON.stringify(question.context) !== JSON.stringify(known)) {
      known = question.context;
      await OpenFeature.setContext(known);
    }
    return client[method](question.flag, question.default);
  };
  return { client, ProviderEvents, details };
}

async function sdk() {
  if (asked.provider === 'web') {
    return web();
  }
  if (asked.provider === 'ofrep') {
    const { OFREPProvider } = await import('@openfeature/ofrep-provider');
    return server(new OFREPProvider({ baseUrl: `http://${host}:${port}`, headers }));
  }
  const { FlagdProvider } = await import('@openfeature/flagd-provider');
  return server(new FlagdProvider({ resolverType: 'in-process', host, port }));
}

const { client, ProviderEvents, details } = await sdk();

async function tell() {
  const answers = [];
  for (const question of asked.questions) {
    const method = typeof question.default === 'boolean' ? 'getBooleanDetails' : 'getStringDetails';
    const { value, variant, reason, errorCode, flagMetadata } = await details(method, question);
    const { revision, generation } = flagMetadata;
    answers.push({ value, variant, reason, error: errorCode, revision, generation });
  }
  process.stdout.write(JSON.stringify(answers) + '\n');
}

await tell();
client.addHandler(ProviderEvents.ConfigurationChanged, tell);
await lines.next();
process.stdout.write('', () => process.exit(0));

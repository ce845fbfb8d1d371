// The official TypeScript SDK, with an OAuth provider. See common.py.

import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { Provider, address, converse, openBrowser, told } from './common.mjs';

const authProvider = await Provider.of('TypeScript SDK 2');
const client = new Client(
  { name: 'interop', version: '0' },
  { capabilities: { elicitation: { url: {} } }, versionNegotiation: { mode: 'auto' } },
);
client.setRequestHandler('elicitation/create', ({ params }) => {
  openBrowser(params.url);
  return { action: 'accept' };
});

let transport;
function connect() {
  transport = new StreamableHTTPClientTransport(new URL(address), { authProvider });
  return client.connect(transport);
}

/** Does something, and once more after the sign-in that it wants. */
async function signedIn(action) {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    await transport.finishAuth(await authProvider.parameters);
    return action();
  }
}

await signedIn(connect);
await converse(
  client.getNegotiatedProtocolVersion(),
  () => signedIn(() => client.listTools()),
  async (name, args) => told(await signedIn(() => client.callTool({ name, arguments: args }))),
);

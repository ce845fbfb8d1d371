// The official TypeScript SDK of the session era, with an OAuth provider. See common.py.

import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ElicitationCompleteNotificationSchema, UrlElicitationRequiredError } from '@modelcontextprotocol/sdk/types.js';
import { Provider, address, converse, openBrowser, told } from './common.mjs';

const authProvider = await Provider.of('TypeScript SDK 1');
const client = new Client({ name: 'interop', version: '0' }, { capabilities: { elicitation: { url: {} } } });
const waiting = new Map();
client.setNotificationHandler(ElicitationCompleteNotificationSchema, ({ params }) => waiting.get(params.elicitationId)?.());

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
    await transport.finishAuth((await authProvider.parameters).get('code'));
    return action();
  }
}

/** Where an address has to be opened first, it is, and the call is repeated when the server says that this is done. */
async function call(name, args) {
  const action = () => client.callTool({ name, arguments: args });
  try {
    return told(await signedIn(action));
  } catch (error) {
    if (!(error instanceof UrlElicitationRequiredError)) throw error;
    const over = error.elicitations.map(({ elicitationId }) => new Promise((done) => waiting.set(elicitationId, done)));
    error.elicitations.forEach(({ url }) => openBrowser(url));
    await Promise.all(over);
    return told(await signedIn(action));
  }
}

await signedIn(connect);
await converse(transport.protocolVersion, () => signedIn(() => client.listTools()), call);

// The official TypeScript SDK of the session era, with an OAuth provider. See common.py.

import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { UrlElicitationRequiredError } from '@modelcontextprotocol/sdk/types.js';
import { Provider, address, converse, openBrowser, told } from './common.mjs';

const authProvider = await Provider.of('TypeScript SDK 1');
const client = new Client({ name: 'interop', version: '0' }, { capabilities: { elicitation: { url: {} } } });

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

/** Where an address has to be opened first, it is, and the person calls again: what a stream would say may pass it by. */
async function call(name, args) {
  try {
    return told(await signedIn(() => client.callTool({ name, arguments: args })));
  } catch (error) {
    if (!(error instanceof UrlElicitationRequiredError)) throw error;
    error.elicitations.forEach(({ url }) => openBrowser(url));
    return { text: error.message, is_error: true };
  }
}

await signedIn(connect);
await converse(transport.protocolVersion, () => signedIn(() => client.listTools()), call);

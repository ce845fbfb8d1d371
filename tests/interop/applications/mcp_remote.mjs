// mcp-remote, which does all of a sign-in by itself for a client that can only start programs. That client is the official
// TypeScript SDK of the session era; it opens no addresses. See common.py.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { fileURLToPath } from 'node:url';
import { address, converse, told } from './common.mjs';

const program = fileURLToPath(new URL('node_modules/mcp-remote/dist/proxy.js', import.meta.url));
const client = new Client({ name: 'interop', version: '0' });
let version;
const transport = new StdioClientTransport({ command: process.execPath, args: [program, address], env: process.env });
transport.setProtocolVersion = (negotiated) => { version = negotiated; };
await client.connect(transport);
await converse(
  version, () => client.listTools(), async (name, args) => told(await client.callTool({ name, arguments: args })),
);

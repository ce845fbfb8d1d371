// What has reached an MCP server on Node, for `node --import`: as `seen.py` does, without a change to the server.
import { subscribe } from 'node:diagnostics_channel';
import { appendFileSync } from 'node:fs';

subscribe('http.server.request.start', ({ request }) => {
  const { method, url, rawHeaders } = request;
  const headers = [];
  for (let i = 0; i < rawHeaders.length; i += 2) headers.push([rawHeaders[i].toLowerCase(), rawHeaders[i + 1]]);
  appendFileSync(process.env.SEEN, `${JSON.stringify({ method, path: url, headers })}\n`);
});

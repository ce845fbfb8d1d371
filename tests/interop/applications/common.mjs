// What the applications have in common that are made in Node. See common.py.

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import readline from 'node:readline';

export const address = process.argv[2];

export function openBrowser(url) {
  const { status } = spawnSync(process.env.BROWSER, [String(url)], { stdio: 'ignore' });
  if (status !== 0) throw new Error('there is no browser');
}

function say(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

/**
 * The OAuth client provider of an application of an official SDK, and where the browser is sent back to. A person signs in
 * once, however many requests want it at the same time.
 */
export class Provider {
  static async of(name) {
    const provider = new Provider();
    provider.name = name;
    provider.server = http.createServer((request, response) => {
      response.setHeader('Content-Type', 'text/html');
      response.end('<link rel="icon" href="data:,"><title>Back in the application</title>');
      provider.come?.(new URL(request.url, provider.redirectUrl).searchParams);
    });
    provider.server.listen(0, '127.0.0.1');
    await once(provider.server, 'listening');
    return provider;
  }

  get redirectUrl() {
    return `http://127.0.0.1:${this.server.address().port}/callback`;
  }

  get clientMetadata() {
    return {
      client_name: this.name, redirect_uris: [this.redirectUrl], token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
    };
  }

  clientInformation() {
    return this.client;
  }

  saveClientInformation(client) {
    this.client = client;
  }

  tokens() {
    return this.saved;
  }

  saveTokens(tokens) {
    this.saved = tokens;
    this.come = undefined;
  }

  saveCodeVerifier(verifier) {
    if (!this.come) this.verifier = verifier;
  }

  codeVerifier() {
    return this.verifier;
  }

  invalidateCredentials(scope) {
    if (scope === 'all' || scope === 'client') this.client = undefined;
    if (scope === 'all' || scope === 'tokens') this.saved = undefined;
  }

  redirectToAuthorization(url) {
    if (this.come) return;
    this.parameters = new Promise((come) => { this.come = come; });
    openBrowser(url);
  }
}

/** The end of a call, of its result. */
export function told({ content, isError }) {
  return { text: content.map(({ text }) => text).join(''), is_error: Boolean(isError) };
}

/** Does what the input says, to its end. */
export async function converse(version, listTools, callTool) {
  say({ version });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { tool, arguments: args } = JSON.parse(line);
    try {
      say(tool ? await callTool(tool, args) : { tools: (await listTools()).tools.map(({ name }) => name) });
    } catch (error) {
      say({ error: String(error) });
    }
  }
  process.exit();
}

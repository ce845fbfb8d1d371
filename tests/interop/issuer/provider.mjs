// An OpenID provider as an operator has one, for the interoperability tests: oidc-provider with its own pages, on which
// people sign in under any name, and agree. It gives refresh tokens, and says when one is revoked.
//
//     node provider.mjs PORT '{client metadata}'
//
// The one client is registered by hand. The ID token says what its subject may do: see and call MCP servers.

import { Provider } from 'oidc-provider';

const [port, client] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const may = { permissions: ['mcp-servers:read', 'mcp-servers:invoke'] };
const provider = new Provider(issuer, {
  clients: [JSON.parse(client)],
  claims: { openid: ['sub', 'permissions'], profile: ['name'], email: ['email', 'email_verified'] },
  // Hawser reads the ID token, and not what is behind userinfo.
  conformIdTokenClaims: false,
  findAccount: (_ctx, sub) => ({
    accountId: sub,
    claims: () => ({ sub, name: sub, email: `${sub}@example.com`, email_verified: true, ...may }),
  }),
  // Cookies are those of a host, whatever the port: the issuer of the servers has the usual names.
  cookies: { names: { session: 'provider_session', interaction: 'provider_interaction', resume: 'provider_resume' } },
  pkce: { required: () => true },
  features: { revocation: { enabled: true } },
  issueRefreshToken: () => true,
});
provider.on('grant.revoked', (_ctx, grant) => console.log(JSON.stringify({ event: 'revoked', grant })));
for (const event of ['authorization.error', 'grant.error', 'server_error']) {
  provider.on(event, (_ctx, error) => console.error(event, error.error_description ?? error, error.error_detail ?? ''));
}
provider.listen(Number(port), '127.0.0.1', () => console.log(JSON.stringify({ event: 'ready', url: issuer })));

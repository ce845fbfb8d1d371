// An authorization server for the interoperability tests: oidc-provider, with a user who approves everything at once.
//
//     npm ci && node issuer.mjs [PORT]
//
// Settings, all by environment:
//   ACCESS_TOKENS  opaque (default) or jwt; JWTs can be neither introspected nor revoked, their refresh tokens can
//   ACCESS_TTL, REFRESH_TTL  seconds (600, 3600)
//   SCOPES         what it knows, the first being the default ("mcp:tools mcp:read")
//   WITHHELD       a scope that it knows and the user never grants
//   REGISTRATION   1 (default) or 0: dynamic registration (RFC 7591), with management (RFC 7592)
//   DOCUMENTS      1 (default) or 0: client ID metadata documents
//   REVOCATION     1 (default) or 0: the revocation endpoint
//   ORIGINS        {"https://made-up.test": "http://127.0.0.1:1234"}: where such a document, its id https, really is
//   CLIENTS        [{client metadata}]: pre-registered clients
// `rs` with the secret `rs-secret` may introspect every token. `login_hint=NAME` on the authorization URL makes NAME
// the user (default alice), and `login_hint=deny` makes the user refuse.
//
// For the tests alone:
//   GET /__log      every request: method, path, query, body, answer, status, location
//   GET /__tokens   every token answer ever given, and for which client, user, resource and grant
//   GET /__clients  the dynamically registered clients that exist now
//   POST /__fault   {"path": "/token", "times": 1, "delay": ms, "drop": true, "status": 503, "headers": {}, "body": ""}
//                   with status: answers that without doing anything; with drop: does the work and hangs up;
//                   with late: does the work and answers after so many ms
// A DELETE of /__log or /__fault empties it.

import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { Provider, errors, interactionPolicy } from 'oidc-provider';

const setting = (name, otherwise) => process.env[name] ?? otherwise;
const scopes = setting('SCOPES', 'mcp:tools mcp:read').split(' ');
const origins = JSON.parse(setting('ORIGINS', '{}'));
const accessTtl = Number(setting('ACCESS_TTL', '600'));

const log = [];
const tokens = [];
const faults = [];

/** The store of one kind of object. The library's own forgets the oldest beyond 1000, and cannot be listed. */
class Store {
  static kinds = new Map();

  constructor(kind) {
    this.rows = new Map();
    Store.kinds.set(kind, this);
  }

  async upsert(id, payload, expiresIn) {
    this.rows.set(id, { payload, ends: expiresIn ? Date.now() + expiresIn * 1000 : Infinity });
  }

  async find(id) {
    const row = this.rows.get(id);
    return row && row.ends > Date.now() ? row.payload : undefined;
  }

  async findByUid(uid) {
    return this.#first((payload) => payload.uid === uid);
  }

  async findByUserCode(userCode) {
    return this.#first((payload) => payload.userCode === userCode);
  }

  async consume(id) {
    this.rows.get(id).payload.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    this.rows.delete(id);
  }

  async revokeByGrantId(grantId) {
    for (const [id, { payload }] of this.rows) if (payload.grantId === grantId) this.rows.delete(id);
  }

  #first(matches) {
    return [...this.rows.values()].find(({ payload }) => matches(payload))?.payload;
  }
}

/** Nobody is ever asked: with no checks left, every request goes straight to its answer. */
function noQuestions() {
  const policy = interactionPolicy.base();
  for (const prompt of policy) prompt.checks.clear();
  return policy;
}

/** Each consent is a grant of its own, so that revoking one says nothing about another. */
async function approve(ctx) {
  const { oidc } = ctx;
  if (oidc.params.login_hint === 'deny') throw new errors.AccessDenied('the user said no');
  const grant = new provider.Grant({ accountId: oidc.account.accountId, clientId: oidc.client.clientId });
  grant.addOIDCScope([...oidc.requestParamOIDCScopes].join(' '));
  for (const resource of Object.keys(oidc.resourceServers)) {
    const granted = [...oidc.requestParamScopes].filter((scope) => scope !== setting('WITHHELD'));
    grant.addResourceScope(resource, granted.join(' '));
  }
  await grant.save();
  return grant;
}

function resourceServer(_ctx, resource) {
  const { hostname } = new URL(resource);
  if (!['127.0.0.1', 'localhost'].includes(hostname)) throw new errors.InvalidTarget();
  const accessTokenFormat = setting('ACCESS_TOKENS', 'opaque');
  return { scope: scopes.join(' '), audience: resource, accessTokenTTL: accessTtl, accessTokenFormat };
}

/** Fetches client ID metadata documents. The library's dispatcher lets no request reach loopback: it is left out. */
function fetchDocument(url, { dispatcher, ...options }) {
  const { origin, pathname, search } = new URL(url);
  if (!origins[origin]) throw new Error(`${origin} is not in ORIGINS`);
  return fetch(origins[origin] + pathname + search, options);
}

const server = http.createServer();
await new Promise((listening) => server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const withRegistration = setting('REGISTRATION', '1') === '1';
const introspector = {
  client_id: 'rs', client_secret: 'rs-secret', token_endpoint_auth_method: 'client_secret_basic',
  grant_types: [], response_types: [], redirect_uris: [],
};
const provider = new Provider(issuer, {
  adapter: Store,
  clients: [introspector, ...JSON.parse(setting('CLIENTS', '[]'))],
  scopes: ['offline_access', ...scopes],
  ttl: { AccessToken: accessTtl, RefreshToken: Number(setting('REFRESH_TTL', '3600')), AuthorizationCode: 60 },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  expiresWithSession: () => false,
  findAccount: (_ctx, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
  interactions: { policy: noQuestions() },
  loadExistingGrant: approve,
  fetch: fetchDocument,
  features: {
    devInteractions: { enabled: false },
    userinfo: { enabled: false },
    registration: { enabled: withRegistration },
    registrationManagement: { enabled: withRegistration, rotateRegistrationAccessToken: false },
    clientIdMetadataDocument: {
      enabled: setting('DOCUMENTS', '1') === '1', ack: 'draft-02', cacheDuration: { min: 0, max: 0 },
    },
    // A client can end its own tokens only; for another's the answer is 200 all the same.
    revocation: { enabled: setting('REVOCATION', '1') === '1', allowedPolicy: (_ctx, client, token) => token.clientId === client.clientId },
    introspection: {
      enabled: true, allowedPolicy: (_ctx, client, token) => ['rs', token.clientId].includes(client.clientId),
    },
    resourceIndicators: {
      enabled: true, getResourceServerInfo: resourceServer, useGrantedResource: () => true,
    },
  },
});
for (const place of ['authorization.', 'grant.', 'registration_create.', 'revocation.', 'server_']) {
  const event = `${place}error`;
  provider.on(event, (_ctx, error) => console.error(event, error.error_description ?? error, error.error_detail ?? ''));
}

/** Whoever comes is logged in already. */
const anySession = provider.Session.get.bind(provider.Session);
provider.Session.get = async (ctx) => {
  const session = await anySession(ctx);
  session.loginAccount({ accountId: ctx.query.login_hint || 'alice' });
  return session;
};

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks));
}

async function forTests(ctx, next) {
  const lists = {
    '/__log': () => log,
    '/__tokens': () => tokens,
    '/__clients': () => [...Store.kinds.get('Client').rows.keys()],
    '/__fault': () => faults,
  };
  if (ctx.path === '/__end') {
    const { token, grant } = await body(ctx.req);
    if (token) Store.kinds.get('AccessToken').rows.delete(token);
    for (const store of grant ? Store.kinds.values() : []) await store.revokeByGrantId(grant);
    ctx.status = 204;
    return undefined;
  }
  if (!(ctx.path in lists)) return next();
  if (ctx.method === 'POST' && ctx.path === '/__fault') faults.push({ times: 1, ...await body(ctx.req) });
  ctx.body = [...lists[ctx.path]()];
  if (ctx.method === 'DELETE') lists[ctx.path]().length = 0;
  return undefined;
}

async function logged(ctx, next) {
  const entry = { method: ctx.method, path: ctx.path, query: ctx.query };
  log.push(entry);
  try {
    await next();
  } finally {
    Object.assign(entry, {
      body: ctx.oidc?.body,
      status: ctx.status,
      location: ctx.response.get('location') || undefined,
      answer: ctx.path === '/token' || ctx.path.startsWith('/reg') ? ctx.body : undefined,
    });
  }
}

async function faulty(ctx, next) {
  const fault = faults.find(({ path, times }) => ctx.path === path && times > 0);
  if (!fault) return next();
  fault.times -= 1;
  if (fault.delay) await sleep(fault.delay);
  if (fault.status) {
    ctx.status = fault.status;
    ctx.set(fault.headers ?? {});
    ctx.body = fault.body ?? '';
    return undefined;
  }
  await next();
  if (fault.late) await sleep(fault.late);
  if (fault.drop) {
    ctx.respond = false;
    ctx.res.destroy();
  }
  return undefined;
}

/** A request without a scope gets the default one; the library would refuse it. */
async function defaultScope(ctx, next) {
  if (ctx.path === '/auth' && !ctx.query.scope) ctx.query = { ...ctx.query, scope: scopes[0] };
  return next();
}

async function listed(ctx, next) {
  await next();
  if (ctx.path !== '/token' || ctx.status !== 200) return;
  const { AccessToken, Client } = ctx.oidc.entities;
  tokens.push({
    clientId: Client.clientId,
    account: AccessToken.accountId,
    grantId: AccessToken.grantId,
    resource: AccessToken.aud,
    scope: AccessToken.scope,
    grantType: ctx.oidc.params.grant_type,
    accessToken: ctx.body.access_token,
    refreshToken: ctx.body.refresh_token,
  });
}

for (const middleware of [forTests, logged, faulty, defaultScope, listed]) provider.use(middleware);
server.on('request', provider.callback());
console.log(JSON.stringify({ event: 'ready', url: issuer }));

// The conformance suite cannot be given a credential for the server under test. For `node --import`: adds one to each
// request that the suite sends to Hawser, on its way out, and changes nothing else.
import { subscribe } from 'node:diagnostics_channel';

const { HAWSER_URL, HAWSER_TOKEN } = process.env;
const { origin, hostname } = new URL(HAWSER_URL);
const authorization = ['Authorization', `Bearer ${HAWSER_TOKEN}`];

// undici, which `fetch` is made of, and node:http.
subscribe('undici:request:create', ({ request }) => {
  if (request.origin === origin) request.addHeader(...authorization);
});
subscribe('http.client.request.created', ({ request }) => {
  if (request.host === hostname) request.setHeader(...authorization);
});

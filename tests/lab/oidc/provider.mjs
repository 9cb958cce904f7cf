// The OpenID provider of lineal's tests and lab: the certified `oidc-provider`. Beside it, under /lab, it
// does what no honest provider does: signs any claims, with any header, by any key, and replaces its keys at
// once. It listens on 127.0.0.1 alone, its keys exist only while it runs, and it is no part of the product.
//
// Installation, never in this folder, because node_modules is not committed: copy package.json,
// package-lock.json and this file into another directory and run `npm ci --ignore-scripts --no-audit
// --no-fund` there. Node 18 or newer.
//
//   node provider.mjs [--port N] [--ttl SECONDS] [--audience NAME] [--tls-key F --tls-cert F]
//
// With port 0, the default, the system chooses one. With a key and a certificate for 127.0.0.1 (PEM) the
// issuer's URL is https. When it listens it prints one line of JSON,
//   {"issuer", "token_endpoint", "mint_endpoint", "client_secret", "clients": […], "audience"},
// and it exits when its standard input closes.
//
// Valid tokens: POST token_endpoint, grant_type=client_credentials&client_id=NAME&client_secret=…
//   → {"access_token"}. The names, and whom their tokens are for:
//   nightly      contractor:dana's nightly job; names a CI run, so it can be used any number of times
//   release-bot  an employee's job
//   single-use   contractor:dana's one-off job; names no CI run
//   short-lived  like nightly, but expires after SHORT_LIVED_TTL_S
// Other tokens: POST /lab/mint with a JSON object, all of it optional → {"token"}:
//   "client": one of the names above, whose claims are the base
//   "claims", "header": members to add or replace; null removes one
//   "alg": "RS256" | … | "none" | "HS256"; the secret of HS256 is the public RSA key in PEM (key confusion)
//   "key": "current" | "foreign"; a foreign key is a new one that claims the current key's id
// POST /lab/rotate {"keep": true?} makes new keys; the JWKS keeps the old ones only if asked to.
// GET /lab/requests → {"/path": number of requests, …}, to count what a relying party fetched.

import { readFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { createHmac, randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { SignJWT, base64url, exportJWK, exportSPKI, generateKeyPair } from 'jose';
import Provider, { errors } from 'oidc-provider';

const SHORT_LIVED_TTL_S = 3;
const BODY_BYTES_MAX = 64 * 1024;
const ALGS = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'];
// No secret: the provider is reachable from this machine alone, and only the lab's agents accept its tokens.
const CLIENT_SECRET = 'lab-secret';

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    ttl: { type: 'string', default: '3600' },
    audience: { type: 'string', default: 'lineal' },
    'tls-key': { type: 'string' },
    'tls-cert': { type: 'string' },
  },
});
const ttl = Number(options.ttl);
const { audience } = options;
const tls = options['tls-key'] && {
  key: readFileSync(options['tls-key']),
  cert: readFileSync(options['tls-cert']),
};
// A resource indicator must be an absolute URI (RFC 8707 section 2); the token's audience is the plain name.
const RESOURCE = 'urn:lineal:lab';

let runs = 1000;
const CLAIMS = {
  nightly: () => ({
    sub: 'contractor:dana',
    repository: 'acme/shop',
    job: 'nightly',
    run_id: String(runs += 1),
    run_attempt: '1',
    groups: ['contractors'],
    employment: 'contractor',
  }),
  'release-bot': () => ({
    sub: 'employee:release-bot',
    repository: 'acme/shop',
    job: 'release',
    run_id: String(runs += 1),
    run_attempt: '1',
    groups: ['employees', 'release'],
    employment: 'employee',
  }),
  'single-use': () => ({
    sub: 'contractor:dana',
    repository: 'acme/shop',
    job: 'one-off',
    groups: ['contractors'],
    employment: 'contractor',
  }),
};
CLAIMS['short-lived'] = CLAIMS.nightly;

let keys;
let handle;
let issuer;
const requests = {};

async function generateKeys() {
  const made = {};
  for (const alg of ALGS) {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
    const kid = `${alg}-${randomUUID()}`;
    const jwk = { ...(await exportJWK(privateKey)), alg, kid, use: 'sig' };
    made[alg] = { alg, kid, privateKey, publicKey, jwk };
  }
  return made;
}

// `oidc-provider` cannot change its keys, so a rotation puts a new provider behind the same listener.
function provide(jwks) {
  const provider = new Provider(issuer, {
    jwks: { keys: jwks },
    clients: Object.keys(CLAIMS).map((client_id) => ({
      client_id,
      client_secret: CLIENT_SECRET,
      token_endpoint_auth_method: 'client_secret_post',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    })),
    cookies: { keys: [randomUUID()] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        getResourceServerInfo(ctx, resource, client) {
          if (resource !== RESOURCE) {
            throw new errors.InvalidTarget();
          }
          return {
            scope: '',
            audience,
            accessTokenFormat: 'jwt',
            accessTokenTTL: client.clientId === 'short-lived' ? SHORT_LIVED_TTL_S : ttl,
            jwt: { sign: { alg: 'RS256' } },
          };
        },
      },
    },
    formats: {
      customizers: {
        // CI systems issue ID tokens to jobs, but the grant for machines yields access tokens. So the token
        // is made to look like a CI system's: its type is JWT, and its subject and claims are the job's.
        jwt(ctx, token, jwt) {
          jwt.header = { typ: 'JWT' };
          Object.assign(jwt.payload, CLAIMS[token.clientId]());
          jwt.payload.nbf = jwt.payload.iat;
        },
      },
    },
  });
  return provider.callback();
}

async function rotate(keep) {
  const old = keep ? Object.values(keys ?? {}) : [];
  keys = await generateKeys();
  handle = provide([...Object.values(keys), ...old].map(({ jwk }) => jwk));
}

function merge(base, changes = {}) {
  return Object.fromEntries(Object.entries({ ...base, ...changes }).filter(([, value]) => value !== null));
}

async function mint({ client = 'nightly', claims, header, alg = 'RS256', key = 'current' }) {
  const now = Math.floor(Date.now() / 1000);
  const payload = merge(
    {
      iss: issuer,
      aud: audience,
      iat: now,
      nbf: now,
      exp: now + ttl,
      jti: randomUUID(),
      ...CLAIMS[client](),
    },
    claims,
  );
  const signer = keys[alg] ?? keys.RS256;
  const protectedHeader = merge({ alg, typ: 'JWT', kid: signer.kid }, header);
  if (alg === 'none' || alg.startsWith('HS')) {
    const parts = [protectedHeader, payload].map((part) => base64url.encode(JSON.stringify(part))).join('.');
    const secret = await exportSPKI(signer.publicKey);
    const signed = () => createHmac(`sha${alg.slice(2)}`, secret).update(parts).digest('base64url');
    const signature = alg === 'none' ? '' : signed();
    return `${parts}.${signature}`;
  }
  const { privateKey } = key === 'foreign' ? await generateKeyPair(alg) : signer;
  return new SignJWT(payload).setProtectedHeader(protectedHeader).sign(privateKey);
}

async function readJson(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) {
      throw new Error(`a request body has at most ${BODY_BYTES_MAX} bytes`);
    }
    chunks.push(chunk);
  }
  return bytes === 0 ? {} : JSON.parse(Buffer.concat(chunks).toString('utf8'));
}

const LAB = {
  'POST /lab/mint': async (body) => ({ token: await mint(body) }),
  'POST /lab/rotate': async (body) => {
    await rotate(body.keep === true);
    return { kid: keys.RS256.kid };
  },
  'GET /lab/requests': async () => requests,
};

async function answerRequest(request, response) {
  const { pathname } = new URL(request.url, 'http://lab');
  const answer = LAB[`${request.method} ${pathname}`];
  if (!answer) {
    requests[pathname] = (requests[pathname] ?? 0) + 1;
    handle(request, response);
    return;
  }
  try {
    const body = JSON.stringify(await answer(await readJson(request)));
    response.writeHead(200, { 'content-type': 'application/json' }).end(body);
  } catch (error) {
    const body = JSON.stringify({ error: error.message });
    response.writeHead(400, { 'content-type': 'application/json' }).end(body);
  }
}

const server = tls ? createHttpsServer(tls, answerRequest) : createHttpServer(answerRequest);
server.listen(Number(options.port), '127.0.0.1', async () => {
  issuer = `${tls ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;
  await rotate(false);
  console.log(JSON.stringify({
    issuer,
    token_endpoint: `${issuer}/token`,
    mint_endpoint: `${issuer}/lab/mint`,
    client_secret: CLIENT_SECRET,
    clients: Object.keys(CLAIMS),
    audience,
  }));
});
process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();

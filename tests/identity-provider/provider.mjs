// A certified OpenID provider on a free loopback port, for the tests. It prints its URL once it listens.
//
// Anyone signs in with any name and password; the groups are those of `people`. A client for each signature
// algorithm asks for ID tokens, and so does `pages`; `etl-<algorithm>` are programs that ask for access tokens; `login...` are
// command lines, of which `login-brief` gets first tokens that end soon, and `login-hasty` device codes that do. Each refresh is
// printed.

import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';

const people = {
  alice: { name: 'Alice Example', groups: ['engineering'] },
  bob: { name: 'Bob Example', groups: ['dba', 'engineering'] },
  carol: { name: 'Carol Example', groups: ['dba'] },
  dave: { name: 'Dave Example', groups: ['dba'] },
};
const algorithms = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'];
const audience = 'countersign';

function key(alg, type, options, kid = alg) {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg };
}

function web(alg) {
  return {
    client_id: `web-${alg}`,
    client_secret: 'web-secret',
    application_type: 'native',
    redirect_uris: ['http://127.0.0.1/callback'],
    grant_types: ['authorization_code'],
    id_token_signed_response_alg: alg,
  };
}

function etl(alg) {
  return {
    client_id: `etl-${alg}`,
    client_secret: 'etl-secret',
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
  };
}

const deviceCode = 'urn:ietf:params:oauth:grant-type:device_code';

function login(client_id) {
  return {
    client_id,
    token_endpoint_auth_method: 'none',
    application_type: 'native',
    redirect_uris: ['http://127.0.0.1/callback'],
    grant_types: ['authorization_code', 'refresh_token', deviceCode],
    id_token_signed_response_alg: 'RS256',
  };
}

const lifetimes = {
  IdToken: (ctx, _token, client) =>
    client.clientId === 'login-brief' && ctx.oidc.params.grant_type !== 'refresh_token' ? 50 : 3600,
  DeviceCode: (_ctx, _code, client) => (client.clientId === 'login-hasty' ? 2 : 600),
};

// The gateway's pages: on whatever port the gateway of a test is.
const pages = {
  ...web('RS256'),
  client_id: 'pages',
  client_secret: 'pages-secret',
  redirect_uris: ['http://127.0.0.1/sign-in/callback'],
};

const configuration = {
  clients: [
    ...algorithms.map(web),
    ...algorithms.map(etl),
    ...['login', 'login-brief', 'login-hasty'].map(login),
    pages,
  ],
  ttl: lifetimes,
  jwks: {
    keys: [
      key('RS256', 'rsa', { modulusLength: 2048 }),
      key('PS256', 'rsa', { modulusLength: 2048 }),
      key('ES256', 'ec', { namedCurve: 'P-256' }),
      key('ES384', 'ec', { namedCurve: 'P-384' }),
      key('EdDSA', 'ed25519', {}),
    ],
  },
  enabledJWA: { idTokenSigningAlgValues: algorithms },
  cookies: { keys: ['for tests only'] },
  conformIdTokenClaims: false,
  claims: { openid: ['sub', 'groups', 'preferred_username', 'name', 'email', 'email_verified'] },
  findAccount: (_ctx, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      preferred_username: id,
      email: `${id}@example.com`,
      email_verified: true,
      groups: [],
      ...people[id],
    }),
  }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true, charset: 'base-20', mask: '****-****' },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_ctx, resource, client) => ({
        scope: '',
        audience: resource === 'urn:countersign' ? audience : 'something-else',
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: client.clientId.replace('etl-', '') } },
      }),
    },
  },
  extraTokenClaims: () => ({ groups: ['batch'] }),
};

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  provider.on('grant.success', (ctx) => {
    if (ctx.oidc.params.grant_type === 'refresh_token') console.log('refreshed');
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
// The test holds the other end of standard input: when it is gone, so is this.
process.stdin.on('end', () => process.exit(0)).resume();

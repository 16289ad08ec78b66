// What the sandbox says of itself, and what stands between it and the client.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';

import { test } from '../harness.mjs';

// They stand among the waiting rows for that.
const NEVER_RAISED = [
  'CodeExecutionError',
  'CommandExecutionError',
  'NetworkError',
  'NotFoundError',
  'ResourceLimitError',
  'TemplateNotFoundError',
  'TimeoutError',
  'ValidationError',
];

test('facts about the sandbox', ['Sandbox.getHealth', 'Sandbox.getAgentInfo'], async (t) => {
  const sandbox = await t.create();
  const health = await sandbox.getHealth();
  assert.deepEqual([health.status, health.vm_id], ['healthy', sandbox.sandboxId]);
  assert.ok(health.version && health.features.code_execution && health.features.languages.includes('go'));
  const info = await sandbox.getAgentInfo();
  assert.deepEqual([info.agent, info.vm_id, info.os], ['atoll', sandbox.sandboxId, 'linux']);
  assert.ok(info.endpoints.execute);
});

test('figures move with what runs', ['Sandbox.getMetricsSnapshot', 'Sandbox.getAgentMetrics'], async (t) => {
  const sandbox = await t.create();
  const before = await sandbox.getMetricsSnapshot();
  await sandbox.runCode('true', { language: 'bash' });
  const after = await sandbox.getAgentMetrics();
  assert.ok(after.total_executions > before.total_executions);
  assert.ok(after.uptime_seconds >= before.uptime_seconds);
  const { cpu, memory, disk } = after.system;
  assert.ok([cpu, memory, disk].every((each) => each.usage_percent >= 0));
  await sandbox.commands.runBackground('exec sleep 60');
  assert.equal((await sandbox.getMetricsSnapshot()).process.count, 1);
  assert.equal(typeof after.cache.size, 'number');
});

test('the cache answers', ['Sandbox.cache', 'Cache.stats', 'Cache.clear'], async (t) => {
  const { cache } = await t.create();
  const stats = await cache.stats();
  assert.equal(typeof stats.cache.size, 'number');
  assert.ok(stats.timestamp);
  assert.ok((await cache.clear()).message);
});

test('without a desktop every call says so at once', ['DesktopNotAvailableError'], async (t) => {
  const { desktop } = await t.create();
  for (const call of [
    () => desktop.screenshot(),
    () => desktop.startVnc(),
    () => desktop.mouseMove(1, 2),
    () => desktop.listWindows(),
  ]) {
    const took = [];
    for (let round = 0; round < 5; round += 1) {
      const begun = performance.now();
      const error = await t.raises('DesktopNotAvailableError', call);
      took.push(performance.now() - begun);
      assert.ok(error.requestId);
    }
    assert.ok(Math.min(...took) < 900, 'it waits a second before it repeats a call, each time');
  }
});

test('a wrong key is refused', ['AuthenticationError'], async (t) => {
  for (const apiKey of ['nonsense', `hopx_live_${'0'.repeat(40)}`]) {
    const error = await t.raises('AuthenticationError', () =>
      t.sdk.Sandbox.create({ template: 'base', ...t.account, apiKey }),
    );
    assert.equal(error.statusCode, 401);
  }
});

test('too many calls are refused with a reason', ['RateLimitError'], async (t) => {
  const account = { ...t.open, apiKey: t.place.facts.ATOLL_LIMITED_KEY };
  const call = () => t.sdk.Sandbox.listTemplates(account);
  await call();
  const error = await t.raises('RateLimitError', () => call().then(call));
  assert.equal(error.statusCode, 429);
  assert.ok(error.requestId);
});

test('a token that has expired is told from a wrong one', ['TokenExpiredError', 'AuthenticationError'], async (t) => {
  const sandbox = await t.create();
  const { publicHost: baseURL } = await sandbox.getInfo();
  const past = Math.floor(Date.now() / 1000) - 60;
  const expired = signed(
    { sub: sandbox.sandboxId, iat: past - 60, exp: past, jti: 'x' },
    t.place.facts.ATOLL_TOKEN_KEY,
  );
  const agent = (jwtToken) => new t.sdk.HTTPClient({ baseURL, jwtToken, maxRetries: 1 });
  await t.raises('TokenExpiredError', () => agent(expired).get('/info'));
  await t.raises('AuthenticationError', () => agent(`${expired}x`).get('/info'));
});

test(
  'a refused token is refreshed and the call repeated',
  ['HTTPClient.get', 'HTTPClient.updateJwtToken'],
  async (t) => {
    const sandbox = await t.create();
    const { publicHost: baseURL } = await sandbox.getInfo();
    const good = await sandbox.getToken();
    // Made with a token it would go on sending that one, whatever it was given since.
    const http = new t.sdk.HTTPClient({ baseURL, apiKey: 'nonsense', tokenRefreshCallback: async () => good });
    http.updateJwtToken('eyJ.wrong');
    assert.equal((await http.get('/info', { timeout: 9000 })).vm_id, sandbox.sandboxId);
  },
);

test(
  'the transport speaks every method',
  ['HTTPClient.get', 'HTTPClient.post', 'HTTPClient.put', 'HTTPClient.patch', 'HTTPClient.delete'],
  async (t) => {
    const sandbox = await t.create();
    const { publicHost: baseURL } = await sandbox.getInfo();
    const http = new t.sdk.HTTPClient({ baseURL, jwtToken: await sandbox.getToken() });
    const config = { timeout: 9000 };
    assert.equal((await http.put('/env', { env_vars: { A: '1' } }, config)).env_vars.A, '1');
    assert.equal((await http.patch('/env', { env_vars: { B: '2' }, merge: true }, config)).env_vars.A, '1');
    assert.equal((await http.post('/execute', { code: 'echo $A$B', language: 'bash' }, config)).stdout, '12\n');
    await http.delete('/env', config);
    assert.equal((await http.get('/env', config)).env_vars.A, undefined);
  },
);

test('errors that the package exports and never raises are only these', [], async (t) => {
  const unraised = Object.entries(t.sdk)
    .filter(
      ([name, value]) =>
        value.prototype instanceof Error && !new RegExp(`throw new ${name}\\(`).test(t.place.sdk.source),
    )
    .map(([name]) => name);
  assert.deepEqual(unraised, NEVER_RAISED);
});

function signed(claims, keyHex) {
  const encoded = [{ alg: 'HS256', typ: 'JWT' }, claims].map((each) =>
    Buffer.from(JSON.stringify(each)).toString('base64url'),
  );
  const signature = createHmac('sha256', Buffer.from(keyHex, 'hex')).update(encoded.join('.')).digest('base64url');
  return [...encoded, signature].join('.');
}

// Who a sandbox may reach, and who may reach it. Plain HTTP: a client's words for it are the question here.

import assert from 'node:assert/strict';

import { test } from '../../js/harness.mjs';
import { echo } from '../e2b.mjs';

const CURL = "curl -s -o /dev/null -w '%{http_code}' --connect-timeout 3 --max-time 5";

async function status(sandbox, url) {
  const { stdout } = await sandbox.commands.run(`${CURL} ${url} || echo -n no`);
  return stdout.endsWith('no') ? null : Number(stdout);
}

test(
  'lists say what a sandbox reaches',
  ['Sandbox.create', 'Sandbox#updateNetwork', 'Sandbox.updateNetwork', 'Sandbox#getInfo'],
  async (t) => {
    t.needs(t.has('Sandbox.create', 'network.rules'));
    const { ALL_TRAFFIC } = t.sdk;
    const network = {
      allowOut: ({ rules }) => ['google.com', ...rules.keys()],
      denyOut: ({ allTraffic }) => [allTraffic],
      rules: { 'httpbin.e2b.team': [{ transform: { headers: { 'X-Test-Token': 'set' } } }] },
      allowPublicTraffic: true,
    };
    const sandbox = await t.create({ network, allowInternetAccess: true });
    assert.deepEqual(
      [await status(sandbox, 'http://google.com'), await status(sandbox, 'http://github.com')],
      [200, null],
    );
    const told = await sandbox.commands.run('curl -s http://httpbin.e2b.team/headers');
    assert.equal(JSON.parse(told.stdout).headers['X-Test-Token'], 'set');
    const { network: shown } = await sandbox.getInfo();
    assert.deepEqual([shown.allowOut, shown.denyOut], [['google.com', 'httpbin.e2b.team'], [ALL_TRAFFIC]]);
    assert.deepEqual(shown.rules, network.rules);

    await sandbox.updateNetwork({ allowOut: ['github.com'], denyOut: [ALL_TRAFFIC], rules: {} });
    assert.deepEqual(
      [await status(sandbox, 'http://google.com'), await status(sandbox, 'http://github.com')],
      [null, 200],
    );
    await t.sdk.Sandbox.updateNetwork(sandbox.sandboxId, { allowInternetAccess: false });
    assert.equal(await status(sandbox, 'http://github.com'), null);
    await sandbox.updateNetwork({ allowInternetAccess: true });
    assert.equal(await status(sandbox, 'http://google.com'), 200);
    await t.sdk.Sandbox.updateNetwork(sandbox.sandboxId, {
      allowOut: ['httpbin.e2b.team'],
      denyOut: [ALL_TRAFFIC],
      rules: new Map([['httpbin.e2b.team', [{ transform: { headers: { 'X-Test-Token': 'anew' } } }]]]),
    });
    const anew = await sandbox.commands.run('curl -s http://httpbin.e2b.team/headers');
    assert.equal(JSON.parse(anew.stdout).headers['X-Test-Token'], 'anew');
  },
);

test('addresses that a sandbox may reach', ['Sandbox.create'], async (t) => {
  const sandbox = await t.create({ network: { allowOut: ['8.8.8.8'], denyOut: ['0.0.0.0/0'] } });
  assert.deepEqual([await status(sandbox, 'http://8.8.8.8'), await status(sandbox, 'http://1.1.1.1')], [302, null]);
});

test(
  'a proxy carries what a sandbox sends',
  ['Sandbox.create', 'Sandbox#updateNetwork', 'Sandbox.updateNetwork'],
  async (t) => {
    t.needs(t.has('Sandbox#updateNetwork', 'network.egressProxy') || t.has('Sandbox.create', 'network.egressProxy'));
    const egressProxy = { address: t.facts.ATOLL_SOCKS };
    const sandbox = await t.create({ network: { egressProxy } });
    assert.equal(await status(sandbox, 'http://google.com'), 200);
    assert.deepEqual((await sandbox.getInfo()).network.egressProxy, egressProxy);
    const dead = { egressProxy: { address: t.facts.ATOLL_NO_SOCKS, username: 'u', password: 'p' } };
    await sandbox.updateNetwork(dead);
    assert.notEqual(await status(sandbox, 'http://google.com'), 200);
    await t.sdk.Sandbox.updateNetwork(sandbox.sandboxId, { egressProxy });
    assert.equal(await status(sandbox, 'http://google.com'), 200);
  },
);

test(
  'a rule sets a secret that the sandbox never sees',
  ['Sandbox.create', 'Secret.fill', 'Secret.create'],
  async (t) => {
    const { Secret } = t.sdk;
    t.needs(t.has('Secret.fill'));
    const name = t.unique('TOKEN').replaceAll('-', '_');
    await Secret.create(name, 'the value');
    t.afterwards(() => Secret.destroy(name));
    const headers = { Authorization: `Bearer ${Secret.fill(name)}` };
    const sandbox = await t.create({ network: { rules: { 'httpbin.e2b.team': [{ transform: { headers } }] } } });
    const told = await sandbox.commands.run('curl -s http://httpbin.e2b.team/headers');
    assert.equal(JSON.parse(told.stdout).headers.Authorization, 'Bearer the value');
    assert.equal((await sandbox.commands.run('env | grep -c "the value" || true')).stdout, '0\n');
  },
);

test('its ports are reached, with the host that is asked for', ['Sandbox.create', 'Sandbox.getHost'], async (t) => {
  const sandbox = await t.create({ network: { maskRequestHost: 'localhost:${PORT}' } });
  await echo(sandbox, 3000);
  const host = sandbox.getHost(3000);
  assert.match(host, new RegExp(`^3000-${sandbox.sandboxId}\\.`));
  const headers = await (await t.reach(sandbox, 3000)).json();
  assert.equal(headers.host, 'localhost:3000');
  const closed = await t.reach(sandbox, 3001);
  assert.deepEqual(
    [closed.status, (await closed.json()).message],
    [502, 'The sandbox is running but port is not open'],
  );
});

test('its ports are closed to those without its token', ['Sandbox.create'], async (t) => {
  const sandbox = await t.create({ network: { allowPublicTraffic: false } });
  await echo(sandbox, 8080);
  const header = 'e2b-traffic-access-token';
  const answers = [{}, { [header]: 'wrong' }, { [header]: sandbox.trafficAccessToken }].map((each) =>
    t.reach(sandbox, 8080, each),
  );
  assert.deepEqual(
    (await Promise.all(answers)).map((each) => each.status),
    [403, 403, 200],
  );
  const { network } = await sandbox.getInfo();
  if (t.tellsAll) assert.equal(network.allowPublicTraffic, false);
});

test('a port that speaks TLS itself', ['Sandbox.create'], async (t) => {
  if (!t.has('Sandbox.create', 'network.httpsPorts')) return t.called.add('Sandbox.create');
  const sandbox = await t.create({ network: { httpsPorts: [8443] } });
  await echo(sandbox, 8443, true);
  assert.equal((await t.reach(sandbox, 8443)).status, 200);
});

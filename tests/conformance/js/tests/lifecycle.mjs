// The life of a sandbox, as the control plane tells it.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

import { test } from '../harness.mjs';

const UNKNOWN = 'zzzzzzzzzzzzzzzzzzzz';

const ids = (sandboxes) => sandboxes.map((each) => each.sandboxId);

async function collect(generator) {
  const found = [];
  for await (const each of generator) found.push(each);
  return found;
}

test(
  'create takes every option, and info shows them',
  ['Sandbox.create', 'Sandbox.getInfo', 'Sandbox.env'],
  async (t) => {
    const begun = Date.now();
    const sandbox = await t.create({
      region: 'local',
      timeout: 60,
      timeoutSeconds: 300,
      internetAccess: false,
      envVars: { GREETING: 'hei', EMPTY: '' },
    });
    const info = await sandbox.getInfo();
    assert.equal(info.sandboxId, sandbox.sandboxId);
    assert.deepEqual([info.templateName, info.region, info.status], ['base', 'local', 'running']);
    assert.ok(info.templateId);
    assert.ok(info.nodeId);
    assert.equal(typeof info.organizationId, 'number');
    assert.equal(info.publicHost, info.directUrl);
    assert.deepEqual([info.timeoutSeconds, info.internetAccess], [300, false]);
    assert.ok(Math.abs(Date.parse(info.createdAt) - begun) < 60_000);
    assert.ok(Math.abs(Date.parse(info.expiresAt) - begun - 300_000) < 60_000);
    const { vcpu, memoryMb, diskMb } = info.resources;
    assert.ok(vcpu > 0 && memoryMb > 0 && diskMb > 0);
    assert.deepEqual([info.vcpu, info.memoryMb, info.diskGb], [vcpu, memoryMb, Math.round(diskMb / 1024)]);
    assert.equal(await sandbox.env.get('GREETING'), 'hei');
    assert.equal(await sandbox.env.get('EMPTY'), '');
  },
);

test('create takes a template by its id', ['Sandbox.create'], async (t) => {
  const { id } = await t.sdk.Sandbox.getTemplate('base', t.account);
  const info = await (await t.create({ templateId: id })).getInfo();
  assert.deepEqual([info.templateName, info.timeoutSeconds ?? null], ['base', null]);
});

test('create waits for an answer as long as its timeout says', ['Sandbox.create', 'APIError'], async (t) => {
  let asked = 0;
  const silent = createServer(() => (asked += 1)).listen(0, '127.0.0.1');
  t.afterwards(async () => silent.closeAllConnections());
  await once(silent, 'listening');
  const baseURL = `http://127.0.0.1:${silent.address().port}`;
  const error = await t.raises('APIError', () => t.sdk.Sandbox.create({ template: 'base', baseURL, timeout: 1.5 }));
  assert.match(error.message, /timeout of 1500ms exceeded/);
  assert.equal(asked, 3, 'the client tries three times');
});

test('an impossible sandbox is refused with the reason', ['APIError', 'FileNotFoundError'], async (t) => {
  for (const wrong of [{ timeoutSeconds: 10 ** 7 }, { timeoutSeconds: 0 }, { envVars: { 'A=B': 'c' } }]) {
    const error = await t.raises('APIError', () => t.create(wrong));
    assert.deepEqual([error.statusCode, error.code], [400, 'INVALID_REQUEST']);
    assert.ok(error.requestId);
  }
  // It has this class for whatever is not found, unless that is a sandbox.
  const error = await t.raises('FileNotFoundError', () => t.create({ template: 'no-such-template' }));
  assert.match(error.message, /no-such-template/);
});

test('connect gives the same sandbox', ['Sandbox.connect', 'SandboxExpiredError'], async (t) => {
  const { apiKey, baseURL } = t.account;
  const sandbox = await t.create();
  await sandbox.files.write('/workspace/mark', 'here');
  const again = await t.sdk.Sandbox.connect(sandbox.sandboxId, apiKey, baseURL);
  assert.equal(await again.files.read('/workspace/mark'), 'here');
  const error = await t.raises('SandboxExpiredError', () => t.sdk.Sandbox.connect(UNKNOWN, apiKey, baseURL));
  assert.equal(error.statusCode, 410, 'its own number for a 404');
});

test('connect resumes a paused sandbox and refuses a stopped one', ['Sandbox.connect', 'Sandbox.pause'], async (t) => {
  const { apiKey, baseURL } = t.account;
  const sandbox = await t.create();
  await sandbox.pause();
  const again = await t.sdk.Sandbox.connect(sandbox.sandboxId, apiKey, baseURL);
  assert.equal((await again.getInfo()).status, 'running');
  assert.ok(await again.isHealthy());
  assert.equal((await t.request(`/v1/sandboxes/${sandbox.sandboxId}/stop`, { method: 'POST' })).status, 200);
  await assert.rejects(t.sdk.Sandbox.connect(sandbox.sandboxId, apiKey, baseURL), /stopped/);
});

test('list and iter find it by status and region', ['Sandbox.list', 'Sandbox.iter'], async (t) => {
  const { Sandbox } = t.sdk;
  const { sandboxId } = await t.create();
  assert.ok(ids(await Sandbox.list({ ...t.account, status: 'running', region: 'local' })).includes(sandboxId));
  assert.ok(!ids(await Sandbox.list({ ...t.account, status: 'paused' })).includes(sandboxId));
  assert.equal((await Sandbox.list({ ...t.account, limit: 1 })).length, 1);
  assert.ok(ids(await collect(Sandbox.iter({ ...t.account, status: 'running', region: 'local' }))).includes(sandboxId));
  assert.ok(!ids(await collect(Sandbox.iter({ ...t.account, status: 'paused' }))).includes(sandboxId));
});

test('a listed sandbox can be used', ['Sandbox.list'], async (t) => {
  const { sandboxId } = await t.create();
  const listed = (await t.sdk.Sandbox.list(t.account)).find((each) => each.sandboxId === sandboxId);
  assert.equal((await listed.runCode('echo used', { language: 'bash' })).stdout, 'used\n');
});

test(
  'pause freezes it and resume goes on',
  ['Sandbox.pause', 'Sandbox.resume', 'Sandbox.ensureHealthy', 'HopxError', 'APIError'],
  async (t) => {
    const sandbox = await t.create();
    const { process_id } = await sandbox.commands.runBackground('sleep 600');
    await sandbox.pause();
    assert.equal((await sandbox.getInfo()).status, 'paused');
    assert.equal(await sandbox.isHealthy(), false);
    assert.match((await t.raises('HopxError', () => sandbox.ensureHealthy())).message, /paused/);
    const refused = await t.raises('APIError', () => sandbox.runCode('true', { language: 'bash' }));
    assert.deepEqual([refused.statusCode, refused.code], [409, 'SANDBOX_PAUSED']);
    await sandbox.pause();
    await sandbox.resume();
    await sandbox.resume();
    assert.equal((await sandbox.getInfo()).status, 'running');
    const process = (await sandbox.listProcesses()).find((each) => each.process_id === process_id);
    assert.equal(process.status, 'running');
  },
);

test('kill is for ever', ['Sandbox.kill', 'SandboxExpiredError'], async (t) => {
  const sandbox = await t.create();
  await sandbox.kill();
  const calls = ['getInfo', 'pause', 'resume', 'kill', 'refreshToken'].map((name) => () => sandbox[name]());
  for (const call of [...calls, () => sandbox.setTimeout(9), () => sandbox.files.read('/etc/hostname')]) {
    await t.raises('SandboxExpiredError', call);
  }
  assert.equal(await sandbox.isHealthy(), false);
  assert.ok(!ids(await t.sdk.Sandbox.list(t.account)).includes(sandbox.sandboxId));
});

test(
  'setTimeout moves the end, and the expiry helpers know it',
  ['Sandbox.setTimeout', 'Sandbox.getTimeToExpiry', 'Sandbox.isExpiringSoon', 'Sandbox.getExpiryInfo', 'APIError'],
  async (t) => {
    const sandbox = await t.create();
    assert.equal((await sandbox.getInfo()).timeoutSeconds ?? null, null);
    assert.ok((await sandbox.getTimeToExpiry()) > 600, 'the end of one that nobody uses');
    await sandbox.setTimeout(600);
    assert.equal((await sandbox.getInfo()).timeoutSeconds, 600);
    const left = await sandbox.getTimeToExpiry();
    assert.ok(left > 580 && left <= 600, `${left}`);
    assert.equal(await sandbox.isExpiringSoon(), false);
    assert.equal(await sandbox.isExpiringSoon(700), true);
    const info = await sandbox.getExpiryInfo();
    assert.ok(info.expiresAt instanceof Date && info.timeToExpiry > 580);
    assert.deepEqual([info.hasTimeout, info.isExpired, info.isExpiringSoon], [true, false, false]);
    assert.equal((await t.raises('APIError', () => sandbox.setTimeout(10 ** 7))).statusCode, 400);
    await assert.rejects(sandbox.setTimeout(0), /greater than 0/);
  },
);

test(
  'it ends by itself, and the monitor said so before',
  ['Sandbox.startExpiryMonitor', 'Sandbox.isHealthy', 'Sandbox.ensureHealthy', 'SandboxExpiredError'],
  async (t) => {
    const sandbox = await t.create({ timeoutSeconds: 100 });
    await sandbox.ensureHealthy();
    assert.equal(await sandbox.isHealthy(), true);
    const expiring = new Promise((resolve) => sandbox.startExpiryMonitor(resolve, 10, 0.05));
    await sandbox.setTimeout(4);
    const told = await expiring;
    assert.ok(told.hasTimeout && told.timeToExpiry <= 4);
    const there = () =>
      sandbox.getInfo().then(
        () => true,
        () => false,
      );
    while (await there()) await sleep(50);
    await t.raises('SandboxExpiredError', () => sandbox.ensureHealthy());
    assert.equal(await sandbox.isHealthy(), false);
  },
);

test('a stopped monitor is silent', ['Sandbox.stopExpiryMonitor'], async (t) => {
  const sandbox = await t.create({ timeoutSeconds: 300 });
  let told = 0;
  sandbox.startExpiryMonitor(() => (told += 1), 1000, 0.01);
  sandbox.stopExpiryMonitor();
  await new Promise((resolve) => sandbox.startExpiryMonitor(resolve, 1000, 0.05));
  sandbox.stopExpiryMonitor();
  assert.equal(told, 0);
});

test('create starts the monitor that it is asked for', ['Sandbox.create'], async (t) => {
  const real = globalThis.setInterval;
  globalThis.setInterval = (call, ms) => real(call, ms === 30_000 ? 20 : ms); // its fixed interval
  t.afterwards(async () => (globalThis.setInterval = real));
  const told = await new Promise((resolve, reject) => {
    t.create({ timeoutSeconds: 400, onExpiringSoon: resolve, expiryWarningThreshold: 500 })
      .then((sandbox) => t.afterwards(async () => sandbox.stopExpiryMonitor()))
      .catch(reject);
  });
  assert.ok(told.timeToExpiry > 300 && told.timeToExpiry <= 400);
});

test(
  'a refreshed token is another, and works',
  ['Sandbox.refreshToken', 'Sandbox.getToken', 'Sandbox.ensureValidToken', 'Sandbox.init'],
  async (t) => {
    const sandbox = await t.create();
    const before = await sandbox.getToken();
    assert.match(before, /^eyJ/);
    await sandbox.ensureValidToken();
    assert.equal(await sandbox.getToken(), before, 'it is good for long');
    await sandbox.refreshToken();
    assert.notEqual(await sandbox.getToken(), before);
    await sandbox.init();
    assert.equal((await sandbox.runCode('echo ok', { language: 'bash' })).stdout, 'ok\n');
  },
);

test(
  'templates are listed and found',
  ['Sandbox.listTemplates', 'Sandbox.getTemplate', 'FileNotFoundError'],
  async (t) => {
    const { Sandbox } = t.sdk;
    const names = (await Sandbox.listTemplates(t.account)).map((each) => each.name);
    for (const wanted of ['base', 'code-interpreter']) assert.ok(names.includes(wanted));
    const template = await Sandbox.getTemplate('code-interpreter', t.account);
    assert.deepEqual(
      [template.name, template.language, template.isActive, template.status],
      ['code-interpreter', 'python', true, 'active'],
    );
    assert.ok(template.id && template.displayName && template.category);
    assert.ok(Array.isArray(template.features) && Array.isArray(template.tags));
    assert.ok(template.defaultResources.memoryMb > 0);
    const found = await Sandbox.listTemplates({ ...t.account, language: 'python', category: template.category });
    assert.ok(found.some((each) => each.name === 'code-interpreter'));
    assert.ok(found.every((each) => each.language === 'python' && each.category === template.category));
    assert.deepEqual(await Sandbox.listTemplates({ ...t.account, language: 'cobol' }), []);
    await t.raises('FileNotFoundError', () => Sandbox.getTemplate('no-such-template', t.account));
  },
);

test('a stock template is not deleted', ['APIError'], async (t) => {
  assert.equal((await t.raises('APIError', () => t.sdk.Sandbox.deleteTemplate('base', t.account))).statusCode, 403);
});

test('every port has a URL that leads to it', ['Sandbox.getPreviewUrl', 'Sandbox.agentUrl', 'HopxError'], async (t) => {
  const sandbox = await t.create(t.open);
  const begun = sandbox.commands.run('mkdir -p /tmp/www; echo hello > /tmp/www/index.html');
  const url = await sandbox.getPreviewUrl(8000);
  assert.match(url, new RegExp(`^https://8000-[^/]*${sandbox.sandboxId}[^/]*/`));
  await begun;
  await sandbox.commands.runBackground('exec python3 -m http.server 8000 --directory /tmp/www');
  const headers = { 'X-API-Key': t.open.apiKey };
  let page;
  do page = await fetch(url, { headers });
  while (page.status === 502 || page.status === 503); // until it listens
  assert.deepEqual([page.status, await page.text()], [200, 'hello\n']);
  assert.equal((await fetch(url)).status, 401);
  const agent = await sandbox.agentUrl;
  assert.equal(agent, await sandbox.getPreviewUrl());
  const info = await fetch(`${agent}info`, { headers: { Authorization: `Bearer ${await sandbox.getToken()}` } });
  assert.equal((await info.json()).vm_id, sandbox.sandboxId);
  const pathOnly = await t.create();
  assert.match((await t.raises('HopxError', () => pathOnly.getPreviewUrl(8000))).message, /preview URL/);
});

test('health needs no key', ['Sandbox.healthCheck', 'HopxError'], async (t) => {
  assert.equal((await t.sdk.Sandbox.healthCheck(t.account.baseURL)).status, 'ok');
  await t.raises('HopxError', () => t.sdk.Sandbox.healthCheck('http://127.0.0.1:1'));
});

// The life of a sandbox, as the control plane tells it.

import assert from 'node:assert/strict';

import { test } from '../../js/harness.mjs';

const UNKNOWN = 'izzzzzzzzzzzzzzzzzzzz';
const BOOT_ID = 'cat /proc/sys/kernel/random/boot_id';

test(
  'a sandbox is made, found, used and killed',
  [
    'Sandbox.create',
    'Sandbox#getInfo',
    'Sandbox.getInfo',
    'Sandbox.getFullInfo',
    'Sandbox.isRunning',
    'Sandbox#kill',
    'Sandbox.kill',
    'SandboxNotFoundError',
  ],
  async (t) => {
    const { Sandbox } = t.sdk;
    const sandbox = await t.create({
      template: 'base',
      metadata: { user: 'ann' },
      envs: { COLOUR: 'blue' },
      secure: true,
      allowInternetAccess: false,
      sandboxUrl: t.connection.sandboxUrl,
    });
    const said = await sandbox.commands.run('echo $COLOUR $E2B_SANDBOX $E2B_SANDBOX_ID $E2B_TEMPLATE_ID');
    assert.equal(said.stdout, `blue true ${sandbox.sandboxId} base\n`);
    const info = await sandbox.getInfo();
    assert.deepEqual(
      [info.sandboxId, info.templateId, info.metadata, info.state],
      [sandbox.sandboxId, 'base', { user: 'ann' }, 'running'],
    );
    assert.deepEqual([info.cpuCount > 0, info.memoryMB > 0], [true, true]);
    if (t.tellsAll) assert.equal(info.allowInternetAccess, false);
    assert.ok(info.endAt - info.startedAt > 100_000 && info.endAt - info.startedAt <= 121_000);
    for (const other of [await Sandbox.getInfo(sandbox.sandboxId), await Sandbox.getFullInfo(sandbox.sandboxId)])
      assert.deepEqual([other.sandboxId, other.endAt], [info.sandboxId, info.endAt]);
    assert.equal(await sandbox.isRunning(), true);
    const killed = [await sandbox.kill(), await sandbox.kill()];
    assert.deepEqual(killed, t.saysWhatItKilled ? [true, false] : [undefined, undefined]);
    assert.equal(await sandbox.isRunning(), false);
    assert.equal(await Sandbox.kill(UNKNOWN), false);
    await t.raises('SandboxNotFoundError', () => Sandbox.getInfo(sandbox.sandboxId));
    await assert.rejects(() => sandbox.commands.run('true'), /not found|not running/);
  },
);

test('the template is the first argument too', ['Sandbox.create', 'SandboxError'], async (t) => {
  const sandbox = t.ending(await t.sdk.Sandbox.create('code-interpreter', { timeoutMs: 60_000 }));
  assert.equal((await sandbox.getInfo()).templateId, 'code-interpreter');
  const error = await t.raises('SandboxError', () => t.sdk.Sandbox.create('no-such-template'));
  assert.match(error.message, /template 'no-such-template' not found/);
});

test(
  'a pause keeps every process, and connecting brings them back',
  ['Sandbox#pause', 'Sandbox#connect', 'Sandbox.pause', 'Sandbox.connect'],
  async (t) => {
    const { Sandbox } = t.sdk;
    const sandbox = await t.create({ envs: { KEPT: 'yes' } });
    if (!t.has('Sandbox#pause')) {
      const boot = (await sandbox.commands.run(BOOT_ID)).stdout;
      await sandbox.betaPause();
      assert.equal((await (await sandbox.connect({ timeoutMs: 100_000 })).commands.run(BOOT_ID)).stdout, boot);
      await sandbox.betaPause();
      return void (await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 100_000 }));
    }
    const job = await sandbox.commands.run('exec sleep 1000', { background: true, timeoutMs: 0 });
    const boot = (await sandbox.commands.run(BOOT_ID)).stdout;
    assert.equal(await sandbox.pause({ keepMemory: true }), true);
    assert.equal(await sandbox.pause(), false);
    assert.equal(await sandbox.isRunning(), false);
    const again = await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 100_000, ...restoring(t) });
    const said = await again.commands.run(`cat /proc/${job.pid}/comm; echo $KEPT; ${BOOT_ID}`);
    assert.equal(said.stdout, `sleep\nyes\n${boot}`);
    if (!t.has('Sandbox#pause', 'opts.keepMemory')) {
      await Sandbox.pause(sandbox.sandboxId);
      assert.equal((await (await sandbox.connect({ timeoutMs: 100_000 })).commands.run(BOOT_ID)).stdout, boot);
      return;
    }
    assert.equal(await Sandbox.pause(sandbox.sandboxId, { keepMemory: false }), true);
    assert.equal((await sandbox.getInfo()).state, 'paused');
    const cold = await sandbox.connect({ timeoutMs: 100_000, ...rebooting(t) });
    assert.equal(cold.sandboxId, sandbox.sandboxId);
    assert.notEqual((await cold.commands.run(BOOT_ID)).stdout, boot);
    await t.raises('SandboxNotFoundError', () => Sandbox.connect(UNKNOWN));
  },
);

const restoring = (t) => (t.has('Sandbox.connect', 'opts.onResume') ? { onResume: 'restore' } : {});
const rebooting = (t) => (t.has('Sandbox#connect', 'opts.onResume') ? { onResume: 'reboot' } : {});

test('the pause of its first days', ['Sandbox.betaPause', 'Sandbox#betaPause'], async (t) => {
  const sandbox = await t.create();
  assert.equal(await sandbox.betaPause({ keepMemory: true }), true);
  assert.equal(await t.sdk.Sandbox.betaPause(sandbox.sandboxId, { keepMemory: true }), false);
});

test('the first create that paused', ['Sandbox.betaCreate'], async (t) => {
  const { Sandbox, Volume } = t.sdk;
  const volume = t.has('Sandbox.betaCreate', 'opts.volumeMounts') && (await Volume.create(t.unique('vol')));
  if (volume) t.afterwards(() => Volume.destroy(volume.volumeId));
  const network = { allowOut: ['8.8.8.8'], denyOut: ['0.0.0.0/0'], allowPublicTraffic: true };
  const options = {
    timeoutMs: 60_000,
    autoPause: true,
    metadata: { by: 'ann' },
    envs: { A: '1' },
    secure: true,
    allowInternetAccess: true,
    network: { ...network, maskRequestHost: 'localhost:${PORT}' },
    lifecycle: { onTimeout: 'pause', autoResume: true },
    sandboxUrl: t.connection.sandboxUrl,
    ...(volume ? { volumeMounts: { '/mnt/x': volume.name } } : {}),
  };
  const sandbox = t.ending(await Sandbox.betaCreate('base', options));
  assert.equal((await sandbox.commands.run('echo $A')).stdout, '1\n');
  if (volume) await sandbox.commands.run('test -d /mnt/x');
  assert.deepEqual((await sandbox.getInfo()).metadata, { by: 'ann' });
  await sandbox.setTimeout(0);
  assert.equal((await sandbox.getInfo()).state, 'paused');
  await sandbox.kill();
  if (t.has('Sandbox.betaCreate', 'opts.template'))
    t.ending(await Sandbox.betaCreate({ template: 'base', timeoutMs: 60_000 }));
});

test('its end is moved both ways', ['Sandbox#setTimeout', 'Sandbox.setTimeout', 'Sandbox.connect'], async (t) => {
  const { Sandbox } = t.sdk;
  const sandbox = await t.create();
  const left = async () => (await sandbox.getInfo()).endAt - Date.now();
  await sandbox.setTimeout(600_000);
  assert.ok((await left()) > 500_000);
  await Sandbox.setTimeout(sandbox.sandboxId, 200_000);
  assert.ok((await left()) < 201_000);
  await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 10_000 });
  assert.ok((await left()) > 100_000);
  await sandbox.setTimeout(0);
  await t.raises('SandboxNotFoundError', () => sandbox.setTimeout(1000));
});

test('a sandbox that pauses at its end and wakes up', ['Sandbox.create', 'Sandbox#getInfo'], async (t) => {
  t.needs(t.has('Sandbox.create', 'opts.lifecycle'));
  const sandbox = await t.create({ lifecycle: { onTimeout: 'pause', autoResume: true } });
  const { lifecycle } = await sandbox.getInfo();
  if (t.tellsAll) assert.deepEqual(lifecycle, { onTimeout: 'pause', autoResume: true });
  await sandbox.setTimeout(0);
  assert.equal((await sandbox.getInfo()).state, 'paused');
  assert.equal((await sandbox.commands.run('echo awake')).stdout, 'awake\n');
  assert.equal((await sandbox.getInfo()).state, 'running');
});

test(
  'sandboxes are listed by pages and chosen by their marks',
  ['Sandbox.list', 'SandboxPaginator.nextItems', 'SandboxPaginator.hasNext', 'SandboxPaginator.nextToken'],
  async (t) => {
    const { Sandbox } = t.sdk;
    const mark = t.unique('mark & more=ü');
    const begun = new Date(Date.now() - 5000);
    const made = [];
    for (const number of [0, 1, 2]) made.push(await t.create({ metadata: { mark, number: `${number}` } }));
    await (made[0].pause?.() ?? made[0].betaPause());
    const ids = made.map((each) => each.sandboxId);
    const query = { metadata: { mark } };
    const found = async (options) => (await Sandbox.list(options).nextItems()).map((each) => each.sandboxId);
    assert.deepEqual(await found({ query }), [...ids].reverse());
    assert.deepEqual(await found({ query: { ...query, state: ['paused'] } }), [ids[0]]);
    assert.deepEqual(await found({ query: { metadata: { mark, number: '2' } } }), [ids[2]]);
    const pages = Sandbox.list({ query, limit: 2 });
    const first = await pages.nextItems();
    assert.deepEqual([first.length, pages.hasNext, Boolean(pages.nextToken)], [2, true, true]);
    assert.deepEqual(await found({ query, limit: 2, nextToken: pages.nextToken }), [ids[0]]);
    assert.deepEqual([(await pages.nextItems()).length, pages.hasNext], [1, false]);
    if (t.has('Sandbox.list', 'opts.order')) assert.deepEqual(await found({ query, order: 'asc' }), ids);
    if (t.has('Sandbox.list', 'query.startedAfter')) {
      assert.equal((await found({ query: { ...query, startedAfter: begun } })).length, 3);
      assert.equal((await found({ query: { ...query, startedAfter: new Date(Date.now() + 60_000) } })).length, 0);
    }
    if (t.has('Sandbox.list', 'query.template')) {
      assert.equal((await found({ query: { ...query, template: 'base' } })).length, 3);
      assert.equal((await found({ query: { ...query, template: 'code-interpreter' } })).length, 0);
    }
  },
);

test('it is measured', ['Sandbox#getMetrics', 'Sandbox.getMetrics'], async (t) => {
  const sandbox = await t.create();
  const around = { start: new Date(Date.now() - 60_000), end: new Date(Date.now() + 60_000) };
  const [measure] = await sandbox.getMetrics(t.sendsTimes ? around : {});
  assert.ok(measure.memTotal > measure.memUsed && measure.diskTotal > measure.diskUsed && measure.cpuCount > 0);
  if (!t.sendsTimes) return void (await t.sdk.Sandbox.getMetrics(sandbox.sandboxId));
  const past = { start: new Date(0), end: new Date(1000) };
  assert.deepEqual(await t.sdk.Sandbox.getMetrics(sandbox.sandboxId, past), []);
});

test('copies of what runs are refused with the reason', [], async (t) => {
  const sandbox = await t.create();
  t.needs(t.has('Sandbox#createSnapshot'));
  const copies = [() => sandbox.createSnapshot(), ...(t.has('Sandbox#fork') ? [() => sandbox.fork()] : [])];
  for (const copy of copies) {
    const error = await t.raises('SandboxError', copy);
    assert.match(error.message, /native engine cannot copy .* microVM/s);
  }
  assert.deepEqual(await sandbox.listSnapshots().nextItems(), []);
});

test(
  'templates are looked up',
  ['TemplateBase.exists', 'TemplateBase.aliasExists', 'TemplateBase.getTags'],
  async (t) => {
    const { TemplateBase } = t.sdk;
    if (t.has('TemplateBase.aliasExists')) assert.equal(await TemplateBase.aliasExists('no-such-template'), false);
    if (t.has('TemplateBase.exists')) assert.equal(await TemplateBase.exists('base'), true);
    if (!t.has('TemplateBase.getTags')) return;
    const [{ tag, buildId, createdAt }] = await TemplateBase.getTags('base');
    assert.deepEqual([tag, buildId.length, createdAt instanceof Date], ['default', 36, true]);
  },
);

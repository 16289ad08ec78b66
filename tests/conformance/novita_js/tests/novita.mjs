// What Novita's package has beside E2B's.

import assert from 'node:assert/strict';

import { test } from '../../js/harness.mjs';

const NETWORK = { allowOut: ['192.0.2.0/24'], denyOut: ['0.0.0.0/0'], allowPublicTraffic: false };
const MASK = 'localhost:${PORT}';

test(
  'a reset ends processes and keeps the disk',
  ['Sandbox.reset', 'Sandbox#reset'],
  async (t) => {
    const { Sandbox } = t.sdk;
    const sandbox = await t.create({ envs: { KEPT: 'yes' } });
    await sandbox.commands.run('touch mine');
    await sandbox.commands.run('exec sleep 1000', { background: true });
    const boot = () => sandbox.commands.run('cat /proc/sys/kernel/random/boot_id').then(({ stdout }) => stdout);
    const before = await boot();
    assert.equal(await sandbox.reset({ resume: true, timeoutMs: 100_000 }), true);
    assert.equal((await sandbox.commands.run('echo $KEPT; ls; pgrep -c sleep; true')).stdout, 'yes\nmine\n0\n');
    assert.notEqual(await boot(), before);
    assert.equal(await Sandbox.reset(sandbox.sandboxId, { resume: false, timeoutMs: 100_000 }), true);
    assert.equal((await sandbox.getInfo()).state, 'paused');
    await Sandbox.connect(sandbox.sandboxId);
    assert.equal(await sandbox.isRunning(), true);
  },
);

test(
  'who gets in is changed by a connect and by a reset',
  ['Sandbox.connect', 'Sandbox#connect', 'Sandbox.reset', 'Sandbox#reset', 'Sandbox.trafficAccessToken'],
  async (t) => {
    const { Sandbox } = t.sdk;
    const sandbox = await t.create();
    t.needs(t.has('Sandbox.connect', 'opts.allowPublicTraffic'));
    const calls = [
      (how) => Sandbox.connect(sandbox.sandboxId, { timeoutMs: 60_000, ...how }),
      (how) => sandbox.connect({ timeoutMs: 60_000, ...how }),
      (how) => Sandbox.reset(sandbox.sandboxId, how),
      (how) => sandbox.reset(how),
    ];
    for (const call of calls) {
      await call({ secure: true, allowPublicTraffic: false });
      assert.equal((await t.reach(sandbox, 3000)).status, 403);
      await call({ secure: true, network: { ...NETWORK, allowPublicTraffic: true, maskRequestHost: MASK } });
      assert.equal((await t.reach(sandbox, 3000)).status, 502);
      assert.deepEqual((await sandbox.getInfo()).network.denyOut, NETWORK.denyOut);
    }
    const again = await Sandbox.connect(sandbox.sandboxId, { allowPublicTraffic: false });
    assert.ok(again.trafficAccessToken);
  },
);

test(
  'memory is added and given back',
  ['Sandbox.hotplugMemory', 'Sandbox#hotplugMemory'],
  async (t) => {
    const { Sandbox } = t.sdk;
    const sandbox = await t.create();
    const memory = async () => (await sandbox.getInfo()).memoryMB;
    assert.equal(await memory(), 2048);
    await sandbox.hotplugMemory(256);
    assert.equal(await memory(), 2304);
    await Sandbox.hotplugMemory(sandbox.sandboxId, 0);
    assert.equal(await memory(), 2048);
  },
);

test('memory is added by the later name', ['Sandbox.resize', 'Sandbox#resize'], async (t) => {
  const sandbox = await t.create();
  await sandbox.resize({ memoryMiB: 512 });
  assert.equal((await sandbox.getInfo()).memoryMB, 2560);
  await t.sdk.Sandbox.resize(sandbox.sandboxId, { memoryMiB: 128 });
  assert.equal((await sandbox.getInfo()).memoryMB, 2176);
});

test(
  'volumes have a quota, and are mounted and unmounted while a sandbox runs',
  [
    'Volume.create',
    'Volume.connect',
    'Volume.getInfo',
    'Volume.list',
    'Volume.updateQuota',
    'Volume.destroy',
    'VolumeError',
    'Sandbox.create',
    'Sandbox.mountVolume',
    'Sandbox.unmountVolume',
    'Sandbox#mountVolume',
    'Sandbox#unmountVolume',
  ],
  async (t) => {
    const { Sandbox, Volume } = t.sdk;
    const name = t.unique('vol');
    const made = await Volume.create(name, { quotaSizeGiB: 1 });
    t.afterwards(() => Volume.destroy(made.volumeId));
    await t.raises('VolumeError', () => Volume.create(name));
    assert.equal((await Volume.connect(made.volumeId)).name, name);
    assert.equal((await Volume.updateQuota(made.volumeId, { quotaSizeGiB: 2 })).quotaSizeGiB, 2);
    assert.equal((await Volume.getInfo(made.volumeId)).quotaSizeGiB, 2);
    assert.ok((await Volume.list()).some((each) => each.name === name && each.quotaSizeGiB === 2));
    const first = await t.create({ volumeMounts: { '/mnt/early': name } });
    await first.files.write('/mnt/early/seen', 'by both');
    const second = await t.create();
    const mounted = async () => (await second.getInfo()).volumeMounts.map(({ path }) => path);
    await second.mountVolume(name, '/mnt/late');
    assert.deepEqual(await mounted(), ['/mnt/late']);
    assert.equal(await second.files.read('/mnt/late/seen'), 'by both');
    await second.unmountVolume('/mnt/late', { force: true });
    assert.deepEqual(await mounted(), []);
    await Sandbox.mountVolume(second.sandboxId, name, '/mnt/again');
    assert.deepEqual(await mounted(), ['/mnt/again']);
    await Sandbox.unmountVolume(second.sandboxId, '/mnt/again', { force: true });
    assert.deepEqual(await mounted(), []);
    await Promise.all([first.kill(), second.kill()]);
    assert.equal(await Volume.destroy(made.volumeId), true);
    assert.equal(await Volume.destroy(made.volumeId), false);
  },
);

test('the lists of what it reaches are replaced', ['Sandbox.setNetwork', 'Sandbox#setNetwork'], async (t) => {
  const sandbox = await t.create();
  await sandbox.setNetwork({ allowOut: NETWORK.allowOut, denyOut: NETWORK.denyOut });
  const { allowOut, denyOut } = (await sandbox.getInfo()).network;
  assert.deepEqual([allowOut, denyOut], [NETWORK.allowOut, NETWORK.denyOut]);
  await t.sdk.Sandbox.setNetwork(sandbox.sandboxId, { allowOut: [], denyOut: ['1.1.1.1'] });
  assert.deepEqual((await sandbox.getInfo()).network.denyOut, ['1.1.1.1']);
});

test('what it may use and has used', ['Sandbox.getQuota', 'Sandbox.getEvents'], async (t) => {
  const { Sandbox } = t.sdk;
  const sandbox = await t.create();
  await sandbox.pause();
  await sandbox.kill();
  const { limit, usage } = await Sandbox.getQuota();
  for (const [name, used] of Object.entries(usage)) assert.ok(limit[name] >= used && used >= 0, name);
  const now = Math.floor(Date.now() / 1000);
  const { sandboxId: sandboxID } = sandbox;
  const about = { sandboxID, templateID: 'base', state: 'success', startTime: now - 3600, endTime: now + 60 };
  const found = await Sandbox.getEvents({ ...about, orderAsc: true, offset: 0, limit: 10 });
  assert.deepEqual(
    found.items.map(({ eventName }) => eventName),
    ['create', 'pause', 'delete'],
  );
  assert.deepEqual([found.total, found.hasMore, found.items[0].statusCode], [3, false, 201]);
  assert.equal((await Sandbox.getEvents({ sandboxID, events: 'pause,delete' })).total, 2);
});

test(
  'a secret is a placeholder in the environment',
  ['Secret.create', 'Secret.get', 'Secret.list', 'Secret.update', 'Secret.delete', 'Sandbox.create', 'Sandbox.betaCreate', 'SecretError'],
  async (t) => {
    const { Sandbox, Secret } = t.sdk;
    const name = t.unique('key');
    const made = await Secret.create({ name, value: 'hush', hosts: ['api.example.com'], description: 'mine' });
    assert.deepEqual([made.name, made.hosts, made.hasSecret], [name, ['api.example.com'], true]);
    assert.ok(!JSON.stringify(made).includes('hush'));
    assert.equal((await Secret.get(name)).placeholder, made.placeholder);
    assert.ok((await Secret.list()).some((each) => each.name === name));
    const changed = await Secret.update({ name, value: 'x', hosts: ['*.example.com'], description: 'yours' });
    assert.deepEqual([changed.hosts, changed.placeholder], [['*.example.com'], made.placeholder]);
    const sandbox = await t.create({ secretEnvs: { API_KEY: name }, sandboxUrl: t.connection.sandboxUrl });
    assert.equal((await sandbox.commands.run('echo $API_KEY')).stdout, `${made.placeholder}\n`);
    await sandbox.kill();
    const { sandboxUrl } = t.connection;
    const other = t.ending(await Sandbox.betaCreate('base', { secretEnvs: { KEY: name }, sandboxUrl }));
    assert.equal((await other.commands.run('echo $KEY')).stdout, `${made.placeholder}\n`);
    await other.kill();
    assert.equal(await Secret.delete(name), name);
    await t.raises('SecretError', () => Secret.get(name));
  },
);

test(
  'templates are listed in pages',
  [
    'TemplateBase.list',
    'TemplateBase.get',
    'TemplateApi.get',
    'TemplateApi.listTemplates',
    'TemplateApi.deleteTemplate',
    'TemplatePaginator.hasNext',
    'TemplatePaginator.currentPage',
    'TemplatePaginator.nextPage',
    'TemplatePaginator.reset',
    'toTemplateInfo',
  ],
  async (t) => {
    const { TemplateApi, TemplateBase, TemplatePaginator, toTemplateInfo } = t.sdk;
    const asked = { templateType: 'template_build', page: 1, limit: 100 };
    for (const found of [await TemplateApi.listTemplates(asked), await TemplateBase.list(asked).nextPage()])
      assert.ok(JSON.stringify(found).includes('"base"'));
    const pages = TemplateBase.list({ templateType: 'template_build', page: 1, limit: 1 });
    assert.ok(pages instanceof TemplatePaginator);
    const first = await pages.nextPage();
    assert.deepEqual([pages.hasNext, pages.currentPage > 0], [true, true]);
    pages.reset();
    assert.deepEqual(await pages.nextPage(), first);
    for (const found of [await TemplateApi.get('base'), await TemplateBase.get('base')])
      assert.equal(found.templateId, 'base');
    assert.equal(await TemplateApi.deleteTemplate('no-such-template'), false);
    const told = {
      ...{ templateID: 'x', buildID: 'y', buildStatus: 'ready', aliases: ['x'], names: ['x'], templateType: 'template_build' },
      ...{ buildCount: 1, cpuCount: 2, memoryMB: 3, diskSizeMB: 4, spawnCount: 5, envdVersion: '0.6.13', public: true },
      ...{ metadata: {}, createdAt: '2026-01-01T00:00:00Z', updatedAt: '2026-01-01T00:00:00Z', lastSpawnedAt: null },
      createdBy: null,
    };
    const { templateId, diskSizeMB } = toTemplateInfo(told, 'template_build');
    assert.deepEqual([templateId, diskSizeMB], ['x', 4]);
  },
);

test('copies are refused with the reason', ['Sandbox.create'], async (t) => {
  const { Sandbox } = t.sdk;
  const sandbox = await t.create();
  for (const call of [
    () => Sandbox.clone(sandbox.sandboxId, { count: 2, strict: true }),
    () => sandbox.createSnapshot(),
  ])
    assert.match((await t.raises('SandboxError', call)).message, /501.*engine/);
  assert.equal((await sandbox.commands.run('echo unharmed')).stdout, 'unharmed\n');
});

test(
  'there are no snapshots',
  [
    'Sandbox.listSnapshots',
    'Sandbox#listSnapshots',
    'Sandbox.deleteSnapshot',
    'SnapshotPaginator.nextItems',
    'SnapshotPaginator.hasNext',
    'SnapshotPaginator.nextToken',
  ],
  async (t) => {
    const { Sandbox } = t.sdk;
    const sandbox = await t.create();
    for (const found of [
      Sandbox.listSnapshots({ sandboxId: sandbox.sandboxId, limit: 10, nextToken: '' }),
      sandbox.listSnapshots({ limit: 10, nextToken: '' }),
    ]) {
      assert.deepEqual(await found.nextItems(), []);
      assert.deepEqual([found.hasNext, found.nextToken], [false, undefined]);
    }
    assert.equal(await Sandbox.deleteSnapshot('no-such-snapshot'), false);
  },
);

test(
  'one object for an account',
  ['Novita.create', 'Novita.connect', 'Novita.get', 'ConnectionConfig.getHost'],
  async (t) => {
    const { ConnectionConfig, Novita } = t.sdk;
    const account = new Novita({ apiKey: t.facts.NOVITA_API_KEY });
    const first = t.ending(await account.create({ template: 'base', timeoutMs: 60_000 }));
    assert.equal((await first.commands.run('echo hi')).stdout, 'hi\n');
    const { sandboxUrl } = t.connection;
    const volume = await t.sdk.Volume.create(t.unique('vol'));
    const secret = t.unique('key');
    await t.sdk.Secret.create({ name: secret, value: 'hush', hosts: ['api.example.com'] });
    const made = t.ending(
      await account.create('base', {
        metadata: { who: 'ann' },
        envs: { X: '1' },
        timeoutMs: 60_000,
        secure: true,
        allowInternetAccess: true,
        network: { ...NETWORK, maskRequestHost: MASK },
        volumeMounts: { '/mnt/v': volume.name },
        sandboxUrl,
        lifecycle: { onTimeout: 'pause', autoResume: true },
        secretEnvs: { API_KEY: secret },
      }),
    );
    assert.equal((await made.commands.run('echo $X; mountpoint -q /mnt/v && echo there')).stdout, '1\nthere\n');
    const how = { timeoutMs: 60_000, secure: true, network: { ...NETWORK, maskRequestHost: MASK } };
    for (const again of [await account.connect(made.sandboxId, how), await account.get(made.sandboxId, how)])
      assert.equal((await again.commands.run('echo hi')).stdout, 'hi\n');
    for (const call of ['connect', 'get']) await account[call](made.sandboxId, { allowPublicTraffic: true });
    assert.deepEqual((await made.getInfo()).metadata, { who: 'ann' });
    assert.ok((await account.sandbox.list().nextItems()).length > 0);
    assert.ok((await account.volume.list()).some(({ name }) => name === volume.name));
    assert.ok((await account.secret.list()).some(({ name }) => name === secret));
    assert.equal(await account.template.exists('base'), true);
    await made.kill();
    await t.sdk.Secret.delete(secret);
    await t.sdk.Volume.destroy(volume.volumeId);
    const config = new ConnectionConfig({ domain: 'sandboxes.example.com' });
    assert.equal(config.getHost('id', 80, config.domain), '80-id.sandboxes.example.com');
    assert.ok(config.getSandboxUrl('id', { sandboxDomain: config.domain, envdPort: 49983 }));
    assert.ok(config.getSignal(1000));
  },
);

// What a call is made with, and what an account has beside sandboxes.

import assert from 'node:assert/strict';

import { test } from '../../js/harness.mjs';

test('every option of the connection', ['ConnectionOpts', 'Sandbox.connect'], async (t) => {
  const lines = [];
  const logger = Object.fromEntries(
    ['debug', 'info', 'warn', 'error'].map((level) => [level, (...words) => void lines.push(words)]),
  );
  const own = { ...t.connection };
  own.domain ??= 'not.used';
  const sandbox = await t.create({
    ...own,
    validateApiKey: true,
    debug: false,
    requestTimeoutMs: 20_000,
    ...(t.has('ConnectionOpts', 'retries') ? { retries: 1 } : {}),
    ...(t.logs ? { logger } : {}),
    headers: { 'X-Own': 'one' },
    apiHeaders: { 'X-Other': 'two' },
    accessToken: own.apiKey,
    integration: 'mine/1.0',
    signal: new AbortController().signal,
  });
  assert.equal((await sandbox.commands.run('echo hi')).stdout, 'hi\n');
  assert.equal(lines.length > 0, t.logs);
  const again = await t.sdk.Sandbox.connect(sandbox.sandboxId, own);
  assert.equal((await again.commands.run('echo hi')).stdout, 'hi\n');
  if (t.has('ConnectionOpts', 'signal'))
    await assert.rejects(() => sandbox.getInfo({ signal: AbortSignal.abort(new Error('enough')) }), /enough|abort/i);
});

test('everything goes through a proxy', ['ConnectionOpts', 'Sandbox.create'], async (t) => {
  t.needs(t.has('ConnectionOpts', 'proxy'));
  const { url, asked } = await t.proxy();
  const sandbox = await t.create({ proxy: url });
  const before = asked.length;
  assert.ok(before > 0);
  assert.equal((await sandbox.commands.run('echo hi')).stdout, 'hi\n');
  assert.ok(asked.length > before);
});

test('a client that is bound to its connection', ['Sandbox.create'], async (t) => {
  t.needs(t.sdk.E2B);
  const client = new t.sdk.E2B(t.connection);
  const sandbox = t.ending(await client.Sandbox.create('base'));
  assert.equal((await sandbox.commands.run('echo hi')).stdout, 'hi\n');
  assert.deepEqual([await client.Template.exists('base'), Array.isArray(await client.Volume.list())], [true, true]);
  assert.equal(await client.Secret.exists('no_such_secret'), false);
});

test('calls that are not let in', ['AuthenticationError', 'RateLimitError'], async (t) => {
  const apiKey = `e2b_${'0'.repeat(40)}`;
  await t.raises('AuthenticationError', () => t.sdk.Sandbox.create({ apiKey }));
  const sandbox = await t.create();
  const { sandboxId, sandboxDomain } = sandbox;
  const known = { ...t.connection, sandboxId, sandboxDomain, envdVersion: '0.6.13' };
  const stranger = new t.sdk.Sandbox({ ...known, envdAccessToken: 'other' });
  await t.raises('AuthenticationError', () => stranger.commands.list());
  const limited = { apiKey: t.facts.ATOLL_LIMITED_KEY, requestTimeoutMs: 5000 };
  const one = () =>
    t.sdk.Sandbox.list({ ...limited, ...(t.has('ConnectionOpts', 'retries') ? { retries: 0 } : {}) }).nextItems();
  await one();
  await t.raises('RateLimitError', one);
});

test(
  'volumes hold files that sandboxes share',
  [
    'Volume.create',
    'Volume.connect',
    'Volume.getInfo',
    'Volume.list',
    'Volume.destroy',
    'Volume#list',
    'Volume#getInfo',
    'Volume.makeDir',
    'Volume.exists',
    'Volume.updateMetadata',
    'Volume.readFile',
    'Volume.writeFile',
    'Volume.remove',
    'VolumeApiOpts',
    'Sandbox.create',
    'VolumeError',
    'VolumeNotFoundError',
    'VolumePathNotFoundError',
  ],
  async (t) => {
    t.needs(t.has('Volume.makeDir')); // a fork's have no content but in sandboxes
    const { Volume } = t.sdk;
    t.needs(Volume);
    const name = t.unique('vol');
    const made = await Volume.create(name);
    t.afterwards(() => Volume.destroy(made.volumeId));
    assert.ok((await Volume.list()).some((each) => each.volumeId === made.volumeId && each.name === name));
    assert.equal((await Volume.getInfo(made.volumeId)).name, name);
    const volume = await Volume.connect(made.volumeId);
    assert.deepEqual([volume.volumeId, volume.name], [made.volumeId, name]);
    await t.raises('VolumeError', () => Volume.create(name));

    const folder = await volume.makeDir('/a/b', { uid: 1000, gid: 1000, mode: 0o750, force: true });
    assert.deepEqual([folder.name, folder.type, folder.uid, folder.mode & 0o777], ['b', 'directory', 1000, 0o750]);
    const file = await volume.writeFile('/a/b/c.txt', 'shared ü', { uid: 1000, gid: 1000, mode: 0o640, force: true });
    assert.deepEqual([file.type, file.size, file.gid, file.mode & 0o777], ['file', 9, 1000, 0o640]);
    await volume.writeFile('/a/blob', new Blob(['from a blob']));
    await volume.writeFile('/a/stream', new Blob(['from a stream']).stream());
    const { proxy, ...options } = await contentOptions(t, volume);
    assert.equal(await volume.readFile('/a/b/c.txt', { ...options, format: 'text' }), 'shared ü');
    assert.equal(await volume.readFile('/a/blob', { format: 'text', ...proxy }), 'from a blob');
    assert.equal(Buffer.from(await volume.readFile('/a/stream', { format: 'bytes' })).toString(), 'from a stream');
    assert.equal(await (await volume.readFile('/a/blob', { format: 'blob' })).text(), 'from a blob');
    const stream = await volume.readFile('/a/blob', { format: 'stream', streamIdleTimeoutMs: 5000 });
    assert.equal(await new Response(stream).text(), 'from a blob');
    assert.deepEqual(
      (await volume.list('/', { depth: 2 })).map(({ path }) => path),
      ['/a', '/a/b', '/a/blob', '/a/stream'],
    );
    assert.equal((await volume.updateMetadata('/a/blob', { uid: 1, gid: 2, mode: 0o600 })).uid, 1);
    assert.equal((await volume.getInfo('/a/blob')).gid, 2);
    assert.deepEqual([await volume.exists('/a/blob'), await volume.exists('/none')], [true, false]);
    await t.raises('VolumePathNotFoundError', () => volume.readFile('/none'));

    const [one, two] = [
      await t.create({ volumeMounts: { '/mnt/x': volume } }),
      await t.create({ volumeMounts: { '/mnt/y': name } }),
    ];
    assert.equal((await one.commands.run('cat /mnt/x/a/b/c.txt')).stdout, 'shared ü');
    await one.commands.run('echo seen > /mnt/x/by-one', { user: 'root' });
    assert.equal((await two.commands.run('cat /mnt/y/by-one')).stdout, 'seen\n');
    assert.deepEqual((await two.getInfo()).volumeMounts, [{ name, path: '/mnt/y' }]);
    assert.equal(await volume.readFile('/by-one'), 'seen\n');
    await Promise.all([one.kill(), two.kill()]);
    await volume.remove('/a');
    assert.equal(await volume.exists('/a'), false);
    assert.equal(await Volume.destroy(made.volumeId), true);
    assert.equal(await Volume.destroy(made.volumeId), false);
    await t.raises('VolumeNotFoundError', () => Volume.getInfo(made.volumeId));
  },
);

// Every option of a call for content, `proxy` apart.
async function contentOptions(t, volume) {
  const { url } = await t.proxy();
  return {
    proxy: { proxy: url },
    token: volume.token,
    domain: volume.domain ?? 'not.used',
    debug: false,
    apiUrl: t.facts.E2B_VOLUME_API_URL ?? t.control,
    requestTimeoutMs: 10_000,
    ...(t.logs ? { logger: { debug() {}, info() {}, warn() {}, error() {} } } : {}),
    headers: { 'X-Own': 'one' },
    signal: new AbortController().signal,
  };
}

test(
  'secrets are kept by name and never told',
  [
    'Secret.create',
    'Secret.update',
    'Secret.getInfo',
    'Secret.list',
    'Secret.exists',
    'Secret.destroy',
    'SecretPaginator.nextItems',
    'SecretPaginator.hasNext',
    'SecretPaginator.nextToken',
    'SecretError',
    'SecretNotFoundError',
  ],
  async (t) => {
    t.needs(t.has('Secret.create', 'name')); // a fork's are of another form
    const { Secret } = t.sdk;
    const names = [t.unique('KEY'), t.unique('KEY')].map((each) => each.replaceAll('-', '_'));
    for (const name of names) {
      const made = await Secret.create(name, 'hidden', { metadata: { team: 'blue' } });
      t.afterwards(() => Secret.destroy(name));
      assert.deepEqual([made.name, made.version, made.metadata], [name, 1, { team: 'blue' }]);
      assert.ok(!JSON.stringify(made).includes('hidden'));
    }
    assert.deepEqual([await Secret.exists(names[0]), await Secret.exists('no_such_secret')], [true, false]);
    assert.equal((await Secret.update(names[0], 'newer', { metadata: { team: 'red' } })).version, 2);
    assert.deepEqual((await Secret.getInfo(names[0])).metadata, { team: 'red' });
    const pages = Secret.list({ limit: 1 });
    const [first] = await pages.nextItems();
    assert.deepEqual([pages.hasNext, Boolean(pages.nextToken)], [true, true]);
    const rest = await Secret.list({ limit: 100, nextToken: pages.nextToken }).nextItems();
    assert.ok([first, ...rest].some((each) => each.name === names[1]));
    await t.raises('SecretError', () => Secret.create('', 'x'));
    assert.equal(await Secret.destroy(names[0]), true);
    assert.equal(await Secret.destroy(names[0]), false);
    await t.raises('SecretNotFoundError', () => Secret.getInfo(names[0]));
  },
);

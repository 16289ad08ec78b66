// Files and directories: read, written, listed, watched, and by URLs of their own.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';

import { test } from '../../js/harness.mjs';
import { gathered } from '../e2b.mjs';

const PATH = '/home/user/tests/ünï file.txt';

test(
  'a file is written and read in every form',
  ['Filesystem.write', 'Filesystem.read', 'FilesystemRequestOpts', 'FileNotFoundError'],
  async (t) => {
    const { files } = await t.create();
    const content = randomBytes(100_000);
    const written = await files.write(PATH, 'plain ü');
    assert.deepEqual([written.name, written.path, written.type], ['ünï file.txt', PATH, 'file']);
    assert.equal(await files.read(PATH), 'plain ü');
    assert.equal(await files.read(PATH, { format: 'text', user: 'root', requestTimeoutMs: 10_000 }), 'plain ü');
    const buffer = content.buffer.slice(content.byteOffset, content.byteOffset + content.length);
    for (const [data, options] of [
      [buffer, {}],
      [buffer, { gzip: true }],
      [buffer, { useOctetStream: true }],
      [new Blob([content]), { useOctetStream: true, gzip: true }],
      [new Blob([content]), {}],
      [new Blob([content]).stream(), {}],
      [new Blob([content]).stream(), { gzip: true }],
    ]) {
      await files.write('here.bin', data, { ...options, user: 'user' });
      const bytes = await files.read('/home/user/here.bin', { format: 'bytes', gzip: true });
      assert.ok(content.equals(bytes), `${data.constructor.name} ${JSON.stringify(options)}`);
    }
    const blob = await files.read('here.bin', { format: 'blob' });
    assert.ok(content.equals(Buffer.from(await blob.arrayBuffer())));
    const stream = await files.read('here.bin', { format: 'stream', streamIdleTimeoutMs: 10_000 });
    assert.ok(content.equals(Buffer.concat(await collected(stream))));
    const error = await t.raises('FileNotFoundError', () => files.read('/nowhere'));
    assert.match(error.message, /does not exist/);
  },
);

async function collected(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test('many files in one call', ['Filesystem.write', 'Filesystem.writeFiles'], async (t) => {
  const { files } = await t.create();
  const entries = Array.from({ length: 20 }, (_, number) => ({ path: `/tmp/many/${number}`, data: `n${number}` }));
  const options = { gzip: true, useOctetStream: false, metadata: { batch: 'one' } };
  assert.equal((await files.write(entries)).length, 20);
  assert.equal(await files.read('/tmp/many/19'), 'n19');
  if (!t.has('Filesystem.writeFiles')) return;
  assert.deepEqual(
    (await files.writeFiles(entries, options)).map((each) => each.path),
    entries.map((each) => each.path),
  );
  assert.deepEqual(await files.writeFiles([]), []);
});

test('metadata goes with a file', ['Filesystem.write', 'Filesystem.getInfo'], async (t) => {
  t.needs(t.has('Filesystem.write', 'opts.metadata'));
  const { files } = await t.create();
  const written = await files.write('/tmp/marked', 'x', { metadata: { Origin: 'test', step: '1' } });
  const marks = { origin: 'test', step: '1' };
  assert.deepEqual([written.metadata, (await files.getInfo('/tmp/marked')).metadata], [marks, marks]);
  await files.write('/tmp/marked', 'y', { metadata: { only: 'this' } });
  assert.deepEqual((await files.getInfo('/tmp/marked')).metadata, { only: 'this' });
});

test(
  'directories are made, listed, moved and removed',
  [
    'Filesystem.makeDir',
    'Filesystem.list',
    'Filesystem.rename',
    'Filesystem.remove',
    'Filesystem.exists',
    'Filesystem.getInfo',
    'InvalidArgumentError',
    'FileNotFoundError',
  ],
  async (t) => {
    const { files, commands } = await t.create();
    assert.equal(await files.makeDir('/tmp/a/b/c'), true);
    assert.equal(await files.makeDir('/tmp/a/b/c'), false);
    await files.write('/tmp/a/file', '12345');
    await commands.run('ln -s /tmp/a/file /tmp/a/link');
    assert.deepEqual(
      (await files.list('/tmp/a')).map(({ name, type }) => [name, type]),
      [
        ['b', 'dir'],
        ['file', 'file'],
        ['link', 'file'],
      ],
    );
    assert.deepEqual(
      (await files.list('/tmp/a', { depth: 3 })).map(({ path }) => path),
      ['/tmp/a/b', '/tmp/a/b/c', '/tmp/a/file', '/tmp/a/link'],
    );
    const info = await files.getInfo('/tmp/a/file');
    assert.deepEqual(
      [info.size, info.mode, info.permissions, info.owner, info.group],
      [5, 0o644, '-rw-r--r--', 'user', 'user'],
    );
    assert.ok(Math.abs(info.modifiedTime - Date.now()) < 60_000);
    assert.equal((await files.getInfo('/tmp/a/link')).symlinkTarget, '/tmp/a/file');
    const moved = await files.rename('/tmp/a/file', '/tmp/moved/deep');
    assert.deepEqual(
      [moved.path, await files.exists('/tmp/a/file'), await files.exists('/tmp/moved/deep')],
      ['/tmp/moved/deep', false, true],
    );
    await files.remove('/tmp/a');
    await files.remove('/tmp/a');
    assert.equal(await files.exists('/tmp/a'), false);
    await t.raises('InvalidArgumentError', () => files.list('/tmp/moved/deep'));
    await t.raises('FileNotFoundError', () => files.list('/tmp/a'));
    await t.raises('FileNotFoundError', () => files.rename('/tmp/a', '/tmp/b'));
  },
);

test('a directory is watched', ['Filesystem.watchDir', 'WatchHandle.stop'], async (t) => {
  const { files } = await t.create();
  await files.makeDir('/tmp/watched/inner');
  const found = gathered((all) => all.some(({ name, type }) => name === 'inner/new' && type === 'write'));
  let exits = 0;
  const handle = await files.watchDir('/tmp/watched', found.offer, {
    recursive: true,
    includeEntry: true,
    allowNetworkMounts: true,
    timeoutMs: 30_000,
    onExit: () => (exits += 1),
  });
  await files.write('/tmp/watched/inner/new', 'x');
  await found.met;
  const made = found.values.find(({ name, type }) => name === 'inner/new' && type === 'create');
  if (t.has('Filesystem.watchDir', 'opts.includeEntry')) assert.equal(made.entry.path, '/tmp/watched/inner/new');
  await handle.stop();
  await files.write('/tmp/watched/inner/other', 'x');
  assert.ok(!found.values.some(({ name }) => name === 'inner/other'));
  await t.raises('FileNotFoundError', () => files.watchDir('/nowhere', () => {}));
  assert.ok(exits <= 1);
});

test('a full disk is told as such', ['NotEnoughSpaceError'], async (t) => {
  const { files, commands } = await t.create();
  await commands.run('fallocate -l "$(df --output=avail -B1 /home | tail -n 1)" /home/user/all || true');
  await t.raises('NotEnoughSpaceError', () => files.write('/home/user/more', new Blob([randomBytes(1 << 22)])));
});

test(
  'files have URLs of their own, which are signed',
  ['Sandbox.uploadUrl', 'Sandbox.downloadUrl', 'getSignature'],
  async (t) => {
    const sandbox = await t.create();
    const body = new FormData();
    body.append('file', new Blob(['by a form']), 'given.txt');
    const up = await sandbox.uploadUrl('/tmp/given.txt', { user: 'user', useSignatureExpiration: 60 });
    assert.equal((await fetch(up, { method: 'POST', body })).status, 200);
    const down = await sandbox.downloadUrl('/tmp/given.txt', { user: 'user', useSignatureExpiration: 60 });
    assert.equal(await (await fetch(down)).text(), 'by a form');
    const range = await fetch(await sandbox.downloadUrl('/tmp/given.txt'), { headers: { Range: 'bytes=3-3' } });
    assert.deepEqual([range.status, await range.text()], [206, 'a']);
    const late = await fetch(await sandbox.downloadUrl('/tmp/given.txt', { useSignatureExpiration: -1 }));
    assert.equal(late.status, 401);
    const forged = down.replace(/signature=[^&]+/, 'signature=v1_none');
    assert.equal((await fetch(forged)).status, 401);
    const made = await t.sdk.getSignature({
      path: '/tmp/given.txt',
      operation: 'read',
      user: 'user',
      expirationInSeconds: 60,
      envdAccessToken: sandbox.envdAccessToken,
    });
    const by = new URL(down);
    by.searchParams.set('signature', made.signature);
    by.searchParams.set('signature_expiration', made.expiration);
    assert.equal(await (await fetch(by)).text(), 'by a form');
  },
);

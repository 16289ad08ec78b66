// Files, up and down.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { test } from '../harness.mjs';

const ODD = '/workspace/f/deep/er/a b+c&d%41é#?.txt';

test(
  'files are written, read, listed and removed',
  ['Sandbox.files', ...['read', 'write', 'list', 'exists', 'mkdir', 'remove'].map((each) => `Files.${each}`)],
  async (t) => {
    const { files } = await t.create();
    await files.write(ODD, 'é\n');
    assert.equal(await files.read(ODD), 'é\n');
    await files.mkdir('/workspace/f/new/dir');
    await files.mkdir('/workspace/f/new/dir');
    assert.deepEqual((await files.list('/workspace/f')).map((each) => each.name).sort(), ['deep', 'new']);
    assert.deepEqual([await files.exists(ODD), await files.exists('/workspace/nope')], [true, false]);
    await files.write(ODD, 'short');
    assert.equal(await files.read(ODD), 'short');
    await files.remove('/workspace/f');
    assert.equal(await files.exists('/workspace/f'), false);
  },
);

test(
  'an entry is the client’s own object',
  [
    'Files.list',
    ...['isDir', 'isFile', 'modifiedTime', 'sizeKb', 'sizeMb', 'extension', 'toString'].map(
      (each) => `FileInfoImpl.${each}`,
    ),
  ],
  async (t) => {
    const { files } = await t.create();
    await files.write('/workspace/d/x.tar.gz', 'a'.repeat(2048));
    await files.mkdir('/workspace/d/sub.d');
    const [sub, file] = (await files.list('/workspace/d')).sort((a, b) => a.name.localeCompare(b.name));
    assert.equal(file.constructor, t.sdk.FileInfoImpl);
    assert.deepEqual([file.name, file.path, file.size], ['x.tar.gz', '/workspace/d/x.tar.gz', 2048]);
    assert.deepEqual(
      [file.isDir, file.isFile, file.sizeKb, file.sizeMb, file.extension],
      [false, true, 2, 2 / 1024, 'gz'],
    );
    assert.deepEqual([sub.isDir, sub.isFile, sub.extension], [true, false, '']);
    assert.ok(Math.abs(Date.parse(file.modifiedTime) - Date.now()) < 60_000);
    assert.match(file.permissions, /^-rw-r--r--$/);
    assert.match(file.toString(), /x\.tar\.gz \(2\.00KB\)/);
  },
);

test('bytes are written as they are', ['Files.writeBytes'], async (t) => {
  const { files, commands } = await t.create();
  for (const content of [
    Buffer.alloc(0),
    Buffer.from('test'),
    Buffer.from([...Array(256).keys()]),
    randomBytes(300_000),
  ]) {
    await files.writeBytes('/workspace/x', content);
    assert.equal((await commands.run('base64 -w0 /workspace/x')).stdout, content.toString('base64'));
  }
});

test('bytes come back', ['Files.readBytes', 'Files.download'], async (t) => {
  const { files } = await t.create();
  const exact = t.has('Files.write', 'options.mode'); // since 0.5.0; before, the client hands out the JSON of the answer
  const given = exact ? randomBytes(3_000_000) : Buffer.from('only text');
  await files.writeBytes('/workspace/x', given);
  for (const read of [await files.readBytes('/workspace/x'), await files.download('/workspace/x')]) {
    assert.ok(Buffer.isBuffer(read));
    assert.ok(given.equals(exact ? read : Buffer.from(JSON.parse(read).content)));
  }
});

test(
  'what is there is kept when it may not be overwritten',
  ['Files.write', 'Files.writeBytes', 'APIError'],
  async (t) => {
    const { files } = await t.create();
    await files.write('/workspace/x', 'first', { overwrite: false });
    for (const call of [
      () => files.write('/workspace/x', 'second', { overwrite: false }),
      () => files.writeBytes('/workspace/x', Buffer.from('3'), { overwrite: false }),
    ]) {
      const error = await t.raises('APIError', call);
      assert.deepEqual([error.statusCode, error.code], [409, 'FILE_ALREADY_EXISTS']);
    }
    assert.equal(await files.read('/workspace/x'), 'first');
    await files.write('/workspace/x', 'second', { overwrite: true });
    assert.equal(await files.read('/workspace/x'), 'second');
  },
);

test('a mode is the mode of the file', ['Files.write', 'Files.writeBytes'], async (t) => {
  const { files, commands } = await t.create();
  await files.write('/workspace/a', '#!/bin/sh\necho ran', { mode: '0755' });
  await files.writeBytes('/workspace/b', Buffer.from('x'), { mode: '0600' });
  const expected = t.has('Files.write', 'options.mode') ? '755\n600\n' : '644\n644\n';
  assert.equal((await commands.run('stat -c %a /workspace/a /workspace/b')).stdout, expected);
});

test('a local file goes up', ['Files.upload'], async (t) => {
  const { files, commands } = await t.create();
  const local = await mkdtemp(join(tmpdir(), 'atoll-js-'));
  t.afterwards(() => rm(local, { recursive: true }));
  const content = randomBytes(5_000_000);
  await writeFile(join(local, 'a b.bin'), content);
  await files.upload(join(local, 'a b.bin'), '/workspace/up/there é.bin');
  assert.equal((await commands.run('base64 -w0 "/workspace/up/there é.bin"')).stdout, content.toString('base64'));
  await assert.rejects(files.upload(join(local, 'nope'), '/workspace/nope'), /Local file not found/);
});

test('a full disk is an error that says so, and leaves what was there', ['FileOperationError'], async (t) => {
  const { files, commands } = await t.create();
  await files.write('/workspace/x', 'first');
  await commands.run('fallocate -l $(df -B1 --output=avail /workspace | tail -1) /workspace/all; sync');
  const error = await t.raises('FileOperationError', () => files.write('/workspace/x', 'a'.repeat(10_000_000)));
  assert.match(error.message, /space/);
  assert.equal(await files.read('/workspace/x'), 'first');
});

test('file errors are the client’s own', ['FileNotFoundError', 'APIError'], async (t) => {
  const { files } = await t.create();
  for (const name of ['read', 'list', 'remove']) {
    const error = await t.raises('FileNotFoundError', () => files[name]('/workspace/nope'));
    assert.deepEqual([error.path, error.code], ['/workspace/nope', 'FILE_NOT_FOUND'], name);
    assert.ok(error.requestId);
  }
  for (const call of [() => files.read('/etc/shadow'), () => files.write('/etc/passwd', 'x')]) {
    const error = await t.raises('APIError', call);
    assert.deepEqual([error.statusCode, error.code], [403, 'PATH_NOT_ALLOWED']);
  }
});

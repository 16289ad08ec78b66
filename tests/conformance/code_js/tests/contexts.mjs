// Contexts: made, listed, restarted, removed, and kept apart.

import assert from 'node:assert/strict';

import { test } from '../../js/harness.mjs';

const ids = async (sandbox) => (await sandbox.listCodeContexts()).map(({ id }) => id);

test(
  'a context is made, listed and removed',
  ['Sandbox.createCodeContext', 'Sandbox.listCodeContexts', 'Sandbox.removeCodeContext'],
  async (t) => {
    const sandbox = await t.shared;
    const options = { cwd: '/tmp', language: 'python', requestTimeoutMs: 20_000 };
    const context = await sandbox.createCodeContext(options);
    assert.deepEqual([context.language, context.cwd], ['python', '/tmp']);
    assert.equal((await sandbox.runCode('import os; os.getcwd()', { context })).text, '/tmp');
    assert.ok((await ids(sandbox)).includes(context.id));
    await sandbox.removeCodeContext(context);
    assert.ok(!(await ids(sandbox)).includes(context.id));
    await assert.rejects(() => sandbox.runCode('1', { context }), new RegExp(`Context ${context.id} not found`));
    const other = await sandbox.createCodeContext({ language: 'javascript' });
    assert.deepEqual([other.language, other.cwd], ['javascript', '/home/user']);
    await sandbox.runCode('let kept = 20', { context: other });
    assert.equal((await sandbox.runCode('kept * 2 + 2', { context: other })).text, '42');
    await sandbox.removeCodeContext(other.id);
  },
);

test('the default contexts are there from the start', ['Sandbox.listCodeContexts'], async (t) => {
  const sandbox = await t.own();
  assert.deepEqual(
    (await sandbox.listCodeContexts()).map(({ language, cwd }) => [language, cwd]).toSorted(),
    [
      ['javascript', '/home/user'],
      ['python', '/home/user'],
    ],
  );
});

test('a restart forgets', ['Sandbox.restartCodeContext', 'Sandbox.createCodeContext'], async (t) => {
  const sandbox = await t.shared;
  const context = await sandbox.createCodeContext();
  await sandbox.runCode('x = 1', { context });
  await sandbox.restartCodeContext(context);
  assert.equal((await sandbox.runCode('x', { context })).error.name, 'NameError');
  await sandbox.restartCodeContext(context.id);
  await sandbox.removeCodeContext(context);
});

test('a private sandbox asks for the traffic token', ['Sandbox.runCode', 'Sandbox.listCodeContexts'], async (t) => {
  const sandbox = await t.own({ network: { allowPublicTraffic: false } });
  assert.equal((await sandbox.runCode('6 * 7')).text, '42');
  assert.equal((await sandbox.listCodeContexts()).length, 2);
});

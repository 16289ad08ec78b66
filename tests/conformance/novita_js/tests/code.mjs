// Code: the package asks for it by the sandbox's name alone.

import assert from 'node:assert/strict';

import { test } from '../../js/harness.mjs';

const CHART = `
import matplotlib.pyplot as plt
plt.plot([1, 2, 3], [4, 5, 6], label="one")
plt.title("A plot")
plt.xlabel("Time (s)")
plt.show()
`;

async function coded(t) {
  t.needs(t.named);
  return t.ending(await t.sdk.CodeInterpreterSandbox.create({ timeoutMs: 120_000 }));
}

test(
  'code runs, and says what it wrote, gave and ended with',
  [
    'CodeInterpreterSandbox.runCode',
    'Execution.text',
    'Execution.toJSON',
    'Result.formats',
    'Result.toJSON',
  ],
  async (t) => {
    const sandbox = await coded(t);
    const heard = { out: [], err: [], results: [], errors: [] };
    const code = 'import os, sys; print(os.environ["X"]); print("bad", file=sys.stderr); 6 * 7';
    const found = await sandbox.runCode(code, {
      language: 'python',
      envs: { X: 'set' },
      timeoutMs: 30_000,
      requestTimeoutMs: 30_000,
      onStdout: (each) => heard.out.push(each),
      onStderr: (each) => heard.err.push(each),
      onResult: (each) => heard.results.push(each),
      onError: (each) => heard.errors.push(each),
    });
    const { stdout, stderr } = found.logs;
    assert.deepEqual([found.text, stdout.join(''), stderr.join('')], ['42', 'set\n', 'bad\n']);
    const lines = [heard.out, heard.err].map((each) => each.map(({ line }) => line));
    assert.deepEqual([lines, heard.results.length, heard.errors.length], [[stdout, stderr], 1, 0]);
    assert.deepEqual(heard.results[0].formats(), []); // beside its text
    assert.equal(heard.results[0].toJSON().text, '42');
    assert.deepEqual(found.toJSON().logs.stdout, stdout);
    const failed = await sandbox.runCode('1 / 0', { onError: (each) => heard.errors.push(each) });
    assert.deepEqual([failed.error.name, heard.errors.length], ['ZeroDivisionError', 1]);
    assert.equal((await sandbox.runCode('2 + 2', { envs: {} })).text, '4');
  },
);

test('a plot is a picture and a chart', ['CodeInterpreterSandbox.runCode', 'deserializeChart'], async (t) => {
  const sandbox = await coded(t);
  const [result] = (await sandbox.runCode(CHART)).results;
  assert.ok(result.png);
  assert.ok(result.formats().includes('png'));
  const { type, x_unit, elements } = result.chart;
  assert.deepEqual([type, x_unit, elements[0].label, elements[0].points], ['line', 's', 'one', [[1, 4], [2, 5], [3, 6]]]);
  assert.equal(t.sdk.deserializeChart(result.chart).type, 'line');
});

const CELLS = [
  ['javascript', 'console.log(6 * 7)'],
  ['ts', 'const n: number = 42; console.log(n)'],
  ['bash', 'echo $((6 * 7))'],
  ['r', 'cat(6 * 7)'],
  ['java', 'System.out.print(6 * 7)'],
];

test('code in every language', ['CodeInterpreterSandbox.runCode'], async (t) => {
  const sandbox = await coded(t);
  for (const [language, code] of CELLS) {
    const found = await sandbox.runCode(code, { language });
    assert.deepEqual([found.error, found.logs.stdout.join('').trim()], [undefined, '42'], language);
  }
});

test(
  'contexts keep their names apart',
  [
    'CodeInterpreterSandbox.createCodeContext',
    'CodeInterpreterSandbox.listCodeContexts',
    'CodeInterpreterSandbox.restartCodeContext',
    'CodeInterpreterSandbox.removeCodeContext',
    'CodeInterpreterSandbox.runCode',
  ],
  async (t) => {
    const sandbox = await coded(t);
    const asked = { requestTimeoutMs: 30_000 };
    const context = await sandbox.createCodeContext({ cwd: '/tmp', language: 'python', ...asked });
    assert.deepEqual([context.cwd, context.language], ['/tmp', 'python']);
    const kept = await sandbox.runCode('import os; x = 1; os.getcwd()', { context });
    assert.equal(kept.text, '/tmp');
    assert.equal((await sandbox.runCode('x')).error.name, 'NameError');
    const ids = async () => (await sandbox.listCodeContexts(asked)).map(({ id }) => id);
    assert.ok((await ids()).includes(context.id));
    await sandbox.restartCodeContext(context, asked);
    assert.equal((await sandbox.runCode('x', { context })).error.name, 'NameError');
    await sandbox.removeCodeContext(context.id, asked);
    assert.ok(!(await ids()).includes(context.id));
  },
);

test('a context is removed by the earlier name', ['CodeInterpreterSandbox.deleteCodeContext'], async (t) => {
  const sandbox = await coded(t);
  const { id } = await sandbox.createCodeContext();
  await sandbox.deleteCodeContext(id, { requestTimeoutMs: 30_000 });
  assert.ok(!(await sandbox.listCodeContexts()).some((each) => each.id === id));
});

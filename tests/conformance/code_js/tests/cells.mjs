// Code that is run: what it says, shows, and fails with; its language, time and end.

import assert from 'node:assert/strict';

import { test } from '../../js/harness.mjs';
import { gathered } from '../../e2b_js/e2b.mjs';

test(
  'a cell has a result, output and a number',
  ['Sandbox.runCode', 'Execution.text', 'Execution.toJSON', 'Result.formats', 'Result.toJSON'],
  async (t) => {
    const sandbox = await t.shared;
    t.seen(await sandbox.runCode('1'));
    const found = await sandbox.runCode("import sys\nprint('out')\nprint('err', file=sys.stderr)\n1 + 1");
    assert.deepEqual([found.text, found.error, found.executionCount > 0], ['2', undefined, true]);
    assert.deepEqual([found.logs.stdout.join(''), found.logs.stderr.join('')], ['out\n', 'err\n']);
    const [result] = found.results;
    assert.deepEqual([result.text, result.isMainResult, result.formats()], ['2', true, []]);
    assert.equal(result.toJSON().text, '2');
    assert.deepEqual(found.toJSON().logs, found.logs);
  },
);

test('call-backs hear of everything', ['Sandbox.runCode'], async (t) => {
  const sandbox = await t.shared;
  const heard = { out: [], err: [], results: [], errors: [] };
  const code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\ndisplay('shown')\n1 / 0";
  const found = await sandbox.runCode(code, {
    language: 'python',
    envs: { NEW: '1' },
    timeoutMs: 20_000,
    requestTimeoutMs: 20_000,
    onStdout: (each) => heard.out.push(each),
    onStderr: (each) => heard.err.push(each),
    onResult: (each) => heard.results.push(each),
    onError: (each) => heard.errors.push(each),
  });
  for (const [said, line, error] of [
    [heard.out, 'out\n', false],
    [heard.err, 'err\n', true],
  ]) {
    assert.equal(said.map((each) => each.line).join(''), line);
    assert.ok(said.every((each) => each.error === error && each.timestamp));
  }
  assert.deepEqual([heard.results, heard.errors], [found.results, [found.error]]);
  assert.deepEqual([found.error.name, found.error.value], ['ZeroDivisionError', 'division by zero']);
  assert.match(found.error.traceback, /ZeroDivisionError/);
});

const runs = async (t, language, code, text) => {
  const found = await (await t.shared).runCode(code, { language });
  assert.deepEqual([language, found.error, found.results.at(-1)?.text], [language, undefined, text]);
};

test('JavaScript and TypeScript', ['Sandbox.runCode'], async (t) => {
  await runs(t, 'javascript', '[6, 7].reduce((a, b) => a * b)', '42');
  await runs(t, 'js', '6 * 7', '42');
  await runs(t, 'typescript', 'const n: number = 42; n', '42');
  await runs(t, 'ts', 'type N = number; const m: N = 42; m', '42');
});

test('R', ['Sandbox.runCode'], (t) => runs(t, 'r', '6 * 7', '[1] 42'));

test('Java', ['Sandbox.runCode'], (t) => runs(t, 'java', '6 * 7', '42'));

test('Bash', ['Sandbox.runCode'], async (t) => {
  const found = await (await t.shared).runCode('echo $COLOUR $NEW', { language: 'bash', envs: { NEW: 'red' } });
  assert.equal(found.logs.stdout.join(''), 'blue red\n');
});

test('a language of nobody, or two choices', ['Sandbox.runCode'], async (t) => {
  const sandbox = await t.shared;
  await t.raises('InvalidArgumentError', () => sandbox.runCode('1', { language: 'js', context: { id: 'x' } }));
  await t.raises('SandboxError', () => sandbox.runCode('1', { language: 'cobol' }));
});

test('results of every kind', ['Sandbox.runCode'], async (t) => {
  const sandbox = await t.shared;
  const bundle = {
    'text/html': '<b>bold</b>',
    'text/markdown': '# Title',
    'image/svg+xml': '<svg/>',
    'image/png': 'iVBORw0KGgo=',
    'image/jpeg': '/9j/4AAQ',
    'application/pdf': 'JVBERi0=',
    'text/latex': '$x^2$',
    'application/json': { a: [1] },
    'application/javascript': 'alert(1)',
  };
  const own = { ...bundle, 'text/x-own': 'mine' };
  const [result] = (await sandbox.runCode(`import json\ndisplay(json.loads('${JSON.stringify(own)}'), raw=True)`)).results;
  const { html, markdown, svg, png, jpeg, pdf, latex, json, javascript, extra, isMainResult, raw } = result;
  const values = [html, markdown, svg, png, jpeg, pdf, latex, json, javascript];
  assert.deepEqual([values, isMainResult], [Object.values(bundle), false]);
  assert.deepEqual([raw.extra, extra], [{ 'text/x-own': 'mine' }, {}]); // the client keeps these in `raw` alone
  const frame = await sandbox.runCode("import pandas\npandas.DataFrame({'a': [1, 2]})");
  assert.deepEqual(frame.results[0].data, { a: [1, 2] });
});

test('a chart', ['Sandbox.runCode'], async (t) => {
  const sandbox = await t.shared;
  const code = "import matplotlib.pyplot as plt\nplt.bar(['x', 'y'], [3, 4], label='g')\nplt.title('B')\nplt.show()";
  const [{ png, chart }] = (await sandbox.runCode(code)).results;
  assert.ok(Buffer.from(png, 'base64').subarray(1, 4).equals(Buffer.from('PNG')));
  assert.deepEqual([chart.type, chart.title], ['bar', 'B']);
  assert.deepEqual(
    chart.elements.map(({ label, group, value }) => [label, group, Number(value)]),
    [
      ['x', 'g', 3],
      ['y', 'g', 4],
    ],
  );
});

test('a time limit interrupts the cell', ['Sandbox.runCode'], async (t) => {
  const sandbox = await t.shared;
  const context = await sandbox.createCodeContext();
  const code = "import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    ended = 'interrupted'\n    raise";
  await t.raises('TimeoutError', () => sandbox.runCode(code, { context, timeoutMs: 5000 }));
  assert.equal((await sandbox.runCode('ended', { context })).text, 'interrupted');
  await sandbox.removeCodeContext(context);
});

test('a sandbox that is killed meanwhile', ['Sandbox.runCode'], async (t) => {
  const sandbox = await t.own();
  const begun = gathered(() => true);
  const running = sandbox.runCode("import time\nprint('begun')\ntime.sleep(60)", { onStdout: begun.offer });
  const failed = assert.rejects(running, t.minor >= 8 ? /killed/ : Error);
  await begun.met;
  await sandbox.kill();
  await failed;
});

test('a client that is bound to its connection', ['Sandbox.runCode'], async (t) => {
  t.needs(t.sdk.E2B);
  const client = new t.sdk.E2B(t.connection);
  const { sandboxId } = await t.shared;
  assert.equal((await (await client.Sandbox.connect(sandboxId)).runCode('6 * 7')).text, '42');
});

// Code, commands, processes and variables.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { test } from '../harness.mjs';

const GREETINGS = {
  python: 'import os, sys; print("out", os.environ["A"]); print("err", file=sys.stderr)',
  javascript: 'console.log("out", process.env.A); console.error("err")',
  bash: 'echo out $A; echo err >&2',
  go: 'package main\nimport ("fmt"; "os")\nfunc main() { fmt.Println("out", os.Getenv("A")); fmt.Fprintln(os.Stderr, "err") }',
};

const interpreter = (t) => t.create({ template: 'code-interpreter' });

// A web server where the open installation's way out leads.
async function outside(t) {
  const { ATOLL_OUTSIDE: namespace, ATOLL_OUTSIDE_ADDRESS: address } = t.place.facts;
  const program = fileURLToPath(new URL('../hook.mjs', import.meta.url));
  const command = [`--net=/run/netns/${namespace}`, process.execPath, program, address];
  const server = spawn('nsenter', command, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.afterwards(async () => server.kill());
  const lines = createInterface({ input: server.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value);
  return { url: `http://${address}:${await next()}`, next };
}

async function until(condition) {
  while (!(await condition())) await sleep(20);
}

async function background(sandbox, id) {
  return (await sandbox.listProcesses()).find((each) => each.process_id === id);
}

test('four languages run with their variables', ['Sandbox.runCode'], async (t) => {
  const sandbox = await interpreter(t);
  for (const [language, code] of Object.entries(GREETINGS)) {
    const result = await sandbox.runCode(code, { language, env: { A: 'b c' }, timeout: 60 });
    assert.deepEqual([result.stdout, result.stderr, result.exit_code], ['out b c\n', 'err\n', 0], language);
    assert.equal(result.language, language);
  }
});

test(
  'a result is the client’s own object',
  [
    'ExecutionResultImpl.exitCode',
    'ExecutionResultImpl.executionTime',
    'ExecutionResultImpl.failed',
    'ExecutionResultImpl.toString',
  ],
  async (t) => {
    const sandbox = await interpreter(t);
    const good = await sandbox.runCode('import time; time.sleep(0.05); print("ü")');
    assert.equal(good.constructor, t.sdk.ExecutionResultImpl);
    assert.deepEqual([good.stdout, good.success, good.failed, good.exitCode], ['ü\n', true, false, 0]);
    assert.ok(good.executionTime >= 0.05 && good.executionTime < 20);
    assert.ok(Math.abs(Date.parse(good.timestamp) - Date.now()) < 60_000);
    assert.match(good.toString(), /rich=0/);
    const bad = await sandbox.runCode('def f():\n    raise KeyError("gone")\nf()');
    assert.ok(bad.failed && bad.exitCode !== 0);
    assert.match(bad.stderr, /KeyError: 'gone'/);
    assert.equal((await sandbox.runCode('exit 3', { language: 'bash' })).exitCode, 3);
  },
);

test(
  'what a program keeps is there in the next call, and its directory is the one given',
  ['Sandbox.runCode'],
  async (t) => {
    const sandbox = await interpreter(t);
    await sandbox.runCode('kept = 41');
    assert.equal((await sandbox.runCode('print(kept + 1)', { preflight: true })).stdout, '42\n');
    for (const [language, code] of [
      ['python', 'import os; print(os.getcwd())'],
      ['bash', 'pwd'],
      ['javascript', 'console.log(process.cwd())'],
    ]) {
      assert.equal((await sandbox.runCode(code, { language })).stdout, '/workspace\n', language);
      assert.equal((await sandbox.runCode(code, { language, workingDir: '/tmp' })).stdout, '/tmp\n', language);
    }
  },
);

test('preflight refuses what cannot run', ['Sandbox.runCode', 'HopxError'], async (t) => {
  const sandbox = await t.create();
  await sandbox.pause();
  const error = await t.raises('HopxError', () => sandbox.runCode('true', { language: 'bash', preflight: true }));
  assert.match(error.message, /not running/);
});

test('a time limit is a result', ['Sandbox.runCode'], async (t) => {
  const sandbox = await interpreter(t);
  for (const [language, code] of [
    ['python', 'print("begun", flush=True)\nwhile True: pass'],
    ['bash', 'echo begun; sleep 60 & sleep 60'],
  ]) {
    const result = await sandbox.runCode(code, { language, timeout: 3 });
    assert.deepEqual([result.success, result.exitCode, result.stdout], [false, 124, 'begun\n'], language);
    assert.match(result.stderr, /timed out/);
    assert.ok(result.executionTime < 7);
  }
});

test('rich outputs come along', ['ExecutionResultImpl.richCount', 'ExecutionResultImpl.hasRichOutput'], async (t) => {
  const sandbox = await interpreter(t);
  const figure = await sandbox.runCode('import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()');
  assert.ok(figure.hasRichOutput);
  const png = figure.richOutputs.find((each) => each.type === 'image/png').data['image/png'];
  assert.equal(Buffer.from(png, 'base64').subarray(1, 4).toString(), 'PNG');
  assert.equal(figure.png, png);
  const table = await sandbox.runCode('import pandas\npandas.DataFrame({"a": [1, 2]})');
  assert.match(table.richOutputs.find((each) => each.type === 'text/html').data['text/html'], /<table/);
  const value = await sandbox.runCode('6 * 7');
  assert.deepEqual([value.result, value.richCount], ['42', 1]);
  assert.deepEqual(value.richOutputs[0].data, { 'text/plain': '42' });
  const silent = await sandbox.runCode('pass');
  assert.deepEqual([silent.richCount, silent.hasRichOutput], [0, false]);
});

test('runIpython shares the interpreter', ['Sandbox.runIpython'], async (t) => {
  const sandbox = await interpreter(t);
  await sandbox.runCode('kept = 41');
  assert.equal(
    (await sandbox.runIpython('import os; print(kept, os.environ["A"])', { env: { A: 'x' } })).stdout,
    '41 x\n',
  );
  const late = await sandbox.runIpython('while True: pass', { timeout: 1 });
  assert.deepEqual([late.success, late.exitCode], [false, 124]);
});

test('a call-back brings the result', ['Sandbox.runCodeAsync'], async (t) => {
  const hook = await outside(t);
  const sandbox = await t.create(t.open);
  const started = await sandbox.runCodeAsync('echo $A $(pwd); echo err >&2; exit 3', {
    callbackUrl: `${hook.url}/hook?n=1`,
    callbackHeaders: { 'X-Mine': 'a b' },
    callbackSignatureSecret: 'secret',
    language: 'bash',
    env: { A: 'b' },
    workingDir: '/tmp',
    timeout: 20,
  });
  assert.equal(started.status, 'queued');
  const { method, url, headers, body } = await hook.next();
  const told = JSON.parse(body);
  assert.deepEqual([told.execution_id, told.status, told.success], [started.execution_id, 'failed', false]);
  assert.deepEqual([told.stdout, told.stderr, told.exit_code], ['b /tmp\n', 'err\n', 3]);
  assert.deepEqual([method, url, headers['x-mine']], ['POST', '/hook?n=1', 'a b']);
  const signature = createHmac('sha256', 'secret').update(headers['x-hopx-timestamp']).update(body).digest('hex');
  assert.equal(headers['x-hopx-signature'], `sha256=${signature}`);
});

test('a call-back comes at the time limit too', ['Sandbox.runCodeAsync'], async (t) => {
  const hook = await outside(t);
  await (await t.create(t.open)).runCodeAsync('sleep 60', { callbackUrl: hook.url, language: 'bash', timeout: 1 });
  const told = JSON.parse((await hook.next()).body);
  assert.deepEqual([told.status, told.success, told.exit_code], ['timeout', false, 124]);
});

test(
  'background code is listed, and killed',
  ['Sandbox.runCodeBackground', 'Sandbox.listProcesses', 'Sandbox.killProcess'],
  async (t) => {
    const sandbox = await t.create();
    const code = 'echo "$A $(pwd)" > /tmp/said; sleep 600';
    const started = await sandbox.runCodeBackground(code, {
      language: 'bash',
      name: 'job',
      env: { A: 'b' },
      workingDir: '/tmp',
      timeout: 60,
    });
    assert.equal(started.status, 'running');
    assert.ok(started.execution_id);
    const listed = await background(sandbox, started.process_id);
    assert.deepEqual([listed.status, listed.name, listed.language], ['running', 'job', 'bash']);
    await until(
      async () => (await sandbox.files.exists('/tmp/said')) && (await sandbox.files.read('/tmp/said')) === 'b /tmp\n',
    );
    await sandbox.killProcess(started.process_id);
    assert.equal((await background(sandbox, started.process_id)).status, 'killed');
    await assert.rejects(sandbox.killProcess('no-such-process'), /not found/);
  },
);

test(
  'background code ends by itself or at its time',
  ['Sandbox.runCodeBackground', 'Sandbox.listProcesses'],
  async (t) => {
    const sandbox = await t.create();
    const start = async (code, options) =>
      (await sandbox.runCodeBackground(code, { language: 'bash', ...options })).process_id;
    const expected = {
      [await start('true')]: ['completed', 0],
      [await start('exit 3')]: ['failed', 3],
      [await start('sleep 60', { timeout: 1 })]: ['failed', 124],
    };
    for (const [id, end] of Object.entries(expected)) {
      await until(async () => (await background(sandbox, id)).status !== 'running');
      const { status, exit_code } = await background(sandbox, id);
      assert.deepEqual([status, exit_code], end);
    }
  },
);

test(
  'processes of the system and sessions are listed',
  ['Sandbox.listSystemProcesses', 'Sandbox.getJupyterSessions'],
  async (t) => {
    const sandbox = await interpreter(t);
    await sandbox.runCode('1');
    await sandbox.commands.runBackground('exec sleep 55');
    await until(async () => (await sandbox.listSystemProcesses()).some((each) => each.command.includes('sleep 55')));
    assert.deepEqual(
      (await sandbox.getJupyterSessions()).map((each) => each.execution_state),
      ['idle'],
    );
  },
);

test(
  'a command gives output and exit code',
  [
    'Sandbox.commands',
    'Commands.run',
    'CommandResultImpl.exitCode',
    'CommandResultImpl.executionTime',
    'CommandResultImpl.isSuccess',
    'CommandResultImpl.toString',
  ],
  async (t) => {
    const { commands } = await t.create();
    const failed = await commands.run('echo out; echo err >&2; exit 3');
    assert.deepEqual([failed.success, failed.stdout, failed.stderr, failed.exit_code], [false, 'out\n', 'err\n', 3]);
    const options = { env: { A: 'b c' }, workingDir: '/tmp', timeout: 20 };
    const good = new t.sdk.CommandResultImpl(await commands.run('echo $A | tr b x; pwd', options));
    assert.deepEqual([good.stdout, good.exitCode, good.isSuccess], ['x c\n/tmp\n', 0, true]);
    assert.ok(good.executionTime >= 0 && good.pid > 1);
    assert.match(good.toString(), /exit=0/);
    const late = await commands.run('echo begun; sleep 60', { timeout: 3 });
    assert.deepEqual([late.exit_code, late.stdout], [124, 'begun\n']);
  },
);

test('background commands are listed', ['Commands.run', 'Commands.runBackground'], async (t) => {
  const sandbox = await t.create();
  const options = { env: { A: 'b' }, workingDir: '/tmp', timeout: 30 };
  const ids = [
    await sandbox.commands.run('echo $A $(pwd) > /tmp/one', { ...options, background: true }),
    await sandbox.commands.runBackground('echo $A $(pwd) > /tmp/two', options),
    await sandbox.commands.runBackground('sleep 60', { timeout: 1 }),
  ].map((each) => each.process_id);
  await until(async () => {
    const found = await sandbox.listProcesses();
    return ids.every((id) => found.find((each) => each.process_id === id).status !== 'running');
  });
  assert.deepEqual(
    [await sandbox.files.read('/tmp/one'), await sandbox.files.read('/tmp/two')],
    ['b /tmp\n', 'b /tmp\n'],
  );
  assert.equal((await background(sandbox, ids[2])).exit_code, 124);
});

test(
  'variables reach everything that starts later',
  [
    'Sandbox.env',
    ...['get', 'set', 'getAll', 'setAll', 'update', 'delete'].map((each) => `EnvironmentVariables.${each}`),
  ],
  async (t) => {
    const sandbox = await interpreter(t);
    const { env } = sandbox;
    const before = await env.getAll();
    assert.equal(before.HOME, '/home/user');
    await env.set('A', '1');
    const merged = await env.update({ B: '2 ü\nline' });
    assert.deepEqual([merged.A, merged.B, merged.HOME], ['1', '2 ü\nline', before.HOME]);
    assert.equal(await env.get('B'), '2 ü\nline');
    assert.equal((await sandbox.commands.run('echo $A')).stdout, '1\n');
    assert.equal((await sandbox.runCode('import os; print(os.environ["B"])')).stdout, '2 ü\nline\n');
    assert.equal((await sandbox.runCode('echo $A', { language: 'bash', env: { A: 'once' } })).stdout, 'once\n');
    await env.delete('A');
    assert.equal(await env.get('A'), undefined);
    assert.deepEqual(await env.setAll({ ...before, C: '3' }), { ...before, C: '3' });
    assert.deepEqual(await env.getAll(), { ...before, C: '3' });
  },
);

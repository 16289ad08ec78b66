// The three WebSockets. The client listens for one message at a time: what comes while it does not is lost to it,
// so these tests are the ones that notice when the server sends two in one go.

import assert from 'node:assert/strict';

import { test } from '../harness.mjs';

const textOf = (messages, type) =>
  messages
    .filter((each) => each.type === type)
    .map((each) => each.data)
    .join('');

async function collect(generator, heard = () => {}) {
  const found = [];
  for await (const each of generator) {
    found.push(each);
    heard(each);
  }
  return found;
}

test('output streams as it comes', ['Sandbox.runCodeStream'], async (t) => {
  const sandbox = await t.create({ template: 'code-interpreter' });
  const wait = 'while not os.path.exists("/tmp/heard"): time.sleep(0.01)';
  const code = `import os, sys, time\nprint("a", end="")\n${wait}\nprint("b")\nprint("e", file=sys.stderr)\nraise SystemExit(3)`;
  let told;
  const found = await collect(sandbox.runCodeStream(code), ({ type, data }) => {
    if (type === 'stdout' && data.startsWith('a')) told = sandbox.files.write('/tmp/heard', '');
  });
  await told;
  assert.equal(textOf(found, 'stdout'), 'ab\n');
  assert.match(textOf(found, 'stderr'), /^e\n[^]*SystemExit: 3\n$/);
  assert.deepEqual(
    found.slice(-2).map((each) => each.type),
    ['result', 'complete'],
  );
  assert.deepEqual([found.at(-2).exit_code !== 0, found.at(-1).success], [true, false]);
});

test('a stream takes every option', ['Sandbox.runCodeStream'], async (t) => {
  const sandbox = await t.create();
  const options = { language: 'bash', env: { A: 'b' }, workingDir: '/tmp', timeout: 3 };
  const found = await collect(sandbox.runCodeStream('echo $A $(pwd); sleep 60', options));
  assert.equal(textOf(found, 'stdout'), 'b /tmp\n');
  assert.match(textOf(found, 'stderr'), /timed out/);
  assert.equal(found.at(-2).exit_code, 124);
});

test('no message of a busy stream is lost', ['Sandbox.runCodeStream'], async (t) => {
  const sandbox = await t.create({ template: 'code-interpreter' });
  const found = await collect(
    sandbox.runCodeStream('import sys\nfor n in range(500):\n    print(n)\n    print(n, file=sys.stderr)'),
  );
  const expected = [...Array(500).keys()].map((each) => `${each}\n`).join('');
  assert.equal(textOf(found, 'stdout'), expected);
  assert.equal(textOf(found, 'stderr'), expected);
  assert.equal(found.at(-1).success, true);
});

test('changes of files are watched', ['Sandbox.watchFiles'], async (t) => {
  const sandbox = await t.create();
  await sandbox.files.mkdir('/workspace/watched');
  const changes = sandbox.watchFiles('/workspace/watched');
  let first;
  const begun = changes.next().then((step) => (first = step.value));
  while (!first) {
    // the protocol has no word for "watching now"
    await sandbox.commands.run('rm -f /workspace/watched/here; echo 1 > /workspace/watched/here');
  }
  await begun;
  assert.deepEqual([first.type, first.path.startsWith('/workspace/watched/')], ['change', true]);
  const work = sandbox.commands.run(
    'cd /workspace/watched; mkdir -p deep; mv here one; rm one; sleep 0.1; echo 2 > deep/two.txt',
  );
  const seen = new Set();
  for await (const { event, path } of changes) {
    seen.add(`${event} ${path.slice('/workspace/watched/'.length)}`);
    if (path.endsWith('two.txt')) break;
  }
  await work;
  for (const wanted of ['created deep', 'renamed one', 'deleted one']) assert.ok(seen.has(wanted), `${[...seen]}`);
});

test(
  'a terminal is a login shell on a PTY',
  ['Sandbox.terminal', ...['connect', 'sendInput', 'resize', 'output'].map((each) => `Terminal.${each}`)],
  async (t) => {
    const { terminal } = await t.create();
    const ws = await terminal.connect();
    terminal.resize(ws, 101, 33);
    terminal.sendInput(ws, "tty; stty size; pwd; shopt -q login_shell && echo lo''gin; echo ü; exit 5\n");
    const found = await collect(terminal.output(ws));
    const shown = textOf(found, 'output');
    for (const wanted of ['/dev/pts/', '33 101', '/workspace', 'login', 'ü']) assert.ok(shown.includes(wanted), shown);
    assert.deepEqual([found.at(-1).type, found.at(-1).code], ['exit', 5]);
  },
);

test(
  'the socket client works by itself',
  ['WSClient.connect', 'WSClient.send', 'WSClient.receive', 'WSClient.messages', 'WSClient.updateJwtToken'],
  async (t) => {
    const sandbox = await t.create();
    const { publicHost } = await sandbox.getInfo();
    const client = new t.sdk.WSClient(publicHost, 'eyJ.wrong');
    await assert.rejects(client.connect('/execute/stream'), /401/);
    client.updateJwtToken(await sandbox.getToken());
    const ws = await client.connect('/execute/stream');
    const code = 'echo one; until [ -e /tmp/heard ]; do sleep 0.01; done; echo two';
    client.send(ws, { type: 'execute', code, language: 'bash' });
    assert.equal((await client.receive(ws)).data, 'one\n');
    const told = sandbox.files.write('/tmp/heard', '');
    const rest = [];
    for await (const message of client.messages(ws)) {
      rest.push(message.data ?? message.type);
      if (message.type === 'complete') break;
    }
    await told;
    assert.deepEqual(rest, ['two\n', 'result', 'complete']);
  },
);

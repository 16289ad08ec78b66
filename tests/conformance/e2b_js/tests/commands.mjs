// Programs: started, watched, fed, ended.

import assert from 'node:assert/strict';

import { test } from '../../js/harness.mjs';
import { gathered } from '../e2b.mjs';

const text = new TextDecoder();
const bytes = (words) => new TextEncoder().encode(words);

test('a command says what it wrote and how it ended', ['Commands.run', 'CommandExitError'], async (t) => {
  const { commands } = await t.create({ envs: { COLOUR: 'blue' } });
  const heard = { out: [], err: [] };
  const result = await commands.run('echo $COLOUR $SIZE; pwd; whoami; echo "ünï" >&2', {
    cwd: '/tmp',
    envs: { SIZE: 'big' },
    user: 'root',
    stdin: false,
    background: false,
    timeoutMs: 20_000,
    requestTimeoutMs: 20_000,
    onStdout: (data) => heard.out.push(data),
    onStderr: (data) => heard.err.push(data),
  });
  assert.deepEqual([result.exitCode, result.stdout, result.stderr], [0, 'blue big\n/tmp\nroot\n', 'ünï\n']);
  assert.deepEqual([heard.out.join(''), heard.err.join('')], [result.stdout, result.stderr]);
  const failed = await t.raises('CommandExitError', () => commands.run('echo no >&2; exit 7'));
  assert.deepEqual([failed.exitCode, failed.stderr], [7, 'no\n']);
});

test('a command that takes too long is ended', ['Commands.run', 'TimeoutError'], async (t) => {
  const { commands } = await t.create();
  await t.raises('TimeoutError', () => commands.run('exec sleep 321', { timeoutMs: 300 }));
  await commands.run(
    'found=$(pgrep -f "^sleep 321"); [ -z "$found" ] || exec tail --pid="$found" -f /dev/null -s 0.02',
  );
});

test(
  'a command in the background is heard, waited for, found again and killed',
  [
    'Commands.run',
    'Commands.list',
    'Commands.connect',
    'Commands.kill',
    'CommandHandle.wait',
    'CommandHandle.exitCode',
    'CommandHandle.error',
    'CommandHandle.stdout',
    'CommandHandle.stderr',
    'CommandHandle.kill',
    'CommandHandle.disconnect',
    'NotFoundError',
  ],
  async (t) => {
    const { commands } = await t.create();
    const handle = await commands.run('echo one; echo two >&2; exit 3', { background: true });
    const ended = await t.raises('CommandExitError', () => handle.wait());
    assert.equal(ended.exitCode, 3);
    assert.deepEqual([handle.exitCode, handle.stdout, handle.stderr], [3, 'one\n', 'two\n']);

    const said = gathered((all) => all.join('').includes('late\n'));
    const job = await commands.run('read line < /tmp/go; echo $line; exec sleep 1000', {
      background: true,
      timeoutMs: 0,
    });
    await commands.run('mkfifo /tmp/go 2>/dev/null; true');
    assert.ok((await commands.list()).some(({ pid, cmd }) => pid === job.pid && cmd === '/bin/bash'));
    assert.equal(job.exitCode, undefined);
    await job.disconnect();
    assert.equal(job.error, undefined);
    await commands.kill(job.pid);

    const kept = await commands.run('mkfifo /tmp/line; read line < /tmp/line; echo $line; exec sleep 1000', {
      background: true,
    });
    const again = await commands.connect(kept.pid, { onStdout: said.offer, onStderr: () => {}, timeoutMs: 30_000 });
    await commands.run('until [ -p /tmp/line ]; do :; done; echo late > /tmp/line');
    await said.met;
    assert.equal(again.pid, kept.pid);
    assert.equal(await commands.kill(kept.pid), true);
    const killed = await t.raises('CommandExitError', () => again.wait());
    assert.ok(again.error && killed.exitCode !== 0);
    assert.equal(await again.kill(), false);
    assert.equal(await commands.kill(kept.pid), false);
    await t.raises('NotFoundError', () => commands.connect(999_999));
  },
);

test(
  'standard input is written in pieces and closed',
  [
    'Commands.run',
    'Commands.sendStdin',
    'Commands.closeStdin',
    'Commands.supportsStdinClose',
    'CommandHandle.sendStdin',
    'CommandHandle.closeStdin',
    'CommandHandle.wait',
  ],
  async (t) => {
    const { commands } = await t.create();
    if (t.has('Commands.supportsStdinClose')) assert.equal(commands.supportsStdinClose, true);
    const line = await commands.run('read line; echo got $line', { background: true, stdin: true });
    await commands.sendStdin(line.pid, 'a line\n');
    assert.equal((await line.wait()).stdout, 'got a line\n');
    const deaf = await commands.run('exec sleep 1000', { background: true });
    await t.raises('SandboxError', () => commands.sendStdin(deaf.pid, 'x'));
    await commands.kill(deaf.pid);
    if (!t.has('Commands.closeStdin')) return;
    const first = await commands.run('cat', { background: true, stdin: true });
    await commands.sendStdin(first.pid, 'a line\n');
    await commands.sendStdin(first.pid, bytes('ünï'));
    await commands.closeStdin(first.pid);
    assert.equal((await first.wait()).stdout, 'a line\nünï');
    if (!t.has('CommandHandle.sendStdin')) return;
    const second = await commands.run('wc -c', { background: true, stdin: true });
    await second.sendStdin('x'.repeat(100_000));
    await second.closeStdin();
    assert.equal((await second.wait()).stdout, '100000\n');
  },
);

test(
  'a terminal is typed into, resized, found again and killed',
  ['Pty.create', 'Pty.connect', 'Pty.sendInput', 'Pty.resize', 'Pty.kill'],
  async (t) => {
    const { pty } = await t.create();
    const sees = (words) =>
      gathered((all) =>
        all
          .map((each) => text.decode(each))
          .join('')
          .includes(words),
      );
    const [small, later, other] = ['24 80', 'now 40 120', 'twice 42'].map(sees);
    const terminal = await pty.create({
      cols: 80,
      rows: 24,
      cwd: '/tmp',
      user: 'root',
      envs: { WORD: 'now' },
      timeoutMs: 60_000,
      requestTimeoutMs: 20_000,
      onData: (data) => [small, later].forEach((each) => each.offer(data)),
    });
    await pty.sendInput(terminal.pid, bytes('stty size\n'));
    await small.met;
    await pty.resize(terminal.pid, { cols: 120, rows: 40 });
    await pty.sendInput(terminal.pid, bytes('echo $WORD $(stty size)\n'));
    await later.met;
    await pty.connect(terminal.pid, { onData: other.offer, timeoutMs: 60_000 });
    await pty.sendInput(terminal.pid, bytes('echo twice $((6 * 7))\n'));
    await other.met;
    assert.equal(await pty.kill(terminal.pid), true);
    await t.raises('CommandExitError', () => terminal.wait());
    assert.equal(await pty.kill(terminal.pid), false);
  },
);

test('many streams at once keep their bytes apart and in order', ['Commands.run'], async (t) => {
  const { commands } = await t.create();
  const sizes = Array.from({ length: 24 }, (_, number) => 1 << (number % 18));
  const results = await Promise.all(sizes.map((size, number) => commands.run(`yes line-${number} | head -c ${size}`)));
  for (const [number, { stdout }] of results.entries()) {
    const line = `line-${number}\n`;
    assert.equal(stdout, line.repeat(Math.ceil(sizes[number] / line.length)).slice(0, sizes[number]));
  }
});

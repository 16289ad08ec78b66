// Repositories inside a sandbox, by its own git.

import assert from 'node:assert/strict';

import { test } from '../../js/harness.mjs';
import { gathered } from '../e2b.mjs';

const HOME = '/home/user';
const [BARE, ONE, TWO] = ['bare.git', 'one', 'two'].map((name) => `${HOME}/${name}`);
const AUTHOR = { authorName: 'Ann', authorEmail: 'ann@example.com' };

test(
  'a repository is made, changed, shared and looked at',
  [
    'Git.init',
    'Git.clone',
    'Git.configureUser',
    'Git.setConfig',
    'Git.getConfig',
    'Git.add',
    'Git.commit',
    'Git.status',
    'Git.branches',
    'Git.createBranch',
    'Git.checkoutBranch',
    'Git.deleteBranch',
    'Git.remoteAdd',
    'Git.remoteGet',
    'Git.push',
    'Git.pull',
    'Git.reset',
    'Git.restore',
    'GitRequestOpts',
    'GitUpstreamError',
    'InvalidArgumentError',
  ],
  async (t) => {
    t.needs(t.has('Git.init'));
    const { git, files } = await t.create();
    await git.init(BARE, { bare: true, initialBranch: 'main' });
    await git.init(ONE, {
      initialBranch: 'main',
      envs: { LC_ALL: 'C' },
      user: 'user',
      cwd: '/tmp',
      timeoutMs: 20_000,
      requestTimeoutMs: 20_000,
    });
    await git.configureUser('Ann', 'ann@example.com', { scope: 'local', path: ONE });
    await git.setConfig('pull.rebase', 'false', { scope: 'local', path: ONE });
    assert.equal(await git.getConfig('user.name', { scope: 'local', path: ONE }), 'Ann');
    assert.equal(await git.getConfig('no.such'), undefined);

    await files.write(`${ONE}/a.txt`, 'one');
    await files.write(`${ONE}/b.txt`, 'two');
    await git.add(ONE, { files: ['a.txt'], all: false });
    const staged = await git.status(ONE);
    assert.deepEqual([staged.currentBranch, staged.stagedCount, staged.untrackedCount], ['main', 1, 1]);
    await git.commit(ONE, 'first', AUTHOR);
    await git.add(ONE, { all: true });
    await git.commit(ONE, 'second', { ...AUTHOR, allowEmpty: true });
    await t.raises('GitUpstreamError', () => git.pull(ONE));

    await git.remoteAdd(ONE, 'origin', '/nowhere');
    await git.remoteAdd(ONE, 'origin', BARE, { overwrite: true, fetch: true });
    assert.equal(await git.remoteGet(ONE, 'origin'), BARE);
    await git.push(ONE, { remote: 'origin', branch: 'main', setUpstream: true });
    await git.clone(BARE, { path: TWO, branch: 'main', depth: 5 });
    assert.equal(await files.read(`${TWO}/b.txt`), 'two');

    await git.createBranch(ONE, 'other');
    await git.checkoutBranch(ONE, 'main');
    assert.deepEqual((await git.branches(ONE)).branches.toSorted(), ['main', 'other']);
    assert.equal((await git.branches(ONE)).currentBranch, 'main');
    await git.deleteBranch(ONE, 'other', { force: true });
    await files.write(`${ONE}/a.txt`, 'changed');
    await git.add(ONE);
    await git.reset(ONE, { mode: 'mixed', target: 'HEAD' });
    await git.add(ONE);
    await git.reset(ONE, { paths: ['a.txt'] });
    await git.restore(ONE, { paths: ['a.txt'], worktree: true, staged: false, source: 'HEAD' });
    assert.equal(await files.read(`${ONE}/a.txt`), 'one');

    await git.commit(ONE, 'third', { ...AUTHOR, allowEmpty: true });
    await git.push(ONE);
    await git.pull(TWO, { remote: 'origin', branch: 'main' });
    assert.equal((await git.status(TWO)).ahead, 0);
    await t.raises('InvalidArgumentError', () => git.remoteAdd(ONE, '', ''));
  },
);

test(
  'a server of repositories asks for a name and a password',
  ['Git.clone', 'Git.push', 'Git.pull', 'Git.dangerouslyAuthenticate', 'GitAuthError'],
  async (t) => {
    const { git, files, commands } = await t.create();
    const url = 'http://127.0.0.1:9000/bare.git';
    await files.write('/tmp/server.py', SERVER);
    const ready = gathered((all) => all.join('').includes('ready'));
    await git.init(BARE, { bare: true, initialBranch: 'main' });
    await commands.run(`git -C ${BARE} config http.receivepack true`);
    await commands.run('exec python3 -u /tmp/server.py', { background: true, timeoutMs: 0, onStdout: ready.offer });
    await ready.met;
    await t.raises('GitAuthError', () => git.clone(url, { path: ONE }));
    const account = { username: 'ann', password: 'right' };
    await git.clone(url, { path: ONE, ...account, dangerouslyStoreCredentials: true });
    await git.clone(url, { path: TWO, ...account });
    assert.equal(await git.remoteGet(TWO, 'origin'), url);
    await git.createBranch(ONE, 'main');
    await git.commit(ONE, 'first', { ...AUTHOR, allowEmpty: true });
    await git.push(ONE, { remote: 'origin', branch: 'main', ...account });
    await git.pull(TWO, { remote: 'origin', branch: 'main', ...account });
    await git.dangerouslyAuthenticate({ ...account, host: '127.0.0.1:9000', protocol: 'http' });
    await git.clone(url, { path: `${HOME}/three` });
  },
);

const SERVER = `
import base64, http.server, os
os.environ |= {"GIT_PROJECT_ROOT": "/home/user", "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": "ann"}
os.makedirs("/tmp/root/cgi-bin", exist_ok=True)
os.symlink("/usr/lib/git-core/git-http-backend", "/tmp/root/cgi-bin/git")
os.chdir("/tmp/root")
RIGHT = "Basic " + base64.b64encode(b"ann:right").decode()
class Git(http.server.CGIHTTPRequestHandler):
    def is_cgi(self):
        if self.headers.get("Authorization") != RIGHT:
            return False
        self.cgi_info = "/cgi-bin", "git" + self.path
        return True
    def send_head(self):
        if self.is_cgi():
            return super().send_head()
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()
    def do_POST(self):
        return super().do_POST() if self.is_cgi() else self.send_head()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Git)
print("ready")
server.serve_forever()
`;

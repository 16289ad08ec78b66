"""The client's git: it writes command lines, and reads what they print."""

from __future__ import annotations

import shlex

import e2b
import pytest
from talk import said
from waiting import until

covers = pytest.mark.covers
MORE = {"envs": {"GIT_TERMINAL_PROMPT": "0"}, "user": "user", "cwd": "/home/user", "timeout": 60, "request_timeout": 30}

SERVER = """
import base64, http.server, os, subprocess
CREDENTIAL = "Basic " + base64.b64encode(b"ann:word").decode()

class Handler(http.server.BaseHTTPRequestHandler):
    def serve(self):
        body = self.body()
        if self.headers.get("Authorization") != CREDENTIAL:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic realm=git")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        names = {"CONTENT_TYPE": "Content-Type", "HTTP_CONTENT_ENCODING": "Content-Encoding"}
        env = {key: self.headers[name] for key, name in names.items() if self.headers[name]}
        env |= {"GIT_PROJECT_ROOT": "PLACE", "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": "ann"}
        env |= {"PATH": os.environ["PATH"], "CONTENT_LENGTH": str(len(body))}
        env |= {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command}
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True)
        head, _, content = done.stdout.partition(b"\\r\\n\\r\\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    do_GET = do_POST = serve
    log_message = lambda self, *arguments: None

http.server.ThreadingHTTPServer(("127.0.0.1", 8418), Handler).serve_forever()
"""
REMOTE = "http://127.0.0.1:8418/remote.git"
ACCOUNT = {"username": "ann", "password": "word"}


@pytest.fixture
def git(sandbox):
    return sandbox.git


@pytest.fixture
def work(git, place):
    """A repository with one commit."""
    path = f"{place}/work"
    git.init(path, initial_branch="main")
    git.configure_user("Ann", "ann@example.com", scope="local", path=path)
    return path


def commit(git, sandbox, path, name="file", text="x"):
    sandbox.files.write(f"{path}/{name}", text)
    git.add(path)
    git.commit(path, f"add {name}")


@pytest.fixture
def remote(sandbox, place):
    """An empty repository behind HTTP that wants a name and a password."""
    said(sandbox, f"rm -rf {place}/root; git init -q --bare -b main {place}/root/remote.git")
    said(sandbox, f"git -C {place}/root/remote.git config http.receivepack true")
    sandbox.files.write(f"{place}/server.py", SERVER.replace("PLACE", f"{place}/root"))
    server = sandbox.commands.run(f"exec python3 {place}/server.py", background=True)
    until(lambda: said(sandbox, "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8418/ || true") == "401", "it")
    yield REMOTE
    server.kill()


@covers("Git.init", "Git.configure_user", "Git.add", "Git.commit", "Git.status", "GitStatus.file_status")
def test_a_first_commit(git, sandbox, place):
    path = f"{place}/work"
    git.init(path=path, bare=False, initial_branch="main", **MORE)
    git.configure_user(name="Ann", email="ann@example.com", scope="local", path=path, **MORE)
    sandbox.files.write(f"{path}/file", "x")
    before = git.status(path=path, **MORE)
    assert (before.current_branch, before.has_untracked, before.untracked_count) == ("main", True, 1)
    assert (before.is_clean, before.has_changes, before.has_staged, before.has_conflicts) == (False, True, False, False)
    git.add(path=path, files=["file"], all=False, **MORE)
    staged = git.status(path)
    (found,) = staged.file_status
    assert (found.name, found.status, found.staged, found.renamed_from) == ("file", "added", True, None)
    assert (found.index_status.strip(), found.working_tree_status.strip()) == ("A", "")
    assert (staged.staged_count, staged.unstaged_count, staged.conflict_count, staged.total_count) == (1, 0, 0, 1)
    git.commit(path=path, message="first", author_name="Bob", author_email="bob@example.com", allow_empty=False, **MORE)
    assert said(sandbox, f"git -C {path} log --format='%an %s'") == "Bob first"
    after = git.status(path)
    assert (after.is_clean, after.upstream, after.ahead, after.behind, after.detached) == (True, None, 0, 0, False)


@covers("Git.branches", "Git.create_branch", "Git.checkout_branch", "Git.delete_branch", "GitBranches.branches")
def test_branches(git, sandbox, work):
    commit(git, sandbox, work)
    git.create_branch(path=work, branch="other", **MORE)
    found = git.branches(path=work, **MORE)
    assert (set(found.branches), found.current_branch) == ({"main", "other"}, "other")
    git.checkout_branch(path=work, branch="main", **MORE)
    git.delete_branch(path=work, branch="other", force=True, **MORE)
    assert git.branches(work).branches == ["main"]


@covers("Git.reset", "Git.restore")
def test_changes_are_undone(git, sandbox, work):
    commit(git, sandbox, work)
    sandbox.files.write(f"{work}/file", "changed")
    git.add(work, all=True)
    git.reset(path=work, paths=["file"], **MORE)
    assert git.status(work).has_staged is False
    git.restore(path=work, paths=["file"], worktree=True, staged=False, **MORE)
    assert sandbox.files.read(f"{work}/file") == "x"
    sandbox.files.write(f"{work}/file", "changed")
    git.add(work)
    git.restore(work, ["file"], staged=True, source="HEAD")
    assert git.status(work).has_staged is False
    git.reset(work, mode="hard", target="HEAD")
    assert git.status(work).is_clean


@covers("Git.set_config", "Git.get_config")
def test_configuration(git, work):
    git.set_config(key="atoll.test", value="yes", scope="local", path=work, **MORE)
    assert git.get_config(key="atoll.test", scope="local", path=work, **MORE) == "yes"
    assert git.get_config("atoll.none", scope="local", path=work) is None


@covers("Git.remote_add", "Git.push", "Git.pull", "Git.clone", "Git.remote_get")
def test_a_remote_repository_with_a_password(git, sandbox, place, work, remote):
    said(sandbox, f"rm -rf {place}/copy {place}/stored")
    commit(git, sandbox, work)
    git.remote_add(path=work, name="origin", url=remote, fetch=False, overwrite=True, **MORE)
    assert git.remote_get(path=work, name="origin", **MORE) == remote
    git.push(path=work, remote="origin", branch="main", set_upstream=True, **ACCOUNT, **MORE)
    git.clone(url=remote, path=f"{place}/copy", branch="main", depth=1, **ACCOUNT, **MORE)
    assert sandbox.files.read(f"{place}/copy/file") == "x"
    assert "word" not in sandbox.files.read(f"{place}/copy/.git/config")
    commit(git, sandbox, work, "second")
    assert git.status(work).ahead == 1
    git.push(work, **ACCOUNT)
    git.pull(path=f"{place}/copy", remote="origin", branch="main", **ACCOUNT, **MORE)
    assert sandbox.files.exists(f"{place}/copy/second")
    git.clone(remote, f"{place}/stored", **ACCOUNT, dangerously_store_credentials=True)
    assert "word" in sandbox.files.read(f"{place}/stored/.git/config")


@covers("GitAuthException")
def test_a_wrong_password(git, place, remote):
    with pytest.raises(e2b.GitAuthException):
        git.clone(remote, f"{place}/copy", username="ann", password="wrong", **MORE)


@covers("GitUpstreamException")
def test_a_branch_without_upstream(git, sandbox, work):
    commit(git, sandbox, work)
    with pytest.raises(e2b.GitUpstreamException):
        git.pull(work)


@covers("Git.dangerously_authenticate")
def test_credentials_are_stored(own):
    made = own()
    made.git.dangerously_authenticate(username="ann", password="word", host="127.0.0.1", protocol="http", **MORE)
    asked = shlex.quote("protocol=http\nhost=127.0.0.1\n\n")
    assert "password=word" in said(made, f"printf %s {asked} | GIT_TERMINAL_PROMPT=0 git credential fill")

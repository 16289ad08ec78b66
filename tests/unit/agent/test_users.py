from __future__ import annotations

import os

import pytest

from atoll.agent.errors import AgentError
from atoll.agent.users import Users

PASSWD = """root:x:0:0:root:/root:/bin/bash
user:x:1000:1000::/home/user:/bin/bash
broken:x:abc:1::/:/bin/sh
unchanged:x:4294967295:1000::/:/bin/sh
short:x
# comment
app:x:501:20:::
"""
GROUP = "root:x:0:\nuser:x:1000:\nsudo:x:27:user,other\nbad:x:x:user\n"


@pytest.fixture
def etc(tmp_path):
    (tmp_path / "passwd").write_text(PASSWD)
    (tmp_path / "group").write_text(GROUP)
    return tmp_path


def test_a_user_is_found_by_name_and_by_number(etc):
    users = Users(switching=True, etc=etc)
    assert users.lookup("user") == users.lookup("1000")
    user = users.lookup()
    assert (user.uid, user.gid, user.groups, user.home) == (1000, 1000, (27, 1000), "/home/user")


def test_empty_home_and_shell_have_values(etc):
    user = Users(switching=True, etc=etc).lookup("app")
    assert (user.home, user.shell) == ("/", "/bin/sh")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("nobody-here", "no_user"), ("", "invalid"), (7, "invalid"), ("broken", "internal"), ("unchanged", "internal")],
)
def test_unknown_users_are_errors(etc, name, kind):
    with pytest.raises(AgentError) as error:
        Users(switching=True, etc=etc).lookup(name)
    assert error.value.kind == kind


def test_user_and_root_exist_without_a_database(tmp_path):
    users = Users(switching=True, etc=tmp_path)
    assert users.lookup("user").uid == 1000
    assert users.lookup("root").uid == 0
    assert users.user_name(1000) == "1000"


def test_a_changed_database_is_read_again(etc):
    users = Users(switching=True, etc=etc)
    assert users.user_name(700) == "700"
    (etc / "passwd").write_text(PASSWD + "late:x:700:700::/:/bin/sh\n")
    assert users.user_name(700) == "late"
    assert users.group_name(27) == "sudo"


def test_a_database_that_is_a_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "passwd")
    assert Users(switching=True, etc=tmp_path).lookup("user").uid == 1000


def test_without_switching_every_name_is_the_caller(etc):
    users = Users(switching=False, etc=etc)
    for name in ("user", "root", "anybody"):
        assert users.lookup(name).uid == os.getuid()
    with users.acting_as(users.lookup()), users.becoming(users.lookup()):
        assert os.geteuid() == os.getuid()

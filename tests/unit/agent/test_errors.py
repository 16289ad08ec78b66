from __future__ import annotations

import errno

from atoll.agent.errors import KIND_OF_ERRNO, STATUS, AgentError, Kind, translate


def test_every_kind_has_a_status():
    assert STATUS.keys() == set(Kind)


def test_system_errors_become_kinds_and_name_the_path():
    for code, kind in KIND_OF_ERRNO.items():
        assert translate(OSError(code, "text", "/path")).kind is kind
    error = translate(FileNotFoundError(errno.ENOENT, "No such file or directory", "/a"))
    assert error.to_wire() == {"kind": "not_found", "message": "No such file or directory: /a"}


def test_what_nobody_expected_is_internal_and_says_no_details():
    error = translate(KeyError("secret"))
    assert (error.kind, error.status) == (Kind.INTERNAL, 500)
    assert "secret" not in error.message


def test_running_out_of_memory_is_too_many():
    assert translate(MemoryError()).status == 429


def test_our_own_errors_pass_unchanged():
    error = AgentError(Kind.BUSY, "x")
    assert translate(error) is error

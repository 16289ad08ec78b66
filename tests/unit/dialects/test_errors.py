import pytest

from atoll.core.errors import BY_KIND, ErrorKind
from atoll.dialects.errors import TABLE, Dialect, cell
from atoll.dialects.hopx import render


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_kind_has_a_cell_in_every_dialect(kind: ErrorKind, dialect: Dialect):
    found = cell(kind, dialect)
    assert 400 <= found.status < 600
    assert found.code == (found.code.upper() if dialect is Dialect.HOPX else found.code.lower())


def test_the_table_has_no_row_that_nobody_raises():
    assert set(TABLE) == set(ErrorKind) == set(BY_KIND)


def test_only_what_may_be_repeated_has_a_status_that_clients_repeat():
    repeated = {kind for kind in ErrorKind if (status := cell(kind, Dialect.HOPX).status) == 429 or status >= 500}
    assert repeated == {ErrorKind.RATE_LIMITED, ErrorKind.UNAVAILABLE, ErrorKind.INTERNAL}


def test_a_capacity_error_always_says_limit():
    _, content = render.error(BY_KIND[ErrorKind.CAPACITY_EXCEEDED]("the host is full"), "req_1")
    assert "limit" in content["error"]["message"]


def test_a_rate_limit_says_when_to_come_back_in_hopx_words():
    _, content = render.error(BY_KIND[ErrorKind.RATE_LIMITED]("slow down", retry_after_s=2), "req_1")
    assert content["error"]["details"]["retry_after_seconds"] == 2
    assert content["retry_after"] == 2

from __future__ import annotations

from collections.abc import Iterator

import pytest

from egress_stand import Stand


@pytest.fixture(scope="module")
def stand(internet, tmp_path_factory) -> Iterator[Stand]:
    """The egress daemon alone, in a fabric of its own."""
    with Stand(internet, tmp_path_factory.mktemp("stand")) as made:
        yield made

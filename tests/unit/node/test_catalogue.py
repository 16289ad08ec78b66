from __future__ import annotations

import os

import pytest

from atoll.core.errors import NotFound
from atoll.core.settings import Places
from atoll.node.catalogue import Catalogue

from .conftest import write_template


@pytest.fixture
def catalogue(places: Places) -> Catalogue:
    return Catalogue(places.data / "node" / "templates")


def test_a_rebuilt_template_is_seen(places: Places, catalogue: Catalogue) -> None:
    assert catalogue.get("base").digest == "d" * 64
    path = places.data / "node" / "templates" / "base" / "template.json"
    write_template(places, digest="e" * 64)
    os.utime(path, ns=(1, 1))
    assert catalogue.get("base").digest == "e" * 64


@pytest.mark.parametrize("name", ["", ".", "..", "../base", "nope", "base/"])
def test_other_names_are_not_found(catalogue: Catalogue, name: str) -> None:
    with pytest.raises(NotFound):
        catalogue.get(name)


def test_a_template_without_its_description_is_not_there_yet(places: Places, catalogue: Catalogue) -> None:
    (places.data / "node" / "templates" / "half-made").mkdir()
    assert [template.name for template in catalogue.all()] == ["base"]

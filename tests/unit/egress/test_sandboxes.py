from __future__ import annotations

from atoll.core.policy import CLOSED, OPEN
from atoll.egress.sandboxes import Known, Sandboxes


def test_one_is_known_by_id_and_by_each_address():
    sandboxes = Sandboxes()
    known = Known("one", "100.96.0.2", OPEN, "fd00::2")
    sandboxes.put(known)
    assert sandboxes.by_id("one") is sandboxes.by_address("100.96.0.2") is sandboxes.by_address("fd00::2") is known
    assert sandboxes.by_address("100.96.0.3") is None


def test_the_last_policy_counts():
    sandboxes = Sandboxes()
    for policy in (OPEN, CLOSED):
        sandboxes.put(Known("one", "100.96.0.2", policy))
    found = sandboxes.by_address("100.96.0.2")
    assert found is not None
    assert found.policy is CLOSED
    assert len(sandboxes) == 1


def test_an_address_is_taken_over_and_the_old_one_forgets_only_its_own():
    sandboxes = Sandboxes()
    sandboxes.put(Known("old", "100.96.0.2", OPEN))
    sandboxes.put(Known("new", "100.96.0.2", CLOSED))
    assert sandboxes.forget("old") is not None
    found = sandboxes.by_address("100.96.0.2")
    assert found is not None
    assert found.id == "new"


def test_one_that_moved_is_not_known_by_its_old_address():
    sandboxes = Sandboxes()
    sandboxes.put(Known("one", "100.96.0.2", OPEN))
    sandboxes.put(Known("one", "100.96.0.3", OPEN))
    assert sandboxes.by_address("100.96.0.2") is None


def test_what_was_forgotten_is_nobodys():
    sandboxes = Sandboxes()
    sandboxes.put(Known("one", "100.96.0.2", OPEN))
    sandboxes.forget("one")
    assert sandboxes.by_id("one") is sandboxes.by_address("100.96.0.2") is None
    assert sandboxes.forget("one") is None


def test_others_are_all_that_are_not_named():
    sandboxes = Sandboxes()
    for number in range(3):
        sandboxes.put(Known(f"box{number}", f"100.96.0.{number}", OPEN))
    assert sandboxes.others({"box1", "stranger"}) == ["box0", "box2"]

from __future__ import annotations

import pytest

from atoll.edge.e2b.watch import events_of


@pytest.mark.parametrize(
    ("told", "events"),
    [
        ({"event": "created", "path": "/r/f"}, [("f", "CREATE")]),
        ({"event": "created", "path": "/r/f", "whole": True}, [("f", "CREATE"), ("f", "CHMOD"), ("f", "WRITE")]),
        ({"event": "modified", "path": "/r/a/f"}, [("a/f", "WRITE")]),
        ({"event": "deleted", "path": "/r/f"}, [("f", "REMOVE")]),
        ({"event": "attributes", "path": "/r/f"}, [("f", "CHMOD")]),
        ({"event": "renamed", "path": "/r/b", "from": "/r/a"}, [("a", "RENAME"), ("b", "CREATE")]),
        ({"event": "deleted", "path": "/r"}, [(".", "REMOVE")]),
        ({"event": "something new", "path": "/r/f"}, []),
        ({}, []),
    ],
)
def test_events_in_the_words_of_the_contract(told, events):
    assert [(each["name"], each["type"]) for each in events_of(told, "/r")] == [
        (name, f"EVENT_TYPE_{kind}") for name, kind in events
    ]

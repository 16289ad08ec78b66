"""Whose API a path of the control plane belongs to. Pure: the edge and the server both go by it.

Ours and HopX's begin with `/v1/`; E2B's (and Novita's) with the name of a thing, or with a later version's number.
"""

from __future__ import annotations

import re

ROUTES_MARK = "X-Atoll-Routes"
"""In the server's answers to the edge: up to where the route table was told when the answer was made."""
_E2B = re.compile(r"/(?:v[23]|sandboxes|templates|default-templates|snapshots|volumes|secrets)(?:/.*)?", re.DOTALL)


def is_e2b(path: str) -> bool:
    """
    >>> is_e2b("/v2/sandboxes"), is_e2b("/sandboxes/abc/timeout"), is_e2b("/v1/sandboxes"), is_e2b("/sandboxes2")
    (True, True, False, False)
    """
    return _E2B.fullmatch(path) is not None

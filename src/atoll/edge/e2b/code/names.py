"""Names of languages and of contexts. Pure.

A context that a client makes has a UUID. That of a language, which is made when it is first used, is called after it;
so its language can be told from its id. Other contexts of the sandbox belong to other surfaces and are not shown here.
"""

from __future__ import annotations

import hashlib
import re

PYTHON = "python"
ALIASES = {"js": "javascript", "ts": "typescript"}
DEFAULTS = (PYTHON, "javascript")
"""Those whose contexts are always there to see."""
HOME = "/home/user"
_DEFAULT = "default-"
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
_MADE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HASHED = re.compile(r"_[0-9a-f]{32}")


def language_of(given: str | None) -> str:
    """
    >>> language_of(None), language_of(" JS "), language_of("ts"), language_of("R")
    ('python', 'javascript', 'typescript', 'r')
    """
    name = (given or "").strip().lower()
    return ALIASES.get(name, name) or PYTHON


def default_id(language: str) -> str:
    """
    >>> default_id("python")
    'default-python'
    """
    if _PLAIN.fullmatch(language):
        return _DEFAULT + language
    digest = hashlib.sha256(language.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{_DEFAULT}_{digest[:32]}"


def default_language(context_id: str) -> str | None:
    """The language whose default context it is; None: it was made by a client, or its language has too odd a name.

    >>> default_language("default-r"), default_language("default"), default_language("default-_" + 32 * "0")
    ('r', None, None)
    """
    name = context_id.removeprefix(_DEFAULT)
    return name if name != context_id and _PLAIN.fullmatch(name) else None


def is_ours(context_id: str) -> bool:
    """
    >>> is_ours("default-python"), is_ours("default"), is_ours("01234567-89ab-cdef-0123-456789abcdef")
    (True, False, True)
    """
    if _MADE.fullmatch(context_id) or default_language(context_id) is not None:
        return True
    return context_id.startswith(_DEFAULT) and _HASHED.fullmatch(context_id.removeprefix(_DEFAULT)) is not None


def directory_of(given: str | None) -> str:
    """As the agent is to be given it.

    >>> directory_of(None), directory_of("data"), directory_of("/x"), directory_of("~/x")
    ('/home/user', '/home/user/data', '/x', '/home/user/x')
    """
    path = (given or HOME).removeprefix("~/")
    if path == "~":
        return HOME
    return path if path.startswith("/") else f"{HOME}/{path}"

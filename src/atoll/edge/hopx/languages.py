"""Languages: a name and its aliases, and how a piece of code becomes a process.

`{dir}` is the fresh directory in which the agent puts `file`. Python has two ways: its context in the foreground (state
is kept), this recipe in the background and where the template has no interpreter of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from .errors import Kind, SurfaceError
from .javascript import PRELOAD, PRELOAD_TEXT


@dataclass(frozen=True)
class Language:
    name: str
    aliases: tuple[str, ...]
    file: str
    argv: tuple[str, ...]
    compiler: str | None = None
    """What the agent compiles the code with first; it keeps what it has compiled (agent protocol, `compile`)."""
    otherwise: tuple[str, ...] = ()
    """Tried where the template lacks argv[0]."""
    contexts: bool = False
    files: dict[str, str] = field(default_factory=dict)
    """What lies beside the code."""


LANGUAGES = (
    Language("python", ("python3", "py", "ipython"), "main.py", ("python3", "-u", "{dir}/main.py"), contexts=True),
    Language(
        "javascript",
        ("node", "nodejs", "js"),
        "main.js",
        ("node", "--require", f"{{dir}}/{PRELOAD}", "{dir}/main.js"),
        files={PRELOAD: PRELOAD_TEXT},
    ),
    Language("bash", ("sh", "shell"), "main.sh", ("bash", "{dir}/main.sh"), otherwise=("sh", "{dir}/main.sh")),
    Language("go", ("golang",), "main.go", ("{dir}/main",), compiler="go"),
)

BY_NAME: dict[str, Language] = {name: language for language in LANGUAGES for name in (language.name, *language.aliases)}
_BY_PROGRAM = {language.argv[0]: language.name for language in LANGUAGES} | {"sh": "bash", "python": "python"}


def find(name: str) -> Language:
    language = BY_NAME.get(name.strip().lower())
    if language is None:
        known = ", ".join(language.name for language in LANGUAGES)
        raise SurfaceError(Kind.INVALID_REQUEST, f"Unsupported language {name[:64]!r}; supported: {known}")
    return language


def language_of(argv: list[str]) -> str:
    """The language of a process that was started earlier, from its program; empty for other commands."""
    program = argv[0] if argv else ""
    return _BY_PROGRAM.get(program) or _BY_PROGRAM.get(PurePosixPath(program).name, "")

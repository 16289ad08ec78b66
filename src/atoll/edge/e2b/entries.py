"""A file or directory in E2B's words. What the agent says of it is checked for its form. Pure.

Of a link the type and the mode are those of what it leads to, everything else is its own; one that leads nowhere has
neither, and its own path as its target.
"""

from __future__ import annotations

import stat

from atoll.edge.frames_in import mapping, number, text, whole
from atoll.wire import proto_json
from atoll.wire.connect import Object

METADATA = "user.e2b."
"""What the names of extended attributes begin with that hold a file's metadata."""
WANTED = {"links": "1", "attributes": METADATA}
"""What the agent has to be asked for."""
TYPES = {"file": "FILE_TYPE_FILE", "directory": "FILE_TYPE_DIRECTORY"}
LETTERS = {"directory": "d", "symlink": "L"}
SET_BITS = ((stat.S_ISUID, "u"), (stat.S_ISGID, "g"), (stat.S_ISVTX, "t"))


def entry_info(entry: Object) -> Object:
    kind, mode, path = text(entry.get("type")), whole(entry.get("mode")) & 0o7777, text(entry.get("path"))
    end = mapping(entry.get("leads_to"))
    is_link = kind == "symlink"
    shown = {
        "name": text(entry.get("name")),
        "type": TYPES.get(text(end.get("type")) if is_link else kind),
        "path": path,
        "size": str(max(0, whole(entry.get("size")))),
        "mode": (whole(end.get("mode")) if is_link else mode) & 0o7777,
        "permissions": permissions(kind, mode),
        "owner": text(entry.get("user")),
        "group": text(entry.get("group")),
        "modifiedTime": proto_json.timestamp(number(entry.get("modified_at"))),
        "symlinkTarget": (text(end.get("path")) or path) if is_link else None,
        "metadata": {name: value for name, value in mapping(entry.get("attributes")).items() if isinstance(value, str)},
    }
    return proto_json.without_defaults(shown)


def permissions(kind: str, mode: int) -> str:
    """As Go writes them.

    >>> permissions("directory", 0o1777), permissions("file", 0o4755), permissions("symlink", 0o777)
    ('dtrwxrwxrwx', 'urwxr-xr-x', 'Lrwxrwxrwx')
    """
    letters = LETTERS.get(kind, "") + "".join(letter for bit, letter in SET_BITS if mode & bit)
    return (letters or "-") + stat.filemode(mode & 0o777)[1:]

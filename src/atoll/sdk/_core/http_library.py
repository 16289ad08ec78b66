"""httpx, without its command line.

Where click and rich are installed, and ours brings both, `import httpx` imports them too, for a program that nobody
here starts: 60 ms of 110. For the moment of the import that one module is said to be missing, which httpx is ready for.
"""

from __future__ import annotations

import sys

_COMMAND_LINE = "httpx._main"
_first = not {"httpx", _COMMAND_LINE} & sys.modules.keys()
if _first:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # what the import system takes for "not there"
try:
    import httpx
finally:
    if _first:
        del sys.modules[_COMMAND_LINE]

__all__ = ["httpx"]

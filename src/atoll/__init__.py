"""Atoll: a self-hosted sandbox cloud.

    from atoll import Sandbox, AsyncSandbox

The SDK is loaded when one of its names is first used: the server's rooms and the agent inside sandboxes import this
package too, and must not pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import sdk
    from .sdk import *  # noqa: F403

    __all__ = ["__version__"]
    __all__ += sdk.__all__


def __getattr__(name: str) -> object:
    """The SDK's names begin with a capital; others are rooms, of which some places have no SDK beside them."""
    if not name[0].isupper() and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import sdk

    found: object = ["__version__", *sdk.__all__] if name == "__all__" else getattr(sdk, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    from . import sdk

    return sorted({*globals(), *sdk.__all__})

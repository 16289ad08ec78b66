"""Something to do once nobody has asked for anything for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .http_server import Answer, Dispatch, Request


class Quiet:
    """A request that only waits, as some do for hours, is no reason against it."""

    def __init__(self, after_s: float, action: Callable[[], object], held: bool = False) -> None:
        """`held`: nothing counts before `begin`."""
        self._held = held
        self._after_s = after_s
        self._action = action
        self._timer: asyncio.TimerHandle | None = None

    def around(self, dispatch: Dispatch) -> Dispatch:
        async def counted(request: Request) -> Answer:
            self._count()
            try:
                return await dispatch(request)
            finally:
                self._count()

        return counted

    def begin(self) -> None:
        """Counts from now on, anew."""
        self._held = False
        self._count()

    def _count(self) -> None:
        if self._held:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._after_s, self._over)

    def _over(self) -> None:
        self._timer = None
        self._action()

"""What really differs between the two forms, for the sync one; `_aio.py` has the same names.

One pool of connections for each kind of URL, shared by all sandboxes and threads of the process and closed at its
exit. A forked child makes its own: a connection that two processes write to is nobody's. The HTTP library takes long to
load, so the first call does it.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ._core import config
from ._core.request import Answer, Outcome, Request

if TYPE_CHECKING:
    from ._core.http_library import httpx

P = ParamSpec("P")
T = TypeVar("T")

Content = Iterable[bytes]
sleep = time.sleep
Condition = threading.Condition


def blocking(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return action(*args, **kwargs)


def opening(made: T) -> T:
    return made


@dataclass(frozen=True)
class Incoming(Answer):
    """An answer whose body comes piece by piece."""

    response: httpx.Response | None = field(default=None, compare=False)

    def pieces(self) -> Iterator[bytes]:
        from ._core import transport
        from ._core.http_library import httpx

        assert self.response is not None
        try:
            yield from self.response.iter_raw()
        except httpx.HTTPError as error:
            raise transport.failure(error).error from error

    def close(self) -> None:
        assert self.response is not None
        self.response.close()


class Pool:
    def __init__(self, base_url: str, ca_file: str | None) -> None:
        from ._core import transport
        from ._core.http_library import httpx

        self._client = httpx.Client(
            verify=transport.verify(base_url, ca_file), trust_env=False, limits=transport.LIMITS
        )

    def send(
        self,
        base_url: str,
        request: Request,
        headers: Mapping[str, str],
        timeout: float,
        content: Content | None = None,
        stream: bool = False,
    ) -> Outcome:
        """Whatever comes of it, but what `content` raises. With `stream` a success is an Incoming, to be closed."""
        from ._core import transport
        from ._core.http_library import httpx

        built = transport.build(self._client, base_url, request, headers, timeout, content)
        try:
            response = self._client.send(built, stream=True)
            if stream and response.is_success:
                return Incoming(response.status_code, response.headers, b"", response)
            try:
                body = response.read()
            finally:
                response.close()
        except httpx.HTTPError as error:
            return transport.failure(error)
        return Answer(response.status_code, response.headers, body)

    def close(self) -> None:
        self._client.close()


_pools: dict[tuple[str, str | None], Pool] = {}
_abandoned: list[Pool] = []
"""Of the process that this one was forked from. Their locks may be held for ever, so nobody asks them to close."""
_making = threading.Lock()


def pool(base_url: str) -> Pool:
    ca_file = config.ca_file()
    key = (config.scheme(base_url), ca_file)
    found = _pools.get(key)
    if found is None:
        with _making:
            if (found := _pools.get(key)) is None:
                found = _pools[key] = Pool(base_url, ca_file)
    return found


def _begin_child() -> None:
    global _making
    _abandoned.extend(_pools.values())
    _pools.clear()
    _making = threading.Lock()


def _close_all() -> None:
    while _pools:
        _pools.popitem()[1].close()


os.register_at_fork(after_in_child=_begin_child)
atexit.register(_close_all)


__all__ = ["Condition", "Incoming", "Pool", "blocking", "opening", "pool", "sleep"]

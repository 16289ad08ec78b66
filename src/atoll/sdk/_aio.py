"""What really differs between the two forms, for the async one; `_sio.py` has the same names.

One pool of connections for each event loop and kind of URL, shared by all sandboxes. It is closed by the loop itself
when that shuts down its generators, as `asyncio.run` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

import httpcore  # noqa: F401 – httpx loads it with the first client, and an event loop would stand still for it

from ._core import config, transport
from ._core.http_library import httpx
from ._core.request import Answer, Outcome, Request

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound="AbstractAsyncContextManager[Any]")  # Any: what entering gives is C itself

Content = AsyncIterable[bytes]
sleep = asyncio.sleep
Condition = asyncio.Condition


async def blocking(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Off the loop: local files."""
    return await asyncio.to_thread(action, *args, **kwargs)


class Opening(Generic[C]):
    """What is being made: `await` gives it, `async with` gives it and ends it."""

    def __init__(self, making: Coroutine[Any, Any, C]) -> None:  # Any: what a coroutine yields is the loop's
        self._making = making

    def __await__(self) -> Generator[Any, Any, C]:
        return self._making.__await__()

    async def __aenter__(self) -> C:
        self._made = await self._making
        await self._made.__aenter__()
        return self._made

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._made.__aexit__(kind, error, trace)


opening = Opening


@dataclass(frozen=True)
class Incoming(Answer):
    """An answer whose body comes piece by piece."""

    response: httpx.Response | None = field(default=None, compare=False)

    async def pieces(self) -> AsyncIterator[bytes]:
        assert self.response is not None
        try:
            async for piece in self.response.aiter_raw():
                yield piece
        except httpx.HTTPError as error:
            raise transport.failure(error).error from error

    async def close(self) -> None:
        assert self.response is not None
        await self.response.aclose()


class Pool:
    def __init__(self, base_url: str, ca_file: str | None) -> None:
        self._client = httpx.AsyncClient(
            verify=transport.verify(base_url, ca_file), trust_env=False, limits=transport.LIMITS
        )

    async def send(
        self,
        base_url: str,
        request: Request,
        headers: Mapping[str, str],
        timeout: float,
        content: Content | None = None,
        stream: bool = False,
    ) -> Outcome:
        """Whatever comes of it, but what `content` raises. With `stream` a success is an Incoming, to be closed."""
        built = transport.build(self._client, base_url, request, headers, timeout, content)
        try:
            response = await self._client.send(built, stream=True)
            if stream and response.is_success:
                return Incoming(response.status_code, response.headers, b"", response)
            try:
                body = await response.aread()
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            return transport.failure(error)
        return Answer(response.status_code, response.headers, body)

    async def close(self) -> None:
        await self._client.aclose()


_Key = tuple[asyncio.AbstractEventLoop, str, str | None]
_pools: dict[_Key, tuple[Pool, AsyncGenerator[None]]] = {}


async def pool(base_url: str) -> Pool:
    ca_file = config.ca_file()
    key = (asyncio.get_running_loop(), config.scheme(base_url), ca_file)
    found = _pools.get(key)
    if found is None:
        for old in [each for each in _pools if each[0].is_closed()]:
            del _pools[old]
        made = Pool(base_url, ca_file)
        keeper = _keep(key, made)
        found = _pools[key] = (made, keeper)
        await anext(keeper)
    return found[0]


async def _keep(key: _Key, kept: Pool) -> AsyncGenerator[None]:
    """Started on the loop, so the loop ends it before it closes, and the pool with it."""
    try:
        yield
    finally:
        _pools.pop(key, None)
        await kept.close()


__all__ = ["Condition", "Incoming", "Opening", "Pool", "blocking", "opening", "pool", "sleep"]

"""Both clients, the sync and the async, under one spelling, so that each test is written once.

`Driven` calls the unmodified client and waits for what it gives: coroutines are run, async generators are iterated.
What the installed version does not have skips the test that asks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import queue
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import package
import pytest


class Loop:
    """An event loop in a thread of its own: the async client's connections live as long as it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def iterate(self, source: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self.run(_next(source))
                except StopAsyncIteration:
                    return
        finally:
            if hasattr(source, "aclose"):
                self.run(source.aclose())

    def background(self, source: Iterator[Any], is_last: Callable[[Any], bool]) -> queue.SimpleQueue[Any]:
        """What `source` gives, as it comes, until the last of it."""
        found: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def read() -> None:
            with contextlib.closing(source):
                for each in source:
                    found.put(each)
                    if is_last(each):
                        return

        threading.Thread(target=read, daemon=True).start()
        return found

    def close(self) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(source: AsyncIterator[Any]) -> Any:
    return await anext(source)


class Driven:
    def __init__(self, subject: Any, loop: Loop) -> None:
        self._subject, self._loop = subject, loop

    def __getattr__(self, name: str) -> Any:
        owner = self._subject if inspect.isclass(self._subject) else type(self._subject)
        if not hasattr(owner, name) and not hasattr(self._subject, name):
            pytest.skip(f"{package.CLIENT} {package.VERSION} has no {owner.__name__}.{name}")
        found = getattr(self._subject, name)
        return self._call(found) if inspect.isroutine(found) else self._wait(found)

    def __call__(self, *positional: Any, **named: Any) -> Driven:
        """Of a class: its constructor."""
        return Driven(self._subject(*positional, **named), self._loop)

    def __enter__(self) -> Driven:
        entered = self._subject
        if hasattr(entered, "__aenter__"):
            return self._wait(entered.__aenter__())
        return self._wait(entered.__enter__())

    def __exit__(self, *why: Any) -> None:
        left = self._subject
        self._wait(left.__aexit__(*why) if hasattr(left, "__aexit__") else left.__exit__(*why))

    def __iter__(self) -> Iterator[Any]:
        source = self._subject
        if isinstance(source, AsyncIterable):
            return self._loop.iterate(aiter(source))
        return map(self._wait, iter(source))

    def _call(self, function: package.Function) -> package.Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*positional: Any, **named: Any) -> Any:
            spelled = {_spelling(name, signature): _bare(value) for name, value in named.items()}
            if missing := {name for name in spelled if not package.takes(function, signature, name)}:
                pytest.skip(f"{package.CLIENT} {package.VERSION}: {function.__qualname__} has no {', '.join(missing)}")
            if package.needs_loop(function):
                return self._wait(self._loop.run(_called(function, *map(_bare, positional), **spelled)))
            return self._wait(function(*map(_bare, positional), **spelled))

        return call

    def _wait(self, value: Any) -> Any:
        if inspect.isasyncgen(value) or (not _ours(value) and isinstance(value, AsyncIterator)):
            return self._loop.iterate(value)
        if inspect.isgenerator(value):
            return map(self._wait, value)
        if inspect.isawaitable(value):
            return self._wait(self._loop.run(_awaited(value)))
        if isinstance(value, list):
            return [self._wait(each) for each in value]
        plain = package.is_model(type(value)) or package.is_error(type(value))
        return Driven(value, self._loop) if _ours(value) and not plain else value


async def _called(function: package.Function, *positional: Any, **named: Any) -> Any:
    return function(*positional, **named)


def _ours(value: Any) -> bool:
    return type(value).__module__.startswith(package.NAME)


async def _awaited(value: Any) -> Any:
    return await value


def _bare(value: Any) -> Any:
    return value._subject if isinstance(value, Driven) else value


def _spelling(name: str, signature: inspect.Signature) -> str:
    other = package.SPELLINGS.get(name, name)
    return other if name not in signature.parameters and other in signature.parameters else name

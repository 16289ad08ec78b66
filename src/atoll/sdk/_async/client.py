"""Sends calls: to the control plane with the API key, to a sandbox's agent with its token."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from atoll.sdk._aio import Incoming, blocking, pool, sleep
from atoll.sdk._core import agent, control
from atoll.sdk._core.config import Account, account
from atoll.sdk._core.errors import AGENT, CONTROL, AtollError, AuthenticationError, NetworkError, Row
from atoll.sdk._core.local import LocalPath, Source, Target
from atoll.sdk._core.read import Json, objects
from atoll.sdk._core.request import Answer, Failure, Patience, Request, Send, exchange, to_error, wants_new_token
from atoll.sdk._core.token import Token, token_of

if TYPE_CHECKING:
    from atoll.sdk._aio_sockets import Socket

TIMEOUT_S = 60
OPEN_S = 30.0
"""For a stream to be opened."""
RETRIES = 3
DEFAULT_PATIENCE = Patience(retries=RETRIES)


async def perform(
    base_url: str,
    request: Request,
    headers: Mapping[str, str],
    table: tuple[Row, ...],
    patience: Patience,
    timeout: float,
    content: AsyncIterable[bytes] | None = None,
    stream: bool = False,
) -> Answer:
    """One call with its repetitions: `exchange` decides, this sends and sleeps."""
    steps = exchange(request, table, patience, random.random)
    step = next(steps)
    while True:
        outcome = None
        if isinstance(step, Send):
            connections = await pool(base_url)
            outcome = await connections.send(base_url, step.request, headers, timeout, content, stream)
        else:
            await sleep(step.seconds)
        try:
            step = steps.send(outcome)
        except StopIteration as end:
            answer: Answer = end.value
            return answer


@dataclass(frozen=True)
class AsyncControl:
    """The control plane, for one key."""

    account: Account
    timeout: float = TIMEOUT_S
    patience: Patience = DEFAULT_PATIENCE

    @staticmethod
    def of(api_key: str | None, base_url: str | None) -> AsyncControl:
        return AsyncControl(account(api_key, base_url))

    async def call(self, request: Request) -> Json:
        return await self._call(request, self.account.headers)

    async def each(self, page_at: Callable[[str | None], Request]) -> AsyncGenerator[Json, None]:
        """The items of a list, page by page; `page_at` is given a cursor, None at the beginning."""
        cursor = None
        while True:
            page = await self.call(page_at(cursor))
            for item in objects(page.get("data")):
                yield item
            cursor = control.next_cursor(page)
            if cursor is None:
                return

    async def call_without_key(self, request: Request) -> Json:
        return await self._call(request, {})

    async def _call(self, request: Request, headers: Mapping[str, str]) -> Json:
        timeout = self.timeout if request.timeout is None else request.timeout
        answer = await perform(self.account.base_url, request, headers, CONTROL, self.patience, timeout)
        return {} if answer.status == 404 else answer.json()


class AsyncAgent:
    """A sandbox's agent. Its token is asked for when the first call needs it, and again when it has run out."""

    def __init__(
        self, control: AsyncControl, sandbox_id: str, url: str | None = None, token: Token | None = None
    ) -> None:
        self._control = control
        self._sandbox_id = sandbox_id
        self.url = url or agent.agent_url(control.account.base_url, sandbox_id)
        self._token = token
        self._is_given = url is not None

    def keep(self, token: Token | None) -> None:
        if token is not None:
            self._token = token

    async def token(self) -> str:
        token = self._token
        if token is None or not (self._is_given or token.is_fresh(datetime.now(UTC))):
            token = await self.refresh()
        return token.text

    async def _proof(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {await self.token()}"}

    async def refresh(self) -> Token:
        token = token_of(await self._control.call(agent_token(self._sandbox_id)))
        if token is None:
            raise AtollError("The server gave no token for this sandbox")
        self._token = token
        return token

    async def call(self, request: Request) -> Json:
        answer = await self.send(request)
        return {} if answer.status == 204 or not answer.body else answer.json()

    async def send(self, request: Request, stream: bool = False) -> Answer:
        """Raises the error that the answer is. A refused token is replaced once."""
        try:
            return await self._send(request, stream)
        except AtollError as error:
            if self._is_given or not wants_new_token(error, AGENT):
                raise
        await self.refresh()
        return await self._send(request, stream)

    async def _send(self, request: Request, stream: bool, content: AsyncIterable[bytes] | None = None) -> Answer:
        headers = await self._proof()
        timeout = self._control.timeout if request.timeout is None else request.timeout
        return await perform(self.url, request, headers, AGENT, self._control.patience, timeout, content, stream)

    async def open(self, request: Request) -> Incoming:
        answer = await self.send(request, stream=True)
        assert isinstance(answer, Incoming)
        return answer

    async def upload(self, request: Request, content: AsyncIterable[bytes]) -> Json:
        """The content is read once, so nothing is repeated: after a refused token the next call has another."""
        try:
            return (await self._send(request, False, content)).json()
        except AuthenticationError:
            self._token = self._token if self._is_given else None
            raise

    async def is_healthy(self) -> bool:
        try:
            answer = await perform(self.url, agent.get("/health"), {}, AGENT, Patience(retries=0), 5.0)
            return answer.json().get("status") == "healthy"
        except AtollError:
            return False

    async def socket(self, path: str, timeout: float) -> Socket:
        opened = await self._open_socket(path, timeout)
        if isinstance(opened, Answer) and not self._is_given and wants_new_token(to_error(opened, AGENT), AGENT):
            await self.refresh()
            opened = await self._open_socket(path, timeout)
        if isinstance(opened, Answer | Failure):
            raise to_error(opened, AGENT)
        return opened

    async def _open_socket(self, path: str, timeout: float) -> Socket | Answer | Failure:
        from atoll.sdk._aio_sockets import open_socket  # its library takes long to load, and few need it

        headers = await self._proof() if self._token else self._control.account.headers  # the key saves a call
        return await open_socket(agent.socket_url(self.url, path), headers, timeout)


def agent_token(sandbox_id: str) -> Request:
    return control.refresh_token(sandbox_id)


class AsyncMessages:
    """The JSON objects of a socket, until the last one. A loop over them can be left and gone on with."""

    def __init__(self, socket: Socket, what: str, endless: bool = False) -> None:
        self._socket = socket
        self._what = what
        self._endless = endless
        self._over = False

    def __aiter__(self) -> AsyncMessages:
        return self

    async def __anext__(self) -> Json:
        while not self._over:
            raw = await self._socket.receive()
            if raw is None:
                self._over = True
                if not self._endless:
                    raise agent.broke_off(self._what)
            elif (value := agent.message(raw)) is not None:
                self._over = agent.is_last(value)
                return value
        raise StopAsyncIteration


async def pieces_of(source: Source) -> AsyncIterator[bytes]:
    while piece := await blocking(source.read):
        yield piece


async def save(incoming: Incoming, path: LocalPath, on_progress: Any) -> None:  # Any: files.OnProgress
    """Whole or not at all."""
    size = incoming.headers.get("content-length")
    total = int(size) if size and size.isascii() and size.isdigit() else None
    target = await blocking(Target, path)
    try:
        done = 0
        async for piece in incoming.pieces():
            await blocking(target.write, piece)
            done += len(piece)
            if on_progress is not None:
                on_progress(done, total)
        if total is not None and done != total:
            raise NetworkError(f"The download ended after {done} of {total} bytes")
        await blocking(target.commit)
    finally:
        await blocking(target.discard)

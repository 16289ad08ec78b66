"""Sends calls: to the control plane with the API key, to a sandbox's agent with its token."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from atoll.sdk._core import agent, control
from atoll.sdk._core.config import Account, account
from atoll.sdk._core.errors import AGENT, CONTROL, AtollError, AuthenticationError, NetworkError, Row
from atoll.sdk._core.local import LocalPath, Source, Target
from atoll.sdk._core.read import Json, objects
from atoll.sdk._core.request import Answer, Failure, Patience, Request, Send, exchange, to_error, wants_new_token
from atoll.sdk._core.token import Token, token_of
from atoll.sdk._sio import Incoming, blocking, pool, sleep

if TYPE_CHECKING:
    from atoll.sdk._sio_sockets import Socket

TIMEOUT_S = 60
OPEN_S = 30.0
"""For a stream to be opened."""
RETRIES = 3
DEFAULT_PATIENCE = Patience(retries=RETRIES)


def perform(
    base_url: str,
    request: Request,
    headers: Mapping[str, str],
    table: tuple[Row, ...],
    patience: Patience,
    timeout: float,
    content: Iterable[bytes] | None = None,
    stream: bool = False,
) -> Answer:
    """One call with its repetitions: `exchange` decides, this sends and sleeps."""
    steps = exchange(request, table, patience, random.random)
    step = next(steps)
    while True:
        outcome = None
        if isinstance(step, Send):
            connections = pool(base_url)
            outcome = connections.send(base_url, step.request, headers, timeout, content, stream)
        else:
            sleep(step.seconds)
        try:
            step = steps.send(outcome)
        except StopIteration as end:
            answer: Answer = end.value
            return answer


@dataclass(frozen=True)
class Control:
    """The control plane, for one key."""

    account: Account
    timeout: float = TIMEOUT_S
    patience: Patience = DEFAULT_PATIENCE

    @staticmethod
    def of(api_key: str | None, base_url: str | None) -> Control:
        return Control(account(api_key, base_url))

    def call(self, request: Request) -> Json:
        return self._call(request, self.account.headers)

    def each(self, page_at: Callable[[str | None], Request]) -> Generator[Json, None, None]:
        """The items of a list, page by page; `page_at` is given a cursor, None at the beginning."""
        cursor = None
        while True:
            page = self.call(page_at(cursor))
            yield from objects(page.get("data"))
            cursor = control.next_cursor(page)
            if cursor is None:
                return

    def call_without_key(self, request: Request) -> Json:
        return self._call(request, {})

    def _call(self, request: Request, headers: Mapping[str, str]) -> Json:
        timeout = self.timeout if request.timeout is None else request.timeout
        answer = perform(self.account.base_url, request, headers, CONTROL, self.patience, timeout)
        return {} if answer.status == 404 else answer.json()


class Agent:
    """A sandbox's agent. Its token is asked for when the first call needs it, and again when it has run out."""

    def __init__(self, control: Control, sandbox_id: str, url: str | None = None, token: Token | None = None) -> None:
        self._control = control
        self._sandbox_id = sandbox_id
        self.url = url or agent.agent_url(control.account.base_url, sandbox_id)
        self._token = token
        self._is_given = url is not None

    def keep(self, token: Token | None) -> None:
        if token is not None:
            self._token = token

    def token(self) -> str:
        token = self._token
        if token is None or not (self._is_given or token.is_fresh(datetime.now(UTC))):
            token = self.refresh()
        return token.text

    def _proof(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token()}"}

    def refresh(self) -> Token:
        token = token_of(self._control.call(agent_token(self._sandbox_id)))
        if token is None:
            raise AtollError("The server gave no token for this sandbox")
        self._token = token
        return token

    def call(self, request: Request) -> Json:
        answer = self.send(request)
        return {} if answer.status == 204 or not answer.body else answer.json()

    def send(self, request: Request, stream: bool = False) -> Answer:
        """Raises the error that the answer is. A refused token is replaced once."""
        try:
            return self._send(request, stream)
        except AtollError as error:
            if self._is_given or not wants_new_token(error, AGENT):
                raise
        self.refresh()
        return self._send(request, stream)

    def _send(self, request: Request, stream: bool, content: Iterable[bytes] | None = None) -> Answer:
        headers = self._proof()
        timeout = self._control.timeout if request.timeout is None else request.timeout
        return perform(self.url, request, headers, AGENT, self._control.patience, timeout, content, stream)

    def open(self, request: Request) -> Incoming:
        answer = self.send(request, stream=True)
        assert isinstance(answer, Incoming)
        return answer

    def upload(self, request: Request, content: Iterable[bytes]) -> Json:
        """The content is read once, so nothing is repeated: after a refused token the next call has another."""
        try:
            return self._send(request, False, content).json()
        except AuthenticationError:
            self._token = self._token if self._is_given else None
            raise

    def is_healthy(self) -> bool:
        try:
            answer = perform(self.url, agent.get("/health"), {}, AGENT, Patience(retries=0), 5.0)
            return answer.json().get("status") == "healthy"
        except AtollError:
            return False

    def socket(self, path: str, timeout: float) -> Socket:
        opened = self._open_socket(path, timeout)
        if isinstance(opened, Answer) and not self._is_given and wants_new_token(to_error(opened, AGENT), AGENT):
            self.refresh()
            opened = self._open_socket(path, timeout)
        if isinstance(opened, Answer | Failure):
            raise to_error(opened, AGENT)
        return opened

    def _open_socket(self, path: str, timeout: float) -> Socket | Answer | Failure:
        from atoll.sdk._sio_sockets import open_socket  # its library takes long to load, and few need it

        headers = self._proof() if self._token else self._control.account.headers  # the key saves a call
        return open_socket(agent.socket_url(self.url, path), headers, timeout)


def agent_token(sandbox_id: str) -> Request:
    return control.refresh_token(sandbox_id)


class Messages:
    """The JSON objects of a socket, until the last one. A loop over them can be left and gone on with."""

    def __init__(self, socket: Socket, what: str, endless: bool = False) -> None:
        self._socket = socket
        self._what = what
        self._endless = endless
        self._over = False

    def __iter__(self) -> Messages:
        return self

    def __next__(self) -> Json:
        while not self._over:
            raw = self._socket.receive()
            if raw is None:
                self._over = True
                if not self._endless:
                    raise agent.broke_off(self._what)
            elif (value := agent.message(raw)) is not None:
                self._over = agent.is_last(value)
                return value
        raise StopIteration


def pieces_of(source: Source) -> Iterator[bytes]:
    while piece := blocking(source.read):
        yield piece


def save(incoming: Incoming, path: LocalPath, on_progress: Any) -> None:  # Any: files.OnProgress
    """Whole or not at all."""
    size = incoming.headers.get("content-length")
    total = int(size) if size and size.isascii() and size.isdigit() else None
    target = blocking(Target, path)
    try:
        done = 0
        for piece in incoming.pieces():
            blocking(target.write, piece)
            done += len(piece)
            if on_progress is not None:
                on_progress(done, total)
        if total is not None and done != total:
            raise NetworkError(f"The download ended after {done} of {total} bytes")
        blocking(target.commit)
    finally:
        blocking(target.discard)

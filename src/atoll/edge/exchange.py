"""One public request and how far its answer has got."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass, field

from aiohttp import web

SERVER = "atoll"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


_NUMBERS = random.Random(secrets.randbits(256))  # noqa: S311 - they are no secrets


def new_request_id() -> str:
    """Names a request in logs; it opens nothing, and does not say how many there were."""
    return f"req_{_NUMBERS.getrandbits(96):024x}"


@dataclass(slots=True)
class Exchange:
    request: web.BaseRequest
    id: str = field(default_factory=new_request_id)
    begun: bool = False
    """The head of an answer is out: from here on a failure can only cut it off."""
    last: bool = False
    """The connection carries no further request."""
    sandbox_id: str = ""
    """Whose it is, as soon as that is known."""
    routes: str = ""
    """Up to where the route table was told when the server answered."""
    marks: dict[str, str] = field(default_factory=dict)
    """Headers of the answer, whatever it is."""

    @property
    def path(self) -> str:
        """As sent, without the query."""
        return self.request.raw_path.partition("?")[0]

    def sign(self, response: web.StreamResponse) -> None:
        response.headers.setdefault("X-Request-ID", self.id)
        response.headers["Server"] = SERVER
        response.headers.update(self.marks)
        if self.last:
            response.force_close()

    async def begin(self, response: web.StreamResponse) -> None:
        self.sign(response)
        self.begun = True
        await response.prepare(self.request)

    async def admit_body(self) -> None:
        """The word that a client with `Expect: 100-continue` waits for."""
        if self.request.headers.get("Expect", "").lower() == "100-continue":
            await self.request.writer.write(CONTINUE)
            self.request.writer.output_size = 0  # the answer proper has not begun

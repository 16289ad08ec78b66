"""One fact about the service of grpc_server.py, seen from outside and printed as JSON: grpc_client.py FACT

TARGET says where it is, CA whom to trust, KEY what opens the door."""

from __future__ import annotations

import json
import os
import queue
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc

KEY = (("x-api-key", os.environ["KEY"]),)
TIMEOUT_S = 30
BIG = 3 << 20  # below the 4 MiB that clients take, far above the window of a stream


class Service:
    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def one(self, name: str) -> Callable[..., Any]:
        return self._channel.unary_unary(f"/facts.Facts/{name}")

    def many(self, name: str) -> Callable[..., Any]:
        return self._channel.unary_stream(f"/facts.Facts/{name}")

    def chat(self, requests: Any) -> Any:
        return self._channel.stream_stream("/facts.Facts/chat")(requests, metadata=KEY, timeout=TIMEOUT_S)

    def ask(self, name: str, request: bytes = b"") -> bytes:
        return bytes(self.one(name)(request, metadata=KEY, timeout=TIMEOUT_S))


def plain(pairs: Any) -> dict[str, str]:
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in pairs}


def failure(call: Any) -> dict[str, Any]:
    trailing = plain(call.trailing_metadata() or ())
    return {"code": call.code().name, "message": call.details(), "details": trailing.get("grpc-status-details-bin")}


def unary(service: Service) -> dict[str, Any]:
    answer, call = service.one("upper").with_call(b"hello", metadata=KEY, timeout=TIMEOUT_S)
    before, after = plain(call.initial_metadata()), plain(call.trailing_metadata())
    return {"answer": answer.decode(), "before": before["before"], "after": after["after"], "bytes": after["bytes-bin"]}


def metadata(service: Service) -> list[list[str]]:
    sent = (*KEY, ("mine", "yes"))
    return json.loads(service.one("metadata")(b"", metadata=sent, timeout=TIMEOUT_S))


def big(service: Service) -> int:
    return len(service.ask("upper", b"x" * BIG))


def at_once(service: Service) -> list[str]:
    calls = [service.one("upper").future(b"n%d" % n, metadata=KEY, timeout=TIMEOUT_S) for n in range(50)]
    return [call.result().decode() for call in calls]


def stream(service: Service) -> list[str]:
    """Each message has to be here before the next is made."""
    came = []
    for message in service.many("count")(b"stream", metadata=KEY, timeout=TIMEOUT_S):
        came.append(message.decode())
        service.ask("go", b"stream-" + message)
    return came


def both_ways(service: Service) -> list[str]:
    """The next is said when the last was answered."""
    said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    came = []
    said.put(b"a")
    for message, following in zip(service.chat(iter(said.get, None)), (b"b", b"c", None), strict=True):
        came.append(message.decode())
        said.put(following)
    return came


def failed(service: Service) -> dict[str, Any]:
    try:
        service.ask("fail")
    except grpc.RpcError as error:
        return failure(error)
    return {}


def failed_late(service: Service) -> dict[str, Any]:
    call, came = service.many("fail_late")(b"", metadata=KEY, timeout=TIMEOUT_S), []
    try:
        for message in call:
            came.append(message.decode())
    except grpc.RpcError:
        return {"came": came, **failure(call)}
    return {"came": came}


def unknown(service: Service) -> str:
    try:
        service.ask("nothing")
    except grpc.RpcError as error:
        return error.code().name
    return ""


def deadline(service: Service) -> dict[str, Any]:
    service.ask("upper", b"connected")
    begun = time.monotonic()
    try:
        service.one("wait")(b"deadline", metadata=KEY, timeout=1)
    except grpc.RpcError as error:
        took, code = time.monotonic() - begun, error.code().name
        return {"code": code, "took": took, **json.loads(service.ask("waited", b"deadline"))}
    return {}


def cancelled(service: Service) -> dict[str, Any]:
    call = service.one("wait").future(b"cancel", metadata=KEY, timeout=TIMEOUT_S)
    assert service.ask("begun", b"cancel") == b"yes"
    call.cancel()
    return dict(json.loads(service.ask("waited", b"cancel")))


def refused(service: Service) -> str:
    try:
        service.one("upper")(b"", timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        return error.code().name
    return ""


FACTS = (unary, metadata, big, at_once, stream, both_ways, failed, failed_late, unknown, deadline, cancelled, refused)

if __name__ == "__main__":
    with open(os.environ["CA"], "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    with grpc.secure_channel(os.environ["TARGET"], credentials) as made:
        (fact,) = (each for each in FACTS if each.__name__ == sys.argv[1])
        print(json.dumps(fact(Service(made))))

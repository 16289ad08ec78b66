"""A gRPC service of plain bytes, with what a proxy may spoil: streams both ways, details of failures, deadlines."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from concurrent import futures
from typing import Any

import grpc

DETAILS = b"\x08\x05\x12\x04what\x00\xff"
"""As google.rpc.Status travels: bytes that are no text."""

happened: defaultdict[str, threading.Event] = defaultdict(threading.Event)
seen: dict[str, Any] = {}


def upper(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.send_initial_metadata((("before", "the answer"),))
    context.set_trailing_metadata((("after", "the answer"), ("bytes-bin", DETAILS)))
    return request.upper()


def metadata(request: bytes, context: grpc.ServicerContext) -> bytes:
    return json.dumps([[key, str(value)] for key, value in context.invocation_metadata()]).encode()


def go(request: bytes, context: grpc.ServicerContext) -> bytes:
    happened[request.decode()].set()
    return b""


def count(request: bytes, context: grpc.ServicerContext):
    """The next number when the reader says that it has the one before."""
    for number in range(3):
        yield b"%d" % number
        happened[f"{request.decode()}-{number}"].wait(20)


def chat(requests, context: grpc.ServicerContext):
    for number, request in enumerate(requests):
        yield b"%d %s" % (number, request)


def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.set_trailing_metadata((("grpc-status-details-bin", DETAILS),))
    context.abort(grpc.StatusCode.NOT_FOUND, "not here: 100 % gone, schön")


def fail_late(request: bytes, context: grpc.ServicerContext):
    yield b"one"
    yield b"two"
    fail(request, context)


def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
    left = threading.Event()
    name = request.decode()
    seen[name] = context.time_remaining()
    context.add_callback(left.set)
    happened[f"{name}-begun"].set()
    left.wait(20)
    happened[name].set()
    return b""


def waited(request: bytes, context: grpc.ServicerContext) -> bytes:
    name = request.decode()
    return json.dumps({"left": happened[name].wait(20), "remaining": seen[name]}).encode()


def begun(request: bytes, context: grpc.ServicerContext) -> bytes:
    return b"yes" if happened[f"{request.decode()}-begun"].wait(20) else b"no"


ONE_TO_ONE = (upper, metadata, go, fail, wait, waited, begun)
ONE_TO_MANY = (count, fail_late)
MANY_TO_MANY = (chat,)


def methods() -> dict[str, grpc.RpcMethodHandler]:
    makers = {
        grpc.unary_unary_rpc_method_handler: ONE_TO_ONE,
        grpc.unary_stream_rpc_method_handler: ONE_TO_MANY,
        grpc.stream_stream_rpc_method_handler: MANY_TO_MANY,
    }
    return {each.__name__: maker(each) for maker, several in makers.items() for each in several}


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(64))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("facts.Facts", methods()),))
    server.add_insecure_port("127.0.0.1:50051")
    server.start()
    server.wait_for_termination()

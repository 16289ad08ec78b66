"""E2B's agent surface (port 49983): which path is whose. Everything the contract lists is a row here."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from atoll.edge.agent_link import AgentError
from atoll.wire.connect import ConnectError

from . import files, filesystem, process, rpc, system, watch
from .call import Call, Handler, answer
from .errors import http_status
from .measured import measured
from .rpc import ClientStream, Method, ServerStream, Unary

RPC: dict[str, Method] = {
    "/process.Process/List": Unary(process.list_processes),
    "/process.Process/Start": ServerStream(process.start, process.KEEPALIVE),
    "/process.Process/Connect": ServerStream(process.subscribe, process.KEEPALIVE),
    "/process.Process/Update": Unary(process.update),
    "/process.Process/SendInput": Unary(process.send_input),
    "/process.Process/StreamInput": ClientStream(process.stream_input),
    "/process.Process/SendSignal": Unary(process.send_signal),
    "/process.Process/CloseStdin": Unary(process.close_stdin),
    "/filesystem.Filesystem/Stat": Unary(filesystem.stat),
    "/filesystem.Filesystem/MakeDir": Unary(filesystem.make_directory),
    "/filesystem.Filesystem/Move": Unary(filesystem.move),
    "/filesystem.Filesystem/ListDir": Unary(filesystem.list_directory),
    "/filesystem.Filesystem/Remove": Unary(filesystem.remove),
    "/filesystem.Filesystem/WatchDir": ServerStream(watch.watch_directory, watch.KEEPALIVE),
    "/filesystem.Filesystem/CreateWatcher": Unary(watch.create_watcher),
    "/filesystem.Filesystem/GetWatcherEvents": Unary(watch.watcher_events),
    "/filesystem.Filesystem/RemoveWatcher": Unary(watch.remove_watcher),
}

HTTP: dict[str, dict[str, Handler]] = {
    "/health": {"GET": system.health},
    "/metrics": {"GET": system.metrics},
    "/envs": {"GET": system.environment},
    "/files": {"GET": files.download, "POST": files.upload},
    "/files/compose": {"POST": files.compose},
}


def is_known(path: str) -> bool:
    """Others are answered 404, also those that only E2B's own platform calls."""
    return path in RPC or path in HTTP


def unknown() -> web.Response:
    return answer({"code": 404, "message": "no such route"}, status=404)


async def serve(call: Call, path: str) -> web.StreamResponse:
    """AgentGone when the sandbox is not there any more."""
    method = RPC.get(path)
    work = _plain(call, HTTP[path]) if method is None else rpc.serve(call, method)
    return await measured(call.agent, path, work)


async def _plain(call: Call, methods: Mapping[str, Handler]) -> web.StreamResponse:
    asked = call.request.method
    handler = methods.get("GET" if asked == "HEAD" else asked)
    if handler is None:
        refused = {"code": 405, "message": f"{asked} is not allowed here"}
        response = answer(refused, status=405)
        response.headers["Allow"] = ", ".join((*methods, "OPTIONS"))
        return response
    try:
        return await handler(call)
    except (ConnectError, AgentError) as error:
        if call.exchange.begun:
            raise
        failure = rpc.as_connect(error, call)
        status = http_status(failure)
        return answer({"code": status, "message": failure.message}, status)

"""The agent's life. As PID 1 it must outlive everything a request or a program does."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from .cache import Cache
from .contexts import ContextTable
from .env import Env, Environment
from .errors import AgentError
from .files import Files
from .http_server import Counters, listen
from .processes import ProcessTable, ensure_directory
from .reaper import Reaper
from .routes import dispatcher
from .services import Config, Services
from .trust import TrustStore
from .users import Users


def serve(listen_socket: socket.socket, seed_socket: socket.socket | None, config: Mapping[str, Any]) -> NoReturn:
    """Called in a fork of the agent zygote, in the finished sandbox. Nothing is imported from here on."""
    gc.freeze()  # a collection must not touch, and so copy, the zygote's pages
    settings = Config.from_wire({"switch_users": os.geteuid() == 0, **config})
    _reset_signals()
    _close_on_exec()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_log)
    asyncio.set_event_loop(loop)
    _server = loop.run_until_complete(_start(listen_socket, seed_socket, settings))  # lives as long as this frame
    while True:
        try:
            loop.run_forever()
        except BaseException:
            traceback.print_exc()


async def _start(
    listen_socket: socket.socket, seed_socket: socket.socket | None, config: Config
) -> asyncio.AbstractServer:
    reaper = Reaper()
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, reaper.reap)
    services = _services(reaper, seed_socket, config)
    listen_socket.setblocking(False)
    server = await listen(listen_socket, dispatcher(services), services.counters)
    reaper.reap()  # what ended before the handler was there
    return server


def _services(reaper: Reaper, seed_socket: socket.socket | None, config: Config) -> Services:
    users = Users(config.switch_users)
    users.begin()
    user = users.lookup()
    with suppress(OSError, AgentError):
        ensure_directory(users, user, config.workdir, config.workdir)
    environment = Environment(user, config.workdir, config.env, config.template_env)
    trust = _trust_store(config)
    if trust is not None:
        environment.trust = _initial_trust(trust, config)
    seed = seed_socket if config.python else None
    processes = ProcessTable(users, environment, reaper, config.workdir, config.lineflush)
    return Services(
        config=config,
        users=users,
        environment=environment,
        processes=processes,
        contexts=ContextTable(users, environment, seed, config.workdir, config.lineflush),
        files=Files(users, reaper),
        cache=Cache(users, processes.compiled, config.workdir, inside=os.getpid() == 1),
        trust=trust,
        counters=Counters(),
    )


def _trust_store(config: Config) -> TrustStore | None:
    """An agent that is an ordinary process shares its files with its caller."""
    shared = config.trust_root == "/" and os.getpid() != 1
    return TrustStore(config.trust_root) if config.trust_root and not shared else None


def _initial_trust(store: TrustStore, config: Config) -> Env:
    """The disk may be an old one, with what was trusted then. Whatever its programs have made of their lists of
    authorities, the sandbox begins."""
    try:
        if config.trust is not None:
            return store.add(config.trust)
        store.remove()
    except (OSError, AgentError) as error:
        print(f"the trusted authorities are as they were: {error}", file=sys.stderr)
    return {}


def _reset_signals() -> None:
    """Whatever the zygote set. The default keeps PID 1 safe from signals from inside, and programs inherit it."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # Popen gives programs the default back
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _close_on_exec() -> None:
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def _log(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    del loop
    error = context.get("exception")
    print(context.get("message", ""), repr(error) if error is not None else "", file=sys.stderr)
    if error is not None:
        traceback.print_exception(error)

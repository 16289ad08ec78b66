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
from typing import Any, NoReturn, Protocol

from . import announced
from .cache import Cache
from .contexts import ContextTable
from .doors import Doors
from .env import Env, Environment
from .errors import AgentError
from .files import Files
from .http_server import Counters, listen
from .processes import ProcessTable, ensure_directory
from .quiet import Quiet
from .reaper import Reaper
from .routes import dispatcher
from .runner import pages
from .services import Config, Services
from .trust import TrustStore
from .users import Users


class Maker(Protocol):
    """Whoever made the sandbox, as long as it is nobody's: readable when there is something to do."""

    def fileno(self) -> int: ...

    def hear(self) -> Mapping[str, Any] | None:
        """The agent's configuration: it is somebody's. None: it is to be as ready as it can. Does not return when
        nobody is there any more who could ever want it."""
        ...

    def answer(self) -> None: ...

    def leave(self) -> None: ...


def serve(
    listen_socket: socket.socket,
    seed_socket: socket.socket | None,
    config: Mapping[str, Any],
    maker: Maker | None = None,
) -> NoReturn:
    """Called in a fork of the agent zygote, in the finished sandbox. Nothing is imported from here on.

    With a `maker` the configuration is the template's, all is made ready with it, and the sandbox's own comes later."""
    gc.freeze()  # a collection must not touch, and so copy, the zygote's pages
    settings = Config.from_wire({"switch_users": os.geteuid() == 0, **config})
    _reset_signals()
    _close_on_exec()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_log)
    asyncio.set_event_loop(loop)
    _server = loop.run_until_complete(_start(listen_socket, seed_socket, settings, maker))  # lives as long as this
    while True:
        try:
            loop.run_forever()
        except BaseException:
            traceback.print_exc()


async def _start(
    listen_socket: socket.socket, seed_socket: socket.socket | None, config: Config, maker: Maker | None
) -> asyncio.AbstractServer:
    reaper, loop = Reaper(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, reaper.reap)
    services = services_of(reaper, seed_socket, config)
    quiet = Quiet(pages.QUIET_S, pages.give_back, held=maker is not None)  # its first caller would copy them again
    if maker is None:
        begin(services, config)
        quiet.begin()
    else:
        loop.add_reader(maker.fileno(), _hear, services, maker, quiet)
    listen_socket.setblocking(False)
    server = await listen(listen_socket, quiet.around(dispatcher(services)), services.counters)
    reaper.reap()  # what ended before the handler was there
    return server


def _hear(services: Services, maker: Maker, quiet: Quiet) -> None:
    """One that cannot begin ends, which its maker sees at once."""
    try:
        given = maker.hear()
        if given is None:
            services.contexts.make_ready(maker.answer)
            return
        asyncio.get_running_loop().remove_reader(maker.fileno())
        begin(services, Config.from_wire({"switch_users": services.config.switch_users, **given}))
        maker.answer()
        maker.leave()
        quiet.begin()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def begin(services: Services, config: Config) -> None:
    """It is somebody's now."""
    services.config = config
    services.environment.begin(config.env, config.template_env)
    if os.getpid() == 1:
        announced.write(config.env)
    if services.trust is not None:
        services.environment.trust = _initial_trust(services.trust, config)


def services_of(reaper: Reaper, seed_socket: socket.socket | None, config: Config) -> Services:
    users = Users(config.switch_users)
    users.begin()
    user = users.lookup()
    with suppress(OSError, AgentError):
        ensure_directory(users, user, config.workdir, config.workdir)
    environment = Environment(user, config.workdir, config.env, config.template_env)
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
        trust=_trust_store(config),
        doors=Doors.inside(),
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


_SIGNALS = sorted(map(int, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))


def _reset_signals() -> None:
    """Whatever the zygote set. The default keeps PID 1 safe from signals from inside, and programs inherit it."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_DFL:
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

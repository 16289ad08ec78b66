"""`atoll mcp`: sandboxes as tools of an agent host."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from atoll import compose
from atoll.core.errors import InvalidInput
from atoll.mcp import server
from atoll.mcp.sandboxes import Order

from .api import Account, api_options
from .network import Reach, network_options

TOKEN_VARIABLE = "ATOLL_MCP_TOKEN"  # noqa: S105  # the name of a variable


@click.command()
@click.option("--sandbox", metavar="ID", help="Use this sandbox, and leave it alone at the end.")
@click.option("--template", default="code-interpreter", show_default=True, help="What sandboxes are made of.")
@click.option(
    "--timeout",
    type=click.IntRange(1),
    metavar="SECONDS",
    help="Life of each sandbox. Without it: until an hour after its last use.",
)
@click.option("--keep", is_flag=True, help="Do not kill the sandboxes at the end.")
@click.option("--any-sandbox", is_flag=True, help="Tools may use every sandbox of the key, not this session's alone.")
@click.option(
    "--share",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="A directory of this machine that tools may copy files from and new files to.",
)
@network_options
@click.option(
    "--http", "listen", metavar="HOST:PORT", help="Serve streamable HTTP instead of standard input and output."
)
@api_options
def mcp(
    account: Account,
    reach: Reach,
    sandbox: str | None,
    template: str,
    timeout: int | None,
    keep: bool,
    any_sandbox: bool,
    share: Path | None,
    listen: str | None,
) -> None:
    """Serve sandboxes as tools of the Model Context Protocol.

    An agent host starts it and talks to its standard input and output. A sandbox is made at the first call that needs
    one, and killed when the host goes away. With --http, clients send the token in the variable ATOLL_MCP_TOKEN as a
    bearer token; without one it listens on this machine only.
    """
    order = Order(
        template=template,
        create={**reach.to_create(), **({} if timeout is None else {"timeout_seconds": timeout})},
        sandbox_id=None if sandbox is None else account.find(sandbox),
        keep=keep,
        any_sandbox=any_sandbox,
        shared=share,
        account=account.arguments,
    )
    if listen is None:
        if sys.stdin.isatty():
            click.echo(
                "This speaks MCP on standard input and output: let an agent host start it. Ctrl-C ends it.", err=True
            )
        server.serve_stdio(order)
        return
    host, port = address(listen)
    token = compose.environment().get(TOKEN_VARIABLE) or None
    if token is None and not server.is_loopback(host):
        raise InvalidInput(f"beyond this machine --http needs a token: set {TOKEN_VARIABLE}")
    server.serve_http(order, host, port, token, lambda url: click.echo(f"MCP server at {url}", err=True))


def address(text: str) -> tuple[str, int]:
    """
    >>> address("[::1]:9000")
    ('::1', 9000)
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise InvalidInput(f"--http {text!r}: HOST:PORT, for example 127.0.0.1:9000")
    return host.removeprefix("[").removesuffix("]"), int(port)

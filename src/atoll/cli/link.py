"""`atoll link`: a signed URL, with which a browser gets into one port of a sandbox."""

from __future__ import annotations

import click

from atoll.core.ingress import LINK_S, MAX_LINK_S, MIN_LINK_S

from .api import Account, api_options, sandbox_argument


@click.command()
@sandbox_argument
@click.argument("port", type=click.IntRange(1, 65535), required=False)
@click.option(
    "--seconds",
    type=click.IntRange(MIN_LINK_S, MAX_LINK_S),
    default=LINK_S,
    show_default=True,
    help="How long it opens the door; a browser that came in by it has to leave then, too.",
)
@api_options
def link(account: Account, sandbox: str, port: int | None, seconds: int) -> None:
    """Print a URL that opens PORT of SANDBOX in a browser: its web port without one.

    Whoever has the URL gets in.
    """
    click.echo(account.sandbox(sandbox).create_link(port, seconds=seconds).url)

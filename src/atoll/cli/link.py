"""`atoll link`: a signed URL, with which a browser gets into one port of a sandbox."""

from __future__ import annotations

import click

from atoll.core.ingress import LINK_S, MAX_LINK_S, MIN_LINK_S

from .api import api_options, open_api, post


@click.command()
@click.argument("sandbox")
@click.argument("port", type=click.IntRange(1, 65535), required=False)
@api_options
@click.option(
    "--seconds",
    type=click.IntRange(MIN_LINK_S, MAX_LINK_S),
    default=LINK_S,
    show_default=True,
    help="How long it opens the door; a browser that came in by it has to leave then, too.",
)
def link(sandbox: str, port: int | None, data_dir: str | None, url: str | None, key: str | None, seconds: int) -> None:
    """Print a URL that opens PORT of SANDBOX in a browser: its web port without one.

    Whoever has the URL gets in.
    """
    order = {"seconds": seconds} if port is None else {"seconds": seconds, "port": port}
    with open_api(data_dir, url, key) as api:
        click.echo(post(api, f"/v1/sandboxes/{sandbox}/links", order)["url"])

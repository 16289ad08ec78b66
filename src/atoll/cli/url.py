"""`atoll url`: where a program that listens in a sandbox is reached."""

from __future__ import annotations

import click

from .api import Account, api_options, sandbox_argument


@click.command()
@sandbox_argument
@click.argument("port", type=click.IntRange(1, 65535))
@api_options
def url(account: Account, sandbox: str, port: int) -> None:
    """Print the URL of PORT of SANDBOX.

    Where the sandbox's URLs are not public a browser needs `atoll link` in its place.
    """
    click.echo(account.sandbox(sandbox).get_preview_url(port))

"""`atoll`: the command line. Each command is a thin layer over the composition root or the public API."""

from __future__ import annotations

import sys

import click

import atoll
from atoll.core.errors import AtollError, InvalidInput

from .doctor import doctor
from .egress import egress
from .keys import keys
from .link import link
from .ps import ps
from .template import template
from .up import up

EXIT_FAILED, EXIT_USAGE = 1, 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(atoll.__version__, prog_name="atoll")
def cli() -> None:
    """A self-hosted sandbox cloud: untrusted code runs isolated, watched and fast."""


for command in (up, keys, ps, link, egress, doctor, template):
    cli.add_command(command)


def main() -> None:
    try:
        cli.main(standalone_mode=False, prog_name="atoll")
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AtollError as error:
        click.echo(f"Error: {error.message}", err=True)
        sys.exit(EXIT_USAGE if isinstance(error, InvalidInput) else EXIT_FAILED)


if __name__ == "__main__":
    main()

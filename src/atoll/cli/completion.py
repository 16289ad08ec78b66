"""`atoll completion`: what makes a shell complete commands, options, sandboxes and templates."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete these commands, with the ids of sandboxes and the names of templates.

    \b
        bash   eval "$(atoll completion bash)"      in ~/.bashrc
        zsh    eval "$(atoll completion zsh)"       in ~/.zshrc
        fish   atoll completion fish | source       in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(ctx.find_root().command, {}, "atoll", "_ATOLL_COMPLETE").source())

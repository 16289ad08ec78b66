"""What a sandbox may reach: the options of commands that make one, and `atoll network`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from atoll.core.errors import InvalidInput

from .api import Account, api_options, sandbox_argument
from .render import json_option, show_one

ALL_TRAFFIC = "0.0.0.0/0"


@dataclass(frozen=True)
class Reach:
    off: bool = False
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def to_policy(self) -> dict[str, Any]:  # Any: JSON values
        """What is allowed is all that is allowed: the rest is denied, unless `deny` says what is.

        >>> Reach(allow=("pypi.org",)).to_policy()
        {'allow_out': ['pypi.org'], 'deny_out': ['0.0.0.0/0']}
        """
        if self.off and (self.allow or self.deny):
            raise InvalidInput("no network at all leaves nothing to --allow or --deny")
        deny = self.deny or ((ALL_TRAFFIC,) if self.allow else ())
        lists = {"allow_out": list(self.allow), "deny_out": list(deny)}
        return {name: value for name, value in lists.items() if value}

    def to_create(self) -> dict[str, Any]:  # Any: what `Sandbox.create` takes
        policy = self.to_policy()
        return {
            **({"network": policy} if policy else {}),
            **({"allow_internet_access": False} if self.off else {}),
        }


def network_options(command: Callable[..., Any]) -> Any:  # Any: click's decorators
    """`--network-off`, `--allow` and `--deny`; the command gets them as `reach`."""

    @functools.wraps(command)
    def with_reach(network_off: bool, allow: tuple[str, ...], deny: tuple[str, ...], **more: Any) -> Any:
        return command(reach=Reach(network_off, allow, deny), **more)

    made: Any = with_reach
    made = click.option("--deny", multiple=True, metavar="NETWORK", help="An address or network it may not reach.")(
        made
    )
    made = click.option(
        "--allow", multiple=True, metavar="NAME", help="A name, address or network it may reach; all else is closed."
    )(made)
    return click.option("--network-off", is_flag=True, help="It reaches nothing outside.")(made)


@click.command()
@sandbox_argument
@click.option("--off", is_flag=True, help="It reaches nothing outside.")
@click.option("--on", is_flag=True, help="It reaches everything that the installation lets out.")
@click.option(
    "--allow", multiple=True, metavar="NAME", help="It reaches this name, address or network, and nothing else."
)
@click.option("--deny", multiple=True, metavar="NETWORK", help="It does not reach this address or network.")
@click.option("--show", "only_show", is_flag=True, help="Change nothing; the same as no option at all.")
@json_option
@api_options
def network(
    account: Account,
    sandbox: str,
    off: bool,
    on: bool,
    allow: tuple[str, ...],
    deny: tuple[str, ...],
    only_show: bool,
    as_json: bool,
) -> None:
    """Show or change what SANDBOX may reach. A change replaces what was there, and cuts what it forbids at once."""
    place = account.sandbox(sandbox)
    reach = Reach(off, allow, deny)
    changes = off or on or allow or deny
    if changes and only_show:
        raise InvalidInput("--show changes nothing")
    if on and (off or allow or deny):
        raise InvalidInput("--on opens everything, so it goes with no other option")
    if changes:
        place.update_network(reach.to_policy(), allow_internet_access=not off)
    info = place.get_info()
    show_one({"internet_access": info.internet_access, **info.network}, as_json)

"""The API as the command line asks it, by the SDK: where it is, with which key, and which sandbox is meant."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from atoll import compose
from atoll.core.errors import AuthenticationFailed, NotFound
from atoll.sdk._core.config import KEYS, URLS, first

from .ids import is_whole, resolve
from .options import settings_options

if TYPE_CHECKING:
    from atoll.sdk import Sandbox, SandboxInfo

    from .network import Reach


@dataclass(frozen=True)
class Account:
    url: str
    key: str = field(repr=False)

    @property
    def arguments(self) -> dict[str, Any]:  # Any: so that it goes with every call's own keywords
        """For the SDK."""
        return {"api_key": self.key, "base_url": self.url}

    def list(self, status: str | None = None, metadata: Mapping[str, str] | None = None) -> Iterator[SandboxInfo]:
        from atoll.sdk import Sandbox

        return Sandbox.iter_info(status=status, metadata=metadata, **self.arguments)

    def find(self, text: str) -> str:
        """The whole id of the sandbox that `text` means: InvalidInput and NotFound as `ids.resolve` says."""
        return text if is_whole(text) else resolve(text, (each.sandbox_id for each in self.list()))

    def sandbox(self, text: str) -> Sandbox:
        """Not asked for yet: whether it is there, the first call says."""
        from atoll.sdk import Sandbox

        return Sandbox(self.find(text), **self.arguments)

    def create(self, template: str, reach: Reach, **more: Any) -> Sandbox:  # Any: what `Sandbox.create` takes
        from atoll.sdk import Sandbox

        return Sandbox.create(template, **reach.to_create(), **more, **self.arguments)


def find_account(data_dir: str | None, url: str | None, key: str | None) -> Account:
    """What is said; else what the environment says; else the installation that runs on this machine."""
    environ = compose.environment()
    places = compose.read_places({"data_dir": data_dir}, environ)
    here = _running_url(places)
    url = url or first(environ, URLS) or here
    key = key or first(environ, KEYS)
    if url is None:
        raise NotFound(
            f"no Atoll runs on {places.data}, as far as this user can see: start it with `sudo atoll up`, or say where "
            "it is, with --url or ATOLL_BASE_URL"
        )
    if key is None and url == here:  # this machine's own key goes nowhere else
        key = _first_key(places)
    if key is None:
        raise AuthenticationFailed(
            f"no key for {url}: say --key or set ATOLL_API_KEY; `atoll keys create NAME` makes one, where Atoll runs"
        )
    return Account(url.rstrip("/"), key)


def _running_url(places: Any) -> str | None:  # Any: core.settings.Places
    try:
        return compose.running_url(places)
    except PermissionError:  # root's alone; everybody else says where it is
        return None


def _first_key(places: Any) -> str | None:  # Any: core.settings.Places
    try:
        return compose.first_key(places)
    except PermissionError as error:
        raise AuthenticationFailed(
            f"{places.first_key} is not yours to read: say --key, or set ATOLL_API_KEY"
        ) from error


def api_options(command: Callable[..., Any]) -> Any:  # Any: click's decorators keep the type to themselves
    """`--url`, `--key` and `--data-dir`; the command gets what they come to, as `account`."""

    @functools.wraps(command)
    def with_account(data_dir: str | None, url: str | None, key: str | None, **more: Any) -> Any:
        return command(account=find_account(data_dir, url, key), **more)

    made: Any = with_account
    made = click.option("--key", help="API key instead of the first one.  [ATOLL_API_KEY]")(made)
    made = click.option("--url", help="API to ask instead of the one on this machine.  [ATOLL_BASE_URL]")(made)
    return settings_options("data_dir")(made)


def complete_sandbox(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[Any]:  # Any: completion items
    """Ids, with template and state beside them. A shell is never disturbed: what fails completes to nothing."""
    from click.shell_completion import CompletionItem

    try:
        account = find_account(*(ctx.params.get(name) for name in ("data_dir", "url", "key")))
        return [
            CompletionItem(each.sandbox_id, help=f"{each.template_name} {each.status}")
            for each in account.list()
            if each.sandbox_id.startswith(incomplete)
        ]
    except Exception:
        return []


def complete_template(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    from atoll.sdk import Sandbox

    try:
        account = find_account(*(ctx.params.get(name) for name in ("data_dir", "url", "key")))
        found = Sandbox.list_templates(**account.arguments)
        return [each.name for each in found if each.name.startswith(incomplete)]
    except Exception:
        return []


def sandbox_argument(command: Any) -> Any:  # Any: click's decorators
    return click.argument("sandbox", shell_complete=complete_sandbox)(command)


def template_option(command: Any) -> Any:  # Any: click's decorators
    return click.option(
        "--template",
        default="code-interpreter",
        show_default=True,
        shell_complete=complete_template,
        help="What a new sandbox is made from.",
    )(command)

"""Secrets: values that sandboxes use and never hold."""

from __future__ import annotations

import builtins
from collections.abc import Generator, Mapping, Sequence

from atoll.sdk._core import control, models
from atoll.sdk._core.models import Secret
from atoll.sdk._core.read import objects

from .client import Control


class Secrets:
    """The secrets of a key. Their values are kept sealed and never come back.

    `create` of a sandbox takes `secrets={"ENV_NAME": "name"}`: programs in it see a placeholder, which becomes the
    value outside the sandbox, in requests to the secret's `hosts`.

    >>> _ = Secrets.create("example-key", "sk-123", hosts=["api.example.com"])
    >>> with Sandbox.create("busybox", secrets={"API_KEY": "example-key"}) as box:
    ...     print("sk-123" in box.commands.run("echo $API_KEY").stdout)
    False
    >>> Secrets.delete("example-key")
    """

    @classmethod
    def create(
        cls,
        name: str,
        value: str,
        *,
        hosts: Sequence[str] | None = None,
        description: str | None = None,
        metadata: Mapping[str, str] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
    ) -> Secret:
        """Keeps a value under a name. `hosts`: names of servers to which it may go; `*.NAME` is all below NAME.

        >>> Secrets.create("made", "v", description="for tests").version
        1
        >>> Secrets.delete("made")
        """
        order = control.create_secret(
            name,
            value,
            hosts=control.listed(hosts),
            description=description,
            metadata=None if metadata is None else dict(metadata),
        )
        return models.secret(Control.of(api_key, base_url).call(order))

    @classmethod
    def get(cls, name: str, *, api_key: str | None = None, base_url: str | None = None) -> Secret:
        """One of them, by its name or id. Raises NotFoundError.

        >>> _ = Secrets.create("got", "v", hosts=["api.example.com"])
        >>> Secrets.get("got").hosts
        ['api.example.com']
        >>> Secrets.delete("got")
        """
        return models.secret(Control.of(api_key, base_url).call(control.get_secret(name)))

    @classmethod
    def iter(cls, *, api_key: str | None = None, base_url: str | None = None) -> Generator[Secret, None, None]:
        """All of them, page by page.

        >>> _ = Secrets.create("one-of-all", "v")
        >>> "one-of-all" in [secret.name for secret in Secrets.iter()]
        True
        >>> Secrets.delete("one-of-all")
        """
        plane = Control.of(api_key, base_url)
        for data in plane.each(lambda at: control.list_secrets(control.PAGE, at)):
            yield models.secret(data)

    @classmethod
    def list(
        cls, *, limit: int = 100, api_key: str | None = None, base_url: str | None = None
    ) -> builtins.list[Secret]:
        """The newest, at most `limit`.

        >>> _ = Secrets.create("listed", "v")
        >>> "listed" in [secret.name for secret in Secrets.list()]
        True
        >>> Secrets.delete("listed")
        """
        page = Control.of(api_key, base_url).call(control.list_secrets(limit, None))
        return [models.secret(data) for data in objects(page.get("data"))]

    @classmethod
    def update(
        cls,
        name: str,
        *,
        value: str | None = None,
        hosts: Sequence[str] | None = None,
        description: str | None = None,
        metadata: Mapping[str, str] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
    ) -> Secret:
        """Changes what is given; a value makes a new version, which running sandboxes get too.

        >>> _ = Secrets.create("changed", "v")
        >>> Secrets.update("changed", value="w").version
        2
        >>> Secrets.delete("changed")
        """
        order = control.update_secret(
            name,
            value=value,
            hosts=control.listed(hosts),
            description=description,
            metadata=None if metadata is None else dict(metadata),
        )
        return models.secret(Control.of(api_key, base_url).call(order))

    @classmethod
    def delete(cls, name: str, *, api_key: str | None = None, base_url: str | None = None) -> None:
        """Deletes one; sandboxes that use it lose it. Raises NotFoundError.

        >>> _ = Secrets.create("gone", "v")
        >>> Secrets.delete("gone")
        """
        Control.of(api_key, base_url).call(control.delete_secret(name))

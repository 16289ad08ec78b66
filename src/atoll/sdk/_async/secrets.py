"""Secrets: values that sandboxes use and never hold."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Mapping, Sequence

from atoll.sdk._core import control, models
from atoll.sdk._core.models import Secret
from atoll.sdk._core.read import objects

from .client import AsyncControl


class AsyncSecrets:
    """The secrets of a key. Their values are kept sealed and never come back.

    `create` of a sandbox takes `secrets={"ENV_NAME": "name"}`: programs in it see a placeholder, which becomes the
    value outside the sandbox, in requests to the secret's `hosts`.

    >>> _ = await AsyncSecrets.create("example-key", "sk-123", hosts=["api.example.com"])
    >>> async with AsyncSandbox.create("busybox", secrets={"API_KEY": "example-key"}) as box:
    ...     print("sk-123" in (await box.commands.run("echo $API_KEY")).stdout)
    False
    >>> await AsyncSecrets.delete("example-key")
    """

    @classmethod
    async def create(
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

        >>> (await AsyncSecrets.create("made", "v", description="for tests")).version
        1
        >>> await AsyncSecrets.delete("made")
        """
        order = control.create_secret(
            name,
            value,
            hosts=control.listed(hosts),
            description=description,
            metadata=None if metadata is None else dict(metadata),
        )
        return models.secret(await AsyncControl.of(api_key, base_url).call(order))

    @classmethod
    async def get(cls, name: str, *, api_key: str | None = None, base_url: str | None = None) -> Secret:
        """One of them, by its name or id. Raises NotFoundError.

        >>> _ = await AsyncSecrets.create("got", "v", hosts=["api.example.com"])
        >>> (await AsyncSecrets.get("got")).hosts
        ['api.example.com']
        >>> await AsyncSecrets.delete("got")
        """
        return models.secret(await AsyncControl.of(api_key, base_url).call(control.get_secret(name)))

    @classmethod
    async def iter(cls, *, api_key: str | None = None, base_url: str | None = None) -> AsyncGenerator[Secret, None]:
        """All of them, page by page.

        >>> _ = await AsyncSecrets.create("one-of-all", "v")
        >>> "one-of-all" in [secret.name async for secret in AsyncSecrets.iter()]
        True
        >>> await AsyncSecrets.delete("one-of-all")
        """
        plane = AsyncControl.of(api_key, base_url)
        async for data in plane.each(lambda at: control.list_secrets(control.PAGE, at)):
            yield models.secret(data)

    @classmethod
    async def list(
        cls, *, limit: int = 100, api_key: str | None = None, base_url: str | None = None
    ) -> builtins.list[Secret]:
        """The newest, at most `limit`.

        >>> _ = await AsyncSecrets.create("listed", "v")
        >>> "listed" in [secret.name for secret in await AsyncSecrets.list()]
        True
        >>> await AsyncSecrets.delete("listed")
        """
        page = await AsyncControl.of(api_key, base_url).call(control.list_secrets(limit, None))
        return [models.secret(data) for data in objects(page.get("data"))]

    @classmethod
    async def update(
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

        >>> _ = await AsyncSecrets.create("changed", "v")
        >>> (await AsyncSecrets.update("changed", value="w")).version
        2
        >>> await AsyncSecrets.delete("changed")
        """
        order = control.update_secret(
            name,
            value=value,
            hosts=control.listed(hosts),
            description=description,
            metadata=None if metadata is None else dict(metadata),
        )
        return models.secret(await AsyncControl.of(api_key, base_url).call(order))

    @classmethod
    async def delete(cls, name: str, *, api_key: str | None = None, base_url: str | None = None) -> None:
        """Deletes one; sandboxes that use it lose it. Raises NotFoundError.

        >>> _ = await AsyncSecrets.create("gone", "v")
        >>> await AsyncSecrets.delete("gone")
        """
        await AsyncControl.of(api_key, base_url).call(control.delete_secret(name))

"""The public API as the command line asks it: where it is, with which key, and its errors as ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import httpx

from atoll import compose
from atoll.core.errors import AtollError, AuthenticationFailed, InvalidInput, NotFound, Unavailable

from .options import settings_options

TIMEOUT_S = 10.0

_ERRORS: dict[int, type[AtollError]] = {400: InvalidInput, 401: AuthenticationFailed, 404: NotFound}


def api_options(command: Any) -> Any:  # Any: click's decorators keep the function's type to themselves
    command = click.option("--key", help="API key instead of the first one.  [ATOLL_API_KEY]")(command)
    command = click.option("--url", help="API to ask instead of the one on this machine.  [ATOLL_BASE_URL]")(command)
    return settings_options("data_dir")(command)


def open_api(
    data_dir: str | None, url: str | None, key: str | None, transport: httpx.BaseTransport | None = None
) -> httpx.Client:
    environ = compose.environment()
    places = compose.read_places({"data_dir": data_dir}, environ)
    url = url or environ.get("ATOLL_BASE_URL") or compose.running_url(places)
    key = key or environ.get("ATOLL_API_KEY") or compose.first_key(places)
    if url is None:
        raise NotFound(f"no Atoll runs on {places.data}; start it with `atoll up`, or say --url")
    if key is None:
        raise AuthenticationFailed("no key at hand: say --key, or make one with `atoll keys create NAME`")
    return client(url, key, transport)


def client(url: str, key: str, transport: httpx.BaseTransport | None = None) -> httpx.Client:
    headers = {"X-API-Key": key}
    return httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False, transport=transport)


def get(
    api: httpx.Client, path: str, params: Mapping[str, Any] | None = None, wait_s: float = 0.0
) -> Any:  # Any: JSON values
    """`wait_s`: how long the API may take over it on purpose."""
    return _ask(api, "GET", path, params=params, timeout=TIMEOUT_S + wait_s)


def post(api: httpx.Client, path: str, body: Mapping[str, Any]) -> Any:  # Any: JSON values
    return _ask(api, "POST", path, json=body)


def _ask(api: httpx.Client, method: str, path: str, **more: Any) -> Any:  # Any: what httpx takes; JSON values
    try:
        answer = api.request(method, path, **more)
        body = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise Unavailable(f"{api.base_url} does not answer as Atoll does: {error}") from error
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise AuthenticationFailed("the key is not valid")
    if answer.is_error:
        kind = _ERRORS.get(answer.status_code, Unavailable)
        raise kind(f"{api.base_url}: {body.get('message', answer.status_code)}")
    return body

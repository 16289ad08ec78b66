"""Where the server is and with which key: arguments, else the environment. Atoll's names, then HopX's, then E2B's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import AuthenticationError, ValidationError

DEFAULT_URL = "http://127.0.0.1:8080"
"""What `atoll up` serves."""
KEYS = ("ATOLL_API_KEY", "HOPX_API_KEY", "E2B_API_KEY")
URLS = ("ATOLL_BASE_URL", "HOPX_BASE_URL", "E2B_API_URL")
E2B_DOMAIN = "E2B_DOMAIN"
"""A name without a scheme; the API is at `https://api.` of it."""
CA_FILES = ("ATOLL_CA_FILE", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Account:
    base_url: str
    api_key: str | None = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        if not self.api_key:
            raise AuthenticationError(
                "No API key. Set ATOLL_API_KEY, or give api_key=. "
                "`atoll up` writes the first key to the file api-key in its data directory; "
                "`atoll keys create NAME` makes another."
            )
        if not (self.api_key.isascii() and self.api_key.isprintable()):
            raise AuthenticationError("The API key has characters that no key has.")
        return {"X-API-Key": self.api_key}


def account(api_key: str | None, base_url: str | None) -> Account:
    """Raises ValidationError for a URL that is none. A missing key is found when the first call needs it."""
    environ = os.environ
    return Account(_url(base_url or url_of(environ)), (api_key or first(environ, KEYS) or "").strip() or None)


def url_of(environ: Mapping[str, str]) -> str:
    if found := first(environ, URLS):
        return found
    domain = environ.get(E2B_DOMAIN, "").strip()
    return f"https://api.{domain}" if domain else DEFAULT_URL


def ca_file() -> str | None:
    """Authorities (PEM) in the place of the system's."""
    return first(os.environ, CA_FILES)


def first(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := environ.get(name, "").strip())), None)


def _url(given: str) -> str:
    url = given.strip().rstrip("/")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https") or not rest or rest.startswith("/"):
        raise ValidationError(f"{given!r} is no URL of a server: it begins with http:// or https://", field="base_url")
    return url


def scheme(url: str) -> str:
    return url.partition("://")[0].lower()

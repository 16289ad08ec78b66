"""Installations for E2B's clients, with the small internet beyond them: by plain HTTP, and below a domain with TLS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from atoll.testing.installation import Installation, borrow_templates
from atoll.testing.internet import Internet
from names import DOMAIN
from stack import templates_dir


@contextlib.contextmanager
def installation(internet: Internet, data: Path, *flags: str) -> Iterator[Installation]:
    borrow_templates(templates_dir(), data)
    ways = ("--uplink", internet.uplink, "--egress-ca", str(internet.ca_file))
    with Installation(data, "--templates", "base,code-interpreter", *ways, *flags) as made:
        yield made


def by_address(made: Installation, maker: str = "E2B") -> dict[str, str]:
    """Plain HTTP: what a user sets who has neither a domain nor certificates."""
    addresses = {f"{maker}_{name}": made.url for name in ("API_URL", "SANDBOX_URL", "VOLUME_API_URL")}
    return {**addresses, f"{maker}_API_KEY": made.api_key}


def by_domain(made: Installation, maker: str = "E2B") -> dict[str, str]:
    """TLS: a domain, and the authority's certificate for each language."""
    port = made.url.rpartition(":")[2]
    authority = str(made.places.tls / "ca.pem")
    account = {f"{maker}_DOMAIN": f"{DOMAIN}:{port}", f"{maker}_API_KEY": made.api_key}
    return {**account, "SSL_CERT_FILE": authority, "NODE_EXTRA_CA_CERTS": authority}

"""The parts of the documents that are made from the code: `python -m scripts.reference` writes them anew.

A part stands in its page between `<!-- made: NAME -->` and `<!-- end -->`; `WHOLE` pages are made as a whole. What the
code cannot say – what an error means to its reader, how settings belong together – stands in these files, and a kind
or a setting without its words is an error.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import APIRouter
from fastapi.routing import APIRoute

from atoll.cli import reference as command_line
from atoll.compose import SETTINGS, Setting
from atoll.dialects.e2b import novita
from atoll.dialects.e2b import routes as e2b_routes
from atoll.dialects.hopx.openapi import SURFACE as control_surface
from atoll.edge.e2b import surface as envd
from atoll.edge.e2b import volumes
from atoll.edge.e2b.code import surface as code
from atoll.edge.hopx.openapi import SURFACE as agent_surface
from atoll.reference.document import openapi
from atoll.reference.markdown import chapter
from scripts import integrations
from scripts.error_reference import agent_errors, e2b_errors, envd_errors, errors, port_errors
from scripts.sdk_reference import sdk
from scripts.tables import table

DOCS = Path(__file__).resolve().parents[1] / "docs"


# ---- settings

GROUPS: dict[str, tuple[str, ...]] = {
    "What it serves": ("listen", "data_dir", "templates", "background_templates", "ready", "region", "print_env"),
    "How long sandboxes live": ("inactivity", "max_life", "keep_stopped"),
    "The way in": ("domain", "tls", "tls_cert", "tls_key", "insecure_http"),
    "The way out": (
        *("uplink", "open_ranges", "nameservers", "egress_rate", "egress_burst", "egress_mbit", "egress_log_mib"),
        *("egress_ca", "callback_ca"),
    ),
}


def settings() -> str:
    by_name = {setting.name: setting for setting in SETTINGS}
    grouped = [name for names in GROUPS.values() for name in names]
    if sorted(grouped) != sorted(by_name):
        raise ValueError(f"settings that no group has, or that are gone: {sorted(set(grouped) ^ set(by_name))}")
    heads = ("Option", "Variable", "Default", "Meaning")
    parts = [
        f"### {title}\n\n{table(heads, (_setting(by_name[name]) for name in names))}" for title, names in GROUPS.items()
    ]
    return "\n".join(parts)


def _setting(setting: Setting) -> Sequence[str]:
    option = setting.flag if setting.metavar is None else f"{setting.flag} {setting.metavar}"
    return f"`{option}`", f"`{setting.variable}`", f"`{setting.default}`" if setting.default else "–", setting.help


# ---- REST

REST = """# REST reference

Two surfaces: the **control plane** makes sandboxes and looks after them, the **agent surface** of each sandbox uses it.
An installation shows the same as a page, with its own address in the examples, at `/docs` and `/docs/agent`, and as
OpenAPI 3.1 at `/v1/openapi.json` and `/v1/agent.openapi.json`. All codes of errors are on [a page of their
own](errors.md).

The examples call an installation on this machine. `$ATOLL_API_KEY` is an API key, `$TOKEN` the sandbox's token (the
`auth_token` of the answer that made it; an API key does as well), and words in capitals are yours to fill in.
"""
ADDRESS = "http://127.0.0.1:8080"


def rest() -> str:
    surfaces = ((control_surface, ADDRESS), (agent_surface, f"{ADDRESS}/s/SANDBOX_ID"))
    return "\n".join([REST, *(chapter(openapi(surface), address) for surface, address in surfaces)])


# ---- E2B's API

E2B_API = """# E2B API

What is served of E2B's API, and of Novita's, which is a branch of it; what a program has to set is in
[migrating](migrating.md#from-e2b). Paths, bodies and answers are theirs, so their documents describe them. A path that
is not here is answered 404, in E2B's form.

"""


def e2b_api() -> str:
    agent_rows = [(path, method) for path, methods in envd.HTTP.items() for method in methods]
    agent_rows += [(path, "POST") for path in envd.RPC]
    code_rows = [(path, method) for path, methods in code.ROUTES.items() for method in methods]
    volume_rows = [(f"/volumecontent/{{volume_id}}/{rest}", method) for method, rest in volumes.ROUTES]
    heads = ("Method", "Path")
    parts = (
        ("Control plane", "With an API key, as `X-API-Key`.", routed(e2b_routes.router)),
        ("Control plane: Novita's own", "As above.", routed(novita.own)),
        (
            "Control plane: in Novita's form",
            "With `X-Novita-SDK-Name` or `publisher: Novita`, which its clients send; else these paths are E2B's.",
            routed(novita.differing),
        ),
        ("In a sandbox", "Port 49983, with the sandbox's access token, as `X-Access-Token`.", agent_rows),
        (
            "In a sandbox: code interpreter",
            "Port 49999; `/execute` with the access token, as `X-Access-Token`.",
            code_rows,
        ),
        ("In a volume", "With the volume's token, as `Authorization: Bearer`.", volume_rows),
    )
    return E2B_API + "\n".join(
        f"## {title}\n\n{said}\n\n{table(heads, ((method, f'`{path}`') for path, method in rows))}"
        for title, said, rows in parts
    )


def routed(router: APIRouter) -> list[tuple[str, str]]:
    return sorted(
        (plain_path(route.path), method)
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods - {"HEAD"}
    )


def plain_path(path: str) -> str:
    """Without what only the router has to know."""
    return path.replace(":path}", "}")


# ---- pages

PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "settings.md": {"settings": settings},
    "integrations.md": integrations.examples(),
    "mcp.md": {"tools": integrations.tools},
    "errors.md": {
        "errors": errors,
        "agent errors": agent_errors,
        "port errors": port_errors,
        "e2b errors": e2b_errors,
        "envd errors": envd_errors,
    },
}
WHOLE: dict[str, Callable[[], str]] = {
    "rest.md": rest,
    "cli.md": command_line.markdown,
    "sdk-reference.md": sdk,
    "e2b-api.md": e2b_api,
}


def made(page: str) -> str:
    """The page as it should be."""
    if page in WHOLE:
        return WHOLE[page]()
    text = (DOCS / page).read_text()
    for name, make in PARTS[page].items():
        pattern = re.compile(rf"(<!-- made: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"docs/{page} has no place for {name!r}, or several")
        text = pattern.sub(lambda match, make=make: f"{match[1]}\n{make()}\n{match[2]}", text)
    return text


def stale() -> list[str]:
    """Pages that are not as the code is."""
    return [page for page in (*PARTS, *WHOLE) if not _is_as_made(page)]


def _is_as_made(page: str) -> bool:
    place = DOCS / page
    return place.exists() and place.read_text() == made(page)


def main() -> None:
    for page in stale():
        (DOCS / page).write_text(made(page))
        print(f"docs/{page}", file=sys.stderr)


if __name__ == "__main__":
    main()

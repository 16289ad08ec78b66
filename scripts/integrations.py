"""The parts of docs/integrations.md and docs/mcp.md that are made: the examples' files, and the table of MCP tools."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path

from atoll.mcp.tools import OFFERS, SHARING, Offer

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def examples() -> dict[str, Callable[[], str]]:
    return {place.name: partial(_listing, place) for place in sorted(EXAMPLES.glob("*.py"))}


def _listing(place: Path) -> str:
    return f'```python title="{place.name}"\n{place.read_text()}```'


def tools() -> str:
    rows = [*(_row(each, "") for each in OFFERS), *(_row(each, " Only with `--share`.") for each in SHARING)]
    return "\n".join(["| Tool | | What it is for |", "| --- | --- | --- |", *rows])


def _row(offer: Offer, condition: str) -> str:
    first = (inspect.getdoc(offer.function) or "").split("\n\n")[0].replace("\n", " ")
    mark = (
        "reads" if offer.annotations.read_only_hint else "destroys" if offer.annotations.destructive_hint else "changes"
    )
    return f"| `{offer.function.__name__}` | {mark} | {first}{condition} |"

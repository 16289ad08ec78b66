"""`atoll egress`: what a sandbox did with its way out, from the log, once or as it happens."""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from .api import Account, api_options, sandbox_argument
from .render import amount, moment, plain

if TYPE_CHECKING:
    from atoll.sdk import Sandbox

PAGE = 1000
WAIT_S = 25
PACE_S = 0.5
"""Between two questions while there is news: what comes together is shown together."""
COLOURS = {"allowed": "green", "denied": "red", "failed": "yellow"}
WIDTHS = (20, 7, 8, 48, 8, 8, 8, 0)
WHAT = {"question": "dns"}
HEADINGS = ("TIME", "VERDICT", "WHAT", "DESTINATION", "OUT", "IN", "TOOK", "RULE")

Json = Mapping[str, Any]  # Any: JSON values; `core.egress.Entry.to_wire`


@click.command()
@sandbox_argument
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--last", type=click.IntRange(0), default=100, show_default=True, help="Only the last N; 0 is for all.")
@click.option("--denied", is_flag=True, help="Only what was refused.")
@click.option("--totals", is_flag=True, help="Counters instead of entries.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an entry a line.")
@api_options
def egress(account: Account, sandbox: str, follow: bool, last: int, denied: bool, totals: bool, as_json: bool) -> None:
    """Show what SANDBOX did with its way out.

    A name with a ~ was not read: it is the one for which the sandbox last got this address.
    """
    place = account.sandbox(sandbox)
    if totals:
        show_totals(place.get_egress_totals(), as_json)
        return
    log = Log(place, denied)
    with contextlib.suppress(KeyboardInterrupt):
        there = log.last(last)
        if not as_json:
            click.secho(columns(HEADINGS), bold=True)
        for entry in there:
            show_entry(entry, as_json)
        for entry in log.following() if follow else ():
            show_entry(entry, as_json)


class Log:
    def __init__(self, place: Sandbox, denied: bool) -> None:
        self._place = place
        self._denied = denied
        self._cursor = 0

    def last(self, number: int) -> Iterator[Json]:
        """Of those that are wanted; 0: all."""
        if number and not self._denied:
            self._cursor = -number
        return iter(deque(self._there(), maxlen=number or None))

    def following(self) -> Iterator[Json]:
        """Never ends; waits while Atoll is away."""
        from atoll.sdk import NetworkError, ServerError

        away = False
        while True:
            try:
                yield from self._page(WAIT_S)
                away = False
            except (NetworkError, ServerError) as error:
                if not away:
                    click.echo(f"{plain(str(error))}; trying again", err=True)
                away = True
            time.sleep(PACE_S)

    def _there(self) -> Iterator[Json]:
        before = None
        while before != self._cursor:
            before = self._cursor
            yield from self._page()

    def _page(self, wait_s: int = 0) -> Iterator[Json]:
        found = self._place.get_egress_log(self._cursor, limit=PAGE, wait=wait_s)
        self._cursor = found.cursor
        return (entry for entry in found.entries if not self._denied or entry["verdict"] == "denied")


# ---- for people


def show_entry(entry: Json, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(entry))
    else:
        click.echo(columns(cells(entry), COLOURS.get(entry["verdict"])))


def show_totals(totals: Json, as_json: bool) -> None:
    shown = {name: value for name, value in totals.items() if name != "request_id"}
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    by_rule = shown.pop("by_rule", {})
    for name, value in (shown | {f"  {rule}": count for rule, count in sorted(by_rule.items())}).items():
        click.echo(f"{value:>14}  {name.replace('bytes_', 'bytes ')}")


def columns(texts: tuple[str, ...], colour: str | None = None) -> str:
    padded = [plain(text).ljust(width) for text, width in zip(texts, WIDTHS, strict=True)]
    padded[1] = click.style(padded[1], fg=colour) if colour else padded[1]
    return " ".join(padded).rstrip()


def cells(entry: Json) -> tuple[str, ...]:
    is_connection = entry["kind"] == "connection"
    return (
        moment(entry["at"]) or "",
        str(entry["verdict"]),
        str(entry.get("protocol") if is_connection else WHAT.get(entry["kind"], entry["kind"])),
        destination(entry),
        amount(entry.get("bytes_out", 0)) if is_connection else "",
        amount(entry.get("bytes_in", 0)) if is_connection else "",
        duration(entry["duration_s"]) if entry.get("duration_s") else "",
        str(entry["rule"]),
    )


def destination(entry: Json) -> str:
    name, address, port = entry.get("name", ""), entry.get("address", ""), entry.get("port", 0)
    likely = "~" if entry.get("name_from") == "dns" else ""
    match entry["kind"]:
        case "connection":
            at = f":{port}" if port else ""
            known = f"{likely}{name}{at} ({address})" if name and address else f"{name or _bracketed(address)}{at}"
            return known or str(entry.get("detail", ""))
        case "request":
            return f"{entry.get('method', '')} {name or _bracketed(address)}{entry.get('path', '')}"
        case "question":
            return f"{name} {entry.get('detail', '')}".rstrip()
        case _:
            return str(entry.get("detail", ""))


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    return f"{minutes // 60} h {minutes % 60} m" if minutes >= 60 else f"{minutes} m {int(seconds) % 60} s"

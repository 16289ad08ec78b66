"""`atoll up`: check the host, prepare what is made once, run everything until told to stop."""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
import sys
from dataclasses import replace
from types import FrameType

import click
from rich.console import Console

from atoll import compose, supervisor
from atoll.core.errors import Unsupported
from atoll.core.uplink import NO_UPLINK

from .doctor import render
from .options import settings_options
from .progress import reporting

QUICKSTART = """
In another terminal:
  export ATOLL_BASE_URL={url} ATOLL_API_KEY={key}

[bold]Command line[/]
  atoll run -c "print(6 * 7)"

[bold]Python[/]
  from atoll import Sandbox
  with Sandbox.create(template="{template}") as sandbox:
      print(sandbox.run_code("print(6 * 7)").stdout)

[bold]JavaScript[/]   (npm install @hopx-ai/sdk)
  import {{ Sandbox }} from "@hopx-ai/sdk";
  const account = {{ baseURL: process.env.ATOLL_BASE_URL, apiKey: process.env.ATOLL_API_KEY }};
  const sandbox = await Sandbox.create({{ template: "{template}", ...account }});
  console.log((await sandbox.runCode("print(6 * 7)")).stdout);

[bold]curl[/]
  curl -H "X-API-Key: $ATOLL_API_KEY" -H "Content-Type: application/json" \\
       -d '{{"template_name": "{template}"}}' $ATOLL_BASE_URL/v1/sandboxes

All calls are described at {url}/docs
"""


TRUST = """
[bold]TLS[/]: clients must trust this installation's own authority; it can sign for its own names only
  curl     --cacert {ca}
  Python   export SSL_CERT_FILE={ca}
  Node     export NODE_EXTRA_CA_CERTS={ca}
"""


@click.command()
@settings_options(*compose.BY_NAME)
@click.option("--verbose", "-v", is_flag=True, help="Log what the parts do, not only what goes wrong.")
@click.option("--quiet", "-q", is_flag=True, help="Print progress and errors only.")
def up(verbose: bool, quiet: bool, **flags: str | None) -> None:
    """Serve sandboxes on this machine until SIGTERM or Ctrl-C."""
    config = compose.read_config(flags, compose.environment())
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format=compose.LOG_FORMAT)
    console = Console(soft_wrap=True)
    signal.signal(signal.SIGTERM, _end)  # until the supervisor takes over
    require_isolation(config, console)
    config = choose_uplink(config, console)
    with supervisor.data_lock(config.places), supervisor.bind(config.host, config.port) as listener:
        say_what_takes_long(config, console)
        with reporting(console) as progress:
            compose.prepare(config.places, config.templates, progress)
        known_key = compose.first_key(config.places)
        with compose.open_keys(config.places) as keys:
            asyncio.run(keys.ensure_first(config.places.first_key))
        compose.prepare_tls(config)
        url = config.public_url(*listener.getsockname())

        def announce() -> None:
            supervisor.publish(config, url, supervisor.local_url(*listener.getsockname()))
            if not quiet:
                greet(console, config, url, compose.first_key(config.places), known_key)

        try:
            asyncio.run(supervisor.supervise(config, listener, announce, console.print, verbose))
        finally:
            supervisor.withdraw(config.places)
    if not quiet:
        console.print("Atoll has stopped. Sandboxes are stopped, their disks are kept.")


def require_isolation(config: compose.Config, console: Console) -> None:
    """Never unisolated: what a sandbox needs is tried before anything else happens."""
    checks = compose.host_checks(config.places)
    failed = [check for check in checks if check.required and not check.ok]
    if failed:
        render(failed, console)
        raise Unsupported("this host cannot isolate sandboxes, so Atoll does not start; see `atoll doctor`")
    for check in checks:
        if not check.ok and check.fix:
            console.print(f"[yellow]Note:[/] {check.name}: {check.detail}: {check.fix}")


def say_what_takes_long(config: compose.Config, console: Console) -> None:
    built = {template.name for template in compose.built_templates(config.places)}
    if missing := [name for name in config.templates if name not in built]:
        console.print(f"The first start builds what sandboxes are made from ({', '.join(missing)}): a few minutes.")


def choose_uplink(config: compose.Config, console: Console) -> compose.Config:
    """Named and missing: no start. Nothing named and none there: sandboxes have no way out, and we say so."""
    chosen = compose.choose_uplink(config.uplink)
    if chosen == NO_UPLINK != config.uplink:
        console.print("[yellow]Note:[/] this machine has no default route, so sandboxes have no way out; see --uplink")
    return replace(config, uplink=chosen)


def greet(console: Console, config: compose.Config, url: str, key: str | None, known_key: str | None) -> None:
    console.print(f"\n[bold green]Atoll serves on[/] {url}")
    if key is not None and key != known_key:
        console.print(f"API key, shown only now and kept in {config.places.first_key}:\n\n  {key}")
        console.print(QUICKSTART.format(url=url, key=key, template=config.templates[-1]))
    else:
        console.print(f"The first API key is in {config.places.first_key}; `atoll keys create NAME` makes another.")
        kept = f'"$(sudo cat {shlex.quote(str(config.places.first_key))})"' if key else "YOUR_KEY"
        console.print(QUICKSTART.format(url=url, key=kept, template=config.templates[-1]))
    if config.authority is not None:
        console.print(TRUST.format(ca=config.authority))


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)

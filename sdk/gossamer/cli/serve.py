"""``gossamer serve``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from gossamer.cli._common import PATH
from gossamer.cli._services import services_module, setting

_EPILOG = """\b
Examples:
  gossamer serve                                   (all of them on 127.0.0.1:50551)
  gossamer serve registry --data /srv/gossamer
  gossamer serve optimizer --set upstream.registry=HOST:PORT    (the registry runs elsewhere)
  gossamer serve --print-config > gossamer.yaml    (every setting and its meaning)
  gossamer serve --config gossamer.yaml --set server.log_format=text

\b
Other machines are served with TLS and tokens only: see server.tls_certificate in --print-config, and
`gossamer tokens`. SIGTERM and Ctrl-C drain: health says NOT_SERVING first, calls get time to end.
"""


@click.command("serve", epilog=_EPILOG)
@click.argument("services", nargs=-1, metavar="[registry] [optimizer] [fleet]")
@click.option("--bind", metavar="HOST:PORT", help="Address to serve on. Port 0: any free one.")
@click.option("--data", type=PATH, help="Folder of blobs, jobs and the database.")
@click.option("--config", "config_path", type=PATH, help="YAML file of settings.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.SETTING=VALUE", help="Change one setting.")
@click.option("--print-config", is_flag=True, help="Print every setting with its meaning, and end.")
def command(
    services: tuple[str, ...],
    bind: str | None,
    data: Path | None,
    config_path: Path | None,
    overrides: tuple[str, ...],
    print_config: bool,
) -> None:
    """Serve registry (blobs, versions), optimizer (jobs) and fleet (devices, rollouts) over gRPC; by default all."""
    configuration = services_module("config")
    given = list(overrides)
    if bind is not None:
        given.append(setting("server.bind", bind))
    if data is not None:
        given.append(setting("state.folder", str(data)))
    config = configuration.load(config_path, given)
    if print_config:
        click.echo(configuration.render(config), nl=False)
        return
    from gossamer_runtime.agent._lean import heaps

    heaps(2)  # uploads pass through many threads in pieces of megabytes, and a heap each would keep them
    serving = services_module("serve")

    def ready(server: Any) -> None:
        address = config.server.bind
        if not address.startswith("unix:"):
            address = f"{address.rpartition(':')[0]}:{server.port}"
        devices = f", devices on port :{server.device_port}" if server.device_port else ""
        click.echo(f"serving {', '.join(s.name for s in server.services)} on {address}{devices}")

    asyncio.run(serving.serve(config, services or serving.SERVICES, ready=ready))

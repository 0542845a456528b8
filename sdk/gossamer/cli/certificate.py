"""``gossamer certificate``."""

from __future__ import annotations

from pathlib import Path

import click

from gossamer.cli._common import PATH
from gossamer.cli._services import services_module, setting


@click.command("certificate")
@click.argument("names", nargs=-1, required=True, metavar="HOST...")
@click.option("-o", "--output", type=PATH, required=True, help="File for key and certificate; keep it secret.")
@click.option("--data", type=PATH, help="The fleet's data folder.")
@click.option("--config", "config_path", type=PATH, help="YAML file of the fleet's settings.")
def command(names: tuple[str, ...], output: Path, data: Path | None, config_path: Path | None) -> None:
    """Make key and certificate of the devices' port of a registry that runs apart from the fleet.

    HOST: its names and IP addresses, as devices reach it. The fleet's authority signs, in the fleet's data folder; the
    registry needs the file as upstream.device_identity, and the authority's certificate, whose path is printed, as
    server.device_authority.
    """
    config = services_module("config").load(config_path, [] if data is None else [setting("state.folder", str(data))])
    authority = services_module("serve").open_authority(config)
    port = services_module("fleet.device_port")
    port.check_names(names, "HOST")
    port.make(output, authority, names)
    click.echo(authority.certificate_path)

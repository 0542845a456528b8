"""Settings of the servers that this one needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from gossamer_services.common.settings import Seconds, Section

Address = Annotated[str, Field(pattern=r"^(\S+:[0-9]{1,5}|unix:\S+)?$")]


class UpstreamSettings(Section):
    """Where registry and fleet are for a process that does not serve them itself, and how it is known there."""

    registry: Address = ""
    """host:port of the registry that optimizer and fleet use; not read where the registry is served in the process."""
    registry_token_file: Path | None = None
    """File with a token of that registry, read anew for every call: scope read for the fleet, submit and read for the
    optimizer. Unset: GOSSAMER_TOKEN of the environment."""
    registry_ca: Path | None = None
    """Certificates, in PEM, of the authority that signed the registry's; unset: the system's authorities, and on
    loopback no encryption."""
    registry_device_address: Annotated[str, Field(pattern=r"^(\S*:[0-9]{1,5})?$")] = ""
    """host:port of that registry's device_bind as devices reach it, which the fleet tells them; :port on the host where
    they call the fleet; empty: they are told to read bundles where they call the fleet."""
    lease_s: Annotated[float, Field(ge=60, le=90 * 86400)] = 7 * 86400.0
    """Seconds for which the optimizer asks that registry to keep what its jobs refer to. It asks again when half of
    them are over, so that an optimizer may be away for half of this time and lose nothing."""
    fleet: Address = ""
    """host:port of the fleet that a registry with a device_bind asks whether a device is still enrolled; not read where
    the fleet is served in the process. Empty: whoever has a certificate of device_authority is."""
    fleet_token_file: Path | None = None
    """File with a token of that fleet, scope read, as registry_token_file."""
    fleet_ca: Path | None = None
    """As registry_ca, for the fleet."""
    device_identity: Path | None = None
    """PEM file with key and certificate that the device_bind of a registry apart from the fleet shows, signed by the
    fleet's authority, which is what devices trust (`gossamer certificate` makes it, where the fleet's data are);
    server.device_authority is then the fleet's authority.crt. Unset: it shows server.tls_certificate."""
    cache_s: Seconds = 10.0
    """Seconds for which versions, and whether a device is enrolled, are not asked again."""

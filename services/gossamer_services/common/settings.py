"""Settings of the server that every service runs in: one field each, and its meaning beside it."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A group of settings; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ServerSettings(Section):
    """How the server listens, whom it lets in, and when it lets go."""

    bind: str = "127.0.0.1:50551"
    """Address of the services: host:port, [v6]:port, or unix:/path. Port 0: any free one."""
    tls_certificate: Path | None = None
    """Certificate chain in PEM. Needed, with tls_key, unless bound to loopback."""
    tls_key: Path | None = None
    """Private key of the certificate, in PEM."""
    device_bind: str = ""
    """A second address for devices, which must show a certificate of device_authority; empty: none."""
    device_authority: Path | None = None
    """Certificates, in PEM, of the authority that signs devices' certificates; the address then shows tls_certificate.
    Unset: the fleet's own authority, which signs the certificate that this address shows as well."""
    device_names: tuple[str, ...] = ()
    """Host names and IP addresses in the certificate that the fleet's authority signs for device_bind, besides the host
    of device_address; empty: localhost, 127.0.0.1, ::1 and the name of this machine."""
    device_address: Annotated[str, Field(pattern=r"^(\S*:[0-9]{1,5})?$")] = ""
    """host:port of device_bind as devices reach it, which they are told as they enrol, or :port on the host where they
    enrol; empty: the port of device_bind on that host."""
    tokens: Literal["auto", "required"] = "auto"
    """Who must show a token. auto: everybody, but on loopback nobody. required: everybody, on loopback too."""
    max_message_bytes: Annotated[int, Field(ge=4096, le=1 << 30)] = 8 << 20
    """Largest message in either direction, in bytes."""
    max_concurrent_calls: Annotated[int, Field(ge=1)] = 1000
    """Calls served at a time; more are refused with RESOURCE_EXHAUSTED."""
    call_s: Seconds = 60.0
    """Longest time for a call that answers once, in seconds, also where the client asks for more."""
    stream_idle_s: Seconds = 60.0
    """A client that streams and sends nothing for so many seconds is cut off."""
    keepalive_s: Annotated[float, Field(ge=1)] = 30.0
    """Seconds of silence after which the server asks whether the client is there."""
    keepalive_timeout_s: Annotated[float, Field(ge=1)] = 10.0
    """Seconds it waits for that answer before it closes the connection."""
    drain_delay_s: Seconds = 1.0
    """Seconds between health's NOT_SERVING and the end of new calls, for load balancers to look."""
    drain_s: Seconds = 30.0
    """Seconds that calls in progress get to end after that."""
    reflection: bool = True
    """Serve gRPC reflection, for grpcurl and the like (scope read)."""
    metrics_bind: str = ""
    """host:port of Prometheus metrics over plain HTTP; empty: none."""
    log_format: Literal["json", "text"] = "json"
    """Log records as JSON objects, one a line, or as text for people; to stderr."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe records that are logged."""


class StateSettings(Section):
    """Where state is kept."""

    folder: Path = Path("gossamer-data")
    """Folder of blobs, jobs and, by default, the database. One server at a time."""
    database: str = ""
    """postgresql+psycopg://user:password@host/name, or another URL of SQLAlchemy; empty: SQLite in the folder."""
    accept_clock: bool = False
    """Take the machine's clock at this start although it is over 5 minutes behind the last run, which else is an error:
    what expired since that time is good again. For one start alone."""


def is_loopback(bind: str) -> bool:
    """True when only this machine reaches ``bind``."""
    if bind.startswith("unix:"):
        return True
    host = host_of(bind)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(address: str) -> str:
    """The host of host:port, of an IPv6 address without its brackets."""
    return address.rpartition(":")[0].strip("[]")

"""The devices that this user has added: ``devices.json`` under ``GOSSAMER_HOME``. Secrets are named by their files."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gossamer import _atomic
from gossamer._errors import InputError, OutputError
from gossamer_runtime import _trust

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LOGIN = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_FOLDER = re.compile(r"/[^\0\n\r]{0,4000}")
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


@dataclass(frozen=True)
class Place:
    """How to reach a device: ``address`` (HOST:PORT) by gRPC, ``root``, the slot folder of a mounted card, ``adb``, a
    phone's serial number, or ``ssh``, [USER@]HOST as ssh takes it; ``address`` is then the agent's as seen from there.
    ``no_agent``: there is none behind ssh, and ``folder`` there takes the static profiler and bundles.

    ``ca``: certificates that the device's must come from (turns TLS on; "system": those of this machine).
    ``cert`` and ``key``: who we are. ``token_file``: a file that holds a token. ``profiler``: the static profiler for
    a device without an agent. ``ssh_config``: ssh's configuration. All are paths.
    """

    name: str
    address: str = ""
    root: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    token_file: str = ""
    adb: str = ""
    profiler: str = ""
    ssh: str = ""
    ssh_config: str = ""
    no_agent: bool = False
    folder: str = ""

    @property
    def shown(self) -> str:
        """Address, folder, ``adb:SERIAL`` or ``ssh:HOST``."""
        return f"ssh:{self.ssh}" if self.ssh else self.root or self.address or f"adb:{self.adb}"

    @property
    def transport(self) -> str:
        """``grpc``, ``ssh``, ``ssh-profiler`` (no agent there), ``card`` or ``adb``."""
        if self.ssh and self.no_agent:
            return "ssh-profiler"
        return "ssh" if self.ssh else "card" if self.root else "adb" if self.adb else "grpc"

    def check(self) -> Place:
        """The place, when it can be one.

        Raises:
            InputError: name or address are malformed, or what is given does not go together.
        """
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"{self.name!r} is not a name for a device", hint="letters, digits, '.', '_' and '-', at most 64"
            )
        if sum(map(bool, (self.address or self.ssh, self.root, self.adb))) != 1:
            raise InputError("a device has an address, a root or an adb serial number, or is behind ssh: one of them")
        if self.ssh and not _LOGIN.fullmatch(self.ssh):
            raise InputError(f"{self.ssh!r} is not [USER@]HOST", hint="other ports and keys: an alias in ssh's config")
        if self.ssh_config and not self.ssh:
            raise InputError("--ssh-config needs --ssh")
        if self.ssh and (self.ca or self.cert):
            raise InputError("over ssh there is no TLS: leave out --ca and --cert")
        if self.address and not _ADDRESS.fullmatch(self.address):
            raise InputError(f"{self.address!r} is not HOST:PORT", hint="such as raspberrypi.local:50061")
        if self.adb and not _SERIAL.fullmatch(self.adb):
            raise InputError(f"{self.adb!r} is not a serial number", hint="'adb devices' lists them")
        if self.no_agent and not self.ssh:
            raise InputError("--no-agent needs --ssh", hint="a phone over adb and a card have none anyway")
        if self.no_agent and (self.address or self.token_file):
            raise InputError("--no-agent takes neither the agent's --address nor a token")
        if self.folder and not self.no_agent:
            raise InputError("--folder needs --no-agent", hint="an agent has its own --root")
        if self.folder and not _FOLDER.fullmatch(self.folder):
            raise InputError(f"{self.folder!r} is no absolute path", where="--folder")
        if self.profiler and not (self.adb or self.no_agent):
            raise InputError("--profiler needs --adb or --no-agent: an agent measures by itself")
        if bool(self.cert) != bool(self.key):
            raise InputError("--cert and --key need each other")
        if self.cert and not self.ca:
            raise InputError("--cert needs --ca", hint="--ca system takes this machine's own list")
        if (self.root or self.adb) and (self.ca or self.cert or self.token_file):
            what = "a mounted card" if self.root else "a phone over adb"
            raise InputError(f"{what} takes neither certificates nor tokens")
        return self


def path() -> Path:
    """The file."""
    return Path(_trust.home()) / "devices.json"


def read() -> dict[str, Place]:
    """All devices by name.

    Raises:
        InputError: the file is damaged.
    """
    try:
        text = path().read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"cannot read the list of devices: {e}", where=str(path())) from e
    try:
        value: Any = json.loads(text)
        return {name: Place(name=name, **fields).check() for name, fields in value["devices"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(
            f"the list of devices is damaged: {e}", where=str(path()), hint="mend or remove the file"
        ) from e


def write(places: dict[str, Place]) -> None:
    """Replace the list.

    Raises:
        OutputError: it cannot be written; the old one stands.
    """
    value = {
        name: {k: v for k, v in asdict(place).items() if v and k != "name"} for name, place in sorted(places.items())
    }
    try:
        path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as e:
        raise OutputError(f"cannot make the folder: {e.strerror}", where=str(path().parent)) from e
    _atomic.write(path(), (json.dumps({"devices": value}, indent=2) + "\n").encode(), mode=0o600)


def find(name: str | None) -> Place:
    """A device by name, or by HOST:PORT when there is none of that name; None: the only one there is.

    Raises:
        InputError: no such device, or several and none is named.
    """
    known = read()
    if name is None:
        if len(known) == 1:
            return next(iter(known.values()))
        listed = ", ".join(known) or "none"
        raise InputError(
            "which device?", hint=f"-d NAME, -d HOST:PORT, or --root DIR; added: {listed} ('gossamer device add')"
        )
    if name in known:
        return known[name]
    if _ADDRESS.fullmatch(name):
        return Place("unnamed", address=name)
    raise InputError(
        f"no device is called {name!r}", hint=f"added: {', '.join(known) or 'none'}; 'gossamer device add' adds one"
    )

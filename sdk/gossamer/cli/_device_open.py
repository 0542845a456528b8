"""The device that options name, opened, and inputs for its bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gossamer.cli._common import PATH

if TYPE_CHECKING:
    from gossamer.device.target import Device

F = TypeVar("F", bound=Callable[..., Any])


def device_options(command: F) -> F:
    """--device, --root, and how to reach an address that was not added."""
    for option in reversed(
        [
            click.option(
                "-d", "--device", "name", help="A device that was added, or HOST:PORT. [default: the only one]"
            ),
            click.option("--root", type=PATH, help="The slot folder of a mounted card."),
            click.option("--ca", help="With HOST:PORT: certificates to trust, a file or 'system'; turns TLS on."),
            click.option("--cert", type=PATH, help="With HOST:PORT: our certificate."),
            click.option("--key", type=PATH, help="With HOST:PORT: its private key."),
            click.option("--token-file", type=PATH, help="A file that holds a token."),
        ]
    ):
        command = option(command)
    return command


@contextlib.contextmanager
def opened(options: dict[str, Any]) -> Iterator[Device]:
    """The device that the options name."""
    from dataclasses import replace

    from gossamer.device import book
    from gossamer.device.target import open_device

    root, name = options["root"], options["name"]
    if root is not None:
        if name is not None:
            raise click.UsageError("--device and --root exclude each other")
        place = book.Place("card", root=str(root))
    else:
        given: dict[str, Any] = {
            k: str(options[k]) for k in ("ca", "cert", "key", "token_file") if options[k] is not None
        }
        place = replace(book.find(name), **given)
    with contextlib.closing(open_device(place.check())) as device:
        yield device


def manifest_of(device: Device) -> Any:
    """Manifest of the bundle that runs there."""
    import json

    from gossamer._errors import SlotError
    from gossamer.bundle.manifest import from_dict

    info = device.info(manifest=True)
    text = info.get("manifest_json", "")
    if not text:
        device.run([])  # says why there is none
        raise SlotError("no bundle runs on the device", hint=info.get("problem") or "flash one")
    return from_dict(json.loads(text))


def inputs_of_file(bundle: Path, source: Path | None) -> list[bytes]:
    if source is None:
        return []
    from gossamer.bundle import inspect, sign
    from gossamer.bundle.manifest import from_dict

    return sample_of(from_dict(inspect.inspect(sign.read(bundle), str(bundle)).manifest), source)


def sample_of(manifest: Any, source: Path) -> list[bytes]:
    from gossamer.cli._inputs import named_samples

    sample = next(named_samples([source], list(manifest.inputs)))[1]
    return [sample[p.name].tobytes() for p in manifest.inputs]

"""One training run in a folder: weights, ONNX files and a record of every candidate, going on where it was interrupted.

The folder holds ``state.pt`` (to go on from), ``<candidate>.pt`` and ``<candidate>.onnx`` per candidate, ``run.json``.
"""

from __future__ import annotations

import io
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gossamer import _atomic
from gossamer._errors import OutputError
from gossamer.person.candidates import parse
from gossamer.person.dataset import PersonDataset
from gossamer.person.models import PersonNet, parameter_count
from gossamer.person.onnx_export import save_onnx
from gossamer.person.preprocess import model_metadata
from gossamer.person.run_folder import weights_file
from gossamer.person.teachers import Teacher
from gossamer.person.training import TrainSettings, train


def fit(
    people: PersonDataset,
    settings: TrainSettings,
    output: str | Path,
    *,
    teachers: Sequence[Teacher] = (),
    device: str | None = None,
    seconds: float | None = None,
    log: Callable[[str], None] = print,
    **options: Any,
) -> dict[str, Any]:
    """Train every candidate and write the folder; see :func:`gossamer.person.training.train`.

    Args:
        people: the photos, with splits ``train`` and ``val``.
        settings: the run.
        output: the folder; made when it is missing.
        teachers: networks that mark every view.
        device: ``cpu`` or ``cuda``; None: cuda when there is one.
        seconds: let the schedule follow the clock.
        log: receives one line now and then.
        **options: ``initial``, ``save_every``, ``stop_after``, ``train_limit``, ``val_limit`` of ``train``.

    Returns:
        What ``run.json`` holds: settings, steps, losses, the val report of every candidate, the machine.

    Raises:
        InputError, ModelError, RecipeError: as ``train``.
        OutputError: a file cannot be written.
    """
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"cannot make the folder: {e.strerror}", where=str(folder), hint="choose another") from e
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    began = time.monotonic()

    def keep(networks: dict[str, PersonNet]) -> None:
        for name, network in networks.items():
            content = io.BytesIO()
            torch.save(_plain(network), content)
            _atomic.write(folder / weights_file(name), content.getvalue())

    outcome = train(
        people,
        settings,
        teachers=teachers,
        device=where,
        state_path=folder / "state.pt",
        seconds=seconds,
        log=log,
        keep=keep,
        **options,
    )
    keep(outcome.networks)
    for name, network in outcome.networks.items():
        about = model_metadata(parse(name).network, network.channels)
        text = {"gossamer.manifest": json.dumps(about, sort_keys=True)}
        save_onnx(network, (folder / weights_file(name)).with_suffix(".onnx"), text)
    record: dict[str, Any] = {
        "settings": asdict(settings),
        "teachers": [t.name for t in teachers],
        "by_clock": seconds,
        "steps": outcome.steps,
        "views_per_second": outcome.views_per_second,
        "seconds": time.monotonic() - began,
        "losses": outcome.losses,
        "val": outcome.val,
        "parameters": {name: parameter_count(network) for name, network in outcome.networks.items()},
        "machine": _machine(where),
    }
    _atomic.write(folder / "run.json", json.dumps(record, indent=1).encode())
    return record


def _plain(network: PersonNet) -> dict[str, torch.Tensor]:
    return {
        k: v.float().cpu().contiguous() if v.is_floating_point() else v.cpu() for k, v in network.state_dict().items()
    }


def _machine(device: str) -> dict[str, str]:
    chip = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    return {"device": chip, "torch": torch.__version__, "python": platform.python_version()}

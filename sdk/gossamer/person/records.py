"""Measures one trained network: float accuracy, accuracy of its int8 bundle on every photo, size, zeros."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gossamer._errors import InputError, ModelError
from gossamer.person import dataset as data
from gossamer.person import run_record as schema
from gossamer.person.calibration_inputs import CALIBRATION_PHOTOS, calibration_samples
from gossamer.person.evaluate import Predictor, bundle_predictor, evaluate, onnx_predictor
from gossamer.person.preprocess import LABELS, model_metadata
from gossamer.person.weights import load_network

if TYPE_CHECKING:
    from gossamer._result import OptimizeResult
    from gossamer.person.models import PersonNet

_RECIPE: dict[str, Any] = {"version": 1, "quantize": {"calibrate": "minmax", "samples": CALIBRATION_PHOTOS}}
_DENSE = {"kernels": "dense", "measure": False}


class Run(BaseModel):
    """What a training run says about the network that it leaves behind: an entry of ``manifest.json``.

    Attributes:
        file: weights, a ``torch.save``d ``state_dict`` with plain zeros.
        qdq: ONNX model with QuantizeLinear nodes, from quantisation-aware training; None: calibrated after training.
        machine: that trained.

    The others are as in :class:`gossamer.person.run_record.Record`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    file: str = Field(min_length=1)
    network: str = Field(min_length=1)
    method: str = Field(min_length=1)
    pattern: str | None = None
    sparsity: float = Field(default=0.0, ge=0.0, lt=1.0)
    seed: int
    parent: str | None = None
    steps: int = Field(default=0, ge=0)
    settings: dict[str, Any] | None = None
    machine: dict[str, Any] | None = None
    qdq: str | None = None

    @classmethod
    def checked(cls, value: Any, where: str) -> Run:
        """From plain data.

        Raises:
            InputError: a field is missing or wrong; names ``where`` and the field.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"field '{'.'.join(map(str, first['loc']))}': {first['msg']}",
                where=where,
                hint="an entry has file, network, method, pattern, sparsity, seed, parent, steps, settings",
            ) from error


@dataclass(frozen=True)
class Measured:
    """A record without latency, its bundle, and the bundle of the same network with every layer stored dense."""

    record: schema.Record
    bundle: bytes
    dense_bundle: bytes


class DecodedPeople(data.PersonDataset):
    """person128 that keeps the photos it has decoded: 27 kB each at 96x96, 36 MB for all of val and test."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self._kept: dict[tuple[str, int], npt.NDArray[np.uint8]] = {}

    def images(
        self,
        photos: Iterable[data.Photo],
        *,
        size: int = data.PHOTO_SIZE,
        progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """As :meth:`gossamer.person.dataset.PersonDataset.images`; ``progress`` counts photos decoded anew."""
        wanted = list(photos)
        new = [p for p in wanted if (p.file, size) not in self._kept]
        for photo, pixels in zip(new, super().images(new, size=size, progress=progress), strict=True):
            self._kept[photo.file, size] = pixels
        out = np.empty((len(wanted), size, size, 3), np.uint8)
        for i, photo in enumerate(wanted):
            out[i] = self._kept[photo.file, size]
        return out


def pack(
    model: bytes, title: str, channels: int, samples: Any, target: Mapping[str, Any] | None = None, **manifest: Any
) -> OptimizeResult:
    """The unsigned int8 bundle of a trained network, without pruning: the zeros that training left are found.

    Args:
        model: float32 ONNX, or quantised already.
        title: name of bundle and recipe.
        channels: of the input.
        samples: that calibrate a float model; None for a quantised one.
        target: of the recipe.
        **manifest: more for the manifest, as :func:`gossamer.optimize` takes it.
    """
    from gossamer import optimize

    return optimize(
        model,
        recipe={**_RECIPE, "name": title, "target": dict(target or {})},
        calibration=samples,
        key=False,
        name=title,
        labels=LABELS,
        preprocess=model_metadata(title, channels)["preprocess"],
        **manifest,
    )


def measure(people: DecodedPeople, run: Run, *, folder: str | Path = ".", name: str | None = None) -> Measured:
    """Evaluate a network as float (ONNX Runtime) and as int8 bundle (native core) on val and test.

    The int8 bundle is made without pruning: the zeros that training left are found. Static quantisation calibrates on
    ``CALIBRATION_PHOTOS`` evenly spread train photos; a ``qdq`` model is compiled as it is. On two cores of a server
    this takes about two seconds for a MobileNet at 96x96.

    Args:
        people: person128.
        run: what was trained.
        folder: its files are relative to it.
        name: of the record; by default the weights file without ending.

    Raises:
        ModelError: the weights are missing, damaged, of another network, masked still, or not finite.
        InputError: no such network, or the record would be impossible.
        GossamerError: as :func:`gossamer.optimize`.
    """
    from gossamer.person.onnx_export import to_onnx

    path = Path(folder) / run.file
    network = load_network(path, run.network)
    content = to_onnx(network)
    quantised = None if run.qdq is None else _read(Path(folder) / run.qdq)
    title = name or Path(run.file).stem
    samples = None if quantised is not None else calibration_samples(people, network.channels)
    result, dense = (pack(quantised or content, title, network.channels, samples, t) for t in ({}, _DENSE))
    floats = _Listening(onnx_predictor(content))
    ints = _Listening(bundle_predictor(result.data, verify=False))
    reports: dict[str, dict[str, Any]] = {"float": {}, "int8": {}}
    calls = {}
    for split in ("val", "test"):
        reports["float"][split] = evaluate(floats, people, split)
        reports["int8"][split] = evaluate(ints, people, split)
        label = data.labels(people.select(split))
        calls[split] = {
            "photos": len(label),
            "label": schema.packed(label == 1),
            "float": schema.packed(floats.heard() >= reports["float"][split]["all"]["threshold"]),
            "int8": schema.packed(ints.heard() >= reports["int8"][split]["all"]["threshold"]),
        }
    record = schema.checked(
        {
            "schema": schema.SCHEMA,
            "name": title,
            **run.model_dump(include={"network", "method", "sparsity", "seed", "steps", "parent"}),
            "pattern": run.pattern or "dense",
            "zeros": prunable_zeros(network),
            "quantization": "static" if quantised is None else "qat",
            "settings": run.settings or {},
            "trained_on": run.machine or {},
            "weights_sha256": digest(path.read_bytes()),
            "qdq_sha256": None if quantised is None else digest(quantised),
            **reports,
            "calls": calls,
            "bundle": {
                "bytes": len(result.data),
                "dense_bytes": len(dense.data),
                "sha256": digest(result.data),
                "dense_sha256": digest(dense.data),
                "zeros": result.sparsity_percent / 100.0,
                "stored_sparse": sum(row.pattern != "dense" for row in result.layers),
            },
        },
        str(path),
    )
    return Measured(record, result.data, dense.data)


def prunable_zeros(network: PersonNet) -> float:
    """Share of zeros among the weights of all prunable layers (see :func:`gossamer.person.models.is_prunable`)."""
    from torch import nn

    from gossamer.person.models import is_prunable

    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d) and is_prunable(m)]
    total = sum(layer.weight.numel() for layer in layers)
    zeros = sum(int((layer.weight == 0).sum()) for layer in layers)
    return zeros / total if total else 0.0


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def timed(
    records: Sequence[schema.Record],
    bundles: Sequence[tuple[bytes, bytes]],
    *,
    runs: int = 360,
    rounds: int = 12,
    progress: Callable[[int, int], None] | None = None,
) -> list[schema.Record]:
    """The records with the latency of their bundles, all timed together; see :mod:`gossamer.person.latency`.

    Args:
        records: to complete; latencies that they hold already are replaced.
        bundles: of each, the bundle and the dense one.
        runs, rounds, progress: as for :func:`gossamer.person.latency.time_in_turns`.

    Raises:
        InputError: a bundle is not that of its record.
    """
    from gossamer.person.latency import this_machine, time_in_turns

    named = {}
    for record, (bundle, dense) in zip(records, bundles, strict=True):
        if (digest(bundle), digest(dense)) != (record.bundle.sha256, record.bundle.dense_sha256):
            raise InputError("the bundle is not that of the record", where=record.name, hint="measure it again")
        named[f"{record.name} sparse"], named[f"{record.name} dense"] = bundle, dense
    found = time_in_turns(named, runs=runs, rounds=rounds, progress=progress)
    machine = this_machine()
    out = []
    for record in records:
        timings = {
            "latency_us": found[f"{record.name} sparse"],
            "dense_latency_us": found[f"{record.name} dense"],
        }
        out.append(record.model_copy(update={"bundle": record.bundle.model_copy(update=timings), "machine": machine}))
    return out


class _Listening:
    """A predictor that keeps what it said."""

    def __init__(self, predict: Predictor) -> None:
        self._predict = predict
        self._said: list[npt.NDArray[np.float64]] = []

    def __call__(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        said = self._predict(images)
        self._said.append(said)
        return said

    def heard(self) -> npt.NDArray[np.float64]:
        """Everything since the last call."""
        out = np.concatenate(self._said)
        self._said = []
        return out


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"the model cannot be read: {error.strerror}", where=str(path)) from error

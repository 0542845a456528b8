"""The record of one trained network: its accuracy before and after quantisation, its size and its measured latency.

A record is one JSON object::

    {"schema": "gossamer.person.run/1",
     "name", "network", "method", "pattern", "sparsity", "zeros", "seed", "steps", "parent", "quantization",
     "settings", "trained_on", "weights_sha256", "qdq_sha256",
     "float": {"val", "test"}, "int8": {"val", "test"},      # reports of gossamer.person.metrics.sliced_report
     "calls": {"val", "test"},                               # what was said about every photo, as bits
     "bundle": {"bytes", "dense_bytes", "sha256", "dense_sha256",
                "zeros", "stored_sparse",
                "latency_us": {"median", "min", "p90", "runs", "rounds"}, "dense_latency_us": ...},
     "machine": {"cpu", "isa", "threads", "core", "session"}}

``latency_us``, ``dense_latency_us`` and ``machine`` are null until the bundles of all records have been timed together.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gossamer import _atomic
from gossamer._errors import InputError

SCHEMA = "gossamer.person.run/1"
DENSE = "dense"
"""The ``method`` of networks trained without pruning, for as long as the pruned ones."""
START = "start"
"""The ``method`` of dense networks that others started from; those have been trained for longer than it."""
MAX_BYTES = 4_000_000

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Split = Literal["val", "test"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class _Report(BaseModel):
    """What is read of a report; it holds more."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class Proportion(_Report):
    """A fraction with its 95% interval."""

    value: Fraction
    low: Fraction
    high: Fraction


class Overall(_Report):
    """All photos of a split: how many, how many show a person, and how well they are told apart."""

    n: int = Field(ge=2)
    positives: int = Field(ge=1)
    tpr: Proportion
    tnr: Proportion
    balanced_accuracy: Proportion
    roc_auc: Fraction


class SlicedReport(_Report):
    """``all`` and, unchecked, ``sources`` and ``area_slices``; see :mod:`gossamer.person.metrics`."""

    all: Overall


class Accuracy(_Part):
    """Reports on val and test."""

    val: SlicedReport
    test: SlicedReport


class Calls(_Part):
    """What was said about every photo of a split, in the order of labels.csv, as hexadecimal bits, first photo highest.

    Attributes:
        photos: how many; the bits behind them are zero.
        label: 1 shows a person.
        float, int8: 1 called "person", by the float network and by the bundle.
    """

    photos: int = Field(ge=1, le=1_000_000)
    label: str
    float: str
    int8: str

    @model_validator(mode="after")
    def _as_long(self) -> Calls:
        for key in ("label", "float", "int8"):
            text = getattr(self, key)
            if len(text) != (self.photos + 7) // 8 * 2 or set(text) - set("0123456789abcdef"):
                raise ValueError(f"'{key}' does not hold {self.photos} bits in hexadecimal")
        return self

    def bits(self, key: Literal["label", "float", "int8"]) -> npt.NDArray[np.bool_]:
        """bool [photos]."""
        return np.unpackbits(np.frombuffer(bytes.fromhex(getattr(self, key)), np.uint8))[: self.photos].astype(np.bool_)


def packed(bits: npt.ArrayLike) -> str:
    """Booleans [N] as the hexadecimal text of :class:`Calls`."""
    return np.packbits(np.asarray(bits, np.bool_)).tobytes().hex()


class AllCalls(_Part):
    """Calls on val and test."""

    val: Calls
    test: Calls


class LatencyUs(_Part):
    """Microseconds of one inference, called from Python, one thread.

    Attributes:
        median, min, p90: over all runs that count.
        runs: how many those are.
        rounds: in so many turns, between which every other bundle had its own.
    """

    median: float = Field(gt=0.0)
    min: float = Field(gt=0.0)
    p90: float = Field(gt=0.0)
    runs: int = Field(ge=1)
    rounds: int = Field(ge=1)


class BundleRecord(_Part):
    """The int8 bundle, and the same network with every layer stored dense.

    Attributes:
        bytes, dense_bytes: of the two files, unsigned.
        zeros: share of zeros among all its int8 weights, depthwise and classifier included.
        stored_sparse: how many of its layers with weights are stored sparse.
    """

    bytes: int = Field(ge=1)
    dense_bytes: int = Field(ge=1)
    sha256: Digest
    dense_sha256: Digest
    zeros: Fraction
    stored_sparse: int = Field(ge=0)
    latency_us: LatencyUs | None = None
    dense_latency_us: LatencyUs | None = None


class Machine(_Part):
    """Where latency was measured. ``session`` names the measurement: only its own latencies are comparable."""

    cpu: str
    isa: str
    threads: int = Field(ge=1)
    core: str
    session: str


class Record(_Part):
    """One trained network.

    Attributes:
        name: of the network among the records; its weights file without ending.
        network: as :func:`gossamer.person.models.build` takes it.
        method: how it was pruned (``dense`` and ``start``: not at all).
        pattern: ``1x4``, ``unstructured``, ``2:4``, ...; ``dense`` for dense ones.
        sparsity: share of zeros that was asked for in the layers that are pruned, 0 for dense ones.
        zeros: share of zeros found in the float weights of prunable layers (pointwise convolutions).
        seed: of the training run.
        steps: optimiser steps of that run.
        parent: name of the record of the network that training started from.
        quantization: ``static`` (calibrated after training) or ``qat`` (trained with it).
        settings, trained_on: of the training run, as they came.
        weights_sha256, qdq_sha256: of the files that were measured; ``qdq_sha256`` with ``qat`` alone.
    """

    format: Literal["gossamer.person.run/1"] = Field(alias="schema")
    name: str = Field(min_length=1, max_length=200)
    network: str = Field(min_length=1)
    method: str = Field(min_length=1)
    pattern: str = Field(min_length=1)
    sparsity: float = Field(ge=0.0, lt=1.0)
    zeros: Fraction
    seed: int
    steps: int = Field(ge=0)
    parent: str | None = None
    quantization: Literal["static", "qat"] = "static"
    settings: dict[str, Any] = {}
    trained_on: dict[str, Any] = {}
    weights_sha256: Digest
    qdq_sha256: Digest | None = None
    float_: Accuracy = Field(alias="float")
    int8: Accuracy
    calls: AllCalls | None = None
    bundle: BundleRecord
    machine: Machine | None = None

    @model_validator(mode="after")
    def _possible(self) -> Record:
        if self.dense and self.sparsity != 0.0:
            raise ValueError(f"method '{self.method}' with sparsity {self.sparsity:g}")
        if (self.bundle.latency_us is None) != (self.machine is None):
            raise ValueError("'bundle.latency_us' and 'machine' come together")
        if (self.quantization == "qat") != (self.qdq_sha256 is not None):
            raise ValueError("'qdq_sha256' comes with quantization 'qat' alone")
        return self

    @property
    def dense(self) -> bool:
        """Whether it was trained without pruning."""
        return self.method in (DENSE, START)

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return self.model_dump(mode="json", by_alias=True)


def read_record(path: str | os.PathLike[str]) -> Record:
    """Read and check a record.

    Raises:
        InputError: no such file, not JSON, or a field is missing, unknown or wrong; names file and field.
    """
    where = os.fspath(path)
    try:
        if Path(where).stat().st_size > MAX_BYTES:
            raise InputError(f"larger than {MAX_BYTES} bytes", where=where, hint="this is no record of a run")
        value = json.loads(Path(where).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the record cannot be read: {error.strerror}", where=where) from error
    except ValueError as error:
        raise InputError(f"the record is not JSON: {error}", where=where, hint="measure it again") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        said = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise InputError(
            f"field 'schema' is {said!r}, not {SCHEMA!r}",
            where=where,
            hint="give files that tools.person_records wrote",
        )
    return checked(value, where)


def checked(value: dict[str, Any], where: str) -> Record:
    """A record from plain data.

    Raises:
        InputError: a field is missing, unknown or wrong; names ``where`` and the field.
    """
    try:
        return Record.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(
            f"field '{field}': {message}" if field else message,
            where=where,
            hint="measure it again: python -m tools.person_records",
        ) from error


def write_record(path: str | os.PathLike[str], record: Record) -> Path:
    """Write a record whole or not at all.

    Raises:
        OutputError: it could not be written.
    """
    return _atomic.write(path, (json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n").encode())

"""Profile records of the fleet as figures that the tables, the JSON and the comparison of local profiles take."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from gossamer._proto.v1 import profile_pb2 as pb
from gossamer_runtime._figures import Figures, Latency, OpTime


@dataclass(frozen=True)
class DeviceProfile:
    """A profile that a device made and the fleet keeps.

    Attributes:
        name: ``profiles/{id}``. ``device``: ``devices/{id}``; empty: not an enrolled one.
        bundle_sha256: what ran. ``model_version``: as its manifest states it; empty: not stated.
        arch, cpu, runtime_version: the machine; empty: the system does not say.
        started: when the runs began, by the device's clock; None: not told.
        figures: the times, as of a profile measured here: ``table()``, ``summary()``, ``to_json()``, ``ops``.
    """

    name: str
    device: str
    bundle_sha256: str
    model_version: str
    arch: str
    cpu: str
    runtime_version: str
    started: datetime | None
    figures: Figures

    def to_json(self) -> dict[str, Any]:
        """Plain data with the keys of ``gossamer profile --json``, and where it came from."""
        return {
            "profile": self.name,
            "device": self.device,
            "bundle_sha256": self.bundle_sha256,
            "model_version": self.model_version,
            "arch": self.arch,
            "cpu": self.cpu,
            "runtime_version": self.runtime_version,
            "started": None if self.started is None else self.started.isoformat(),
            **self.figures.to_json(),
        }

    def summary(self) -> str:
        """The figures' lines, and the device's."""
        name = self.device or "a machine that is not enrolled"
        what = ", ".join(text for text in (self.cpu, self.arch, f"runtime {self.runtime_version}") if text)
        return f"{self.figures.summary()}\nDevice: {name} ({what}), {self.name}"


def profile_of(record: pb.ProfileRecord) -> DeviceProfile:
    """From the message. Records keep no single runs: there is no warm-up to tell apart in them."""
    machine = record.machine
    return DeviceProfile(
        name=record.name,
        device=record.device,
        bundle_sha256=record.bundle_sha256,
        model_version=record.model_version,
        arch=machine.arch,
        cpu=machine.cpu,
        runtime_version=machine.runtime_version,
        started=record.start_time.ToDatetime(UTC) if record.HasField("start_time") else None,
        figures=Figures(
            model=record.model_name or record.bundle_sha256[:16],
            isa=machine.isa,
            threads=machine.threads,
            warmup=record.warmup_runs,
            warmup_mean_us=record.warmup_mean_us,
            init_us=record.init_us,
            arena_bytes=record.arena_bytes,
            session_bytes=record.session_bytes,
            latency=Latency(**{field.name: getattr(record.latency, field.name) for field in fields(Latency)}),
            ops=[_op(op) for op in record.ops],
            machine={
                "start_mhz": machine.start_mhz or None,
                "end_mhz": machine.end_mhz or None,
                "start_celsius": machine.start_celsius if machine.HasField("start_celsius") else None,
                "end_celsius": machine.end_celsius if machine.HasField("end_celsius") else None,
            },
            notes=list(record.notes),
        ),
    )


def _op(op: pb.ProfileOp) -> OpTime:
    values = {field.name: getattr(op, field.name) for field in fields(OpTime)}
    if not op.HasField("sparsity_percent"):
        values["sparsity_percent"] = None
    return OpTime(**values)

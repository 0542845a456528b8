"""The process that runs one attempt of a job: ``python -m gossamer_services.optimizer.worker FOLDER ATTEMPT PARENT``.

It is told nothing but a folder, and has no access to the job store: it reads its task there and leaves its result
there. Progress goes to stdout, a JSON object a line; stdin is a lifeline, at whose end the worker ends too.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer import _atomic
from gossamer._errors import GossamerError
from gossamer_services.optimizer import limits
from gossamer_services.optimizer.folder import JobFolder
from gossamer_services.optimizer.jobs import JobError, JobSpec, Kind, Reason
from gossamer_services.optimizer.meter import Meter, planned
from gossamer_services.optimizer.unpack import unpack

if TYPE_CHECKING:
    from gossamer._result import OptimizeResult

EXIT_DONE, EXIT_ERROR, EXIT_LOCKED = 0, 3, 76
NICE = 10
"""Jobs leave the machine to whoever asks the service something."""
LOCK_WAIT_S = 30.0
"""How long the worker of an attempt before may need to die."""


def main(arguments: list[str]) -> int:
    """Run the attempt; returns the exit code."""
    folder, attempt, parent = JobFolder(Path(arguments[0])), int(arguments[1]), int(arguments[2])
    limits.die_with_parent(parent)
    os.nice(NICE)
    channel = os.dup(1)
    os.dup2(2, 1)  # what libraries print is not progress
    if folder.lock(LOCK_WAIT_S) is None:
        return EXIT_LOCKED
    if folder.result() is not None:
        return EXIT_DONE
    spec = folder.task()
    limits.apply(spec.limits.memory_bytes, spec.limits.file_bytes)
    try:
        run(folder, spec, channel)
    except Exception as e:
        traceback.print_exc()
        folder.write_error(attempt, describe(e, spec))
        return EXIT_ERROR
    return EXIT_DONE


def run(folder: JobFolder, spec: JobSpec, channel: int) -> None:
    """Optimise, and leave bundle, report and result in the folder."""
    from gossamer import optimize
    from gossamer.recipe import load_recipe

    def tell(stage: str, percent: float) -> None:
        os.write(channel, json.dumps({"stage": stage, "percent": percent}).encode() + b"\n")

    recipe = load_recipe(json.loads(spec.recipe))
    made = optimize(
        folder.input(spec, "model"),
        recipe,
        data(folder, spec, "calibration"),
        key=False,  # the engine signs: a process that reads foreign models sees no private key
        name=spec.name,
        version=spec.version,
        train_data=data(folder, spec, "training"),
        checkpoint=folder.work / "checkpoints" if recipe.train is not None else None,
        progress=Meter(planned(recipe), tell),
    )
    _atomic.write(folder.bundle, made.data)
    _atomic.write_text(folder.report, json.dumps(made.to_json(), indent=1))
    folder.finish(numbers(made))


def data(folder: JobFolder, spec: JobSpec, role: str) -> Path | None:
    """The calibration or training data as ``gossamer.optimize`` takes them."""
    blob = spec.blobs().get(role)
    if blob is None:
        return None
    path = folder.input(spec, role)
    return unpack(path, folder.work / role) if blob.kind is Kind.ZIP else path


def numbers(made: OptimizeResult) -> dict[str, Any]:
    """The numbers of a :class:`JobResult`."""
    return {
        "original_bytes": made.original_bytes,
        "arena_bytes": made.arena_bytes,
        "sparsity_percent": made.sparsity_percent,
        "seconds": made.seconds,
        "resumed_epochs": int(made.training.get("resumed_epochs", 0)),
    }


def describe(error: Exception, spec: JobSpec) -> JobError:
    """The error of the attempt, as the job will show it."""
    if limits.out_of_memory(error):
        return JobError(
            Reason.MEMORY_LIMIT,
            "OutOfMemoryError",
            f"the job needs more than its {spec.limits.memory_bytes} bytes of memory",
            hint="raise the limit, or use smaller batches or fewer samples",
        )
    if isinstance(error, GossamerError):
        return JobError.of(error)
    return JobError(
        Reason.INTERNAL,
        type(error).__name__,
        str(error).split("\n")[0][:500],
        hint="this is a defect of Gossamer: please report it with the model",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

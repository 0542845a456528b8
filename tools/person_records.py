"""Measures trained person detectors: from weights and a manifest to one JSON record each, for `gossamer report pareto`.

    python -m tools.person_records RUNS --data ../shared/data/person128 -o RECORDS

Every ``manifest.json`` under RUNS is a list of ``{"file", "network", "method", "pattern", "sparsity", "seed", "parent",
"steps", "settings"}`` (and ``machine``, and ``qdq`` for a model of quantisation-aware training), files relative to it.
Networks whose record exists and whose weights have not changed are skipped, so that an interrupted run goes on. At the
end the bundles of all records are timed in turns, in one session, if any is new.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gossamer import _atomic
from gossamer._errors import GossamerError, InputError, OutputError
from gossamer.person.records import DecodedPeople, Run, digest, measure, timed
from gossamer.person.run_record import Record, read_record, write_record


@dataclass(frozen=True)
class Job:
    """A network to measure: its name, what the manifest says, and the manifest's folder."""

    name: str
    run: Run
    folder: Path


def jobs(runs: Path) -> list[Job]:
    """All networks of all manifests under a folder.

    Raises:
        InputError: there is no manifest, or one is damaged; names file, entry and field.
    """
    manifests = sorted(runs.rglob("manifest.json"))
    if not manifests:
        raise InputError("no manifest.json", where=str(runs), hint="give the folder of the training runs")
    found: dict[str, Job] = {}
    for path in manifests:
        entries = _entries(path)
        prefix = "__".join(path.parent.relative_to(runs).parts)
        names = {entry.file: "__".join(filter(None, [prefix, _stem(entry.file)])) for entry in entries}
        by_stem = {_stem(file): name for file, name in names.items()}
        for entry in entries:
            parent = entry.parent
            if parent is not None:
                parent = by_stem.get(_stem(parent), _stem(parent))
            name = names[entry.file]
            if name in found:
                raise InputError(f"two entries are called '{name}'", where=str(path), hint="give each its own file")
            found[name] = Job(name, entry.model_copy(update={"parent": parent}), path.parent)
    return [_with_parent(job, found) for job in found.values()]


def _with_parent(job: Job, found: dict[str, Job]) -> Job:
    """With the full name of a parent that another manifest lists, if only one does."""
    parent = job.run.parent
    if parent is None or parent in found:
        return job
    alike = [name for name, other in found.items() if _stem(other.run.file) == parent]
    if len(alike) != 1:
        return job
    return replace(job, run=job.run.model_copy(update={"parent": alike[0]}))


def _entries(path: Path) -> list[Run]:
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"the manifest is not JSON: {error}", where=str(path)) from error
    if not isinstance(value, list):
        raise InputError("the manifest is not a list", where=str(path))
    return [Run.checked(entry, f"{path}, entry {i}") for i, entry in enumerate(value)]


def _stem(file: str) -> str:
    return file.removesuffix(".pt").replace("/", "__")


class Folder:
    """Where records and bundles lie."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            (path / "bundles").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make the folder: {error.strerror}", where=str(path), hint="choose another"
            ) from error

    def record(self, name: str) -> Path:
        return self.path / f"{name}.json"

    def bundle(self, name: str) -> Path:
        return self.path / "bundles" / f"{name}.goss"

    def dense(self, name: str) -> Path:
        return self.path / "bundles" / f"{name}.dense.goss"

    def bundles(self, name: str) -> tuple[bytes, bytes]:
        return self.bundle(name).read_bytes(), self.dense(name).read_bytes()

    def kept(self, job: Job) -> Record | None:
        """The record of a job, if it is there, complete, and of the same weights and manifest entry."""
        if not all(p.is_file() for p in (self.record(job.name), self.bundle(job.name), self.dense(job.name))):
            return None
        try:
            record = read_record(self.record(job.name))
        except InputError as error:
            print(f"{error}: measuring it again")
            return None
        sources = [(job.run.file, record.weights_sha256), (job.run.qdq, record.qdq_sha256)]
        for path, known in [(job.folder / file, known) for file, known in sources if file is not None]:
            if not path.is_file() or digest(path.read_bytes()) != known:
                return None
        run = job.run
        said = (run.network, run.method, run.pattern or "dense", run.sparsity, run.seed, run.steps, run.parent)
        kept = (
            record.network,
            record.method,
            record.pattern,
            record.sparsity,
            record.seed,
            record.steps,
            record.parent,
        )
        same = said == kept and (run.qdq is None) == (record.qdq_sha256 is None)
        return record if same and [digest(b) for b in self.bundles(job.name)] == _digests(record) else None


def _digests(record: Record) -> list[str]:
    return [record.bundle.sha256, record.bundle.dense_sha256]


def main(arguments: list[str] | None = None) -> int:
    """Measure what is new; 0 when every network has a record, the first error's exit code otherwise."""
    options = _parser().parse_args(arguments)
    try:
        return _measure_all(options)
    except GossamerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _measure_all(options: argparse.Namespace) -> int:
    todo, folder = jobs(options.runs), Folder(options.output)
    people = DecodedPeople(options.data)
    records: list[Record] = []
    code = 0
    for i, job in enumerate(todo, 1):
        record = folder.kept(job)
        if record is None:
            began = time.monotonic()
            try:
                made = measure(people, job.run, folder=job.folder, name=job.name)
            except GossamerError as error:
                print(f"[{i}/{len(todo)}] {job.name}: error: {error}", file=sys.stderr, flush=True)
                code = code or error.exit_code
                continue
            record = made.record
            _atomic.write(folder.bundle(job.name), made.bundle)
            _atomic.write(folder.dense(job.name), made.dense_bundle)
            write_record(folder.record(job.name), record)  # last: a record says that its bundles are there
            print(f"[{i}/{len(todo)}] {_line(record)}  {time.monotonic() - began:.1f} s", flush=True)
        records.append(record)
    strays = sorted({p.stem for p in folder.path.glob("*.json")} - {job.name for job in todo})
    if strays:
        print(f"not in any manifest, left as they are: {', '.join(strays)}", file=sys.stderr)
    sessions = {r.machine.session if r.machine is not None else None for r in records}
    if records and (options.retime or len(sessions) > 1 or None in sessions):
        began = time.monotonic()
        bundles = [folder.bundles(r.name) for r in records]
        for record in timed(records, bundles, runs=options.runs_timed, rounds=options.rounds):
            write_record(folder.record(record.name), record)
        print(f"timed {2 * len(records)} bundles in turns in {time.monotonic() - began:.1f} s")
    print(f"{len(records)} of {len(todo)} networks have a record in {folder.path}")
    return code


def _line(record: Record) -> str:
    of = [r.test.all.balanced_accuracy.value for r in (record.float_, record.int8)]
    return (
        f"{record.name}: test balanced accuracy float {of[0]:.4f}, int8 {of[1]:.4f}; "
        f"{100 * record.zeros:.1f}% zeros, {record.bundle.bytes} bytes"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder with manifest.json files and the weights that they name")
    parser.add_argument("--data", type=Path, required=True, help="folder of person128")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for records and bundles")
    parser.add_argument("--retime", action="store_true", help="time all bundles again even if none is new")
    parser.add_argument("--runs-timed", type=int, default=360, help="timed inferences per bundle")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each bundle")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The executor of a Ray cluster: each attempt is an actor, on whichever node has room, that runs the same worker.

Files travel, so nodes share no disk: the task and the checkpoints of earlier attempts go out, checkpoints come back
while the attempt runs, and the result comes back at its end. The job store stays the authority: Ray restarts nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gossamer import _atomic
from gossamer._errors import BackendError
from gossamer_services.optimizer.executor import Alive, Attempt, Ended, Outcome, Verdict
from gossamer_services.optimizer.folder import JobFolder
from gossamer_services.optimizer.jobs import JobSpec

_LOG = logging.getLogger(__name__)
POLL_S = 0.5
ANSWER_S = 30.0
"""An actor that does not answer for so long is given up: its node is gone, or as good as gone."""
JOINS = 3
"""So often a cluster is asked to take this client where it does not at first."""
CONNECT_S = 5.0
_THERE = "start one with `ray start --head`, or check the address"
RESULTS = ("bundle.goss", "report.json", "error.json", "log")
Files = dict[str, bytes]
"""Contents by path relative to the job's folder."""


class Runner:
    """Runs one attempt on the node where the actor lives; the actor's class, told apart from Ray for its sake.

    Args:
        files: of the job's folder.
        number, time_s: of the attempt.
    """

    def __init__(self, files: Files, number: int, time_s: float) -> None:
        from gossamer_services.optimizer.subprocesses import SubprocessExecutor

        self._home = tempfile.TemporaryDirectory(prefix="gossamer-job-")
        self._folder = JobFolder(Path(self._home.name))
        _write(self._folder.path, files)
        self._sent = {name: _stamp(self._folder.path / name) for name in _checkpoints(self._folder)}
        self._now, self._stop = ("", 0.0), False
        self._outcome: Outcome | None = None
        attempt = Attempt(self._folder, self._folder.task(), number, time_s)

        def run() -> None:
            self._outcome = SubprocessExecutor().run(attempt, self._alive)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def node(self) -> tuple[str, int]:
        """Id of the node, and of the actor's process."""
        import ray

        return str(ray.get_runtime_context().get_node_id()), os.getpid()

    def poll(self) -> tuple[tuple[str, float], Files, Outcome | None]:
        """(stage, percent), files that are new since the last call, and how the attempt ended, if it did."""
        outcome = None if self._thread.is_alive() else self._outcome or Outcome(Ended.DIED, how="ended its executor")
        names = list(_checkpoints(self._folder))
        if outcome is not None:
            names += RESULTS
        fresh: Files = {}
        for name in names:
            path = self._folder.path / name
            with contextlib.suppress(FileNotFoundError):
                stamp = _stamp(path)
                if self._sent.get(name) != stamp:
                    fresh[name] = path.read_bytes()
                    self._sent[name] = stamp
        if outcome is not None and outcome.ended is Ended.DONE:
            fresh["result.json"] = (self._folder.path / "result.json").read_bytes()
        return self._now, fresh, outcome

    def stop(self) -> None:
        """End the attempt and remove its files."""
        self._stop = True
        self._thread.join()
        self._home.cleanup()

    def _alive(self, stage: str, percent: float) -> Verdict:
        self._now = stage, percent
        return Verdict.VOID if self._stop else Verdict.GO_ON


class RayExecutor:
    """Runs attempts on a Ray cluster.

    Args:
        address: ``local`` starts a cluster on this machine; else ``auto``, ``host:port`` or ``ray://host:port``.
        options: for ``ray.init``.

    Raises:
        BackendError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(self, address: str = "local", **options: Any) -> None:
        try:
            import ray
        except ImportError as e:
            raise BackendError(
                "Ray is not installed",
                where=address,
                hint="pip install 'gossamer-services[ray]', here and on the nodes",
            ) from e
        self._ray = ray
        _check_there(address)
        try:
            self._join(address, options)
        except (ConnectionError, RuntimeError, ValueError, SystemExit) as e:  # Ray ends the process where it gives up
            reason = (str(e).splitlines() or ["no reason given"])[0]
            raise BackendError(f"the Ray cluster cannot be used: {reason}", where=address, hint=_THERE) from e
        self._actor = ray.remote(Runner)

    def _join(self, address: str, options: dict[str, Any]) -> None:
        tries = 0
        while True:
            tries += 1
            try:
                self._ray.init(address, namespace="gossamer", log_to_driver=False, configure_logging=False, **options)
                return
            except ConnectionAbortedError as e:
                # Ray's client server forks a process for each client, which now and then dies before it has begun.
                if tries == JOINS:
                    raise
                _LOG.warning("the Ray cluster did not take this client, asking again: %s", e)

    def run(self, attempt: Attempt, alive: Alive) -> Outcome:
        """See :meth:`gossamer_services.optimizer.executor.Executor.run`."""
        limits = attempt.spec.limits
        actor = self._actor.options(
            num_cpus=limits.cpus, memory=limits.memory_bytes, max_restarts=0, max_task_retries=0, max_concurrency=2
        ).remote(_read(attempt.folder, attempt.spec), attempt.number, attempt.time_s)
        try:
            return self._follow(actor, attempt, alive)
        except self._ray.exceptions.RayActorError as e:
            _LOG.warning("a Ray actor died: %s", e)
            return Outcome(Ended.DIED, how="was lost with its Ray actor or node")
        finally:
            self._end(actor)

    def close(self) -> None:
        """Leave the cluster; one that this executor started ends."""
        self._ray.shutdown()

    def _follow(self, actor: Any, attempt: Attempt, alive: Alive) -> Outcome:
        stage, percent, heard, waits = "", 0.0, time.monotonic(), True
        asked = actor.poll.remote()
        while True:
            ready, _ = self._ray.wait([asked], timeout=POLL_S)
            if ready:
                (stage, percent), files, outcome = self._ray.get(asked)
                _write(attempt.folder.path, files)
                if outcome is not None:
                    found: Outcome = outcome
                    return found
                heard, waits = time.monotonic(), False
                time.sleep(POLL_S / 2)
                asked = actor.poll.remote()
            elif not waits and time.monotonic() - heard > ANSWER_S:
                return Outcome(Ended.DIED, how=f"was not heard of for {ANSWER_S:g} s")
            verdict = alive(stage, percent)  # also while the actor waits for a node with room
            if verdict is not Verdict.GO_ON:
                return Outcome(Ended.STOPPED, verdict=verdict)

    def _end(self, actor: Any) -> None:
        """Nothing of the attempt runs on: asked first, so that files are removed, then killed."""
        with contextlib.suppress(Exception):
            self._ray.get(actor.stop.remote(), timeout=2.0)
        with contextlib.suppress(Exception):
            self._ray.kill(actor, no_restart=True)


def _check_there(address: str) -> None:
    """Whether anybody listens at ``host:port`` or ``ray://host:port``: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:  # local, auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, ValueError) as e:
        raise BackendError(f"the Ray cluster cannot be used: {e}", where=address, hint=_THERE) from e


def _read(folder: JobFolder, spec: JobSpec) -> Files:
    """What an attempt needs: task, inputs, checkpoints."""
    names = ["task.json", *(f"inputs/{folder.input(spec, role).name}" for role in spec.blobs()), *_checkpoints(folder)]
    return {name: (folder.path / name).read_bytes() for name in names}


def _checkpoints(folder: JobFolder) -> Iterable[str]:
    return (f"work/checkpoints/{path.name}" for path in (folder.work / "checkpoints").glob("checkpoint.*"))


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _write(root: Path, files: Files) -> None:
    """Write files, each whole; the result last, since it says that the others are there."""
    for name in sorted(files, key=lambda name: name == "result.json"):
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _atomic.write(target, files[name])
    (root / "work").mkdir(exist_ok=True)

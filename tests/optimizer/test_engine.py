"""The engine with real worker processes: results, errors, limits, cancelling, one engine a folder."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import time
import zipfile
from dataclasses import replace

import pytest

import gossamer
from gossamer._errors import InputError
from gossamer_services.optimizer.engine import Settings
from gossamer_services.optimizer.errors import NotFoundError
from gossamer_services.optimizer.jobs import Blob, Kind, Limits, Reason, State
from tests.finetune.conftest import network
from tests.optimizer.conftest import LIMITS, SPARSE, TRAINED, report


def running(job):
    return job.state is State.RUNNING and job.stage != ""


def test_a_job_makes_the_bundle_that_optimize_makes(bench):
    job, _ = bench.store.submit(bench.spec())
    with bench.engine():
        done = bench.wait(job)
    (bench.path / "model.onnx").write_bytes(network().SerializeToString())
    expected = gossamer.optimize(bench.path / "model.onnx", SPARSE, key=False, name="small")
    assert done.state is State.SUCCEEDED and done.result is not None and done.attempt == 1
    made = bench.read(done.result.bundle)
    assert made == expected.data and len(made) == done.result.bundle_bytes
    assert done.result.sparsity_percent == expected.sparsity_percent
    assert [row["kernel"] for row in report(bench, done)["layers"]] == [row.kernel for row in expected.layers]
    assert list(done.result.seconds) == ["load", "prune", "lower", "choose", "encode", "emit", "sign"]
    assert not (bench.path / "jobs" / job.id).exists()


def test_bundles_are_signed_by_the_engine_alone(bench):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gossamer.bundle.sign import sign

    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    job, _ = bench.store.submit(bench.spec())
    with bench.engine(key=key):
        done = bench.wait(job)
    data = bench.read(done.result.bundle)
    assert data[-96:-64] == key.public_key().public_bytes_raw() and data == sign(data, key)
    key.public_key().verify(data[-64:], data[:-96])


def test_an_error_of_the_sdk_becomes_the_error_of_the_job(bench):
    odd = network()
    odd.graph.node[2].op_type = "Nonsense"
    spec = replace(bench.spec(), model=Blob(bench.put(odd.SerializeToString()), Kind.ONNX))
    job, _ = bench.store.submit(spec)
    with bench.engine():
        failed = bench.wait(job)
    assert failed.state is State.FAILED and failed.error.reason is Reason.REFUSED and failed.attempt == 1
    assert "Nonsense" in failed.error.message and failed.error.kind in (
        "UnsupportedError",
        "ModelError",
        "CompileError",
    )


def test_too_little_memory_fails_the_job_and_not_the_engine(bench):
    small = replace(LIMITS, memory_bytes=96 << 20)
    large = network()
    large.graph.initializer.add(name="unused", data_type=1, dims=[24 << 20], raw_data=bytes(96 << 20))
    first, _ = bench.store.submit(
        replace(bench.spec(), model=Blob(bench.put(large.SerializeToString()), Kind.ONNX), limits=small)
    )
    second, _ = bench.store.submit(bench.spec())
    with bench.engine(settings=Settings(slots=1, poll_s=0.05)):
        failed, done = bench.wait(first), bench.wait(second)
    assert failed.error is not None and failed.error.reason is Reason.MEMORY_LIMIT, failed.error
    assert str(96 << 20) in failed.error.message and done.state is State.SUCCEEDED


def test_a_job_over_its_time_is_killed(bench):
    job, _ = bench.store.submit(replace(bench.spec(), limits=replace(LIMITS, run_time_s=0.2)))
    with bench.engine():
        failed = bench.wait(job)
    assert failed.error.reason is Reason.TIME_LIMIT and failed.error.message == "the job ran longer than its 0.2 s"


def test_cancelling_a_running_job_ends_its_process(bench):
    job, _ = bench.store.submit(bench.spec({**TRAINED, "train": {**TRAINED["train"], "epochs": 2000}}))
    with bench.engine() as engine:
        bench.wait(job, until=lambda j: j.stage == "train")
        worker = engine.job_folder(job.id).worker()
        assert worker is not None
        bench.store.cancel(job.id)
        ended = bench.wait(job)
    assert ended.state is State.CANCELLED and bench.ends(job) == [State.CANCELLED]
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_a_killed_worker_is_tried_again_and_the_job_ends_once(bench):
    job, _ = bench.store.submit(bench.spec())
    with bench.engine() as engine:
        while (worker := engine.job_folder(job.id).worker()) is None:
            time.sleep(0.005)
        os.kill(worker, signal.SIGKILL)
        done = bench.wait(job)
    assert done.state is State.SUCCEEDED and done.crashes == 1 and done.attempt == 2
    assert done.last_failure == "the worker was killed by SIGKILL" and bench.ends(job) == [State.SUCCEEDED]


@pytest.mark.slow
def test_training_goes_on_from_its_checkpoint_after_a_kill(bench):
    whole, _ = bench.store.submit(bench.spec(TRAINED))
    job, _ = bench.store.submit(bench.spec(TRAINED))
    with bench.engine(settings=Settings(slots=1, poll_s=0.05)) as engine:
        straight = bench.wait(whole)
        checkpoints = engine.job_folder(job.id).work / "checkpoints"
        while len(list(checkpoints.glob("checkpoint.*"))) < 2:
            time.sleep(0.005)
        os.kill(engine.job_folder(job.id).worker(), signal.SIGKILL)
        done = bench.wait(job)
    assert done.crashes == 1 and done.result.resumed_epochs >= 2
    assert done.result.bundle == straight.result.bundle  # the same bits as without the kill


def test_an_ending_engine_puts_its_jobs_back(bench):
    job, _ = bench.store.submit(bench.spec({**TRAINED, "train": {**TRAINED["train"], "epochs": 2000}}))
    with bench.engine():
        bench.wait(job, until=running)
    waits = bench.store.get(job.id)
    assert waits.state is State.QUEUED and waits.crashes == waits.interruptions == 0
    assert waits.last_failure == "the service ended in good order"


def test_a_lost_blob_fails_the_job(bench):
    spec = bench.spec()
    job, _ = bench.store.submit(spec)
    (bench.path / "blobs" / spec.model.digest).write_bytes(b"changed")
    other, _ = bench.store.submit(replace(spec, model=Blob("0" * 64, Kind.ONNX)))
    with bench.engine():
        changed, gone = bench.wait(job), bench.wait(other)
    assert changed.error.reason is Reason.INPUT_LOST and "the blob's bytes have the digest" in changed.error.message
    assert gone.error.reason is Reason.INPUT_LOST and gone.error.where == "0" * 64


def test_an_archive_that_leaves_its_folder_is_refused(bench):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../../escaped.png", b"x")
    calibration = Blob(bench.put(buffer.getvalue()), Kind.ZIP)
    job, _ = bench.store.submit(bench.spec({**SPARSE, "quantize": {"samples": 4}}, calibration=calibration))
    with bench.engine():
        failed = bench.wait(job)
    assert failed.error.reason is Reason.REFUSED and failed.error.message == "the member's path leaves the archive"
    assert not list(bench.path.rglob("escaped.png"))


def test_one_engine_a_folder(bench):
    with bench.engine(), pytest.raises(InputError, match="another optimizer uses this job folder"):
        bench.engine()
    with bench.engine():  # the lock went with its holder
        pass


def test_workers_see_no_secret_of_the_service(bench, monkeypatch):
    from gossamer_services.optimizer.executor import Attempt
    from gossamer_services.optimizer.folder import JobFolder
    from gossamer_services.optimizer.subprocesses import environment

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    seen = environment(Attempt(JobFolder(bench.path), bench.spec(limits=Limits(cpus=3)), 1, 1.0))
    assert "hidden" not in seen.values() and seen["OMP_NUM_THREADS"] == "3" and seen["HOME"] == str(bench.path / "work")


def test_a_job_that_is_deleted_as_soon_as_it_ended_leaves_nothing(bench, caplog):
    def delete(job):
        with contextlib.suppress(NotFoundError):
            if bench.store.get(job).state.final:
                bench.store.delete(job)

    bench.store.listen(delete)  # before the engine goes on
    with bench.engine() as engine:
        job, _ = bench.store.submit(bench.spec())
        engine.wake()
        end = time.monotonic() + 60
        while bench.store.list().jobs or engine.job_folder(job.id).path.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
    assert [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")] == []

"""Registry, optimizer and fleet each in a process of its own: jobs, versions, kills, garbage, and wrong tokens."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import grpc
import numpy as np
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc

import gossamer
from gossamer._errors import UnreachableError
from gossamer._proto.v1 import optimizer_pb2, optimizer_pb2_grpc
from gossamer.cli._app import app
from gossamer.client import Client, Job, JobState, RemoteError
from tests.finetune.conftest import network, task
from tests.optimizer.conftest import SPARSE, TRAINED
from tests.services.alone import Alone, Apart, free_port
from tests.services.kit import refused
from tests.services.postgres import url
from tests.shellkit import PLAIN, small_network

__all__ = ["url"]

Code = grpc.StatusCode
RECIPE = json.dumps(SPARSE) + "\n"


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    with Apart(tmp_path_factory.mktemp("apart")).running() as running:
        yield running


@pytest.fixture
def client(apart: Apart) -> Iterator[Client]:
    with apart.client(attempts=20) as found:  # servers that started before the registry look for it once a second
        yield found


def model(folder: Path, seed: int = 0) -> Path:
    path = folder / f"small{seed}.onnx"
    path.write_bytes(network(seed).SerializeToString())
    return path


def training(client: Client, folder: Path, epochs: int, **options: object) -> Job:
    """A job that trains for some time."""
    x, y = task(96, 1)
    np.savez(folder / "train.npz", x=x, y=y)
    recipe = {**TRAINED, "train": {"epochs": epochs, "batch": 8, "learning_rate": 0.01}}
    return client.submit(model(folder), json.dumps(recipe) + "\n", train_data=folder / "train.npz", **options)


def until(job: Job, state: JobState, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while (now := job.status()).state is not state:
        assert not now.state.final and time.monotonic() < end, now
        time.sleep(0.02)


def test_a_job_becomes_a_version_that_the_fleet_knows(
    apart: Apart, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = client.submit(model(tmp_path), RECIPE, name="small", publish=("small", "1"))
    result = job.wait(timeout_s=60)
    assert result.numbers.version == "bundles/small/versions/1"
    assert len(client.read(result.numbers.bundle_sha256)) == result.numbers.bundle_bytes
    # By way of the optimizer, which has it from the registry.
    assert json.loads(result.report())["manifest"]["name"] == "small"
    version = client.version("small/1")
    assert (version.creator, version.description) == ("tokens/optimizer", f"{job.name} of tokens/admin")

    monkeypatch.setenv("GOSSAMER_REGISTRY", apart.registry.address)
    monkeypatch.setenv("GOSSAMER_REGISTRY_TOKEN", apart.registry.admin_token)
    with Client(apart.fleet.address, token=apart.fleet.admin_token) as people:
        people.set_channel("small", "stable", "1")
        made = people.fleet.start_rollout("small@stable")
        assert (made.version, made.state) == (version.name, "COMPLETED")  # there are no devices
        with pytest.raises(RemoteError, match="there is no such version") as caught:
            people.fleet.start_rollout("small/2")
        assert (caught.value.code, caught.value.where) == ("NOT_FOUND", "bundles/small/versions/2")


def test_commands_find_a_registry_apart(apart: Apart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = gossamer.optimize(small_network(), PLAIN, key=False, name="command", version="1")
    (tmp_path / "small.goss").write_bytes(bundle.data)
    (tmp_path / "token").write_text(apart.registry.admin_token)

    def run(*arguments: str) -> str:
        ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return ran.output

    # An address and a token that were given win over those of the environment.
    monkeypatch.setenv("GOSSAMER_REGISTRY", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("GOSSAMER_REGISTRY_TOKEN", "goss_none")
    there = "--server", apart.registry.address, "--token-file", str(tmp_path / "token")
    run("registry", "push", str(tmp_path / "small.goss"), "command/1", "--channel", "stable", "-q", *there)
    monkeypatch.setenv("GOSSAMER_REGISTRY", apart.registry.address)
    monkeypatch.setenv("GOSSAMER_REGISTRY_TOKEN", apart.registry.admin_token)
    monkeypatch.setenv("GOSSAMER_SERVER", apart.fleet.address)
    monkeypatch.setenv("GOSSAMER_TOKEN", apart.fleet.admin_token)
    assert "command/1" in run("registry", "list", "command")
    assert run("fleet", "rollout", "start", "command@stable") == "nothing to do: no device matches\n"


def test_garbage_collection_leaves_what_jobs_refer_to(apart: Apart, client: Client, tmp_path: Path) -> None:
    apart.collect()
    running = training(client, tmp_path, 100_000)
    until(running, JobState.RUNNING)
    waiting = client.submit(model(tmp_path, 2), RECIPE)  # one at a time
    (tmp_path / "nobody's").write_bytes(b"nobody's")
    digest = client.upload(tmp_path / "nobody's")
    assert apart.collect() == 1
    with pytest.raises(RemoteError, match="no such blob"):
        client.read(digest)
    assert running.cancel().state is JobState.RUNNING
    result = waiting.wait(timeout_s=60)
    assert apart.collect() == 0  # the bundle and the report of the job are its own
    assert len(client.read(result.numbers.bundle_sha256)) == result.numbers.bundle_bytes
    assert json.loads(result.report())["manifest"]["name"] == "small2"
    assert running.status().state is JobState.CANCELLED


@pytest.mark.slow
def test_the_commands_of_the_readme(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "services" / "README.md").read_text().partition("## Each service by itself")[2]
    lines = text.split("```")[1].replace("\\\n", "").strip().splitlines()
    assert [line.split()[1:3] for line in lines[2:]] == [["serve", n] for n in ("registry", "optimizer", "fleet")]
    ports = [free_port() for _ in range(3)]
    script = "\n".join([*lines[:2], *(f"{line} &" for line in lines[2:]), "wait"])
    for i, port in enumerate(ports):
        script = script.replace(f"127.0.0.1:{50551 + i}", f"127.0.0.1:{port}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (tmp_path / "log").open("w") as log:
        shell = subprocess.Popen(
            ["bash", "-ec", script], cwd=tmp_path, env={**os.environ, "PATH": path}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        with contextlib.ExitStack() as stack:
            channels = [stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}")) for port in ports]
            for channel in channels:
                grpc.channel_ready_future(channel).result(60)
            there = {"registry": f"127.0.0.1:{ports[0]}"}
            there["registry_token"] = (tmp_path / "optimizer.token").read_text().strip()
            with Client(f"127.0.0.1:{ports[1]}", **there) as client:
                client.submit(model(tmp_path), RECIPE, publish=("small", "1")).wait(timeout_s=60)
                assert client.version("small/1").creator == "tokens/optimizer"
            with Client(f"127.0.0.1:{ports[2]}", **there) as client:
                assert client.fleet.start_rollout("small/1").state == "COMPLETED"
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(30)


@pytest.mark.slow
def test_all_three_on_one_postgres(url: str, tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install -e './services[postgres]'")
    with Apart(tmp_path, database=url).running() as apart:
        token = apart.fleet.admin_token  # good for all, for they are in one database
        with Client(apart.optimizer.address, token=token, registry=apart.registry.address) as client:
            result = client.submit(model(tmp_path), RECIPE, publish=("small", "1")).wait(timeout_s=60)
            assert client.version("small/1").sha256 == result.numbers.bundle_sha256
            assert apart.collect() == 0
        with Client(apart.fleet.address, token=token, registry=apart.registry.address) as client:
            assert client.fleet.start_rollout("small/1").state == "COMPLETED"


@pytest.mark.slow
def test_a_version_that_is_taken(apart: Apart, client: Client, tmp_path: Path) -> None:
    made = client.submit(model(tmp_path, 3), RECIPE, publish=("taken", "1")).wait(timeout_s=60)
    again = client.submit(model(tmp_path, 3), RECIPE, publish=("taken", "1")).wait(timeout_s=60)
    assert again.numbers.version == made.numbers.version  # the same bytes
    with pytest.raises(RemoteError, match="the version exists") as caught:
        client.submit(model(tmp_path, 4), RECIPE, publish=("taken", "1")).wait(timeout_s=60)
    assert caught.value.code == "FAILED_PRECONDITION"


@pytest.mark.slow
def test_a_registry_that_is_killed_under_a_job(tmp_path: Path) -> None:
    rng = random.Random(5)
    with Apart(tmp_path).running() as apart, apart.client(attempts=20) as client:
        for i in range(4):
            job = training(client, tmp_path, 40, publish=("small", str(i)))
            until(job, JobState.RUNNING)
            time.sleep(rng.uniform(0, 2.0))
            apart.registry.kill()
            while "waits" not in apart.optimizer.log.partition(job.name.removeprefix("jobs/"))[2]:
                time.sleep(0.05)
            if i == 2:
                apart.optimizer.kill()
                apart.optimizer.start()
            apart.registry.start()
            result = job.wait(timeout_s=60)
            status = job.status()
            assert (status.state, result.numbers.version) == (JobState.SUCCEEDED, f"bundles/small/versions/{i}")
            assert apart.ends(job.name) == ["SUCCEEDED"]
            assert status.attempt == (2 if i == 2 else 1)
            assert client.version(f"small/{i}").sha256 == result.numbers.bundle_sha256
        apart.registry.kill()
        job = client.job(job.name)
        assert job.status().state is JobState.SUCCEEDED  # what needs no registry goes on
        assert apart.optimizer.stop() == 0


@pytest.mark.slow
def test_kills_of_registry_and_optimizer_while_garbage_is_collected(tmp_path: Path) -> None:
    rng = random.Random(11)

    def submit(client: Client, i: int) -> Job:
        while True:
            try:
                return client.submit(model(tmp_path, i), RECIPE, publish=("many", str(i)), request_id=f"job-{i}")
            except RemoteError as e:  # garbage was collected between the upload and the submission
                assert e.reason == "BLOB_NOT_FOUND", e

    with Apart(tmp_path, optimizer=("optimizer.slots=2",)).running() as apart, apart.client(attempts=200) as client:
        done, kills = threading.Event(), 0

        def kill() -> None:
            nonlocal kills
            while not done.wait(rng.uniform(0.2, 2.5)):
                one = rng.choice([apart.registry, apart.optimizer])
                one.kill()
                kills += 1
                time.sleep(rng.uniform(0, 1.0))
                one.start()
                with contextlib.suppress(grpc.RpcError):
                    apart.collect()

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            jobs = [submit(client, i) for i in range(10)]
            results = [job.wait(timeout_s=200) for job in jobs]
            while kills < 8:  # on a fast machine more jobs than kills
                jobs.append(submit(client, len(jobs)))
                results.append(jobs[-1].wait(timeout_s=200))
        finally:
            done.set()
            killer.join()
        for i, (job, result) in enumerate(zip(jobs, results, strict=True)):
            assert apart.ends(job.name) == ["SUCCEEDED"]
            assert client.version(f"many/{i}").sha256 == result.numbers.bundle_sha256
            assert len(client.read(result.numbers.bundle_sha256)) == result.numbers.bundle_bytes
        assert len(client.versions("many")) == len(client.jobs()) == len(jobs)


@pytest.mark.slow
def test_a_registry_that_hangs_takes_no_threads_from_others(apart: Apart, client: Client, tmp_path: Path) -> None:
    job = client.submit(model(tmp_path, 5), RECIPE)
    job.wait(timeout_s=60)
    assert apart.registry.process is not None
    apart.registry.process.send_signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(24) as pool, apart.client(attempts=1) as other:
            reports = [pool.submit(other.job(job.name).report) for _ in range(24)]
            time.sleep(0.5)
            began = time.monotonic()
            assert other.job(job.name).status().state is JobState.SUCCEEDED
            assert time.monotonic() - began < 2.0
            for report in reports:
                assert isinstance(report.exception(120), (RemoteError, UnreachableError))
    finally:
        apart.registry.process.send_signal(signal.SIGCONT)
    end = time.monotonic() + 30
    while True:
        with contextlib.suppress(RemoteError):
            assert json.loads(job.report())["manifest"]["name"] == "small5"
            break
        assert time.monotonic() < end


def test_an_optimizer_whose_registry_is_not_there_yet(tmp_path: Path) -> None:
    with Alone(tmp_path, "optimizer", f"upstream.registry=127.0.0.1:{free_port()}").start() as optimizer:
        with optimizer.channel() as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.SERVING
            stub = optimizer_pb2_grpc.OptimizerServiceStub(channel)
            spec = optimizer_pb2.JobSpec(display_name="small", model_sha256="0" * 64, recipe=RECIPE)
            spec.model_format = optimizer_pb2.MODEL_FORMAT_ONNX
            for _ in range(2):
                with refused(Code.UNAVAILABLE, "REGISTRY_UNREACHABLE") as e:
                    stub.SubmitJob(optimizer_pb2.SubmitJobRequest(spec=spec), metadata=optimizer.admin)
            assert e.metadata["where"] in optimizer.overrides[0] and "the registry does not answer" in e.message
            listed = stub.ListJobs(optimizer_pb2.ListJobsRequest(), metadata=optimizer.admin)
            assert not listed.jobs
        assert optimizer.stop() == 0
    assert "calls that need another server fail until it answers" in optimizer.log


def test_a_registry_that_refuses(apart: Apart, tmp_path: Path) -> None:
    cases = (
        ("optimizer", "goss_guess", "the registry refuses this server: the token is not known here"),
        ("optimizer", apart.registry.token("reader", "read"), "GetUpload needs the scope 'submit'"),
        ("fleet", "", "Bearer TOKEN"),
        ("fleet", None, "the token for the registry cannot be read"),
    )
    with contextlib.ExitStack() as stack:
        started = []
        for i, (name, token, _) in enumerate(cases):
            folder = tmp_path / str(i)
            folder.mkdir()
            if token is not None:
                (folder / "token").write_text(token)
            at = f"upstream.registry={apart.registry.address}", f'upstream.registry_token_file="{folder / "token"}"'
            started.append(stack.enter_context(Alone(folder, name, *at)).begin())
        for one, (_, _, message) in zip(started, cases, strict=True):
            assert one.ended() == 2
            assert message in one.log and "upstream.registry_token_file" in one.log and "Traceback" not in one.log

"""The client against a real server: jobs, transfers over connections that break, errors, and the quick start."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gossamer
from gossamer._errors import InputError, OutputError, UnreachableError
from gossamer.client import AsyncClient, Client, JobState, RemoteError, Retry
from gossamer.client._calls import call
from gossamer.client._pack import packed
from gossamer_services.common.errors import Code, ServiceError
from tests.client.proxy import cutting
from tests.finetune.conftest import network, task
from tests.optimizer.conftest import SPARSE, TRAINED
from tests.optimizer.serving import serving

RECIPE = json.dumps(SPARSE) + "\n"
QUICK = Retry(attempts=8, first_s=0.02, longest_s=0.1, call_s=20.0)
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(server):
    with Client(server.address, retry=QUICK) as found:
        yield found


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(network().SerializeToString())
    return path


def test_the_quick_start_of_the_readme(server, tmp_path):
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (block,) = [b for b in re.findall(r"^```py\n(.*?)^```", text, flags=re.M | re.S) if "gossamer.client" in b]
    lines = block.strip().splitlines()
    assert len([line for line in lines if line.strip()]) == 5
    (tmp_path / "model.onnx").write_bytes(network().SerializeToString())
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    code = block.replace("localhost:50551", server.address)
    assert code != block
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "model.goss").read_bytes()[:8] == b"GOSSAMER" and "100% succeeded" in ran.stderr


def test_a_job_with_typed_results(client, model, tmp_path):
    seen = []
    job = client.submit(model, RECIPE, version="2", labels={"a": "b"}, sweep="typed")
    result = job.wait(progress=seen.append, timeout_s=60)
    expected = gossamer.optimize(model, SPARSE, key=False, name="small", version="2")
    numbers = result.numbers
    assert numbers.sparsity_percent == pytest.approx(expected.sparsity_percent)
    assert list(numbers.stage_seconds) == ["load", "prune", "lower", "choose", "encode", "emit", "sign"]
    data = result.save(tmp_path / "out.goss").read_bytes()
    assert hashlib.sha256(data).hexdigest() == numbers.bundle_sha256 and len(data) == numbers.bundle_bytes
    assert json.loads(result.report())["manifest"]["name"] == "small"
    assert seen[-1].state is JobState.SUCCEEDED and seen[-1].percent == 100 and seen[0].display_name == "small"
    status = client.job(job.name).status()
    assert status.labels == {"a": "b"} and status.created <= status.started <= status.ended and status.error is None
    assert [s.name for s in client.jobs(sweep="typed", states=[JobState.SUCCEEDED])] == [job.name]


def test_training_by_the_service(client, model, tmp_path):
    x, y = task(96, 1)
    np.savez(tmp_path / "train.npz", x=x, y=y)
    recipe = {**TRAINED, "train": {"epochs": 1, "batch": 32, "learning_rate": 0.01}}
    result = client.submit(model, json.dumps(recipe) + "\n", train_data=tmp_path / "train.npz").wait(timeout_s=60)
    assert "train" in result.numbers.stage_seconds


def test_cancelling(client, model, tmp_path):
    x, y = task(96, 1)
    np.savez(tmp_path / "train.npz", x=x, y=y)
    recipe = {**TRAINED, "train": {"epochs": 5000, "batch": 8, "learning_rate": 0.01}}
    job = client.submit(model, json.dumps(recipe) + "\n", train_data=tmp_path / "train.npz")
    for status in job.watch():
        if status.state is JobState.RUNNING:
            job.cancel()
    assert status.state is JobState.CANCELLED
    with pytest.raises(RemoteError, match="the job was cancelled") as caught:
        job.wait()
    assert caught.value.code == "CANCELLED"


def test_deleting(server, client, model, monkeypatch):
    job = client.submit(model, RECIPE)
    with pytest.raises(RemoteError) as caught:
        job.delete()
    assert (caught.value.code, caught.value.reason) == ("FAILED_PRECONDITION", "JOB_NOT_ENDED")
    job.wait(timeout_s=60)
    job.delete()
    for ask in (job.status, job.delete):
        with pytest.raises(RemoteError) as caught:
            ask()
        assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "JOB_NOT_FOUND")

    job = client.submit(model, RECIPE)
    job.wait(timeout_s=60)
    delete, calls = server.optimizer.store.delete, []

    def lose_the_first_answer(name):
        calls.append(name)
        delete(name)
        raise ServiceError(Code.UNAVAILABLE, "LOST", "the answer gets lost")

    monkeypatch.setattr(server.optimizer.store, "delete", lose_the_first_answer)
    job.delete()
    assert len(calls) == 2
    assert job.name not in [s.name for s in client.jobs()]


def test_a_failed_job_raises_what_went_wrong(client, tmp_path):
    odd = network()
    odd.graph.node[2].op_type = "Nonsense"
    (tmp_path / "odd.onnx").write_bytes(odd.SerializeToString())
    with pytest.raises(RemoteError, match="Nonsense") as caught:
        client.submit(tmp_path / "odd.onnx", RECIPE).wait(timeout_s=60)
    assert caught.value.code == "INVALID_ARGUMENT" and caught.value.reason in ("UNSUPPORTED", "BAD_MODEL")


def test_a_sweep_queues_a_job_for_each_recipe(client, model):
    recipes = [json.dumps({**SPARSE, "sparsify": {"pattern": p, "sparsity": 0.5}}) + "\n" for p in ("1x4", "2:4")]
    jobs = client.sweep(model, recipes)
    names = {client.job(job.name).status().sweep for job in jobs}
    assert len({job.name for job in jobs}) == 2 and len(names) == 1
    assert all(job.wait(timeout_s=60).numbers.sparsity_percent > 10 for job in jobs)


def test_the_asynchronous_client_runs_jobs_side_by_side(server, model):
    async def main():
        async with AsyncClient(server.address, retry=QUICK) as client:
            jobs = await asyncio.gather(*(client.submit(model, RECIPE, name=f"m{i}") for i in range(3)))
            results = await asyncio.gather(*(job.wait(timeout_s=60) for job in jobs))
            with pytest.raises(TimeoutError):
                await client.job(jobs[0].name).wait(timeout_s=-1)
            return results

    results = asyncio.run(main())
    assert len({r.numbers.bundle_sha256 for r in results}) == 3  # the name is part of the bundle


def blob(seed, size):
    return np.random.default_rng(seed).bytes(size)


def test_an_upload_that_is_cut_at_every_chunk_resumes(server, tmp_path):
    data = blob(1, 6 * MIB + 12345)
    (tmp_path / "big").write_bytes(data)
    cuts = [MIB + 70_000] * 6  # a little over a chunk for each connection
    with cutting(server.port, cuts, upwards=True) as proxy, Client(f"127.0.0.1:{proxy.port}", retry=QUICK) as client:
        seen = []
        digest = client.upload(tmp_path / "big", lambda done, total: seen.append((done, total)))
        assert proxy.connections >= 6 and seen[-1] == (len(data), len(data))
        again = client.upload(tmp_path / "big", lambda *_: pytest.fail("sent again"))
    assert digest == again == hashlib.sha256(data).hexdigest()
    with server.blobs.open(digest) as f:
        assert f.read() == data


def test_an_upload_whose_file_goes_away(client, tmp_path, monkeypatch):
    path = tmp_path / "big"
    path.write_bytes(blob(3, MIB))

    def leave(_done, _total):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client.upload(path, leave)
    find = client._client._transfers._stub.FindMissingBlobs

    def gone(*arguments, **options):
        path.unlink()
        return find(*arguments, **options)

    monkeypatch.setattr(client._client._transfers._stub, "FindMissingBlobs", gone)
    with pytest.raises(InputError, match="the file cannot be read: No such file") as caught:
        client.upload(path)
    assert caught.value.where == str(path)


def test_a_download_that_is_cut_at_every_chunk_resumes(server, client, tmp_path):
    data = blob(2, 5 * MIB + 54321)
    (tmp_path / "big").write_bytes(data)
    digest = client.upload(tmp_path / "big")
    cuts = [MIB + 70_000] * 5
    with cutting(server.port, cuts, upwards=False) as proxy, Client(f"127.0.0.1:{proxy.port}", retry=QUICK) as cut:
        cut.download(digest, tmp_path / "back")
        assert proxy.connections >= 5
    assert (tmp_path / "back").read_bytes() == data
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "big"]


def test_a_part_that_is_none_of_the_blob_is_not_gone_on_with(client, tmp_path):
    (tmp_path / "small").write_bytes(b"abc")
    digest = client.upload(tmp_path / "small")
    part = tmp_path / f".back.{digest[:16]}.part"
    part.write_bytes(b"longer than the blob")
    client.download(digest, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"abc"
    part.write_bytes(b"x")
    with pytest.raises(RemoteError, match="not the blob's") as caught:
        client.download(digest, tmp_path / "other")
        client.download(digest, tmp_path / "back")
    assert caught.value.reason == "DIGEST_MISMATCH" and not part.exists()
    assert (tmp_path / "back").read_bytes() == b"abc"
    assert client.read(digest) == b"abc"


def test_an_empty_file_is_a_blob(client, tmp_path):
    (tmp_path / "empty").touch()
    digest = client.upload(tmp_path / "empty")
    assert client.download(digest, tmp_path / "back").read_bytes() == b""


@pytest.mark.slow
def test_waiting_survives_a_restart_of_the_server(tmp_path, model):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    x, y = task(192, 1)
    np.savez(tmp_path / "train.npz", x=x, y=y)
    recipe = json.dumps({**TRAINED, "train": {"epochs": 8, "batch": 8, "learning_rate": 0.01}}) + "\n"
    options = {"server": {"bind": f"127.0.0.1:{port}"}}
    patient = Retry(attempts=60, first_s=0.05, longest_s=0.2)
    with Client(f"127.0.0.1:{port}", retry=patient) as client:
        with serving(tmp_path / "data", **options):
            job = client.submit(model, recipe, train_data=tmp_path / "train.npz")
            changes = job.watch()
            for status in changes:
                if status.stage == "train":
                    break
        with serving(tmp_path / "data", **options):
            states = [status.state for status in changes]
            assert states[-1] is JobState.SUCCEEDED and job.status().attempt == 2
            assert job.wait().numbers.bundle_bytes > 0


def test_no_server_and_a_retry_that_ends():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Client(f"127.0.0.1:{port}", retry=QUICK) as client, pytest.raises(UnreachableError) as caught:
        client.jobs()
    assert caught.value.where == f"127.0.0.1:{port}" and "gossamer serve" in caught.value.hint


@pytest.mark.parametrize("call", [lambda c, job: job.wait(), lambda c, job: list(job.watch())])
def test_a_client_that_another_thread_closes(server, model, tmp_path, call):
    x, y = task(96, 1)
    np.savez(tmp_path / "train.npz", x=x, y=y)
    recipe = {**TRAINED, "train": {"epochs": 5000, "batch": 8, "learning_rate": 0.01}}
    client, raised = Client(server.address, retry=QUICK), []
    job = client.submit(model, json.dumps(recipe) + "\n", train_data=tmp_path / "train.npz")

    def wait():
        with pytest.raises(InputError, match="the client is closed"):
            call(client, job)
        raised.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.2)
    assert thread.is_alive()
    client.close()
    thread.join(10)
    assert raised == [True]
    for again in (lambda: call(client, job), client.jobs):
        with pytest.raises(InputError, match="the client is closed"):
            again()
    client.close()
    with Client(server.address, retry=QUICK) as other:
        other.job(job.name).cancel()


def test_what_is_not_safe_is_not_repeated(client):
    calls = []

    async def attempt(_deadline):
        calls.append(1)
        return await client._client._stub.GetJob(gossamer_job("jobs/x"))

    with pytest.raises(RemoteError) as caught:
        client._run(call(QUICK, "here", attempt))
    assert len(calls) == 1 and caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.fields == (("name", "not jobs/{id} with an id of 32 hexadecimal digits"),)


def gossamer_job(name):
    from gossamer._proto.v1 import optimizer_pb2

    return optimizer_pb2.GetJobRequest(name=name)


def test_waits_grow_and_stay_under_their_limit():
    retry = Retry(first_s=0.5, longest_s=3.0)
    longest = [max(retry.wait_s(failures) for _ in range(400)) for failures in (1, 2, 3, 10)]
    assert longest[0] <= 0.5 < longest[1] <= 1.0 < longest[2] <= 2.0 < longest[3] <= 3.0


def test_tokens_and_their_scopes(tmp_path, model, monkeypatch):
    with serving(tmp_path / "data", server={"tokens": "required"}) as server:
        reader = server.tokens.create("reader", ["read"])
        with Client(server.address) as nobody, pytest.raises(RemoteError) as caught:
            nobody.jobs()
        assert (caught.value.code, caught.value.reason) == ("UNAUTHENTICATED", "TOKEN_MISSING")
        monkeypatch.setenv("GOSSAMER_TOKEN", reader)
        with Client(server.address) as client:
            assert client.jobs() == []
            with pytest.raises(RemoteError) as caught:
                client.submit(model, RECIPE)
        assert (caught.value.code, caught.value.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda c, p: c.submit(p / "none.onnx", RECIPE), InputError, "no such model file"),
        (lambda c, p: c.submit(p / "a.txt", RECIPE), InputError, "format is not known by its name"),
        (lambda c, p: c.submit(p / "m.onnx", "missing.yaml"), InputError, "the recipe cannot be read"),
        (lambda c, p: c.submit(p / "m.onnx", RECIPE, p / "a.txt"), InputError, "neither an .npz, a .zip nor a folder"),
        (lambda c, p: c.submit(p / "m.onnx", RECIPE, p / "none"), InputError, "no such file or folder"),
        (lambda c, p: c.submit(p / "m.onnx", RECIPE, p / "sub"), InputError, "holds no pictures"),
        (lambda c, p: c.upload(p / "none"), InputError, "the file cannot be read"),
        (lambda c, p: c.download("0" * 64, p / "none" / "x"), OutputError, "cannot write the file"),
        (lambda c, p: c.download("0" * 64, p / "x"), RemoteError, "there is no such blob"),
        (lambda c, p: c.submit(p / "m.onnx", "no-such-recipe"), RemoteError, "not a mapping of fields"),
        (lambda c, p: c.job("jobs/" + "0" * 32).status(), RemoteError, "there is no such job"),
    ],
)
def test_bad_input(client, tmp_path, make, error, message):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "m.onnx").write_bytes(network().SerializeToString())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        make(client, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_token_never_goes_out_unencrypted():
    with pytest.raises(InputError, match="unencrypted"):
        Client("example.org:50551", token="secret", tls=False)
    with pytest.raises(InputError, match="no address"):
        Client("")


def test_equal_pictures_make_equal_archives(tmp_path):
    digests = []
    for name in ("a", "b"):
        folder = tmp_path / name / "cat"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((4, 4, 3), 7, np.uint8)).save(folder / "1.png")
        with packed(tmp_path / name) as (archive, kind):
            digests.append(hashlib.sha256(archive.read_bytes()).hexdigest())
    assert kind == "ZIP" and digests[0] == digests[1]

"""Jobs on a real Ray cluster: the same bundles, killed actors and killed nodes, checkpoints that travel, sweeps."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

import gossamer
from gossamer._errors import BackendError
from gossamer_services.optimizer.assembly import make_executor
from gossamer_services.optimizer.cluster import RayExecutor
from gossamer_services.optimizer.engine import Settings
from gossamer_services.optimizer.jobs import State
from tests.finetune.conftest import network
from tests.optimizer.conftest import LIMITS, SPARSE, TRAINED

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'gossamer-services[ray]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]  # Ray leaves sockets and processes to the collector
SMALL = replace(LIMITS, memory_bytes=1 << 30)
LONG = {**TRAINED, "train": {**TRAINED["train"], "epochs": 40}}


@pytest.fixture
def cluster():
    """A head without room for jobs and two nodes with room for one each: losing a node leaves the other."""
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": 100 << 20, "include_dashboard": False},
    )
    nodes = [made.add_node(num_cpus=1, object_store_memory=100 << 20, memory=2 << 30) for _ in range(2)]
    made.wait_for_nodes()
    yield made, nodes
    ray.shutdown()
    made.shutdown()


def engine(bench, cluster, slots=2):
    executor = RayExecutor(cluster[0].address)
    return bench.engine(executor=executor, settings=Settings(slots=slots, lease_s=60.0, poll_s=0.05))


def actors(cluster):
    """Process ids of the actors' processes, with their nodes."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cmdline").read_bytes().startswith(b"ray::Runner"):
                for node in cluster[1]:
                    if descends(int(entry.name), node.all_processes["raylet"][0].process.pid):
                        found[int(entry.name)] = node
    return found


def descends(pid, ancestor):
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def checkpoint(engine, job):
    return list((engine.job_folder(job.id).work / "checkpoints").glob("checkpoint.*"))


def until(condition, limit_s=60.0):
    end = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def test_a_sweep_fans_out_and_makes_what_one_machine_makes(bench, cluster):
    recipes = [SPARSE, {**SPARSE, "sparsify": {"pattern": "2:4", "sparsity": 0.5}}]
    jobs = [bench.store.submit(bench.spec(recipe, limits=SMALL, sweep="s"))[0] for recipe in recipes for _ in range(2)]
    with engine(bench, cluster):
        done = [bench.wait(job, limit_s=120) for job in jobs]
    (bench.path / "model.onnx").write_bytes(network().SerializeToString())
    for i, job in enumerate(done):
        expected = gossamer.optimize(bench.path / "model.onnx", recipes[i // 2], key=False, name="small")
        assert job.state is State.SUCCEEDED and job.attempt == 1
        assert bench.read(job.result.bundle) == expected.data


def test_a_killed_actor_costs_an_attempt_and_training_goes_on_from_its_checkpoint(bench, cluster):
    job, _ = bench.store.submit(bench.spec(LONG, limits=SMALL))
    with engine(bench, cluster) as running:
        until(lambda: len(checkpoint(running, job)) == 2)
        for pid in actors(cluster):
            os.kill(pid, signal.SIGKILL)
        done = bench.wait(job, limit_s=120)
    assert done.state is State.SUCCEEDED and done.crashes == 1 and done.result.resumed_epochs >= 1
    assert done.last_failure == "the worker was lost with its Ray actor or node"
    assert bench.ends(job) == [State.SUCCEEDED]


def test_a_killed_node_moves_its_job_to_another(bench, cluster):
    made, _ = cluster
    job, _ = bench.store.submit(bench.spec(LONG, limits=SMALL))
    with engine(bench, cluster) as running:
        until(lambda: len(checkpoint(running, job)) == 2)
        (node,) = actors(cluster).values()
        made.remove_node(node, allow_graceful=False)
        done = bench.wait(job, limit_s=120)
    assert done.state is State.SUCCEEDED and done.crashes == 1 and done.result.resumed_epochs >= 1
    assert bench.ends(job) == [State.SUCCEEDED]


def test_cancelling_and_draining_end_what_runs_there(bench, cluster):
    endless = {**LONG, "train": {**LONG["train"], "epochs": 5000}}
    cancelled, drained = (bench.store.submit(bench.spec(endless, limits=SMALL))[0] for _ in range(2))
    with engine(bench, cluster):
        for job in (cancelled, drained):
            bench.wait(job, until=lambda j: j.stage == "train", limit_s=60)
        bench.store.cancel(cancelled.id)
        assert bench.wait(cancelled).state is State.CANCELLED
    assert bench.store.get(drained.id).state is State.QUEUED
    until(lambda: not actors(cluster), 15)


def test_a_cluster_that_is_not_there():
    with pytest.raises(BackendError, match="the Ray cluster cannot be used"):
        RayExecutor("127.0.0.1:1")


def test_a_cluster_that_takes_a_client_only_when_asked_again(monkeypatch):
    answers = [ConnectionAbortedError("Initialization failure from server:\nno process"), None]
    monkeypatch.setattr("gossamer_services.optimizer.cluster._check_there", lambda address: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)

    def init(address, **_):
        assert address == "ray://there:1"
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(ray, "init", init)
    RayExecutor("ray://there:1").close()
    assert not answers
    answers += [ConnectionAbortedError("no process")] * 3
    with pytest.raises(BackendError, match="the Ray cluster cannot be used: no process"):
        RayExecutor("ray://there:1")
    assert not answers


@pytest.mark.parametrize("way", ["a cluster of its own", "over Ray's client server"])
def test_the_ways_that_settings_name_a_cluster(bench, way):
    name, made = "ray", None
    if way != "a cluster of its own":
        from ray.cluster_utils import Cluster

        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        head = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args={**head, "ray_client_server_port": port})
        name = f"ray://127.0.0.1:{port}"
        until(lambda: listens(port))
    job, _ = bench.store.submit(bench.spec(limits=SMALL))
    try:
        with bench.engine(executor=make_executor(name)):
            assert bench.wait(job, limit_s=90).state is State.SUCCEEDED
    finally:
        if made is not None:
            made.shutdown()


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

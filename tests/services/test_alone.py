"""Registry, optimizer and fleet each in a process of its own: jobs, versions, kills, garbage, and wrong tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import grpc

from gossamer._proto.v1 import fleet_pb2, fleet_pb2_grpc
from gossamer.client import Client
from tests.finetune.conftest import network
from tests.optimizer.conftest import SPARSE
from tests.services.alone import Apart
from tests.services.kit import refused

Code = grpc.StatusCode
RECIPE = json.dumps(SPARSE) + "\n"


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    with Apart(tmp_path_factory.mktemp("apart")).running() as running:
        yield running


@pytest.fixture
def client(apart: Apart) -> Iterator[Client]:
    with apart.client() as found:
        yield found


def model(folder: Path, seed: int = 0) -> Path:
    path = folder / f"small{seed}.onnx"
    path.write_bytes(network(seed).SerializeToString())
    return path


def test_a_job_becomes_a_version_that_the_fleet_knows(apart: Apart, client: Client, tmp_path: Path) -> None:
    job = client.submit(model(tmp_path), RECIPE, name="small", publish=("small", "1"))
    result = job.wait(timeout_s=60)
    assert result.numbers.version == "bundles/small/versions/1"
    assert len(client.read(result.numbers.bundle_sha256)) == result.numbers.bundle_bytes
    # By way of the optimizer, which has it from the registry.
    assert json.loads(result.report())["manifest"]["name"] == "small"
    version = client.version("small/1")
    assert (version.creator, version.description) == ("tokens/optimizer", f"{job.name} of tokens/admin")

    with apart.fleet.channel() as channel:
        stub, metadata = fleet_pb2_grpc.FleetServiceStub(channel), apart.fleet.admin
        rollout = fleet_pb2.Rollout(version=version.name)
        made = stub.CreateRollout(fleet_pb2.CreateRolloutRequest(rollout=rollout), metadata=metadata).rollout
        assert (made.version, made.state) == (version.name, fleet_pb2.ROLLOUT_STATE_COMPLETED)  # there are no devices
        rollout.version = "bundles/small/versions/2"
        with refused(Code.NOT_FOUND, "VERSION_NOT_FOUND") as e:
            stub.CreateRollout(fleet_pb2.CreateRolloutRequest(rollout=rollout), metadata=metadata)
        assert e.metadata["where"] == rollout.version

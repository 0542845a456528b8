"""OptimizerService and Operations over a real gRPC connection: answers, status codes, streams."""

from __future__ import annotations

import contextlib
import json
import time

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from gossamer._proto.v1 import optimizer_pb2 as pb
from gossamer._proto.v1 import optimizer_pb2_grpc
from gossamer.recipe import load_recipe
from gossamer_services.optimizer.jobs import State
from tests.finetune.conftest import network, task
from tests.optimizer.conftest import SPARSE, TRAINED, npz
from tests.optimizer.serving import serving

RECIPE = json.dumps(SPARSE)  # JSON is YAML


class Calls:
    """Stubs of a server, and what tests upload to it."""

    def __init__(self, server):
        self.server = server
        self.channel = grpc.insecure_channel(server.address)
        self.jobs = optimizer_pb2_grpc.OptimizerServiceStub(self.channel)
        self.operations = operations_pb2_grpc.OperationsStub(self.channel)
        self.model = self.put(network().SerializeToString())

    def put(self, data):
        path = self.server.folder / "upload"
        path.write_bytes(data)
        return self.server.blobs.put(path)

    def spec(self, **changes):
        fields = {"model_sha256": self.model, "model_format": pb.MODEL_FORMAT_ONNX, "recipe": RECIPE, **changes}
        return pb.JobSpec(**fields)

    def submit(self, request_id="", **changes):
        request = pb.SubmitJobRequest(spec=self.spec(**changes), request_id=request_id)
        return self.jobs.SubmitJob(request, timeout=30).operation

    def long(self):
        """A job that runs until it is cancelled."""
        x, y = task(96, 1)
        recipe = json.dumps({**TRAINED, "train": {**TRAINED["train"], "epochs": 5000}})
        data = pb.Data(sha256=self.put(npz(x=x, y=y)), format=pb.DATA_FORMAT_NPZ)
        return self.submit(recipe=recipe, training=data)

    def store(self):
        return self.server.optimizer.store


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("server")) as server:
        made = Calls(server)
        yield made
        made.channel.close()


@contextlib.contextmanager
def refused(code, reason, field=None):
    """The call ends with this status; its details are checked."""
    with pytest.raises(grpc.RpcError) as caught:
        yield caught
    status = rpc_status.from_call(caught.value)
    assert (caught.value.code(), status is not None) == (code, True), caught.value
    info, violations = error_details_pb2.ErrorInfo(), []
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations = [v.field for v in bad.field_violations]
    assert (info.reason, info.domain) == (reason, "gossamer.dev") and info.metadata["request_id"]
    assert field is None or violations == [field], violations
    caught.info = info


def test_a_job_from_submission_to_its_report(calls):
    operation = calls.submit(display_name="small", model_version="1.2", labels={"team": "vision"}, sweep="s1")
    assert operation.name.startswith("jobs/") and not operation.done
    seen = list(calls.jobs.WatchJob(pb.WatchJobRequest(name=operation.name), timeout=60))
    last = seen[-1].job
    assert last.state == pb.JOB_STATE_SUCCEEDED and last.progress_percent == 100 and last.attempt == 1
    percents = [answer.job.progress_percent for answer in seen]
    assert percents == sorted(percents) and len({answer.job.etag for answer in seen}) == len(seen)
    assert last.spec.labels["team"] == "vision" and last.spec.display_name == "small"
    assert json.loads(last.spec.recipe)["sparsify"]["pattern"] == "1x4" and last.spec.limits.memory_bytes == 8 << 30
    assert last.create_time.ToNanoseconds() <= last.start_time.ToNanoseconds() <= last.end_time.ToNanoseconds()
    result = last.result
    with calls.server.blobs.open(result.bundle_sha256) as f:
        data = f.read()
    assert data[:8] == b"GOSSAMER" and len(data) == result.bundle_bytes
    assert [stage.stage for stage in result.stages] == ["load", "prune", "lower", "choose", "encode", "emit", "sign"]
    request = pb.FetchReportRequest(name=operation.name, format=pb.REPORT_FORMAT_JSON)
    report = json.loads(b"".join(part.data for part in calls.jobs.FetchReport(request, timeout=30)))
    assert report["manifest"]["name"] == "small" and report["manifest"]["version"] == "1.2"
    assert report["sparsity_percent"] == pytest.approx(result.sparsity_percent)
    found = calls.operations.GetOperation(operations_pb2.GetOperationRequest(name=operation.name), timeout=30)
    response = pb.JobResult()
    assert found.done and found.response.Unpack(response) and response == result
    listed = calls.jobs.ListJobs(pb.ListJobsRequest(sweep="s1"), timeout=30)
    assert [job.name for job in listed.jobs] == [operation.name]


def test_the_report_as_a_page(calls):
    operation = calls.submit()
    list(calls.jobs.WatchJob(pb.WatchJobRequest(name=operation.name), timeout=60))
    request = pb.FetchReportRequest(name=operation.name, format=pb.REPORT_FORMAT_HTML)
    page = b"".join(part.data for part in calls.jobs.FetchReport(request, timeout=60))
    assert page.lstrip().lower().startswith(b"<!doctype html") and b"body.1.conv" in page


def test_a_request_id_makes_one_job(calls):
    first, again = calls.submit("same-id"), calls.submit("same-id")
    assert first.name == again.name
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED"):
        calls.submit("same-id", sweep="other")


def test_validation_stores_nothing(calls):
    before = calls.store().counts()
    request = pb.SubmitJobRequest(spec=calls.spec(recipe="1x4-75-int8"), validate_only=True, request_id="only")
    operation = calls.jobs.SubmitJob(request, timeout=30).operation
    metadata = pb.JobMetadata()
    assert operation.name == "" and operation.metadata.Unpack(metadata)
    assert json.loads(metadata.job.spec.recipe)["quantize"]["samples"] > 0
    assert sum(calls.store().counts().values()) == sum(before.values())


def test_cancelling_and_waiting(calls):
    operation = calls.long()
    watch = calls.jobs.WatchJob(pb.WatchJobRequest(name=operation.name), timeout=60)
    for answer in watch:
        if answer.job.state == pb.JOB_STATE_RUNNING:
            break
    wait = operations_pb2.WaitOperationRequest(name=operation.name)
    wait.timeout.FromMilliseconds(50)
    assert not calls.operations.WaitOperation(wait, timeout=30).done
    with refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH"):
        calls.jobs.CancelJob(pb.CancelJobRequest(name=operation.name, etag="1"), timeout=30)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "JOB_NOT_DONE"):
        list(calls.jobs.FetchReport(pb.FetchReportRequest(name=operation.name, format=1), timeout=30))
    for etag in ("x", "9" * 5000):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD", "etag"):
            calls.jobs.CancelJob(pb.CancelJobRequest(name=operation.name, etag=etag), timeout=30)
    calls.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name), timeout=30)
    wait.timeout.seconds = 1 << 60  # as long as the server likes
    ended = calls.operations.WaitOperation(wait, timeout=30)
    assert ended.done and ended.error.code == grpc.StatusCode.CANCELLED.value[0]
    last = list(watch)[-1].job
    assert last.state == pb.JOB_STATE_CANCELLED and last.cancel_requested


def test_deletion(calls):
    operation = calls.long()
    delete = operations_pb2.DeleteOperationRequest(name=operation.name)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "JOB_NOT_ENDED"):
        calls.operations.DeleteOperation(delete, timeout=30)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD", "name"):
        calls.operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name="jobs/x"), timeout=30)
    watch = calls.jobs.WatchJob(pb.WatchJobRequest(name=operation.name), timeout=60)
    calls.jobs.CancelJob(pb.CancelJobRequest(name=operation.name), timeout=30)
    assert list(watch)[-1].job.state == pb.JOB_STATE_CANCELLED
    calls.operations.DeleteOperation(delete, timeout=30)
    with refused(grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND"):
        calls.jobs.GetJob(pb.GetJobRequest(name=operation.name), timeout=30)


def test_what_a_deleted_job_made_is_garbage(calls):
    operation = calls.submit(display_name="to-be-deleted")
    job = list(calls.jobs.WatchJob(pb.WatchJobRequest(name=operation.name), timeout=60))[-1].job
    made = {job.result.bundle_sha256, job.result.report_sha256}

    def kept():
        refers = calls.store().refers_to
        return {digest for digest in made if refers(digest)}

    assert kept() == made
    calls.operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=operation.name), timeout=30)
    assert kept() == set()
    calls.server.blobs.collect(calls.store().refers_to, 0.0, dry=False)
    assert [calls.server.blobs.size(digest) for digest in made] == [None, None]
    calls.model = calls.put(network().SerializeToString())  # which was garbage as well


def test_deletion_needs_the_scope_submit(tmp_path):
    with serving(tmp_path, server={"tokens": "required"}) as server:
        token = server.tokens.create("reader", ["read"])
        with grpc.insecure_channel(server.address) as channel:
            request = operations_pb2.DeleteOperationRequest(name="jobs/" + "0" * 32)
            metadata = (("authorization", f"Bearer {token}"),)
            with refused(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"):
                operations_pb2_grpc.OperationsStub(channel).DeleteOperation(request, metadata=metadata, timeout=30)


def test_the_server_deletes_jobs_that_ended_long_ago(tmp_path):
    with serving(tmp_path, keep_ended_s=0) as server:
        calls = Calls(server)
        name = calls.submit().name
        list(calls.jobs.WatchJob(pb.WatchJobRequest(name=name), timeout=60))
        time.sleep(0.2)
        assert calls.store().get(name[5:]).state is State.SUCCEEDED  # 0: for ever
        calls.channel.close()
    with serving(tmp_path, keep_ended_s=0.2) as server:
        end = time.monotonic() + 20
        while server.optimizer.store.list().jobs:
            assert time.monotonic() < end
            time.sleep(0.02)
        calls = Calls(server)
        name = calls.submit().name
        while server.optimizer.store.list().jobs:  # in a later round, too
            assert time.monotonic() < end
            time.sleep(0.02)
        calls.channel.close()
    assert not (tmp_path / "jobs" / name[5:]).exists()


def test_a_failed_job_says_why_in_its_operation(calls):
    odd = network()
    odd.graph.node[2].op_type = "Nonsense"
    operation = calls.submit(model_sha256=calls.put(odd.SerializeToString()))
    job = list(calls.jobs.WatchJob(pb.WatchJobRequest(name=operation.name), timeout=60))[-1].job
    assert job.state == pb.JOB_STATE_FAILED and job.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert "Nonsense" in job.error.message


def test_pages_of_jobs(calls):
    names = [calls.submit(sweep="paged").name for _ in range(3)]
    first = calls.jobs.ListJobs(pb.ListJobsRequest(sweep="paged", page_size=2), timeout=30)
    second = calls.jobs.ListJobs(
        pb.ListJobsRequest(sweep="paged", page_size=2, page_token=first.next_page_token), timeout=30
    )
    assert [job.name for page in (first, second) for job in page.jobs] == names[::-1] and not second.next_page_token
    page = calls.operations.ListOperations(operations_pb2.ListOperationsRequest(page_size=1), timeout=30)
    assert len(page.operations) == 1 and page.next_page_token
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD", "page_token"):
        calls.jobs.ListJobs(pb.ListJobsRequest(page_token="nonsense"), timeout=30)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD", "page_size"):
        calls.jobs.ListJobs(pb.ListJobsRequest(page_size=-1), timeout=30)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD", "states"):
        calls.jobs.ListJobs(pb.ListJobsRequest(states=[0]), timeout=30)


BAD = {
    "no format": ({"model_format": 0}, "BAD_FIELD", "spec.model_format"),
    "no digest": ({"model_sha256": "x"}, "BAD_INPUT", "spec.model_sha256"),
    "recipe by path": ({"recipe": "/etc/passwd"}, "BAD_RECIPE", "spec.recipe"),
    "recipe field": ({"recipe": "version: 1\nsparsify:\n  patern: 1x4"}, "BAD_RECIPE", "spec.recipe"),
    "recipe empty": ({"recipe": ""}, "BAD_RECIPE", "spec.recipe"),
    "target": ({"target": "z80"}, "BAD_RECIPE", "spec.recipe"),
    "name": ({"display_name": "../x"}, "BAD_FIELD", "spec.display_name"),
    "training without step": (
        {"training": pb.Data(sha256="0" * 64, format=pb.DATA_FORMAT_NPZ)},
        "BAD_FIELD",
        "spec.training",
    ),
    "step without training": ({"recipe": json.dumps(TRAINED)}, "BAD_FIELD", "spec.training"),
    "data format": ({"calibration": pb.Data(sha256="0" * 64)}, "BAD_FIELD", "spec.calibration.format"),
    "limit": ({"limits": pb.JobLimits(memory_bytes=-1)}, "BAD_FIELD", "spec.limits.memory_bytes"),
    "publish": ({"publish": pb.Publish(bundle="b", version="1")}, "BAD_FIELD", "spec.publish"),
    "labels": ({"labels": {"k" * 65: "v"}}, "BAD_FIELD", "spec.labels"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_fields_are_named(calls, case):
    changes, reason, field = BAD[case]
    before = sum(calls.store().counts().values())
    with refused(grpc.StatusCode.INVALID_ARGUMENT, reason, field):
        calls.submit(**changes)
    assert sum(calls.store().counts().values()) == before


def test_the_line_of_a_wrong_recipe_is_said(calls):
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_RECIPE", "spec.recipe") as caught:
        calls.submit(recipe="version: 1\nsparsify:\n  patern: 1x4")
    assert "unknown field 'sparsify.patern'" in caught.value.details() and caught.info.metadata["where"] == "recipe:3"


def test_missing_blobs_and_malicious_models(calls):
    with refused(grpc.StatusCode.NOT_FOUND, "BLOB_NOT_FOUND") as caught:
        calls.submit(model_sha256="0" * 64)
    assert caught.info.metadata["sha256"] == "0" * 64
    before = sum(calls.store().counts().values())
    proto = network()
    proto.graph.initializer[0].data_location = 1
    proto.graph.initializer[0].external_data.add(key="location", value="/etc/shadow")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_MODEL", "spec.model_sha256"):
        calls.submit(model_sha256=calls.put(proto.SerializeToString()))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED", "spec.model_sha256"):
        calls.submit(model_sha256=calls.put(b"\x80\x04pickle"), model_format=pb.MODEL_FORMAT_PT2)
    assert sum(calls.store().counts().values()) == before


@pytest.mark.parametrize("name", ["", "jobs/", "jobs/../../etc", "jobs/" + "z" * 32])
def test_names_that_are_none(calls, name):
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD", "name"):
        calls.jobs.GetJob(pb.GetJobRequest(name=name), timeout=30)


def test_jobs_that_are_not_there(calls):
    name = "jobs/" + "0" * 32
    for call in (
        lambda: calls.jobs.GetJob(pb.GetJobRequest(name=name), timeout=30),
        lambda: calls.jobs.CancelJob(pb.CancelJobRequest(name=name), timeout=30),
        lambda: list(calls.jobs.WatchJob(pb.WatchJobRequest(name=name), timeout=30)),
        lambda: calls.operations.GetOperation(operations_pb2.GetOperationRequest(name=name), timeout=30),
        lambda: calls.operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=name), timeout=30),
    ):
        with refused(grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND"):
            call()


def test_limits_are_capped_by_the_servers(calls):
    limits = pb.JobLimits(memory_bytes=1 << 50, attempts=2, run_time=Duration(seconds=1 << 60))
    request = pb.SubmitJobRequest(spec=calls.spec(limits=limits), validate_only=True)
    metadata = pb.JobMetadata()
    calls.jobs.SubmitJob(request, timeout=30).operation.metadata.Unpack(metadata)
    got = metadata.job.spec.limits
    assert (got.memory_bytes, got.attempts, got.run_time.seconds) == (8 << 30, 2, 6 * 3600)


def test_a_server_that_ends_lets_watchers_go_and_its_successor_finishes_the_job(tmp_path):
    with serving(tmp_path) as server:
        calls = Calls(server)
        operation = calls.long()
        watch = calls.jobs.WatchJob(pb.WatchJobRequest(name=operation.name), timeout=60)
        for answer in watch:
            if answer.job.state == pb.JOB_STATE_RUNNING:
                break
    with refused(grpc.StatusCode.UNAVAILABLE, "DRAINING"):
        list(watch)
    calls.channel.close()
    with serving(tmp_path) as server:
        calls = Calls(server)
        end = time.monotonic() + 20
        while calls.store().get(operation.name[5:]).state is not State.RUNNING:
            assert time.monotonic() < end
            time.sleep(0.02)
        found = calls.jobs.CancelJob(pb.CancelJobRequest(name=operation.name), timeout=30).job
        assert found.attempt == 2 and found.last_failure == "the service ended in good order"
        list(calls.jobs.WatchJob(pb.WatchJobRequest(name=operation.name), timeout=30))
        calls.channel.close()


def test_ready_made_recipes_resolve(calls):
    request = pb.SubmitJobRequest(spec=calls.spec(recipe="2-4-int8", target="aarch64"), validate_only=True)
    metadata = pb.JobMetadata()
    calls.jobs.SubmitJob(request, timeout=30).operation.metadata.Unpack(metadata)
    found = json.loads(metadata.job.spec.recipe)
    assert (
        found["target"]["arch"] == "aarch64"
        and found["sparsify"] == load_recipe("2-4-int8").model_dump(mode="json")["sparsify"]
    )

"""The contracts: lint-clean by buf's STANDARD rules, status codes listed, generated code current in every package."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed: pip install 'gossamer[dev]'")
pytest.importorskip("google.longrunning", reason="googleapis-common-protos is missing: pip install -e ./services")
from google.protobuf import descriptor_pb2

from tools import gen_protos, lint_protos


def test_lint_is_clean(tmp_path):
    path = tmp_path / "protos.binpb"
    files = lint_protos.compile_set(path)
    assert {f.name for f in files.file} >= {f"gossamer/v1/{n}.proto" for n in ("registry", "optimizer", "fleet")}
    assert lint_protos.buf(path) == []
    assert list(lint_protos.undocumented(files)) == []


def test_lint_finds_what_breaks_the_rules(tmp_path):
    path = tmp_path / "bad.binpb"
    files = lint_protos.compile_set(path)
    registry = next(f for f in files.file if f.name == "gossamer/v1/registry.proto")
    registry.message_type.add(name="lowercase")
    registry.service[0].method[0].output_type = ".gossamer.v1.Blob"
    for location in registry.source_code_info.location:
        if tuple(location.path) == (6, 0, 2, 1):
            location.leading_comments = "Upload a blob, BOOK: no code here."
    path.write_bytes(files.SerializeToString())
    findings = "\n".join(lint_protos.buf(path))
    assert 'Message name "lowercase" should be PascalCase' in findings
    assert '"FindMissingBlobsResponse"' in findings
    assert list(lint_protos.undocumented(files)) == [
        "gossamer/v1/registry.proto: RegistryService.WriteBlob: the comment lists no status codes (OK: ...)"
    ]


def test_code_is_current():
    ran = subprocess.run(
        [sys.executable, "-m", "tools.gen_protos", "--check"],
        capture_output=True,
        text=True,
        cwd=Path(gen_protos.__file__).parent.parent,
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", ["registry", "optimizer", "fleet"])
def test_stubs_name_the_service_of_the_contract(name):
    stubs = importlib.import_module(f"gossamer._proto.v1.{name}_pb2_grpc")
    messages = importlib.import_module(f"gossamer._proto.v1.{name}_pb2")
    service = f"{name.capitalize()}Service"
    described = descriptor_pb2.FileDescriptorProto.FromString(messages.DESCRIPTOR.serialized_pb)
    assert [s.name for s in described.service] == [service]
    servicer = getattr(stubs, f"{service}Servicer")
    assert all(hasattr(servicer, m.name) for m in described.service[0].method)

"""Lint the contracts of proto/ with buf's STANDARD rules, plus what this project asks of comments; exit 1 on findings.

protoc compiles them to a descriptor set first, so that buf needs no network for Google's common files. Beyond buf, an
RPC's comment lists its status codes from OK on; the file's comment names those that any call shares.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2

from tools.gen_protos import includes, sources

_CONFIG = {"version": "v2", "lint": {"use": ["STANDARD"], "ignore": ["google"]}}


def compile_set(path: Path) -> descriptor_pb2.FileDescriptorSet:
    """Write the contracts, their imports and comments to ``path`` as one descriptor set, and read it back."""
    from grpc_tools import protoc

    wanted = sources()
    options = [f"--descriptor_set_out={path}", "--include_imports", "--include_source_info"]
    if protoc.main(["protoc", *includes(), *options, *wanted]):
        raise SystemExit("protoc failed; its message is above")
    return descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())


def buf(path: Path) -> list[str]:
    """Findings of ``buf lint``, one line each."""
    program = Path(sys.executable).with_name("buf")
    if not program.exists():
        raise SystemExit("buf is missing: pip install 'gossamer[dev]'")
    ran = subprocess.run(
        [program, "lint", f"{path}#format=binpb", "--config", json.dumps(_CONFIG)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode and not ran.stdout:
        raise SystemExit(f"buf failed: {ran.stderr}")
    return ran.stdout.splitlines()


def undocumented(files: descriptor_pb2.FileDescriptorSet) -> Iterator[str]:
    """RPCs whose comment does not list status codes from OK on."""
    for file in files.file:
        if not file.name.startswith("gossamer/"):
            continue
        comments = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}
        for i, service in enumerate(file.service):
            for j, method in enumerate(service.method):
                if not re.search(r"\bOK\b[:.,]", comments.get((6, i, 2, j), "")):
                    yield f"{file.name}: {service.name}.{method.name}: the comment lists no status codes (OK: ...)"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "protos.binpb"
        files = compile_set(path)
        findings = [*buf(path), *undocumented(files)]
    for line in findings:
        print(line, file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

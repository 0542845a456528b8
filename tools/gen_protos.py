"""Generate the Python code of proto/ (or, with --check, say whether it is current).

Messages, their types and the gRPC stubs go to every package of ``TARGETS``; a contract without a service gets no stubs.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from dataclasses import dataclass
from importlib import resources, util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"


@dataclass(frozen=True)
class Target:
    """Where code goes: ``module`` is the Python package at ``folder`` that stands for gossamer.v1, below ``root``.

    ``names``: the contracts it holds; None: all.
    """

    root: Path
    module: str
    subfolder: str = ""
    names: tuple[str, ...] | None = None


TARGETS = (
    Target(ROOT / "sdk" / "gossamer" / "_proto", "gossamer._proto.v1", "v1"),
    # The runtime imports nothing of the SDK, so its agent has the code of what it speaks for itself.
    Target(
        ROOT / "device_runtime" / "gossamer_runtime" / "agent" / "_proto",
        "gossamer_runtime.agent._proto",
        names=("device", "fleet", "profile", "registry"),
    ),
)


def includes() -> list[str]:
    """The -I options of protoc: ours, protobuf's own, and Google's common ones (longrunning, rpc) of their package."""
    spec = util.find_spec("google.longrunning")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("googleapis-common-protos is missing: pip install -e ./services")
    longrunning = Path(next(iter(spec.submodule_search_locations)))
    # That package ships operations.proto under another name than its descriptor has: protoc's VIRTUAL=DISK mends it.
    operations = f"google/longrunning/operations.proto={longrunning / 'operations_proto.proto'}"
    own = resources.files("grpc_tools") / "_proto"
    return [f"-I{PROTO}", f"-I{own}", f"-I{operations}", f"-I{longrunning.parent.parent}"]


def sources(names: tuple[str, ...] | None = None) -> list[str]:
    """Contracts relative to proto/, all of them or those named."""
    found = sorted(str(p.relative_to(PROTO)) for p in PROTO.rglob("*.proto"))
    return [s for s in found if names is None or Path(s).stem in names]


def generate(out: Path, target: Target) -> dict[str, str]:
    """Run protoc into ``out``; returns the files by path relative to the target's root."""
    from grpc_tools import protoc

    wanted = sources(target.names)
    services = [s for s in wanted if re.search(r"^service ", (PROTO / s).read_text(), re.M)]
    commands = [[f"--python_out={out}", f"--pyi_out={out}", *wanted]]
    if services:
        commands.append([f"--grpc_python_out={out}", *services])
    for arguments in commands:
        if protoc.main(["protoc", *includes(), *arguments]):
            raise SystemExit("protoc failed; its message is above")
    note = ", ".join(f"proto/{s}" for s in wanted) if target.names else "proto/gossamer/v1"
    files = {"__init__.py": f'"""Generated from {note}; see tools/gen_protos.py."""\n'}
    if target.subfolder:
        files[f"{target.subfolder}/__init__.py"] = f'"""Generated from {note}."""\n'
    for path in sorted(out.rglob("*.py*")):
        # proto packages are called gossamer.v1; in Python they live below another package and hide no module.
        code = re.sub(r"\bfrom gossamer\.v1 import", f"from {target.module} import", path.read_text())
        files[str(Path(target.subfolder, path.name))] = code
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the committed code is stale")
    check = parser.parse_args().check
    stale_anywhere = False
    for target in TARGETS:
        out = target.root
        with tempfile.TemporaryDirectory() as folder:
            files = generate(Path(folder), target)
        present = {str(p.relative_to(out)): p.read_text() for p in out.rglob("*.py*") if "__pycache__" not in p.parts}
        stale = sorted(n for n in files.keys() | present.keys() if files.get(n) != present.get(n))
        stale_anywhere |= bool(stale)
        for name in stale:
            path = out / name
            if check:
                print(f"stale: {path.relative_to(ROOT)}; run python -m tools.gen_protos", file=sys.stderr)
            elif name not in files:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(files[name])
                print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale_anywhere else 0


if __name__ == "__main__":
    sys.exit(main())

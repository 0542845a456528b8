"""Generate sdk/gossamer/_proto and the device agent's stubs from proto/ (with --check: say whether they are current)."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
OUT = ROOT / "sdk" / "gossamer" / "_proto"
PACKAGE = "gossamer._proto"
# The runtime imports nothing of gossamer, so the agent has the stubs of device.proto for itself.
AGENT_OUT = ROOT / "device_runtime" / "gossamer_runtime" / "agent" / "_proto"
AGENT_PACKAGE = "gossamer_runtime.agent._proto"


def generate(out: Path) -> dict[str, str]:
    """Run protoc into ``out``; returns the files by path relative to the package."""
    from grpc_tools import protoc

    sources = sorted(str(p.relative_to(PROTO)) for p in PROTO.rglob("*.proto"))
    well_known = str(resources.files("grpc_tools") / "_proto")
    arguments = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={out}", f"--pyi_out={out}", *sources]
    if protoc.main(arguments):
        raise SystemExit("protoc failed; its message is above")
    files = {}
    for path in sorted(out.rglob("*.py*")):
        # proto packages are called gossamer.v1; in Python they live below gossamer._proto and hide no module.
        name = str(path.relative_to(out)).replace("gossamer/v1/", "v1/")
        files[name] = re.sub(r"\bfrom gossamer\.v1 import", f"from {PACKAGE}.v1 import", path.read_text())
    files["__init__.py"] = '"""Generated protocol buffers; see tools/gen_protos.py."""\n'
    files["v1/__init__.py"] = '"""Generated from proto/gossamer/v1."""\n'
    return files


def generate_agent(out: Path) -> dict[str, str]:
    """The device agent's messages and service, by path relative to its package."""
    from grpc_tools import protoc

    arguments = ["protoc", f"-I{PROTO}", f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
    if protoc.main([*arguments, "gossamer/v1/device.proto"]):
        raise SystemExit("protoc failed; its message is above")
    files = {
        path.name: re.sub(r"\bfrom gossamer\.v1 import", f"from {AGENT_PACKAGE} import", path.read_text())
        for path in sorted(out.rglob("*.py*"))
    }
    files["__init__.py"] = '"""Generated from proto/gossamer/v1/device.proto; see tools/gen_protos.py."""\n'
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the committed code is stale")
    check = parser.parse_args().check
    stale = 0
    for make, out in ((generate, OUT), (generate_agent, AGENT_OUT)):
        with tempfile.TemporaryDirectory() as folder:
            files = make(Path(folder))
        stale += update(files, out, check)
    return 1 if check and stale else 0


def update(files: dict[str, str], out: Path, check: bool) -> int:
    """Make ``out`` hold exactly ``files`` (with ``check``: only say what differs); returns how many differ."""
    present = {str(p.relative_to(out)): p.read_text() for p in out.rglob("*.py*") if "__pycache__" not in p.parts}
    stale = sorted(n for n in files.keys() | present.keys() if files.get(n) != present.get(n))
    for name in stale:
        path = out / name
        if check:
            print(f"stale: {path.relative_to(ROOT)}; run python tools/gen_protos.py", file=sys.stderr)
        elif name not in files:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[name])
            print(f"wrote {path.relative_to(ROOT)}")
    return len(stale)


if __name__ == "__main__":
    sys.exit(main())

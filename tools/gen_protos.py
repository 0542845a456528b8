"""Generate sdk/gossamer/_proto from proto/ (or, with --check, say whether it is current)."""

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the committed code is stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        files = generate(Path(folder))
    present = {str(p.relative_to(OUT)): p.read_text() for p in OUT.rglob("*.py*") if "__pycache__" not in p.parts}
    stale = sorted(n for n in files.keys() | present.keys() if files.get(n) != present.get(n))
    if check:
        for name in stale:
            print(f"stale: sdk/gossamer/_proto/{name}; run python tools/gen_protos.py", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        path = OUT / name
        if name not in files:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[name])
        print(f"wrote sdk/gossamer/_proto/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tools.bench NAME [OPTIONS]``: the benchmarks of this package; each says with ``--help`` what it takes."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

BENCHES = ("native", "scaling", "wasm", "arm", "sparsifier_overhead")


def available() -> dict[str, str]:
    """Names of the benchmarks and the first line of their docstrings, without loading them."""
    files = {name: Path(__file__).with_name(f"{name}.py") for name in BENCHES}
    docs = {n: ast.get_docstring(ast.parse(f.read_text(encoding="utf-8"))) for n, f in files.items() if f.exists()}
    return {name: (doc or "").split("\n")[0] for name, doc in docs.items()}


def main(arguments: list[str]) -> int:
    """Runs the benchmark that the first argument names with the others; returns its exit status."""
    known = available()
    if not arguments or arguments[0] not in known:
        print(__doc__, *(f"  {name:20s} {line}" for name, line in known.items()), sep="\n")
        return 0 if arguments[:1] == ["--help"] else 2
    name, *rest = arguments
    status: int = importlib.import_module(f"tools.bench.{name}").main(rest) or 0
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

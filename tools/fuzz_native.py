"""Fuzzes the loader and the operators with libFuzzer, AddressSanitizer and UBSan.

``python -m tools.fuzz_native --seconds 60`` builds ``device_runtime/native/fuzz`` with clang, seeds the corpus from the
sample plans of tests/native, runs for the given time and exits non-zero if anything was found. Inputs that crash are
left in build/fuzz/. Needs clang 14 or later with its compiler-rt (Debian: clang-19 libclang-rt-19-dev).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.build_native import script

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "device_runtime" / "native"
OUT = ROOT / "build" / "fuzz"
SANITIZE = "-fsanitize=fuzzer-no-link,address,undefined"
NO_RECOVER = "-fno-sanitize-recover=undefined"


def find_clang() -> str | None:
    """The newest clang on PATH, or None."""
    names = [f"clang-{n}" for n in range(22, 13, -1)] + ["clang"]
    return next((path for name in names if (path := shutil.which(name))), None)


def _compile(clang: str, source: Path, flags: list[str]) -> Path:
    isa = script().ISA_FLAGS.get(source.stem.rpartition("__")[2], [])
    command = [clang, *flags, *isa, "-c", str(source)]
    headers = b"".join(path.read_bytes() for path in sorted(NATIVE.rglob("*.h")))
    key = hashlib.sha256(repr(command).encode() + source.read_bytes() + headers).hexdigest()[:32]
    final = OUT / "objects" / f"{key}.o"
    if not final.exists():
        temporary = final.with_suffix(f".{os.getpid()}.o")
        subprocess.run([*command, "-o", str(temporary)], check=True)
        temporary.replace(final)
    return final


def build(clang: str) -> Path:
    """Compiles the core with sanitizers and links the fuzz target."""
    (OUT / "objects").mkdir(parents=True, exist_ok=True)
    machine = os.uname().machine
    arch = {"x86_64": "x86", "aarch64": "arm"}[machine]
    flags = ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-g", "-O1", "-ffp-contract=off", SANITIZE, NO_RECOVER]
    flags += ['-DGS_VERSION="fuzz"', *(f"-I{NATIVE / folder}" for folder in ("include", "src", "kernels"))]
    patterns = ("src/*.c", "src/ops/*.c", "kernels/scalar/*.c", f"kernels/{arch}/*.c", "fuzz/*.c")
    sources = [path for pattern in patterns for path in sorted(NATIVE.glob(pattern))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda source: _compile(clang, source, flags), sources))
    target = OUT / "fuzz_bundle"
    link = [clang, "-fsanitize=fuzzer,address,undefined", *map(str, objects), "-lm", "-lpthread", "-o", str(target)]
    subprocess.run(link, check=True)
    return target


def write_seeds(folder: Path) -> int:
    """Writes one bundle per sample plan; returns how many."""
    from tests.native.plans import PLANS, sample

    folder.mkdir(parents=True, exist_ok=True)
    for name in PLANS:
        (folder / f"{name}.goss").write_bytes(sample(name))
    return len(PLANS)


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 0: nothing found, 1: a crash, 2: no clang."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz_native", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="how long to fuzz (default 60)")
    parser.add_argument("--jobs", type=int, default=1, help="fuzzers at once (default 1)")
    parser.add_argument("--build-only", action="store_true", help="build the target and the seeds, do not fuzz")
    options = parser.parse_args(arguments)
    clang = find_clang()
    if clang is None:
        print("skipped: no clang found; on Debian: apt-get install clang-19 libclang-rt-19-dev", file=sys.stderr)
        return 2
    target = build(clang)
    seeds = write_seeds(OUT / "seeds")
    print(f"{target.relative_to(ROOT)}: built with {Path(clang).name}, {seeds} seeds")
    if options.build_only:
        return 0
    corpus = OUT / "corpus"
    corpus.mkdir(exist_ok=True)
    command = [
        str(target),
        f"-max_total_time={options.seconds}",
        "-max_len=32768",
        "-timeout=20",
        "-rss_limit_mb=4096",
        "-malloc_limit_mb=2048",
        "-reduce_inputs=0",
        "-print_final_stats=1",
        f"-artifact_prefix={OUT}/",
        *([f"-fork={options.jobs}"] if options.jobs > 1 else []),
        str(corpus),
        str(OUT / "seeds"),
    ]
    return 0 if subprocess.run(command, check=False).returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

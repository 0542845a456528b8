"""Builds the C core with zig: shared libraries, static profilers, WASM modules.

Needs the ``ziglang`` package and nothing else: no system compiler, no root. Objects are cached by content (source,
every header, flags, compiler version), outputs appear atomically. Used by ``tools/build_native.py`` and by the wheel
hook ``hatch_build.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
NATIVE = PACKAGE / "native"
LIBRARY_DIR = PACKAGE / "gossamer_runtime" / "_lib"

WARNINGS = ["-Wall", "-Wextra", "-Werror"]
# -fno-math-errno lets sqrtf and friends become one instruction; it changes no result.
RELEASE = ["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-sanitize=undefined"]
DEBUG = ["-O1", "-g", "-ffp-contract=off", "-fno-omit-frame-pointer"]

ISA_FLAGS: dict[str, list[str]] = {
    "avx2": ["-mavx2", "-mfma"],
    "avxvnni": ["-mavx2", "-mfma", "-mavxvnni"],
    "avx512vnni": [
        "-mavx2",
        "-mfma",
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mavx512vnni",
        "-mprefer-vector-width=512",
    ],
    "neondot": ["-mcpu=generic+dotprod"],
}
"""Extra flags of files named ``*__<isa>.c``; the rest of a build is for the target's baseline."""


class BuildError(Exception):
    """A compiler or linker call failed; the message holds its output."""


@dataclass(frozen=True)
class Target:
    """One thing to build; ``kind``: ``library``, ``program`` or ``wasm``; ``skip``: instruction sets it lacks."""

    name: str
    triple: str
    cpu: str
    kernels: str
    kind: str
    output: str
    flags: tuple[str, ...] = ()
    skip: tuple[str, ...] = field(default=())
    program: str = "profiler"
    """Folder of native/ that holds the main function of a program."""


TARGETS = {
    t.name: t
    for t in [
        Target("x86_64-linux", "x86_64-linux-gnu.2.17", "x86_64", "x86", "library", "libgossamer-linux-x86_64.so"),
        Target("aarch64-linux", "aarch64-linux-gnu.2.17", "generic", "arm", "library", "libgossamer-linux-aarch64.so"),
        Target("x86_64-profiler", "x86_64-linux-musl", "x86_64", "x86", "program", "gossamer-profile"),
        Target("aarch64-profiler", "aarch64-linux-musl", "generic", "arm", "program", "gossamer-profile"),
        Target(
            "armv7-profiler",
            "arm-linux-musleabihf",
            "generic+v7a+neon+vfp4",
            "arm",
            "program",
            "gossamer-profile",
            skip=("neondot",),
        ),
        Target(
            "wasm",
            "wasm32-wasi",
            "",
            "wasm",
            "wasm",
            "gossamer.wasm",
            flags=("-msimd128",),
            skip=("wasmrelaxed", "wasmdot"),
        ),
        Target(
            "wasm-relaxed",
            "wasm32-wasi",
            "",
            "wasm",
            "wasm",
            "gossamer-relaxed.wasm",
            flags=("-msimd128", "-mrelaxed-simd"),
        ),
    ]
}
PROFILERS = tuple(t.name for t in TARGETS.values() if t.kind == "program")
"""Static programs for devices, which wheels carry."""
# The same programs around check/ instead of profiler/: every micro-kernel against plain sums, on each machine.
CHECKS = {
    t.name: t
    for t in [
        *(
            replace(t, name=t.name.replace("profiler", "check"), output="kernel-check", program="check")
            for t in TARGETS.values()
            if t.kind == "program"
        ),
        *(
            replace(t, name=f"{t.name}-check", kind="program", output="kernel-check.wasm", program="check")
            for t in TARGETS.values()
            if t.kind == "wasm"
        ),
    ]
}
TARGETS |= CHECKS
# Files every target compiles for the machine as a whole.
COMMON = ("src/*.c", "src/ops/*.c", "kernels/scalar/*.c")


def host_target() -> str:
    """Name of the library target of this machine; ``BuildError`` when there is none."""
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    name = f"{machine}-{platform.system().lower()}"
    if name not in TARGETS:
        raise BuildError(f"no native target for {name}; targets: {', '.join(TARGETS)}")
    return name


def version() -> str:
    """Version of the distribution, compiled into ``gs_version``."""
    text = (PACKAGE / "gossamer_runtime" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise BuildError("gossamer_runtime/_version.py names no __version__")
    return found.group(1)


def zig() -> str:
    """Path of the zig executable of the ``ziglang`` package."""
    try:
        import ziglang  # type: ignore[import-untyped]
    except ImportError as error:
        raise BuildError("the native core is built by zig: pip install ziglang==0.17.1") from error
    return str(Path(str(ziglang.__file__)).parent / ("zig.exe" if os.name == "nt" else "zig"))


def build_root() -> Path:
    """Where caches and artefacts go: build/native of the repository, or of the package when it stands alone."""
    repository = PACKAGE.parent
    return (repository if (repository / "tools").is_dir() else PACKAGE) / "build" / "native"


def _isa_of(source: Path) -> str:
    stem = source.stem
    return stem.rsplit("__", 1)[1] if "__" in stem else ""


def _sources(target: Target) -> tuple[list[Path], list[str]]:
    """Sources of a target and the definitions that follow from what is there."""
    sources = [path for pattern in COMMON for path in sorted(NATIVE.glob(pattern))]
    arch = sorted((NATIVE / "kernels" / target.kernels).glob("*.c"))
    defines = [f'-DGS_VERSION="{version()}"']
    if any(path.name == "table.c" for path in arch):
        sources += [path for path in arch if _isa_of(path) not in target.skip]
    else:
        defines.append("-DGS_SCALAR_ONLY")
    if target.kind == "program":
        sources += sorted((NATIVE / target.program).glob("*.c"))
    return sources, defines


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}\n{done.stdout}{done.stderr}".rstrip())


def _publish(temporary: Path, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(final)


@dataclass
class Builder:
    """Builds one target. ``counts`` tells how many files were compiled and how many came from the cache."""

    target: Target
    debug: bool = False
    output_dir: Path | None = None
    jobs: int = 0
    symbols: bool = False
    compiled: int = 0
    cached: int = 0

    def __post_init__(self) -> None:
        self.cache = build_root() / "cache"
        self.cache.mkdir(parents=True, exist_ok=True)
        self.zig = zig()
        headers = hashlib.sha256()
        for header in sorted(NATIVE.rglob("*.h")):
            headers.update(str(header.relative_to(NATIVE)).encode() + b"\0" + header.read_bytes())
        compiler = subprocess.run([self.zig, "version"], capture_output=True, text=True, check=True).stdout
        self.salt = headers.hexdigest() + compiler

    def _compile_flags(self) -> list[str]:
        t = self.target
        flags = ["-target", t.triple, *([f"-mcpu={t.cpu}"] if t.cpu else []), *t.flags]
        flags += [
            "-std=c11",
            "-D_POSIX_C_SOURCE=200809L",
            *(DEBUG if self.debug else RELEASE),
            *WARNINGS,
            "-fvisibility=hidden",
        ]
        flags += ["-ffunction-sections", "-fdata-sections", "-Iinclude", "-Isrc", "-Ikernels", "-Iprofiler"]
        if t.kind == "library":
            flags.append("-fPIC")
        return flags

    def _key(self, *parts: str | bytes) -> str:
        digest = hashlib.sha256(self.salt.encode())
        for part in parts:
            digest.update(part.encode() if isinstance(part, str) else part)
            digest.update(b"\0")
        return digest.hexdigest()[:40]

    def _object(self, source: Path, flags: list[str]) -> Path:
        relative = source.relative_to(NATIVE).as_posix()
        extra = ISA_FLAGS.get(_isa_of(source), [])
        if any(flag.startswith("-mcpu") for flag in extra):
            flags = [flag for flag in flags if not flag.startswith("-mcpu")]
        arguments = [*flags, *extra]
        final = self.cache / (self._key(relative, "\0".join(arguments), source.read_bytes()) + ".o")
        if final.exists():
            self.cached += 1
            return final
        temporary = final.with_suffix(f".{os.getpid()}.tmp.o")
        # Relative paths keep the machine's folders out of the objects: the same source gives the same bytes anywhere.
        done = subprocess.run(
            [self.zig, "cc", *arguments, "-c", relative, "-o", str(temporary)],
            cwd=NATIVE,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            temporary.unlink(missing_ok=True)
            raise BuildError(f"{self.target.name}: {relative} does not compile\n{done.stdout}{done.stderr}".rstrip())
        _publish(temporary, final)
        self.compiled += 1
        return final

    def _link_flags(self) -> list[str]:
        t = self.target
        flags = [
            "-target",
            t.triple,
            *([f"-mcpu={t.cpu}"] if t.cpu else []),
            *([] if self.debug or self.symbols else ["-s"]),
        ]
        if t.kind == "library":
            return [*flags, "-shared", "-Wl,--gc-sections", "-Wl,-z,defs", "-lm", "-lpthread"]
        if t.kind == "program":
            return [*flags, "-static", "-Wl,--gc-sections", "-lm", "-lpthread"]
        exports = ["malloc", "free", "__indirect_function_table"]
        return [
            *flags,
            "-mexec-model=reactor",
            "-Wl,--no-entry",
            "-Wl,--export-dynamic",
            "-Wl,--growable-table",
            "-Wl,-z,stack-size=1048576",
            *[f"-Wl,--export={name}" for name in exports],
        ]

    def build(self) -> Path:
        """Compiles and links; returns the path of the artefact. Raises ``BuildError`` with the compiler's words."""
        sources, defines = _sources(self.target)
        flags = [*self._compile_flags(), *defines]
        with ThreadPoolExecutor(self.jobs or os.cpu_count() or 1) as pool:
            objects = list(pool.map(lambda source: self._object(source, flags), sources))
        link = self._link_flags()
        linked = self.cache / (self._key("link", "\0".join(link), "\0".join(o.name for o in objects)) + ".linked")
        if not linked.exists():
            with tempfile.TemporaryDirectory(dir=self.cache) as folder:
                temporary = Path(folder) / self.target.output
                _run([self.zig, "cc", *link, *map(str, objects), "-o", str(temporary)])
                _publish(temporary, linked)
        if self.output_dir is not None:
            folder_out = self.output_dir
        else:
            folder_out = build_root() / (
                self.target.name + ("-debug" if self.debug else "-symbols" if self.symbols else "")
            )
        final = folder_out / self.target.output
        folder_out.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.name}.{os.getpid()}")
        shutil.copy2(linked, temporary)
        _publish(temporary, final)
        return final


def build(
    name: str, *, debug: bool = False, output_dir: Path | None = None, jobs: int = 0, symbols: bool = False
) -> Path:
    """Builds target ``name`` (``host`` for this machine's library, into the package) and returns the artefact.

    ``symbols`` keeps the names of functions in a release build, for profilers.
    """
    if name == "host":
        name = host_target()
        output_dir = output_dir or LIBRARY_DIR
    if name not in TARGETS:
        raise BuildError(f"unknown target {name!r}; targets: host, all, {', '.join(TARGETS)}")
    start = time.monotonic()
    builder = Builder(TARGETS[name], debug=debug, output_dir=output_dir, jobs=jobs, symbols=symbols)
    path = builder.build()
    shown = os.path.relpath(path) if path.is_relative_to(Path.cwd()) else path
    print(
        f"{shown}: {path.stat().st_size} bytes, {builder.compiled} compiled, {builder.cached} cached, "
        f"{time.monotonic() - start:.1f} s"
    )
    return path


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 0, or 1 when something does not build."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.build_native",
        description="Builds the C core with zig cc.",
        epilog="example: python -m tools.build_native --target host --target wasm",
    )
    choices = ["host", "all", *TARGETS]
    parser.add_argument("--target", action="append", choices=choices, help="what to build (default: host)")
    parser.add_argument("--debug", action="store_true", help="-O1 with symbols and trapping UBSan, not stripped")
    parser.add_argument("--output-dir", type=Path, help="where the artefact goes instead of its usual folder")
    parser.add_argument("--jobs", type=int, default=0, help="compiler processes at once (default: one per core)")
    options = parser.parse_args(arguments)
    names: list[str] = options.target or ["host"]
    if "all" in names:
        names = ["host", *(name for name in TARGETS if name != host_target())]
    try:
        for name in names:
            build(name, debug=options.debug, output_dir=options.output_dir, jobs=options.jobs)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

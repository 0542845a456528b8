"""What the build makes: the right exports, an old enough libc, a small wheel, and nothing half-written."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import gossamer_runtime
from gossamer._errors import InputError, UnsupportedError
from gossamer.device import _profilers
from gossamer_runtime import _native
from gossamer_runtime._version import __version__
from tests.native.goss import core
from tools import build_native

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "device_runtime" / "native" / "include" / "gossamer.h"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return build_native.script()


def _need_zig() -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed: pip install ziglang==0.17.1")


def test_library_exports_the_header_and_nothing_internal() -> None:
    lib = core()
    declared = re.findall(r"GS_API[^;(]*?\b(gs_\w+)\(", HEADER.read_text(encoding="utf-8"))
    assert len(declared) > 20
    for name in declared:
        assert hasattr(lib, name), name
    for name in ("gs_pick_mm", "gs_alloc", "gs_fail", "gs_op_types"):
        assert not hasattr(lib, name), name
    assert lib.gs_version().decode() == __version__
    assert lib.gs_abi_version() == _native.ABI_VERSION


def test_library_needs_no_libc_newer_than_2_17() -> None:
    if sys.platform != "linux":
        pytest.skip("the glibc floor is a matter of Linux")
    data = Path(_native.library_path()).read_bytes()
    versions = {tuple(map(int, v.split(b"."))) for v in re.findall(rb"GLIBC_(\d+\.\d+)", data)}
    assert versions
    assert max(versions) <= (2, 17)


def test_second_build_compiles_nothing(script: ModuleType, tmp_path: Path) -> None:
    _need_zig()
    target = script.TARGETS[script.host_target()]
    first = script.Builder(target, output_dir=tmp_path)
    path = first.build()
    content = path.read_bytes()
    second = script.Builder(target, output_dir=tmp_path)
    assert second.build() == path
    assert second.compiled == 0
    assert second.cached == first.compiled + first.cached > 30
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == [target.output]


def test_compile_error_names_the_file_and_leaves_nothing(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _need_zig()
    bad = tmp_path / "native" / "src" / "broken.c"
    bad.parent.mkdir(parents=True)
    (tmp_path / "native" / "include").mkdir()
    bad.write_text("int broken(void) { return nothing; }\n", encoding="utf-8")
    monkeypatch.setattr(script, "NATIVE", tmp_path / "native")
    out = tmp_path / "out"
    with pytest.raises(script.BuildError, match=r"src/broken.c does not compile[\s\S]*undeclared identifier 'nothing'"):
        script.Builder(script.TARGETS[script.host_target()], output_dir=out).build()
    assert not out.exists()


def test_unknown_target_lists_the_known_ones(script: ModuleType) -> None:
    with pytest.raises(script.BuildError, match=r"unknown target 'vax'.*armv7-profiler"):
        script.build("vax")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime's wheel for this machine."""
    _need_zig()
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed: pip install hatchling==1.33.0")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT / "device_runtime", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.mark.slow
def test_wheel_is_small_and_complete(wheel: Path) -> None:
    assert re.fullmatch(rf"gossamer_runtime-{re.escape(__version__)}-py3-none-manylinux_2_17_\w+\.whl", wheel.name)
    assert wheel.stat().st_size < 1_500_000
    archive = zipfile.ZipFile(wheel)
    names = [name for name in archive.namelist() if name.startswith("gossamer_runtime/_lib/")]
    programs = [f"gossamer_runtime/_lib/gossamer-profile-{m}.gz" for m in _profilers.MACHINES]
    assert len(names) == 4 and set(programs) < set(names)
    assert sum(name.startswith("gossamer_runtime/_lib/libgossamer-") for name in names) == 1
    assert sum(archive.getinfo(name).file_size for name in programs) < 700_000
    assert "gossamer_runtime/py.typed" in archive.namelist()
    assert not [name for name in archive.namelist() if name.endswith((".c", ".h"))]


@pytest.mark.slow
def test_installed_wheel_brings_the_profilers(script: ModuleType, wheel: Path, tmp_path: Path) -> None:
    assert script.PROFILERS == ("x86_64-profiler", "aarch64-profiler", "armv7-profiler")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    code = """if True:
        import gossamer_runtime, hashlib
        from gossamer.device import _profilers
        print(gossamer_runtime.__file__)
        for machine in _profilers.MACHINES:
            print(hashlib.sha256(_profilers.load(machine)).hexdigest())
    """
    # numpy from here; what an editable install adds to the path it adds to its own environment alone
    paths = os.pathsep.join([str(ROOT / "sdk"), sysconfig.get_path("purelib")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, check=True)
    package, *found = done.stdout.split()
    assert Path(package).is_relative_to(tmp_path / "venv")
    for machine, digest in zip(_profilers.MACHINES, found, strict=True):
        built = script.build(f"{machine}-profiler", output_dir=tmp_path / machine)
        assert digest == hashlib.sha256(built.read_bytes()).hexdigest()


def test_no_profiler_for_a_machine_or_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match="there is no static profiler for vax"):
        _profilers.load("vax")
    (tmp_path / "gossamer_runtime").mkdir()
    monkeypatch.setattr(gossamer_runtime, "__file__", str(tmp_path / "gossamer_runtime" / "__init__.py"))
    with pytest.raises(InputError, match="lacks its static profilers") as lacking:
        _profilers.load("armv7")
    assert lacking.value.hint == "reinstall gossamer-runtime"
    (tmp_path / "gossamer_runtime" / "_lib").mkdir()
    broken = tmp_path / "gossamer_runtime" / "_lib" / "gossamer-profile-armv7.gz"
    broken.write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match="the static profiler cannot be read"):
        _profilers.load("armv7")
    broken.unlink()
    (tmp_path / "build_native.py").touch()
    with pytest.raises(InputError, match="is not built") as unbuilt:
        _profilers.load("armv7")
    assert "--target armv7-profiler" in str(unbuilt.value.hint)

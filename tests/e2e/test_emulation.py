"""The emulated aarch64 device: what is missing is named, parts are whole or not there, programs see an ARM machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.emulation import parts
from tools.emulation.device import EmulatedDevice


def test_a_missing_program_is_named_with_its_package(monkeypatch):
    with pytest.raises(parts.UnavailableError, match="no-such-tool is missing: apt-get install some-package"):
        parts.tool("no-such-tool", "some-package")
    monkeypatch.setattr(parts.shutil, "which", lambda name, path=None: None)
    with pytest.raises(
        parts.UnavailableError, match="qemu-aarch64-static is missing: apt-get install qemu-user-static"
    ):
        parts.emulator()


def test_a_part_that_was_interrupted_is_made_anew(tmp_path):
    final = tmp_path / "part"

    def interrupted(made):
        (made / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts._made_once(final, interrupted)
    assert not final.exists()
    made = parts._made_once(final, lambda folder: (folder / "whole").touch())
    assert sorted(path.name for path in made.iterdir()) == ["whole"]
    assert parts._made_once(final, interrupted) == made  # it is there: nothing is done
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "part"]


def test_wheels_are_named_by_their_versions(tmp_path):
    folders = {parts.wheels_folder(packages, tmp_path) for packages in (["a==1"], ["a==2"], ["a==1", "b==1"])}
    assert len(folders) == 3 and all(folder.parent == tmp_path for folder in folders)


def test_what_cannot_be_had_is_said_and_leaves_nothing(tmp_path):
    with pytest.raises(parts.UnavailableError, match="ended with") as caught:
        parts.wheels(["no a requirement"], lambda _: None, tmp_path)
    assert "no a requirement" in str(caught.value)
    assert not parts.wheels_folder(["no a requirement"], tmp_path).exists()


@pytest.mark.slow
def test_programs_and_their_children_see_an_arm_machine(tmp_path):
    try:
        device = EmulatedDevice(tmp_path / "device")
    except parts.UnavailableError as error:
        pytest.skip(f"no emulated device: {error}")
    code = (
        "import subprocess, sys, platform; from gossamer_runtime import _native; "
        "child = subprocess.run([sys.executable, '-c', 'import platform; print(platform.machine())'], text=True, "
        "capture_output=True); "
        "print(platform.machine(), child.stdout.strip(), _native.detect_isa(), '0xd0b' in open('/proc/cpuinfo').read())"
    )
    done = subprocess.run(
        device.python("-c", code), env=device.environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "aarch64 aarch64 neondot True\n", done.stderr
    assert str(parts.FOLDER) not in Path("/proc/self/mounts").read_text()  # they were in a namespace of their own

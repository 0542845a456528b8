"""Every example of the READMEs runs as written, on the shipped detector and real photographs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from gossamer.person import model_path

ROOT = Path(__file__).parents[2]


def _blocks(readme: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / readme).read_text(), flags=re.M | re.S)


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder with model.onnx, photos/ and cat.jpg, as the examples suppose; keys go to a home of their own."""
    skimage_data = pytest.importorskip("skimage.data", reason="needs scikit-image: pip install 'gossamer[demo]'")
    folder = tmp_path_factory.mktemp("readme")
    shutil.copy(model_path(), folder / "model.onnx")
    (folder / "photos").mkdir()
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        Image.fromarray(getattr(skimage_data, name)()).save(folder / "photos" / f"{name}.png")
    Image.fromarray(skimage_data.chelsea()).save(folder / "cat.jpg")
    return folder


def _run(command: list[str], desk: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GOSSAMER_HOME", str(desk / "home"))
    monkeypatch.setenv("GOSSAMER_CACHE", str(desk / "cache"))
    done = subprocess.run(command, cwd=desk, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_shell_examples(desk, monkeypatch):
    lines = [
        line for block in _blocks("README.md", "sh") for line in block.splitlines() if line.startswith("gossamer ")
    ]
    assert [line.split()[1] for line in lines] == ["optimize", "verify", "run", "profile", "inspect"]
    printed = {}
    for line in lines:
        command = shlex.split(line)
        printed[command[1]] = _run([sys.executable, "-m", "gossamer", *command[1:]], desk, monkeypatch)
    assert (desk / "model.goss").stat().st_size < (desk / "model.onnx").stat().st_size / 2
    assert "cat.jpg" in printed["run"]
    assert "Conv" in printed["profile"]


def test_python_examples(desk, monkeypatch):
    blocks = _blocks("README.md", "python") + _blocks("device_runtime/README.md", "python")
    assert len(blocks) >= 2
    for block in blocks:
        shown = "{'0': 0." if "Sparsifier" in block else "Conv"  # share of zeros by layer
        assert shown in _run([sys.executable, "-c", block], desk, monkeypatch)


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = {m for block in _blocks("README.md", "sh") for m in re.findall(r"^make ([a-z-]+)", block, flags=re.M)}
    assert named >= {"demo", "test"}
    assert named <= targets

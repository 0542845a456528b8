"""Signed bundles with versions and rollback counters, and a trial that opens them in this process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from gossamer.bundle import container, keys, sign
from gossamer.compile.plan import Section
from gossamer_runtime import Session
from gossamer_runtime.agent._trial import Facts
from tests.shellkit import Work, _made, cli, home, work

__all__ = ["_made", "bundles", "cli", "home", "other_key", "trial", "work"]


class Here:
    """Opens bundles with a real Session in this process: quick enough for thousands of power cuts."""

    def __init__(self, during_run: Callable[[], None] = lambda: None) -> None:
        self._during_run = during_run
        self._session: Session | None = None

    def check(self, bundle: str | bytes) -> Facts:
        self._session = Session(bundle)
        m = self._session.manifest
        return Facts(m["name"], m.get("version", ""), m.get("rollback_counter", 0))

    def run(self, inputs: Sequence[bytes] = ()) -> float:
        assert self._session is not None
        self._during_run()
        self._session.run([np.zeros(p.shape, p.dtype) for p in self._session.inputs])
        return 1.0

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


@pytest.fixture
def trial() -> type[Here]:
    return Here


@pytest.fixture
def bundles(work: Work) -> Callable[..., bytes]:
    """``bundles(version, counter, key=..., pad=...)``: the small network, signed anew with another manifest."""

    def make(version: str = "1", counter: int = 0, *, key: Path | None = None, pad: int = 0) -> bytes:
        data = work.bundle.read_bytes()
        found = {s.kind: s for s in container.sections(data)}

        def part(kind: Section) -> bytes:
            return data[found[kind].offset : found[kind].offset + found[kind].size]

        manifest = {**json.loads(part(Section.MANIFEST)), "version": version}
        if counter:
            manifest["rollback_counter"] = counter
        if pad:  # bytes that do not compress, so that a bundle has a wanted size
            manifest["description"] = np.random.default_rng(int(version)).bytes(pad // 2).hex()
        text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
        built = container.build(part(Section.PLAN), part(Section.WEIGHTS), text)
        return sign.sign(built, keys.load_private(key or work.home / "keys" / "default.key"))

    return make


@pytest.fixture
def own(work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own that trusts the shared key: tests write their list of devices."""
    home = tmp_path / "home"
    shutil.copytree(work.home, home)
    monkeypatch.setenv("GOSSAMER_HOME", str(home))
    return home


@pytest.fixture
def files(tmp_path: Path, bundles: Callable[..., bytes]) -> list[Path]:
    """Versions 1 and 2 with counter 1, and an older one with 0."""
    paths = [tmp_path / "one.goss", tmp_path / "two.goss", tmp_path / "old.goss"]
    for path, data in zip(paths, (bundles("1", 1), bundles("2", 1), bundles("3", 0)), strict=True):
        path.write_bytes(data)
    return paths


@pytest.fixture
def other_key(tmp_path: Path) -> Path:
    """A key pair that nobody trusts."""
    return Path(os.fspath(keys.new_key("other", tmp_path / "elsewhere").private))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

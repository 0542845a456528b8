"""Training that goes wrong: losses and weights that are no numbers, states and starts that do not fit, a kill -9."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gossamer import InputError, ModelError, RecipeError
from gossamer.person import dataset
from gossamer.person.dataset import PersonDataset

torch = pytest.importorskip("torch", reason="training needs the [torch] extra")

from gossamer.person import training  # noqa: E402 - after the skip
from gossamer.person.learner import Learner  # noqa: E402
from gossamer.person.models import build  # noqa: E402
from gossamer.person.training import TrainSettings, initial_digests, train  # noqa: E402

TINY = TrainSettings(candidates=("v1-0.1",), bank=16, epochs=3, batch=8, warmup=1, ema_decay=0.5, seed=4)


def silent(_: str) -> None:
    pass


def changed(**values: Any) -> TrainSettings:
    return dataclasses.replace(TINY, **values)


def all_finite(path: Path) -> bool:
    state = torch.load(path, weights_only=True)
    return all(bool(torch.isfinite(v).all()) for v in state["candidates"][0]["net"].values())


@pytest.fixture(scope="module")
def people(tiny_people: Path) -> PersonDataset:
    return PersonDataset(tiny_people)


def test_a_learning_rate_that_is_far_too_high_is_named(people: PersonDataset, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(InputError, match=r"of 'v1-0\.1' is no number after epoch \d") as caught:
        train(people, changed(learning_rate=1e30, epochs=20), state_path=path, save_every=1, log=silent)
    assert "lower learning rate" in str(caught.value.hint)
    assert not path.exists() or all_finite(path)


@pytest.mark.parametrize("what", ["loss", "weight"])
def test_the_state_from_before_goes_on_to_where_an_unbroken_run_ends(
    people: PersonDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A fault in the second of three epochs: before its last step the loss shows it, after it the weights alone do."""
    path, kept = tmp_path / "state.pt", []
    whole = train(people, TINY, log=silent)
    real = Learner.step

    def spoilt(self: Learner, number: int, progress: float) -> None:
        def spoil() -> None:
            with torch.no_grad():
                self.candidate.net.classifier.bias.fill_(float("nan"))

        if number == 3 and what == "loss":
            spoil()
        real(self, number, progress)
        if number == 3 and what == "weight":
            spoil()

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", spoilt)
        message = rf"(the|a) {what} of 'v1-0\.1' is no number after epoch 2"
        with pytest.raises(InputError, match=message) as caught:
            train(people, TINY, state_path=path, save_every=1, log=silent, keep=lambda n: kept.append(n))
    assert f"{path} is from before" in str(caught.value.hint)
    assert torch.load(path, weights_only=True)["epoch"] == 1
    assert all_finite(path)
    assert len(kept) == 1
    rest = train(people, TINY, state_path=path, log=silent)
    assert rest.losses == [pytest.approx(x) for x in whole.losses]
    assert rest.steps == whole.steps == 6
    done = train(people, TINY, state_path=path, log=silent)  # nothing left to do
    assert (done.steps, done.losses) == (6, rest.losses)


@pytest.mark.slow
def test_a_kill_in_the_midst_of_writing_leaves_the_last_good_state(tiny_people: Path, tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from gossamer import _atomic
from gossamer.person.dataset import PersonDataset
from gossamer.person.training import TrainSettings, train
real, written = os.fdopen, []
class Cut:
    def __init__(self, file): self.file = file
    def __enter__(self): return self
    def __exit__(self, *a): self.file.close()
    def __getattr__(self, name): return getattr(self.file, name)
    def write(self, data):
        written.append(len(data))
        if len(written) == 2:  # the second state: half of it, then kill -9
            self.file.write(data[: len(data) // 2]); self.file.flush(); os.kill(os.getpid(), signal.SIGKILL)
        return self.file.write(data)
_atomic.os.fdopen = lambda *a, **k: Cut(real(*a, **k))
settings = TrainSettings(candidates=("v1-0.1",), bank=16, epochs=3, batch=8, warmup=1, ema_decay=0.5, seed=4)
train(PersonDataset({str(tiny_people)!r}), settings, state_path={str(tmp_path / "state.pt")!r}, save_every=1)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    lines: list[str] = []
    out = train(PersonDataset(tiny_people), TINY, state_path=tmp_path / "state.pt", log=lines.append)
    assert "going on after epoch 1" in lines
    assert out.steps == 6


def test_a_state_of_another_run_is_refused_before_any_work(
    people: PersonDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.pt"
    train(people, TINY, state_path=path, stop_after=1, log=silent)
    content = path.read_bytes()

    def work(*_: Any, **__: Any) -> Any:
        raise AssertionError("views were made")

    monkeypatch.setattr(training, "fill", work)
    with pytest.raises(InputError, match=r"candidates = \('v1-0\.1',\), this one \('v1-0\.1\+granet:1x4:0\.5',\)"):
        train(people, changed(candidates=("v1-0.1+granet:1x4:0.5",)), state_path=path, log=silent)
    with pytest.raises(InputError, match="the saved run has other photos"):
        train(people, TINY, state_path=path, train_limit=20, log=silent)

    class Teacher:
        name = "someone"

        def digest(self) -> str:
            return "0" * 64

    monkeypatch.setattr(training, "TeacherEnsemble", lambda teachers: torch.nn.Identity())
    with pytest.raises(InputError, match="the saved run has other teachers"):
        train(people, TINY, state_path=path, teachers=[Teacher()], log=silent)  # type: ignore[list-item]
    for damaged in (b"", b"no state", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"no state of a training run, or a damaged one") as caught:
            train(people, TINY, state_path=path, log=silent)
        assert caught.value.where == str(path)
    torch.save({"net": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="no state of a training run"):
        train(people, TINY, state_path=path, log=silent)


def test_weights_to_start_from(people: PersonDataset, tmp_path: Path) -> None:
    start = changed(candidates=("v1-0.1+from:old",))
    with pytest.raises(InputError, match=r"\+from:old needs a folder"):
        train(people, start, log=silent)
    with pytest.raises(InputError, match="no weights to start from"):
        initial_digests(start.candidates, tmp_path)

    def begin() -> None:
        settings = dataclasses.replace(start, initial=initial_digests(start.candidates, tmp_path))
        train(people, settings, initial=tmp_path, log=silent)

    place = tmp_path / "old.pt"
    place.write_bytes(b"no weights")
    with pytest.raises(ModelError, match="this is no file of weights") as caught:
        begin()
    assert caught.value.where == str(place)
    state = build("v1-0.1").state_dict()
    state["trunk.0.0.weight"][0, 0] = float("nan")
    torch.save(state, place)
    with pytest.raises(ModelError, match=r"'trunk\.0\.0\.weight' holds 9 values that are not finite"):
        begin()
    torch.save(build("v1-0.25").state_dict(), place)
    with pytest.raises(InputError, match="another network"):
        begin()
    torch.save(build("v1-0.1").state_dict(), place)
    digests = initial_digests(start.candidates, tmp_path)
    torch.save(build("v1-0.1").state_dict(), place)
    with pytest.raises(InputError, match="not those of the settings"):
        train(people, dataclasses.replace(start, initial=digests), initial=tmp_path, log=silent)


class OneLabel(PersonDataset):
    """person128 whose split has photos with a person alone."""

    split = "val"

    def select(self, split: str | None = None, *, without: Any = ()) -> list[dataset.Photo]:
        found = super().select(split, without=without)
        return [p for p in found if p.split != self.split or p.label == 1]


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_class_is_named(tiny_people: Path, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OneLabel, "split", split)
    with pytest.raises(InputError, match="no photo without a person") as caught:
        train(OneLabel(tiny_people), TINY, log=silent)
    assert f"split {split}" in str(caught.value.where)


def test_a_candidate_that_may_see_one_label_only_is_refused(people: PersonDataset) -> None:
    """Source ``street`` has persons alone."""
    both = changed(candidates=("v1-0.1", "v1-0.1+without:home"), bank=128)
    with pytest.raises(InputError, match="no view without a person is left of 128"):
        train(people, both, log=silent)


def test_a_candidate_twice_or_none_is_refused(people: PersonDataset) -> None:
    with pytest.raises(InputError, match="each once"):
        train(people, changed(candidates=("v1-0.1", "v1-0.1")), log=silent)
    with pytest.raises(InputError, match="no candidates"):
        train(people, changed(candidates=()), log=silent)


def test_a_recipe_that_leaves_a_layer_empty_is_named(people: PersonDataset, tmp_path: Path) -> None:
    settings = changed(candidates=("v1-0.1+gradual-magnitude:1x4:0.999,end=1",), epochs=2)
    with pytest.raises(RecipeError, match="empty") as caught:
        train(people, settings, state_path=tmp_path / "state.pt", log=silent)
    assert "trunk" in str(caught.value)

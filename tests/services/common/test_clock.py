"""The services' clock: never backwards, also over restarts, and nothing that expired comes back to life."""

from __future__ import annotations

import logging
import threading

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")

from gossamer_services.common.clock import Clock
from gossamer_services.common.errors import SettingsError

NOW = 1_790_000_000.0


class Machine:
    """A machine whose clock can be set."""

    def __init__(self, folder) -> None:
        self.path, self.wall, self.steady = folder / "clock", NOW, 50.0

    def start(self, *, accept: bool = False) -> Clock:
        return Clock(self.path, accept=accept, wall=lambda: self.wall, steady=lambda: self.steady)

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_is_the_machines_clock_as_long_as_that_goes_forwards(machine):
    clock = machine.start()
    for seconds in (0.0, 0.25, 3600.0):
        machine.wait(seconds)
        assert clock() == machine.wall
    machine.wall += 1e6  # set forwards
    assert clock() == machine.wall


def test_goes_on_at_half_speed_until_the_machine_has_caught_up(machine, caplog):
    clock = machine.start()
    caplog.set_level(logging.ERROR, "gossamer_services")
    machine.wall -= 3600
    assert clock() == NOW
    machine.wait(100)
    assert clock() == NOW + 50
    machine.wait(3000)
    assert (clock(), machine.wall) == (NOW + 1550, NOW - 500)
    machine.wait(2050)
    assert clock() == machine.wall == NOW + 1550
    machine.wait(1)
    assert clock() == machine.wall
    assert [r.getMessage() for r in caplog.records] == [
        "the machine's clock jumped back; time goes on at half speed until it has caught up"
    ]
    assert (caplog.records[0].back_s, caplog.records[0].clock) == (3600, "2026-09-21 13:13:20 UTC")
    machine.wall -= 10  # another jump
    clock()
    assert len(caplog.records) == 2
    machine.wait(100)
    clock()
    machine.wall -= 0.5  # what a time service does
    clock()
    assert len(caplog.records) == 2


def test_never_backwards_in_any_thread(machine):
    clock, seen = machine.start(), []

    def look() -> None:
        seen.append([clock() for _ in range(2000)])

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for step in range(2000):
        machine.wall += -7.0 if step % 3 else 5.0
        machine.steady += 0.01
    for thread in threads:
        thread.join()
    assert all(times == sorted(times) for times in seen)


@pytest.mark.parametrize("back", [0.0, 299.0])
def test_a_start_a_little_behind_goes_on_from_the_last_run(machine, back):
    machine.start().keep()
    machine.wall -= back
    clock = machine.start()
    assert clock() == NOW
    machine.wait(1000)
    assert clock() == NOW + 1000 - back


def test_a_start_far_behind_is_refused_until_the_clock_is_accepted(machine):
    clock = machine.start()
    machine.wait(86400 + 3600)
    clock.keep()
    machine.wall = NOW
    with pytest.raises(SettingsError) as caught:
        machine.start()
    assert caught.value.message == (
        "the machine's clock says 2026-09-21 14:13:20 UTC, which is 1 day, 1:00:00 before the last run's "
        "2026-09-22 15:13:20 UTC"
    )
    assert caught.value.where == str(machine.path)
    assert "gossamer serve --set state.accept_clock=true" in (caught.value.hint or "")
    clock = machine.start(accept=True)
    assert clock() == NOW
    clock.keep()
    assert machine.start()() == NOW


@pytest.mark.parametrize("content", [b"", b"soon", b"nan", b"inf", b"-1", b"1e300", b"\xff"])
def test_a_damaged_file_is_refused_until_the_clock_is_accepted(machine, content):
    machine.path.write_bytes(content)
    with pytest.raises(SettingsError, match="the time of the last run cannot be read"):
        machine.start()
    machine.start(accept=True).keep()
    assert machine.start()() == NOW


def test_a_folder_that_cannot_be_written_is_logged(machine, caplog):
    clock = machine.start()
    machine.path.mkdir()
    caplog.set_level(logging.WARNING, "gossamer_services")
    clock.keep()
    assert [r.getMessage() for r in caplog.records] == ["the time cannot be kept"]
    assert "the output path is a folder" in caplog.records[0].error

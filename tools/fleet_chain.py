"""The chain from a client's call to profiles of devices, step by step, for ``make demo-fleet`` and its test.

Every part is the real one, as a process of its own: ``gossamer serve`` with all services, ``gossamer-agent`` on this
machine and in an emulated aarch64 one.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer._errors import GossamerError, UnreachableError
from gossamer.cli._services import setting
from tools.child import bound
from tools.serving import serving

if TYPE_CHECKING:
    from gossamer.bundle.keys import KeyInfo
    from gossamer.client import Client, DeviceProfile, FleetDevice, JobStatus, Result, Rollout
    from gossamer.device.target import Device
    from tools.emulation.device import EmulatedDevice

MODEL, VERSION = "person", "1"
RECIPE = "person-demo"
PHOTO = "astronaut.png"
ARM = "cpu=cortex-a76"
"""Selects the emulated device among those of the fleet, by what it says of itself."""
_AGENT = ("-m", "gossamer_runtime.agent._main")
_START_SECONDS = 120.0
"""For whatever an emulated device has to do before it answers; on an idle machine it takes five."""
_RUN_SECONDS = 60.0
"""For one inference of an emulated device on a busy machine; the agent's own 10 s suit a Raspberry Pi."""


def new_key(folder: Path) -> KeyInfo:
    """The key that the server signs with and the devices trust; this machine's own keys are left alone."""
    from gossamer.bundle import keys

    return keys.new_key("fleet", folder / "keys")


@contextlib.contextmanager
def server(folder: Path, key: KeyInfo) -> Iterator[str]:
    """All services on loopback, signing with ``key``; gives their address. Devices come every second."""
    settings = [setting("optimizer.key", str(key.private)), "server.drain_delay_s=0", "server.device_bind=127.0.0.1:0"]
    settings += ["fleet.heartbeat_s=1", "fleet.rollout_check_s=0.5"]
    with serving((), folder / "server", settings) as (_, ports):
        if not ports:
            raise GossamerError("gossamer serve did not start", where=str(folder), hint="it said why above")
        yield f"127.0.0.1:{ports[0]}"


def calibration_folder(folder: Path) -> Path:
    """The demo's photographs as the folder that a client sends for calibration."""
    from tools.demo import CALIBRATION, open_photos

    made = folder / "calibration"
    made.mkdir()
    for name, image in open_photos(CALIBRATION):
        image.convert("RGB").save(made / f"{Path(name).stem}.png")
    return made


def optimise(client: Client, calibration: Path, *, progress: bool | Callable[[JobStatus], None] = False) -> Result:
    """The shipped float detector, pruned, quantised, signed and published as ``bundles/person/versions/1``."""
    from gossamer import person

    job = client.submit(person.model_path(), RECIPE, calibration, name=MODEL, version=VERSION, publish=(MODEL, VERSION))
    return job.wait(progress=progress)


@dataclass
class Agent:
    """A ``gossamer-agent`` that runs: its process, and the device that it answers for."""

    name: str
    process: subprocess.Popen[bytes]
    device: Device


@contextlib.contextmanager
def local_agent(folder: Path, key: KeyInfo) -> Iterator[Agent]:
    """On this machine, with slots in ``folder``."""
    folder.mkdir()
    command = [sys.executable, *_AGENT]
    options = ["--root", str(folder / "slots"), "--trusted-key", str(key.public_path)]
    with _agent("local", folder, [*command, *options], str(folder / "port"), None) as agent:
        yield agent


def enroll(device: EmulatedDevice, client: Client, address: str) -> FleetDevice:
    """Make an emulated machine a device of the fleet, as one does there: a one-time token buys its certificate.

    Raises:
        GossamerError: it did not enrol.
    """
    token = device.folder / "token"
    token.write_text(client.fleet.enrollment_token({"site": "emulated"}).token)
    options = ["--root", device.inside(device.folder / "slots"), "--fleet", address]
    options += ["--token-file", device.inside(token)]
    command = device.python(*_AGENT, "enroll", *options)
    try:
        done = subprocess.run(
            command, env=device.environment, capture_output=True, text=True, timeout=_START_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as e:
        raise UnreachableError(f"gossamer-agent enroll took longer than {_START_SECONDS:g} s", where=address) from e
    if done.returncode != 0:
        raise GossamerError(f"gossamer-agent enroll ended with {done.returncode}: {done.stderr.strip()}")
    (found,) = client.fleet.devices(ARM)
    return found


@contextlib.contextmanager
def emulated_agent(device: EmulatedDevice, key: KeyInfo) -> Iterator[Agent]:
    """In an emulated machine that has enrolled: does what its fleet wishes, and takes calls as well."""
    trusted = device.folder / "trusted.pub"
    trusted.write_bytes(key.public_path.read_bytes())
    options = ["--root", device.inside(device.folder / "slots"), "--trusted-key", device.inside(trusted)]
    options += ["--fleet", "--run-seconds", f"{_RUN_SECONDS:g}"]
    port_file = device.inside(device.folder / "port")
    with _agent("emulated", device.folder, device.python(*_AGENT, *options), port_file, device.environment) as agent:
        yield agent


@contextlib.contextmanager
def _agent(
    name: str, folder: Path, command: Sequence[str], port_file: str, environment: Mapping[str, str] | None
) -> Iterator[Agent]:
    from gossamer.device.book import Place
    from gossamer.device.target import open_device

    log, port = folder / "agent.log", folder / "port"
    line = [*command, "--bind", "127.0.0.1:0", "--port-file", port_file]
    with log.open("wb") as out:
        # A session of its own: Ctrl-C ends the demo, which then stops its agents in order.
        process = subprocess.Popen(bound(line), stdout=out, stderr=out, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not (port.exists() and port.read_text().endswith("\n")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UnreachableError(f"the {name} agent did not start:\n{log.read_text()}", where=str(log))
            time.sleep(0.05)
        place = Place(name=name, address=f"127.0.0.1:{int(port.read_text())}")
        with contextlib.closing(open_device(place.check())) as device:
            yield Agent(name, process, device)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """As systemd does: SIGTERM, and SIGKILL when that does not end it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def roll_out(client: Client, version: str, progress: Callable[[Rollout], None] | None = None) -> Rollout:
    """Have the fleet bring a version to its ARM devices, and wait until they run it.

    Raises:
        GossamerError: they do not.
    """
    started = client.fleet.start_rollout(version, ARM)
    try:
        ended = client.fleet.wait_rollout(started.name, progress=progress, timeout_s=_START_SECONDS)
    except TimeoutError as e:
        raise UnreachableError(f"the rollout goes on still after {_START_SECONDS:g} s", where=started.name) from e
    if ended.state != "COMPLETED":
        raise GossamerError(f"the rollout is {ended.state}: {ended.message}", where=ended.name)
    return ended


@dataclass(frozen=True)
class Answer:
    """What one machine makes of the photograph: raw bytes of each output, and microseconds of the inference."""

    machine: str
    isa: str
    outputs: tuple[bytes, ...]
    us: float

    @property
    def person(self) -> float:
        """The probability of a person, by the detector's two logits."""
        import numpy as np

        from gossamer.person import person_probability

        return float(person_probability(np.frombuffer(self.outputs[0], np.float32).reshape(1, 2))[0])


def ask_session(bundle: Path, key: KeyInfo) -> tuple[bytes, Answer]:
    """The photograph as the bundle's manifest prepares it, and what this machine's own Session answers."""
    import numpy as np

    from gossamer._images import to_input
    from gossamer.bundle.manifest import from_dict
    from gossamer_runtime import Session
    from tools.demo import open_photos

    ((_, image),) = open_photos([PHOTO])
    with Session(bundle, trusted_keys=[str(key.public_path)]) as session:
        x: Any = to_input(image, from_dict(session.manifest).inputs[0])
        started = time.perf_counter()
        found = session.run(x)
        us = (time.perf_counter() - started) * 1e6
        outputs = found if isinstance(found, list) else [found]
        return x.tobytes(), Answer("Session", session.isa, tuple(np.asarray(y).tobytes() for y in outputs), us)


def ask_agent(agent: Agent, photo: bytes) -> Answer:
    """What the bundle that a device runs answers."""
    us, outputs = agent.device.run([photo])
    return Answer(agent.name, agent.device.info()["isa"], tuple(output.data for output in outputs), us)


def profile(agent: Agent, file: Path, *, runs: int = 20) -> Path:
    """Have the device time every operator of what it runs; ``file`` gets the profile's JSON."""
    file.write_text(agent.device.profile(runs=runs, warmup=3)[0])
    return file


def fleet_profile(client: Client, file: Path, *, runs: int = 20) -> DeviceProfile:
    """Hold an ARM device of the fleet and have it time every operator of what it runs; ``file`` gets the JSON."""
    found = client.fleet.profile(ARM, runs=runs, warmup=3, wait_s=_START_SECONDS)
    file.write_text(json.dumps(found.to_json()))
    return found


def compare(a: Path, b: Path) -> str:
    """What ``gossamer profile compare`` says of two profiles.

    Raises:
        GossamerError: it does not take them.
    """
    command = [sys.executable, "-m", "gossamer", "profile", "compare", a.name, b.name]
    done = subprocess.run(command, cwd=a.parent, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GossamerError(f"gossamer profile compare ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout

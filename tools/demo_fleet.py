"""From a client's call to profiles of two devices, as ``make demo-fleet``.

Starts the services, an agent on this machine and one in an emulated aarch64 machine (skipped by name where emulation is
missing), which enrols with the fleet. A client submits the shipped person detector, watches the job and fetches the
signed bundle; one device is flashed, the other pulls it in a rollout; both run the same photograph. Ends with 0 when
their output bytes are equal, and equal to those of this machine's own Session.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from gossamer._errors import GossamerError, OutputError
from gossamer._tables import bytes_text, columns
from tools import fleet_chain as chain

if TYPE_CHECKING:
    from gossamer.bundle.keys import KeyInfo
    from gossamer.client import Client

_numbers = itertools.count(1)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 0 when all bits are equal, 1 when not, an error's own exit code, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--local", action="store_true", help="leave the emulated device out")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in a new FOLDER and leave it there")
    options = parser.parse_args(arguments)
    before = {number: signal.signal(number, _interrupted) for number in (signal.SIGTERM, signal.SIGHUP)}
    started = time.perf_counter()
    try:
        with _folder(options.keep) as folder:
            equal = run(folder, emulated=not options.local)
    except GossamerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started has been stopped", file=sys.stderr)
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print(f"\ndone in {time.perf_counter() - started:.1f} s; everything that was started has been stopped")
    return 0 if equal else 1


def run(folder: Path, *, emulated: bool) -> bool:
    """All steps in order; whether the output bytes are equal everywhere."""
    from gossamer.client import Client

    key = chain.new_key(folder)
    with contextlib.ExitStack() as stack:
        with _step("Serve registry, optimizer and fleet"):
            address = stack.enter_context(chain.server(folder, key))
            print(f"gossamer serve on {address}, its own data folder, bundles signed by key {key.fingerprint}")
        client = stack.enter_context(Client(address))
        with _step("Start the devices"):
            local = stack.enter_context(chain.local_agent(folder / "local", key))
            arm = stack.enter_context(_emulated(folder, key, client, address)) if emulated else None
            agents = [agent for agent in (local, arm) if agent is not None]
            for agent in agents:
                info = agent.device.info()
                print(
                    f"{agent.name}: gossamer-agent {info['runtime_version']}, {info['machine']}, {info['isa']} kernels"
                )
        with _step(f"Submit the shipped detector with recipe {chain.RECIPE}, and watch the job"):
            result = chain.optimise(client, chain.calibration_folder(folder), progress=True)
            numbers = result.numbers
            stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in numbers.stage_seconds.items())
            print(f"seconds by stage: {stages}")
        with _step("Fetch the bundle"):
            bundle = result.save(folder / "person.goss")
            print(
                f"{numbers.version}: {bytes_text(numbers.model_bytes)} of float32 ONNX became "
                f"{bytes_text(numbers.bundle_bytes)}, {numbers.sparsity_percent:.1f}% zeros, "
                f"sha256 {numbers.bundle_sha256[:16]}"
            )
        with _step("Bring it to the devices"):
            flashed = local.device.flash(bundle)
            print(f"local, flashed: {flashed.status} in slot {flashed.slot} after a trial, {flashed.seconds:.2f} s")
            if arm is not None:
                began = time.perf_counter()
                rollout = chain.roll_out(client, numbers.version)
                seconds = time.perf_counter() - began
                print(
                    f"emulated, by a rollout to {chain.ARM}: pulled, tried and committed, known after {seconds:.2f} s; "
                    f"{rollout.updated_devices} of {rollout.matching_devices} devices"
                )
        with _step(f"Run {chain.PHOTO} on all of them"):
            photo, here = chain.ask_session(bundle, key)
            answers = [here, *(chain.ask_agent(agent, photo) for agent in agents)]
            equal = all(answer.outputs == here.outputs for answer in answers)
            rows = [
                [a.machine, a.isa, f"{100 * a.person:.2f}", b"".join(a.outputs).hex(), f"{a.us:.0f}"] for a in answers
            ]
            print(columns(["machine", "kernels", "person %", "output bytes", "us"], rows, left={0, 1, 3}))
            print("equal in every byte" if equal else "NOT equal")
        with _step("Profile the devices"):
            mine = chain.profile(local, folder / "local.json")
            if arm is None:
                print(f"{mine.stat().st_size} bytes of JSON came back; there is no second device to compare with")
            else:
                theirs = folder / "emulated.json"
                found = chain.fleet_profile(client, theirs)
                print(f"emulated: held, {found.name} came back through the fleet from {found.device} ({found.cpu})\n")
                print(chain.compare(mine, theirs))
                print(
                    "B is emulated: its times are those of qemu translating ARM instructions, and say nothing of an "
                    "ARM machine. What can be compared are the operators, and the kernels that each machine chose."
                )
    return equal


@contextlib.contextmanager
def _emulated(folder: Path, key: KeyInfo, client: Client, address: str) -> Iterator[chain.Agent | None]:
    """The emulated device in the fleet; None, and a line that names what is missing, where there can be none."""
    from tools.emulation.device import EmulatedDevice
    from tools.emulation.parts import UnavailableError

    try:
        device = EmulatedDevice(folder / "emulated")
    except UnavailableError as error:
        print(f"skipped: the emulated device: {error}")
        yield None
        return
    enrolled = chain.enroll(device, client, address)
    print(f"emulated: enrolled as {enrolled.name}, {enrolled.facts.cpu}, {enrolled.facts.system}")
    with chain.emulated_agent(device, key) as agent:
        yield agent


@contextlib.contextmanager
def _step(text: str) -> Iterator[None]:
    """A heading, and at the end the seconds that it took."""
    title = f"{next(_numbers)}. {text}"
    print(f"\n{title}\n{'-' * len(title)}", flush=True)
    started = time.perf_counter()
    yield
    print(f"({time.perf_counter() - started:.1f} s)", flush=True)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        try:
            keep.mkdir(parents=True)
        except OSError as e:
            raise OutputError(f"cannot make the folder: {e.strerror}", where=str(keep), hint="give a new one") from e
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="gossamer-fleet-") as folder:
        yield Path(folder)


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

"""A device of its own in the emulated aarch64 Debian: its folder, the runtime in it, and commands that run there.

Everything happens in a user namespace, without root and without a trace on this machine: binfmt_misc hands aarch64
programs to qemu-user there, the programs that they start included, and /proc/cpuinfo is that of the processor.
"""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from tools.emulation import parts
from tools.emulation.cpuinfo import cpuinfo
from tools.emulation.parts import Say, UnavailableError

CPU = "cortex-a76"
"""Of a Raspberry Pi 5."""
PACKAGES = ("numpy", "grpcio", "protobuf", "cryptography")
"""What the runtime and its agent need, in the versions that are installed here."""
_INSIDE = "/mnt"

# binfmt_misc belongs to the namespace from Linux 6.7 on. Before, mounting it fails, and what the machine itself
# registered (qemu-user-static does, with the flag F) is used.
_ENTER = r"""
set -e
system=$1 site=$2 device=$3 qemu=$4
shift 4
if mount -t binfmt_misc none /proc/sys/fs/binfmt_misc 2>/dev/null; then
  printf '%s' ":aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"\
":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:$qemu:F" \
    > /proc/sys/fs/binfmt_misc/register
fi
mount --rbind /proc "$system/proc"
mount --rbind /dev "$system/dev"
mount --bind "$site" "$system/opt"
mount --bind "$device" "$system/mnt"
mount --bind "$device/cpuinfo" "$system/proc/cpuinfo"
exec chroot "$system" "$@"
"""


class EmulatedDevice:
    """An aarch64 machine whose own files are in ``folder``, which programs there see as ``/mnt``.

    The first one makes the Debian and the wheels, which takes a minute and the network; the others share them.

    Args:
        folder: of this device; made if missing. ``cpu``: by its name in qemu.
        say: told what takes long.

    Raises:
        UnavailableError: something is missing, by name.
        BuildError: the native core does not compile.
    """

    def __init__(self, folder: Path, *, cpu: str = CPU, say: Say = print) -> None:
        self.folder = folder.resolve()
        self._qemu, self._unshare = parts.emulator(), parts.tool("unshare", "util-linux")
        self._system = parts.debian(say)
        self._site = parts.wheels([f"{name}=={version(name)}" for name in PACKAGES], say)
        for name in ("tmp", "home"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "cpuinfo").write_text(cpuinfo(cpu))
        _install_runtime(self.folder / "runtime")
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "QEMU_CPU": cpu,
            "PYTHONPATH": f"{_INSIDE}/runtime:/opt",
            "HOME": f"{_INSIDE}/home",
            "TMPDIR": f"{_INSIDE}/tmp",
            "LANG": "C.UTF-8",
        }
        self._try()

    def inside(self, path: Path) -> str:
        """What programs of the device call a file in its folder."""
        return f"{_INSIDE}/{path.resolve().relative_to(self.folder).as_posix()}"

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs a program there, with ``environment``."""
        places = [str(path) for path in (self._system, self._site, self.folder)]
        enter = [self._unshare, "--user", "--map-root-user", "--mount", "sh", "-c", _ENTER, "sh"]
        return [*enter, *places, self._qemu, *arguments]

    def python(self, *arguments: str) -> list[str]:
        """The command line of the device's Python."""
        return self.command(f"/usr/bin/python{parts.PYTHON}", *arguments)

    def _try(self) -> None:
        tried = subprocess.run(
            self.command("/bin/sh", "-c", "/bin/uname -m"),  # a child, too, as the agent has them
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if (tried.returncode, tried.stdout) != (0, "aarch64\n"):
            said = (tried.stderr or tried.stdout).strip().splitlines()[-1:] or [f"code {tried.returncode}"]
            raise UnavailableError(
                f"aarch64 programs do not run here ({said[0]}): needs user namespaces, and Linux 6.7 or qemu "
                "registered with binfmt_misc (apt-get install qemu-user-static)"
            )


def _install_runtime(folder: Path) -> None:
    """The runtime as it stands in this checkout, with the core for aarch64."""
    from tools.build_native import script

    try:
        script().zig()
    except script().BuildError as e:
        raise UnavailableError(str(e)) from e
    core = Path(script().build("aarch64-linux"))
    package = folder / "gossamer_runtime"
    shutil.rmtree(package, ignore_errors=True)
    source = parts.ROOT / "device_runtime" / "gossamer_runtime"
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__", "_lib"))
    (package / "_lib").mkdir()
    shutil.copy2(core, package / "_lib")

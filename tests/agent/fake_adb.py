"""Stands in for ``adb`` in PATH: a folder is the phone's ``/data/local/tmp``, its shell is this machine's.

``GOSSAMER_FAKE_PHONE`` names the folder; its ``machine`` says what the phone is, its ``calls`` is a log.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fake_device import MACHINES, run

PHONE = Path(os.environ["GOSSAMER_FAKE_PHONE"])
TMP = "/data/local/tmp"


def main(arguments: list[str]) -> int:
    with (PHONE / "calls").open("a") as log:
        log.write(" ".join(arguments) + "\n")
    serial, verb, rest = arguments[1], arguments[2], arguments[3:]
    if serial != "PHONE1":
        print(f"adb: device '{serial}' not found", file=sys.stderr)
        return 1
    here = str(PHONE / "tmp")
    if verb == "push":
        if (PHONE / "corrupt").exists() and rest[1].endswith(".goss"):
            Path(rest[1].replace(TMP, here)).write_bytes(Path(rest[0]).read_bytes()[:-1])
        else:
            shutil.copyfile(rest[0], rest[1].replace(TMP, here))
        return 0
    if verb == "pull":
        shutil.copyfile(rest[0].replace(TMP, here), rest[1])
        return 0
    assert verb == "shell" and len(rest) == 1
    program = f"{TMP}/gossamer/gossamer-profile"
    if rest[0].startswith(program) and (PHONE / "crash").exists():
        return 139
    machine = MACHINES[(PHONE / "machine").read_text()]
    return run(rest[0].replace(TMP, here), machine, program.replace(TMP, here))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

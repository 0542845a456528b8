"""`gossamer serve` as a process of its own, for the demo and the benchmarks of the services."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.child import bound


@contextlib.contextmanager
def serving(services: Sequence[str], data: Path, settings: Sequence[str] = ()) -> Iterator[tuple[int, list[int]]]:
    """Serve on loopback until the block, or this process, ends; gives the process id and the ports that it announces.

    Args:
        services: such as ``registry``.
        data: folder of its state.
        settings: ``section.setting=value``.
    """
    command = [sys.executable, "-m", "gossamer", "serve", *services, "--data", str(data), "--bind", "127.0.0.1:0"]
    for setting in ("server.log_level=WARNING", *settings):
        command += ["--set", setting]
    with subprocess.Popen(bound(command), stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.pid, [int(port) for port in re.findall(r":(\d+)", server.stdout.readline())]
        finally:
            server.terminate()

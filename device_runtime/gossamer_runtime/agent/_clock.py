"""A clock that is wrong: TLS then fails for reasons that say nothing of clocks, and devices often start without one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime

from gossamer_runtime.agent import _certificate
from gossamer_runtime.agent._address import split
from gossamer_runtime.agent._certificate import Certificate

_FETCH_SECONDS = 10.0
_FETCH = "import ssl, sys; h, p, t = sys.argv[1:]; print(ssl.get_server_certificate((h, int(p)), timeout=float(t)))"


def problem(now: datetime, certificates: Mapping[str, Certificate]) -> str:
    """What a clock that says ``now`` has against certificates, by their names for people; empty: nothing."""
    for name, certificate in certificates.items():
        if not certificate.is_good_at(now):
            early = now < certificate.not_before
            what = "begins at" if early else "ended at"
            when = certificate.not_before if early else certificate.not_after
            remedy = (
                "set the clock" if early else "set the clock, or have the certificate made anew if the clock is right"
            )
            return f"the device's clock says {_text(now)}, and {name} {what} {_text(when)}: {remedy}"
    return ""


def server_certificate(address: str) -> Certificate | None:
    """The certificate that a server shows, unverified; None when it shows none.

    Asked for in a process of its own: Python's ssl would stay in the agent's memory (see ``_lean``).
    """
    host, port = split(address, "")
    command = [sys.executable, "-c", _FETCH, host, str(port), str(_FETCH_SECONDS)]
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=3 * _FETCH_SECONDS, check=True)
        return _certificate.parse(done.stdout)
    return None


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")

"""A clock that is wrong: TLS then fails for reasons that say nothing of clocks, and devices often start without one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime

from gossamer_runtime.agent import _certificate
from gossamer_runtime.agent._address import split
from gossamer_runtime.agent._certificate import Certificate

_FETCH_SECONDS = 5.0


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
    """The certificate that a server shows, unverified; None when it shows none."""
    import ssl

    with contextlib.suppress(OSError, ValueError):
        host, port = split(address, "")
        return _certificate.parse(ssl.get_server_certificate((host, port), timeout=_FETCH_SECONDS))
    return None


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")

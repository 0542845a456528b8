"""The device agent: two bundle slots that survive power cuts, and the service that flashes, runs and profiles them.

The slots need numpy alone; the service needs ``pip install 'gossamer-runtime[agent]'``. An application on the device
opens what the agent committed::

    from gossamer_runtime import Session
    from gossamer_runtime.agent import active_bundle

    session = Session(active_bundle("/var/lib/gossamer"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer_runtime.agent._slots import active_bundle as active_bundle

__all__ = ["active_bundle"]


def __getattr__(name: str) -> Any:  # later, so that the agent's process decides first what is loaded: see _lean
    if name != "active_bundle":
        raise AttributeError(f"module 'gossamer_runtime.agent' has no attribute {name!r}")
    from gossamer_runtime.agent._slots import active_bundle

    return active_bundle

"""Gossamer's device runtime: open a ``.goss`` bundle, check its signature, run it, profile it. Needs numpy alone.

::

    from gossamer_runtime import Session

    with Session("model.goss", threads=1) as session:
        y = session.run(x)
        print(session.profile(runs=50).table())
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gossamer_runtime._errors import (
    BackendError,
    BundleError,
    GossamerError,
    InputError,
    LibraryError,
    OutOfMemoryError,
    SignatureError,
    UnsupportedError,
)
from gossamer_runtime._version import __version__

if TYPE_CHECKING:
    from gossamer_runtime._figures import OpTime as OpTime
    from gossamer_runtime._native import detect_isa as detect_isa
    from gossamer_runtime._profile import Profile as Profile
    from gossamer_runtime._session import Port as Port
    from gossamer_runtime._session import Session as Session

_LAZY = {
    "OpTime": "gossamer_runtime._figures",
    "Port": "gossamer_runtime._session",
    "Profile": "gossamer_runtime._profile",
    "Session": "gossamer_runtime._session",
    "detect_isa": "gossamer_runtime._native",
}

__all__ = [
    "BackendError",
    "BundleError",
    "GossamerError",
    "InputError",
    "LibraryError",
    "OpTime",
    "OutOfMemoryError",
    "Port",
    "Profile",
    "Session",
    "SignatureError",
    "UnsupportedError",
    "__version__",
    "detect_isa",
]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'gossamer_runtime' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

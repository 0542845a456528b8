"""Loading gossamer-services, a distribution of its own, with an error that says how to get it; its settings."""

from __future__ import annotations

import importlib
import json
from types import ModuleType

from gossamer._errors import BackendError


def services_module(name: str) -> ModuleType:
    """A module of ``gossamer_services``.

    Raises:
        BackendError: it, or something that it needs, is not installed.
    """
    try:
        return importlib.import_module(f"gossamer_services.{name}")
    except ModuleNotFoundError as e:
        raise BackendError(
            f"the services are not installed (no module {e.name})",
            hint="pip install gossamer-services (from a checkout: pip install -e ./services)",
        ) from e


def setting(name: str, text: str) -> str:
    """A setting that is text, as ``--set`` takes it."""
    return f"{name}={json.dumps(text, ensure_ascii=False)}"

"""The checks of ``gossamer device doctor``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gossamer._errors import GossamerError, SlotError

if TYPE_CHECKING:
    from gossamer.device.target import Device

_LEAST_FREE_BYTES = 16 << 20


def check_device(opened: Callable[[], Device]) -> list[dict[str, Any]]:
    """Each check as ``check``, ``ok``, ``detail``, ``exit_code``; nothing more is asked of a device out of reach."""
    try:
        device = opened()
        info = device.info()
    except GossamerError as e:
        return [_row("reached", False, str(e).replace("\n", " "), e.exit_code)]
    checks = [_row("reached", True, info.get("address") or info["root"])]
    if "runtime_version" in info:
        checks += [_versions(info), _core(info), _keys(info)]
    checks += [_slots(info), _space(info)]
    if "runtime_version" in info and any(s["status"] == "active" for s in info["slots"]):
        checks.append(_run(device))
    return checks


def _row(check: str, ok: bool, detail: str, code: int = 1) -> dict[str, Any]:
    return {"check": check, "ok": ok, "detail": detail, "exit_code": 0 if ok else code}


def _versions(info: dict[str, Any]) -> dict[str, Any]:
    from gossamer_runtime import __version__

    there = info["runtime_version"]
    note = "" if there == __version__ else f"; here {__version__}"
    return _row("runtime", True, f"{there} on {info['machine']}, {info['system']}{note}")


def _core(info: dict[str, Any]) -> dict[str, Any]:
    if not info["core_version"]:
        return _row("native core", False, "it is missing: reinstall gossamer-runtime on the device", 15)
    return _row("native core", True, f"{info['core_version']}, best instruction set {info['isa']}")


def _keys(info: dict[str, Any]) -> dict[str, Any]:
    from gossamer.bundle import keys

    there = set(info["trusted_keys"])
    own = [k for k in keys.list_keys() if k.private]
    known = [k.name for k in own if k.fingerprint in there]
    if not there:
        return _row("keys", False, "the device trusts no key: put a .pub file into its trust store", 9)
    if own and not known:
        return _row("keys", False, f"it trusts {len(there)}, none of which can sign here", 9)
    return _row("keys", True, f"it trusts {len(there)}" + (f"; can sign here: {', '.join(known)}" if known else ""))


def _slots(info: dict[str, Any]) -> dict[str, Any]:
    shown = ", ".join(f"{s['slot']}: {s['status']} {s.get('name', '')}".strip() for s in info["slots"])
    bad = bool(info["problem"]) or not any(s["status"] in ("active", "trial") for s in info["slots"])
    problem = info["problem"] or "no bundle runs yet"
    return _row("slots", not bad, f"{shown}; {problem}" if bad else shown, SlotError.exit_code)


def _space(info: dict[str, Any]) -> dict[str, Any]:
    largest = max((s.get("size_bytes", 0) for s in info["slots"]), default=0)
    free = info["disk_free_bytes"]
    ok = free >= max(_LEAST_FREE_BYTES, 2 * largest)
    return _row("space", ok, f"{free / 1e6:.1f} MB free where the slots are", SlotError.exit_code)


def _run(device: Device) -> dict[str, Any]:
    try:
        us, outputs = device.run([])
    except GossamerError as e:
        return _row("run", False, str(e).replace("\n", " "), e.exit_code)
    return _row("run", True, f"{us:.0f} us on zeros, {len(outputs)} outputs")

"""ctypes binding of the native core (``native/include/gossamer.h``): types, functions, and where the library is."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from typing import Any

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

ABI_VERSION = 1
MAX_RANK = 6
ISA_BEST = 255
OK = 0

DTYPES = {1: "float32", 2: "int8", 3: "uint8", 4: "int32", 5: "int64", 6: "int16", 7: "uint32"}
"""Names (numpy's) of the core's element types."""


class ErrorStruct(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 256)]


class IoStruct(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_uint32),
        ("dims", ctypes.c_uint32 * MAX_RANK),
        ("scale", ctypes.c_float),
        ("zero_point", ctypes.c_int32),
        ("bytes", ctypes.c_size_t),
    ]


class OpInfoStruct(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("source", ctypes.c_char_p),
        ("kind", ctypes.c_char_p),
        ("pattern", ctypes.c_char_p),
        ("kernel", ctypes.c_char_p),
        ("dtype", ctypes.c_int),
        ("macs", ctypes.c_uint64),
        ("macs_executed", ctypes.c_uint64),
        ("weight_count", ctypes.c_uint64),
        ("weight_nonzero", ctypes.c_uint64),
        ("bytes_in", ctypes.c_uint64),
        ("bytes_out", ctypes.c_uint64),
        ("bytes_weights", ctypes.c_uint64),
        ("fused", ctypes.c_uint32),
    ]


class ExternTensorStruct(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_uint32),
        ("dims", ctypes.c_uint32 * MAX_RANK),
        ("bytes", ctypes.c_size_t),
    ]


_TENSORS = ctypes.POINTER(ExternTensorStruct)
EXTERN_FN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, _TENSORS, ctypes.c_uint32, _TENSORS, ctypes.c_uint32
)


class OptionsStruct(ctypes.Structure):
    _fields_ = [
        ("threads", ctypes.c_uint32),
        ("isa_cap", ctypes.c_int),
        ("extern_fn", EXTERN_FN),
        ("extern_user", ctypes.c_void_p),
    ]


_P = ctypes.c_void_p
_ERR = ctypes.POINTER(ErrorStruct)
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "gs_abi_version": (ctypes.c_uint32, []),
    "gs_version": (ctypes.c_char_p, []),
    "gs_detect_isa": (ctypes.c_int, []),
    "gs_isa_name": (ctypes.c_char_p, [ctypes.c_int]),
    "gs_isa_parse": (ctypes.c_int, [ctypes.c_char_p]),
    "gs_bundle_verify": (ctypes.c_int, [_P, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, _ERR]),
    "gs_ed25519_verify": (ctypes.c_int, [ctypes.c_char_p, ctypes.c_char_p, _P, ctypes.c_size_t]),
    "gs_model_open": (ctypes.c_int, [_P, ctypes.c_size_t, ctypes.POINTER(_P), _ERR]),
    "gs_model_close": (None, [_P]),
    "gs_model_input_count": (ctypes.c_uint32, [_P]),
    "gs_model_output_count": (ctypes.c_uint32, [_P]),
    "gs_model_input": (ctypes.c_int, [_P, ctypes.c_uint32, ctypes.POINTER(IoStruct)]),
    "gs_model_output": (ctypes.c_int, [_P, ctypes.c_uint32, ctypes.POINTER(IoStruct)]),
    "gs_model_op_count": (ctypes.c_uint32, [_P]),
    "gs_model_arena_bytes": (ctypes.c_size_t, [_P]),
    "gs_model_manifest": (_P, [_P, ctypes.POINTER(ctypes.c_size_t)]),
    "gs_model_extern_count": (ctypes.c_uint32, [_P]),
    "gs_model_extern": (
        _P,
        [_P, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32), ctypes.POINTER(ctypes.c_size_t)],
    ),
    "gs_session_open": (ctypes.c_int, [_P, ctypes.POINTER(OptionsStruct), ctypes.POINTER(_P), _ERR]),
    "gs_session_close": (None, [_P]),
    "gs_session_run": (ctypes.c_int, [_P, ctypes.POINTER(_P), ctypes.POINTER(_P), _ERR]),
    "gs_session_run_timed": (ctypes.c_int, [_P, ctypes.POINTER(_P), ctypes.POINTER(_P), _P, _ERR]),
    "gs_session_op_info": (ctypes.c_int, [_P, ctypes.c_uint32, ctypes.POINTER(OpInfoStruct)]),
    "gs_session_bytes": (ctypes.c_size_t, [_P]),
}

_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64", "armv7l": "armv7"}
_SUFFIXES = {"linux": "so", "darwin": "dylib", "windows": "dll"}


def library_path() -> str:
    """Where the native core is: ``GOSSAMER_LIB`` when set, else the one that came with this package."""
    override = os.environ.get("GOSSAMER_LIB")
    if override:
        return override
    system = {"win32": "windows", "darwin": "darwin"}.get(sys.platform, "linux")
    machine = os.uname().machine if hasattr(os, "uname") else platform.machine()
    machine = _MACHINES.get(machine.lower(), machine.lower())
    folder = os.path.join(os.path.dirname(__file__), "_lib")
    return os.path.join(folder, f"libgossamer-{system}-{machine}.{_SUFFIXES[system]}")


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded core with all argument types declared.

    Raises:
        LibraryError: there is none for this machine, it cannot be loaded, or it has another ABI version.
    """
    path = library_path()
    if not os.path.isfile(path):
        raise LibraryError(
            "the native core for this machine is missing",
            where=path,
            hint="install the gossamer-runtime wheel of this platform, or in a source tree run "
            "'python tools/build_native.py'; GOSSAMER_LIB=<path> names another library",
        )
    try:
        lib = ctypes.CDLL(path)
        for name, (restype, argtypes) in _SIGNATURES.items():
            function = getattr(lib, name)
            function.restype = restype
            function.argtypes = argtypes
    except (OSError, AttributeError) as e:
        raise LibraryError(
            f"the native core cannot be loaded: {e}",
            where=path,
            hint="reinstall gossamer-runtime, or rebuild with 'python tools/build_native.py'",
        ) from e
    found = int(lib.gs_abi_version())
    if found != ABI_VERSION:
        raise LibraryError(
            f"the native core has ABI version {found}, this package needs {ABI_VERSION}",
            where=path,
            hint="reinstall gossamer-runtime, or rebuild with 'python tools/build_native.py'",
        )
    return lib


def detect_isa() -> str:
    """Name of the best instruction set that this machine and build have, such as ``avx2`` or ``neondot``.

    Raises:
        LibraryError: the native core is missing or cannot be loaded.
    """
    lib = library()
    return _text(lib.gs_isa_name(lib.gs_detect_isa()))


def core_fingerprint() -> str:
    """Twelve hex digits of the SHA-256 of the loaded core: another build of one version may be faster or slower.

    Raises:
        LibraryError: the core is missing.
    """
    import hashlib

    with open(library_path(), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:12]


def core_version() -> str:
    """Version of the native core."""
    return _text(library().gs_version())


def parse_isa(name: str | None) -> int:
    """Number of an instruction set by name; ``None`` is the best one.

    Raises:
        InputError: no instruction set has that name.
    """
    if name is None or name == "best":
        return ISA_BEST
    value = int(library().gs_isa_parse(name.encode()))
    if value < 0:
        raise InputError(
            f"no instruction set is called {name!r}",
            hint="use scalar, avx2, avxvnni, avx512vnni, neon, neondot, wasm128, wasmrelaxed, "
            "wasmdot, or None for the best",
        )
    return value


_HINTS = {
    2: "the file is damaged or not a bundle: copy or build it again",
    3: "update gossamer-runtime, or build the bundle with an older gossamer",
    4: "update gossamer-runtime, or compile the model with a policy that allows a fallback",
    5: "free memory, or use a smaller model",
    6: "sign it with a key that this machine trusts ('gossamer sign', 'gossamer keys list'), "
    "or open it with verify=False if you know where it comes from",
}
_CLASSES: dict[int, type[GossamerError]] = {
    1: InputError,
    2: BundleError,
    3: BundleError,
    4: UnsupportedError,
    5: OutOfMemoryError,
    6: SignatureError,
    7: BackendError,
}


def check(status: int, error: ErrorStruct, where: str) -> None:
    """Raise the error class of a core status; return when it is OK."""
    if status == OK:
        return
    message = error.message.decode("utf-8", "replace") or f"the core failed with status {status}"
    raise _CLASSES.get(status, GossamerError)(message, where=where, hint=_HINTS.get(status))


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")

"""``Session``: one opened bundle, ready to run."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from gossamer_runtime import _native, _trust
from gossamer_runtime._errors import BackendError, BundleError, GossamerError, InputError, SignatureError

if TYPE_CHECKING:
    import numpy.typing as npt

    from gossamer_runtime._profile import Profile

    Array = npt.NDArray[Any]
_TVM = 3


class Port(NamedTuple):
    """One input or output of a bundle, as the user sees it.

    ``scale`` and ``zero_point`` are those of a quantised tensor (``real = (value - zero_point) * scale``);
    ``scale`` is 0 for one that is not quantised.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    scale: float
    zero_point: int


class OpInfo(NamedTuple):
    """One operator of a session, as the core describes it. ``dtype`` is numpy's name; sizes in bytes. ``fused``: a
    depthwise operator that runs inside the pointwise one behind it, tile by tile."""

    name: str
    source: str
    kind: str
    pattern: str
    kernel: str
    dtype: str
    macs: int
    macs_executed: int
    weight_count: int
    weight_nonzero: int
    input_bytes: int
    output_bytes: int
    weight_bytes: int
    fused: bool


class Session:
    """Opens a bundle, checks its signature, and runs it.

    Args:
        model: path of a ``.goss`` file (memory-mapped: do not change the file while the session is open), or its bytes
            (copied once).
        threads: 1 to 64. 1 runs on the caller's thread and starts none.
        isa: use no kernel above this instruction set (``"scalar"``, ``"avx2"``, ...); ``None`` is the machine's best.
        verify: check the Ed25519 signature before anything else is read.
        trusted_keys: accept these keys alone: each 32 raw bytes, a public key line, or the path of a ``.pub`` file.
            ``None`` accepts the keys of the trust store (``gossamer keys list``) and those shipped with this package.
        allow_unverified_code: with ``verify=False``, run a bundle that carries compiled machine code (a TVM
            partition) all the same. Only for files that you made yourself.

    Raises:
        InputError: threads out of range, an unknown instruction set, or ``model`` is neither a path nor bytes.
        BundleError: no such file, not a bundle, damaged, or of a newer format.
        SignatureError: unsigned, signed by another key, or changed since; or unverified machine code.
        UnsupportedError: asks for an operator or backend that this build lacks.
        BackendError: an external backend is not installed.
        LibraryError: the native core is missing.
        OutOfMemoryError: the arena or the packed weights do not fit.

    A session may be shared by threads: runs are serialised. Use one session per thread to run in parallel.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | bytearray | memoryview,
        *,
        threads: int = 1,
        isa: str | None = None,
        verify: bool = True,
        trusted_keys: Iterable[bytes | str | os.PathLike[str]] | None = None,
        allow_unverified_code: bool = False,
    ) -> None:
        started = time.perf_counter()
        self._lib = _native.library()
        self._model = ctypes.c_void_p()
        self._session = ctypes.c_void_p()
        self._map: mmap.mmap | None = None
        self._error = _native.ErrorStruct()
        self._lock = threading.Lock()
        self._backends: list[Any] = []
        self._backend_error: BaseException | None = None
        self._manifest: dict[str, Any] | None = None
        if not isinstance(threads, int) or not 1 <= threads <= 64:
            raise InputError(f"threads must be a whole number from 1 to 64, not {threads!r}")
        isa_cap = _native.parse_isa(isa)
        self.threads = threads
        try:
            self._bytes, self._where = self._take(model)
            address, size = self._bytes.ctypes.data, self._bytes.size
            if verify:
                self._check_signature(address, size, trusted_keys)
            self._check(self._lib.gs_model_open(address, size, ctypes.byref(self._model), self._error))
            self._open_backends(verify or allow_unverified_code)
            self._callback = _native.EXTERN_FN(self._run_extern) if self._backends else _native.EXTERN_FN()
            options = _native.OptionsStruct(threads, isa_cap, self._callback, None)
            self._check(
                self._lib.gs_session_open(self._model, ctypes.byref(options), ctypes.byref(self._session), self._error)
            )
        except BaseException:
            self.close()
            raise
        self.inputs: tuple[Port, ...] = self._ports("input")
        self.outputs: tuple[Port, ...] = self._ports("output")
        self._in = (ctypes.c_void_p * len(self.inputs))()
        self._out = (ctypes.c_void_p * len(self.outputs))()
        self._isa = isa_cap
        self._init_us = (time.perf_counter() - started) * 1e6

    # Running

    @overload
    def run(self, x: Array, /) -> Array | list[Array]: ...
    @overload
    def run(self, x: Sequence[Array], /) -> Array | list[Array]: ...
    @overload
    def run(self, x: Mapping[str, Array], /) -> dict[str, Array]: ...
    def run(self, x: Any, /) -> Any:
        """One inference.

        Args:
            x: one array (a model of one input), a list or tuple of arrays in the order of ``inputs``, or a dict by
                input name. Types and shapes must be exactly those of ``inputs``; nothing is converted.

        Returns:
            A dict by output name when ``x`` is a dict; else the array of a model of one output, or a list in the
            order of ``outputs``. The arrays are new.

        Raises:
            InputError: a wrong name, number, type or shape.
            BackendError: an external partition failed.
        """
        arrays = self._arrange(x)
        outputs = [np.empty(port.shape, port.dtype) for port in self.outputs]
        with self._lock:
            self._run(arrays, outputs, None)
        if isinstance(x, Mapping):
            return {port.name: y for port, y in zip(self.outputs, outputs, strict=True)}
        return outputs[0] if len(outputs) == 1 else outputs

    __call__ = run

    def profile(self, runs: int = 50, warmup: int = 5, inputs: Any = None) -> Profile:
        """Time every operator.

        Args:
            runs: timed inferences, at least 1.
            warmup: inferences before them that are not counted.
            inputs: as for ``run``; by default seeded random values (int8 kernels take the same time for all values).

        Returns:
            Medians, minima and 90th percentiles in microseconds per operator and of the whole; see ``Profile``.
        """
        from gossamer_runtime._profile import measure

        return measure(self, runs, warmup, inputs)

    # What is inside

    @property
    def manifest(self) -> dict[str, Any]:
        """The bundle's manifest: name, version, recipe, provenance, meaning of inputs and outputs, layer records."""
        if self._manifest is None:
            import json

            self._require_open()
            size = ctypes.c_size_t()
            address = self._lib.gs_model_manifest(self._model, ctypes.byref(size))
            raw = ctypes.string_at(address, size.value) if address and size.value else b"{}"
            try:
                value = json.loads(raw)
            except ValueError as e:
                raise BundleError(f"the manifest is not JSON: {e}", where=self._where) from e
            if not isinstance(value, dict):
                raise BundleError("the manifest is not a JSON object", where=self._where)
            self._manifest = value
        return self._manifest

    @property
    def isa(self) -> str:
        """The best instruction set that this session's kernels may use."""
        cap = self._lib.gs_detect_isa() if self._isa == _native.ISA_BEST else self._isa
        return _native._text(self._lib.gs_isa_name(cap))

    @property
    def arena_bytes(self) -> int:
        """Peak bytes of activations (the planned arena)."""
        self._require_open()
        return int(self._lib.gs_model_arena_bytes(self._model))

    @property
    def session_bytes(self) -> int:
        """Bytes this session holds: arena, scratch, repacked weights; the bundle itself not included."""
        self._require_open()
        return int(self._lib.gs_session_bytes(self._session))

    @property
    def partitions(self) -> int:
        """Number of external partitions (ONNX Runtime, LiteRT, TVM)."""
        self._require_open()
        return int(self._lib.gs_model_extern_count(self._model))

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return not self._session

    def close(self) -> None:
        """Free everything. Closing twice is harmless; using a closed session raises ``GossamerError``."""
        with self._lock:
            if self._session:
                self._lib.gs_session_close(self._session)
                self._session = ctypes.c_void_p()
            if self._model:
                self._lib.gs_model_close(self._model)
                self._model = ctypes.c_void_p()
            for backend in self._backends:
                closer = getattr(backend, "close", None)
                if closer is not None:
                    closer()
            self._backends = []
            if self._map is not None:
                del self._bytes
                self._map.close()
                self._map = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self.close()

    def __repr__(self) -> str:
        if self.closed:
            return "<gossamer_runtime.Session closed>"
        ports = ", ".join(f"{p.name}: {p.dtype}{list(p.shape)}" for p in self.inputs)
        return f"<gossamer_runtime.Session {self._where} ({ports}) threads={self.threads} isa={self.isa}>"

    # Inside

    def _take(self, model: Any) -> tuple[Array, str]:
        """The bundle's bytes as an array that stays where it is, and their name for messages."""
        if isinstance(model, (bytes, bytearray, memoryview)):
            # A copy at a 64-byte boundary: bytes objects lie anywhere, and a bytearray could change under the core.
            source = np.frombuffer(model, np.uint8)
            buffer = np.empty(source.size + 64, np.uint8)
            start = -buffer.ctypes.data % 64
            aligned = buffer[start : start + source.size]
            aligned[:] = source
            return aligned, "<bytes>"
        try:
            where = os.fspath(model)
        except TypeError:
            raise InputError(f"a Session opens a path or bytes, not {type(model).__name__}") from None
        try:
            with open(where, "rb") as f:
                if os.fstat(f.fileno()).st_size == 0:
                    raise BundleError("the bundle is empty", where=where, hint="copy or build it again")
                self._map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise BundleError("no such bundle", where=where, hint="check the path") from None
        except (OSError, ValueError) as e:
            raise BundleError(f"cannot open the bundle: {e}", where=where) from e
        return np.frombuffer(self._map, np.uint8), where

    def _check_signature(self, address: int, size: int, trusted_keys: Any) -> None:
        keys = _trust.resolve(trusted_keys)
        raw = b"".join(keys)
        status = self._lib.gs_bundle_verify(address, size, raw, len(keys), self._error)
        self._check(status)

    def _open_backends(self, code_allowed: bool) -> None:
        count = int(self._lib.gs_model_extern_count(self._model))
        if not count:
            return
        from gossamer_runtime import backends

        for i in range(count):
            kind, size = ctypes.c_uint32(), ctypes.c_size_t()
            address = self._lib.gs_model_extern(self._model, i, ctypes.byref(kind), ctypes.byref(size))
            if kind.value == _TVM and not code_allowed:
                raise SignatureError(
                    f"partition {i} is compiled machine code, and the bundle's signature was not verified",
                    where=self._where,
                    hint="open it with verify=True, or with allow_unverified_code=True if you made it yourself",
                )
            payload = ctypes.string_at(address, size.value)
            place = f"{self._where}, partition {i}"
            self._backends.append(backends.open_backend(kind.value, payload, threads=self.threads, where=place))

    def _run_extern(self, _user: int, partition: int, inputs: Any, n_in: int, outputs: Any, n_out: int) -> int:
        """Called by the core for an external partition; errors are kept and raised when the core has returned."""
        try:
            results = self._backends[partition].run([_view(inputs[i], False) for i in range(n_in)])
            if len(results) != n_out:
                raise BackendError(f"partition {partition} gave {len(results)} outputs, the plan has {n_out}")
            for i, result in enumerate(results):
                target = _view(outputs[i], True)
                result = np.asarray(result)
                if result.dtype != target.dtype or result.shape != target.shape:
                    raise BackendError(
                        f"partition {partition} gave output {i} as {result.dtype}{list(result.shape)}, "
                        f"the plan has {target.dtype}{list(target.shape)}"
                    )
                np.copyto(target, result)
        except BaseException as e:
            self._backend_error = e
            return 1
        return 0

    def _ports(self, side: str) -> tuple[Port, ...]:
        count = getattr(self._lib, f"gs_model_{side}_count")(self._model)
        get = getattr(self._lib, f"gs_model_{side}")
        ports = []
        for i in range(count):
            io = _native.IoStruct()
            self._check(get(self._model, i, ctypes.byref(io)))
            dtype = np.dtype(_native.DTYPES[io.dtype])
            ports.append(
                Port(_native._text(io.name), dtype, tuple(io.dims[: io.rank]), float(io.scale), int(io.zero_point))
            )
        return tuple(ports)

    def _arrange(self, x: Any) -> list[Array]:
        """The arrays of ``x`` in the order of ``inputs``, checked and contiguous."""
        ports = self.inputs
        if isinstance(x, Mapping):
            names = [p.name for p in ports]
            wrong = [n for n in x if n not in names]
            missing = [n for n in names if n not in x]
            if wrong or missing:
                said = [f"unknown {wrong}"] * bool(wrong) + [f"missing {missing}"] * bool(missing)
                raise InputError(f"inputs by name do not fit: {', '.join(said)}", hint=f"the model's inputs: {names}")
            given = [x[n] for n in names]
        elif isinstance(x, (list, tuple)):
            given = list(x)
        else:
            given = [x]
        if len(given) != len(ports):
            raise InputError(
                f"{len(given)} inputs given, the model has {len(ports)}", hint=f"inputs: {[p.name for p in ports]}"
            )
        return [_checked(value, port) for value, port in zip(given, ports, strict=True)]

    def _run(self, arrays: list[Array], outputs: list[Array], op_ns: Array | None) -> None:
        """The core's run; the lock is held, arrays are checked."""
        self._require_open()
        for i, a in enumerate(arrays):
            self._in[i] = a.__array_interface__["data"][0]
        for i, a in enumerate(outputs):
            self._out[i] = a.__array_interface__["data"][0]
        if op_ns is None:
            status = self._lib.gs_session_run(self._session, self._in, self._out, self._error)
        else:
            status = self._lib.gs_session_run_timed(self._session, self._in, self._out, op_ns.ctypes.data, self._error)
        if status:
            cause, self._backend_error = self._backend_error, None
            if isinstance(cause, GossamerError) or (cause is not None and not isinstance(cause, Exception)):
                raise cause
            if cause is not None:
                raise BackendError(f"an external partition failed: {cause}", where=self._where) from cause
            self._check(status)

    def _require_open(self) -> None:
        if not self._session:
            raise GossamerError("the session is closed", hint="open a new one")

    def _check(self, status: int) -> None:
        _native.check(status, self._error, getattr(self, "_where", "<bundle>"))


def op_infos(session: Session) -> list[OpInfo]:
    """The operators of a session in execution order."""
    session._require_open()
    lib, info, found = session._lib, _native.OpInfoStruct(), []
    for i in range(lib.gs_model_op_count(session._model)):
        session._check(lib.gs_session_op_info(session._session, i, ctypes.byref(info)))
        found.append(
            OpInfo(
                name=_native._text(info.name),
                source=_native._text(info.source),
                kind=_native._text(info.kind),
                pattern=_native._text(info.pattern),
                kernel=_native._text(info.kernel),
                dtype=_native.DTYPES.get(info.dtype, ""),
                macs=info.macs,
                macs_executed=info.macs_executed,
                weight_count=info.weight_count,
                weight_nonzero=info.weight_nonzero,
                input_bytes=info.bytes_in,
                output_bytes=info.bytes_out,
                weight_bytes=info.bytes_weights,
                fused=bool(info.fused),
            )
        )
    return found


def _checked(value: Any, port: Port) -> Array:
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.dtype != port.dtype:
        raise InputError(
            f"input {port.name!r} must be {port.dtype}, got {array.dtype}", hint=f"convert it: x.astype('{port.dtype}')"
        )
    if array.shape != port.shape:
        raise InputError(f"input {port.name!r} must be shaped {port.shape}, got {array.shape}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _view(tensor: Any, writable: bool) -> Array:
    """A numpy view of a tensor of the core, valid during the callback alone."""
    shape = tuple(tensor.dims[: tensor.rank])
    dtype = np.dtype(_native.DTYPES[tensor.dtype])
    if not math.prod(shape):
        return np.empty(shape, dtype)
    view = np.frombuffer((ctypes.c_uint8 * tensor.bytes).from_address(tensor.data), dtype).reshape(shape)
    view.flags.writeable = writable
    return view

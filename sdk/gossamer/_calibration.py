"""Samples for calibration and verification: pictures, arrays or seeded noise become dicts of model inputs."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer import _images
from gossamer._errors import CalibrationError, GossamerError, InputError
from gossamer._proto.v1 import manifest_pb2 as pb

Sample = dict[str, npt.NDArray[Any]]


def samples(
    source: Any, ports: Sequence[pb.Port], limit: int | None = None, progress: Callable[[int, int], None] | None = None
) -> list[Sample]:
    """Read at most ``limit`` samples.

    Args:
        source: one of
            a path, or several, of pictures, folders of pictures, ``.npy`` (samples along axis 0; a single sample of the
            input's own shape is taken too) or ``.npz`` files (one array per input name);
            an array likewise; an iterable of arrays (models of one input) or of dicts by input name.
        ports: the model's inputs.
        limit: at most this many samples; with more pictures than that, evenly spread ones are taken.
        progress: called with (done, total); total is 0 when it is not known.

    Returns:
        Dicts by input name, of the ports' types and shapes.

    Raises:
        CalibrationError: nothing there, a file that cannot be read, or arrays that do not fit the inputs.
    """
    try:
        found = list(_read(source, ports, limit, progress))
    except CalibrationError:
        raise
    except GossamerError as e:
        raise CalibrationError(e.message, where=e.where, hint=e.hint) from e
    if not found:
        raise CalibrationError("no calibration samples", hint="give a folder of pictures, an .npy file, or arrays")
    return found


def _read(source: Any, ports: Sequence[pb.Port], limit: int | None, progress: Any) -> Iterable[Sample]:
    if isinstance(source, (str, os.PathLike)):
        source = [source]
    if isinstance(source, np.ndarray):
        yield from itertools.islice(_stack({_only(ports).name: source}, ports, "array"), limit)
        return
    if isinstance(source, Mapping):
        yield from itertools.islice(_stack(dict(source), ports, "arrays"), limit)
        return
    items = source if isinstance(source, (list, tuple)) else iter(source)
    if isinstance(items, (list, tuple)) and items and all(isinstance(i, (str, os.PathLike)) for i in items):
        yield from _files(list(items), ports, limit, progress)
        return
    total = min(len(items), limit or len(items)) if isinstance(items, (list, tuple)) else limit or 0
    for i, item in enumerate(itertools.islice(items, limit)):
        sample = item if isinstance(item, Mapping) else {_only(ports).name: item}
        yield _checked({k: np.asarray(v) for k, v in sample.items()}, ports, f"sample {i}")
        if progress:
            progress(i + 1, total)


def _files(paths: list[Any], ports: Sequence[pb.Port], limit: int | None, progress: Any) -> Iterable[Sample]:
    arrays = [p for p in paths if Path(p).suffix in (".npy", ".npz")]
    if arrays:
        if len(arrays) != len(paths):
            raise CalibrationError("arrays and pictures are mixed", where=str(paths[0]), hint="give one kind")
        loaded = itertools.chain.from_iterable(_stack(_load(p, ports), ports, str(p)) for p in arrays)
        yield from itertools.islice(loaded, limit)
        return
    port = _only(ports)
    files = _images.image_files(paths)
    if limit is not None and len(files) > limit:
        files = [files[i] for i in np.linspace(0, len(files) - 1, limit).round().astype(int)]
    for i, path in enumerate(files):
        yield {port.name: _images.to_input(_images.open_image(path), port)}
        if progress:
            progress(i + 1, len(files))


def _load(path: Any, ports: Sequence[pb.Port]) -> dict[str, npt.NDArray[Any]]:
    where = os.fspath(path)
    try:
        data = np.load(where, allow_pickle=False)
        if isinstance(data, np.ndarray):
            return {_only(ports).name: data}
        with data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError) as e:
        raise CalibrationError(f"cannot read the arrays: {e}", where=where, hint="save them with numpy.save") from e


def _stack(arrays: dict[str, npt.NDArray[Any]], ports: Sequence[pb.Port], where: str) -> Iterable[Sample]:
    """Samples of arrays that hold them along axis 0 (or one sample alone)."""
    shapes = {p.name: tuple(p.shape) for p in ports}
    if set(arrays) != set(shapes):
        raise CalibrationError(f"arrays {sorted(arrays)} do not fit inputs {sorted(shapes)}", where=where)
    if all(a.shape == shapes[n] for n, a in arrays.items()):
        yield _checked(arrays, ports, where)
        return
    if any(a.ndim == 0 or not a.size for a in arrays.values()):
        raise CalibrationError("the arrays hold no samples", where=where, hint="samples lie along axis 0")
    counts = {len(a) for a in arrays.values()}
    if len(counts) != 1:
        raise CalibrationError(f"the arrays hold different numbers of samples: {sorted(counts)}", where=where)
    for i in range(counts.pop()):
        sample = {n: a[i] for n, a in arrays.items()}
        # An input of batch 1 may come as [N, 1, ...] or as [N, ...].
        sample = {n: a[None] if a.ndim == len(shapes[n]) - 1 and shapes[n][0] == 1 else a for n, a in sample.items()}
        yield _checked(sample, ports, f"{where}, sample {i}")


def _checked(sample: Sample, ports: Sequence[pb.Port], where: str) -> Sample:
    if set(sample) != {p.name for p in ports}:
        raise CalibrationError(
            f"inputs {sorted(sample)} given, the model has {sorted(p.name for p in ports)}", where=where
        )
    for port in ports:
        a = sample[port.name]
        if a.dtype != np.dtype(port.dtype) or a.shape != tuple(port.shape):
            raise CalibrationError(
                f"input {port.name!r} must be {port.dtype}{list(port.shape)}, got {a.dtype}{list(a.shape)}",
                where=where,
                hint="convert the arrays; nothing is converted silently",
            )
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise CalibrationError(f"input {port.name!r} holds NaN or infinity", where=where, hint="clean the data")
    return {p.name: np.ascontiguousarray(sample[p.name]) for p in ports}


def _only(ports: Sequence[pb.Port]) -> pb.Port:
    if len(ports) != 1:
        raise InputError(
            f"the model has {len(ports)} inputs", hint=f"give dicts or an .npz with {[p.name for p in ports]}"
        )
    return ports[0]


def noise(ports: Sequence[pb.Port], count: int, seed: int = 0) -> list[Sample]:
    """Seeded random inputs: floats uniform in [0, 1), 8-bit integers over their range, wider ones 0..9."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        sample: Sample = {}
        for port in ports:
            dtype, shape = np.dtype(port.dtype), tuple(port.shape)
            if dtype.kind == "f":
                sample[port.name] = rng.random(shape, np.float32).astype(dtype)
            else:
                info = np.iinfo(dtype)
                low, high = (info.min, info.max) if dtype.itemsize == 1 else (0, 9)
                sample[port.name] = rng.integers(low, high, shape, dtype, endpoint=True)
        out.append(sample)
    return out


def digest(found: Sequence[Sample]) -> str:
    """SHA-256 over names, types, shapes and bytes of samples, in their order."""
    h = hashlib.sha256()
    for sample in found:
        for name in sorted(sample):
            a = np.ascontiguousarray(sample[name])
            h.update(f"{name}:{a.dtype.str}:{a.shape};".encode())
            h.update(a.tobytes())
    return h.hexdigest()

"""A sparse MNN model of an ONNX graph whose zeros come in 4x1 blocks, the form of MNN's fastest sparse kernels.

The converter's extension module is called directly: the package's own command sends usage data. It runs in a process of
its own, since it prints to stdout and may end the process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.bench.models import ROOT
from tools.bench.process import EngineFailedError, MissingEngineError

# MNN.Compression.Pipeline: version "0.0.0", one algorithm: PRUNE by SIMD_OC with oc_blocks 4.
_BLOCKS = bytes([0x20, 4])
_PRUNE = bytes([0x08, 1, 0x1A, len(_BLOCKS)]) + _BLOCKS
_ALGORITHM = bytes([0x08, 1, 0x1A, len(_PRUNE)]) + _PRUNE
PIPELINE = b"\x0a\x050.0.0\x12" + bytes([len(_ALGORITHM)]) + _ALGORITHM
MISSING = 3


def convert(onnx: Path) -> Path:
    """The .mnn beside an .onnx file, made if it is not there yet.

    Raises:
        MissingEngineError: MNN is not installed.
        EngineFailedError: the converter refused the graph.
    """
    target = onnx.with_suffix(".mnn")
    if target.exists():
        return target
    partial = target.with_suffix(".partial")
    command = [sys.executable, "-m", "tools.bench.mnn", str(onnx), str(partial)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode == MISSING:
        raise MissingEngineError("MNN")
    if done.returncode or not partial.exists():
        last = (done.stderr + done.stdout).strip().splitlines()[-1:]
        raise EngineFailedError(f"MNN cannot convert {onnx.name}: {' '.join(last)}")
    return partial.replace(target)


def main() -> int:
    source, target = sys.argv[1:]
    try:
        import _tools
    except ModuleNotFoundError:
        return MISSING
    pipeline = Path(target).with_suffix(".pipeline")
    pipeline.write_bytes(PIPELINE)
    command = ["mnnconvert", "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "bench"]
    _tools.mnnconvert([*command, "--compressionParamsFile", str(pipeline), "--detectSparseSpeedUp"])
    pipeline.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())

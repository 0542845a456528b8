"""One engine in a process of its own, driven over a pipe: so that memory and cold start are its own, and so is a crash.

``python -m tools.bench.worker ENGINE MODEL INPUT.npy THREADS PRECISION [KEY]``. Requests and replies are lines of JSON;
the reply to the start is the cold start: import, load and first inference beyond Python and numpy. What engines print
goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Gossamer:
    def __init__(self, path: str, threads: int, precision: str, key: str = "") -> None:
        from gossamer_runtime import Session

        keys = {"trusted_keys": [bytes.fromhex(key)]} if key else {"verify": False}
        self.session = Session(path, threads=threads, **keys)

    def prepare(self, x: Array) -> None:
        self.x = x

    def run(self) -> Array:
        return np.asarray(self.session.run(self.x))


class LiteRT:
    """The XNNPACK delegate is its default on the CPU."""

    def __init__(self, path: str, threads: int, precision: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(model_path=path, num_threads=threads)
        self.interpreter.allocate_tensors()
        self.source = self.interpreter.get_input_details()[0]["index"]
        self.target = self.interpreter.get_output_details()[0]["index"]

    def prepare(self, x: Array) -> None:
        self.x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))

    def run(self) -> Array:
        self.interpreter.set_tensor(self.source, self.x)
        self.interpreter.invoke()
        return np.asarray(self.interpreter.get_tensor(self.target))


class OnnxRuntime:
    def __init__(self, path: str, threads: int, precision: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def prepare(self, x: Array) -> None:
        self.feed = {self.name: x}

    def run(self) -> Array:
        return np.asarray(self.session.run(None, self.feed)[0])


class OpenVINO:
    """bf16 is what it takes by itself where the machine has it; an int8 graph keeps it for what is not int8."""

    def __init__(self, path: str, threads: int, precision: str) -> None:
        import openvino

        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        options["ENABLE_CPU_PINNING"] = False  # the process is pinned already
        if precision in ("f32", "bf16"):
            options["INFERENCE_PRECISION_HINT"] = precision
        self.request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()

    def prepare(self, x: Array) -> None:
        self.x = x

    def run(self) -> Array:
        self.request.infer([self.x], share_inputs=True, share_outputs=True)
        return np.asarray(self.request.get_output_tensor().data)


class MNN:
    """``precision: high`` is float32; the default may be less."""

    def __init__(self, path: str, threads: int, precision: str) -> None:
        import MNN

        self.mnn = MNN
        self.net = MNN.Interpreter(path)
        self.session = self.net.createSession({"numThread": threads, "backend": "CPU", "precision": "high"})
        self.source = self.net.getSessionInput(self.session)

    def prepare(self, x: Array) -> None:
        kind = (self.mnn.Halide_Type_Float, x, self.mnn.Tensor_DimensionType_Caffe)
        self.x = self.mnn.Tensor(x.shape, *kind)

    def run(self) -> Array:
        self.source.copyFrom(self.x)
        self.net.runSession(self.session)
        return np.asarray(self.net.getSessionOutput(self.session).getNumpyData())


ENGINES = {"gossamer": Gossamer, "litert": LiteRT, "onnxruntime": OnnxRuntime, "openvino": OpenVINO, "mnn": MNN}
MODULES = {"gossamer": "gossamer_runtime", "litert": "ai_edge_litert", "mnn": "MNN"}
"""The module that an engine needs, where it has another name than the engine."""


def cpu_ns() -> dict[str, int]:
    """Time on a core of every thread of this process, nanoseconds by thread id."""
    times = {}
    for task in os.listdir("/proc/self/task"):  # noqa: PTH208
        with open(f"/proc/self/task/{task}/schedstat") as f:  # noqa: PTH123 - pathlib would count as cold start
            times[task] = int(f.read().split()[0])
    return times


def burst(engine: Any, warm: int, count: int) -> dict[str, Any]:
    """Times of ``count`` runs after ``warm`` others, in ns, and how many threads worked (a twentieth of it or more)."""
    before, clock = cpu_ns(), time.perf_counter_ns
    for _ in range(warm):
        engine.run()
    times = []
    for _ in range(count):
        start = clock()
        engine.run()
        times.append(clock() - start)
    least = sum(times) / 20
    busy = sum(1 for task, ns in cpu_ns().items() if ns - before.get(task, 0) >= least)
    return {"ns": times, "busy_threads": busy}


def peak_rss_kib() -> int:
    """Highest resident memory so far, KiB."""
    with open("/proc/self/status") as f:  # noqa: PTH123
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))


def main() -> None:
    kind, path, x_path, threads, precision, *key = sys.argv[1:]
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    x = np.load(x_path)
    start = time.perf_counter()
    try:
        engine = ENGINES[kind](path, int(threads), precision, *key)
    except ModuleNotFoundError as error:
        if error.name != MODULES.get(kind, kind):
            raise
        print(json.dumps({"missing": error.name}), file=replies)
        return
    engine.prepare(x)
    loaded = time.perf_counter()
    engine.run()
    done = time.perf_counter()
    first = {"cold_ms": 1e3 * (done - start), "first_run_ms": 1e3 * (done - loaded), "rss_kib": peak_rss_kib()}
    print(json.dumps(first), file=replies)
    for line in sys.stdin:
        request = json.loads(line)
        if "burst" in request:
            reply = burst(engine, *request["burst"])
        elif "output" in request:
            np.save(request["output"], np.asarray(engine.run(), np.float32))
            reply = {}
        else:
            reply = {"rss_kib": peak_rss_kib()}
        print(json.dumps(reply), file=replies)


if __name__ == "__main__":
    main()

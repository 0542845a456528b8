"""An operator that ONNX cannot express, as a complete .tflite file of its own inside a ``gossamer.tflite`` node.

The file holds one subgraph with that operator, its constants, state variables and intermediates; its inputs and
outputs are the operator's activations, as stored (int8 stays int8), in TFLite's own layout and in the node's order.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from gossamer._errors import UnsupportedError
from gossamer.importers.tflite import flatbuf
from gossamer.importers.tflite.builder import Builder
from gossamer.importers.tflite.reader import IDENTIFIER, Tensor

DOMAIN = "gossamer.tflite"
ATTRIBUTE = "tflite"
CONTROL = ("IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_COMPOSITE", "STABLEHLO_REDUCE")
"""Operators that refer to other subgraphs."""
RUNNABLE_CUSTOM = ("TFLite_Detection_PostProcess",)
"""Custom operators that LiteRT carries."""


def extract(b: Builder, reason: UnsupportedError | None = None) -> None:
    """Emit the current operator as a ``gossamer.tflite`` node.

    Raises:
        UnsupportedError: it cannot stand alone: it refers to other subgraphs, to resources, or to a custom kernel.
    """
    op = b.op
    tail = f" ({reason.message})" if reason is not None else ""
    if op.kind in CONTROL or any(
        not b.tensor(i).dtype for i in [*op.outputs, *(i for i in op.inputs if i is not None)]
    ):
        raise b.unsupported(
            f"TFLite operator {op.kind} is not supported{tail}",
            "it refers to other subgraphs, resources or strings: convert the model without it",
        )
    if op.kind == "CUSTOM" and op.custom_code not in RUNNABLE_CUSTOM:
        raise b.unsupported(
            f"custom TFLite operator {op.custom_code!r} is not supported",
            "nothing that this project knows of can run it: convert the model without it",
        )
    live = [b.tensor(i) for i in dict.fromkeys(op.inputs) if i is not None and _is_live(b, b.tensor(i))]
    outs = [b.tensor(i) for i in op.outputs]
    content = standalone(b, live)
    values = [b.stored(t) for t in live]
    results = b.emit(
        op.kind if op.kind != "CUSTOM" else op.custom_code,
        values,
        {ATTRIBUTE: ir.Attr(ATTRIBUTE, ir.AttributeType.STRING, content)},
        name=outs[0].name if outs else op.kind,
        outputs=[t.name for t in outs],
        domain=DOMAIN,
    )
    for tensor, value in zip(outs, results, strict=True):
        value.shape = ir.Shape(tensor.shape)
        value.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(tensor.dtype)))
        b.set_stored(tensor, value)


def _is_live(b: Builder, tensor: Tensor) -> bool:
    return tensor.index not in b.folded and not tensor.is_variable


def standalone(b: Builder, live: list[Tensor]) -> bytes:
    """The .tflite bytes of the current operator with ``live`` as graph inputs."""
    op = b.op
    used: dict[int, int] = {}
    tensors: list[flatbuf.Record] = []
    buffers = [flatbuf.Record("Buffer")]  # buffer 0 is the empty one by convention

    def renumber(index: int) -> int:
        if index < 0:
            return -1
        if index not in used:
            used[index] = len(tensors)
            tensor = b.tensor(index)
            record = flatbuf.Record("Tensor", **_fields(tensor.record))
            record.shape_signature = None
            array = b.folded.get(index)
            record.buffer = 0
            if array is not None:
                record.buffer = len(buffers)
                raw = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
                buffers.append(flatbuf.Record("Buffer", data=raw))
            tensors.append(record)
        return used[index]

    record = flatbuf.Record("Operator", **_fields(op.record))
    record.opcode_index = 0
    record.large_custom_options_offset = record.large_custom_options_size = 0
    record.debug_metadata_index = -1
    record.inputs = np.array([renumber(-1 if i is None else i) for i in op.inputs], np.int32)
    record.outputs = np.array([renumber(i) for i in op.outputs], np.int32)
    if op.record.intermediates is not None:
        count = len(b.graph.tensors)
        if any(not 0 <= int(i) < count for i in op.record.intermediates):
            raise b.broken("an intermediate tensor does not exist")
        record.intermediates = np.array([renumber(int(i)) for i in op.record.intermediates], np.int32)
    subgraph = flatbuf.Record(
        "SubGraph",
        name=op.kind,
        tensors=tensors,
        inputs=np.array([used[t.index] for t in live], np.int32),
        outputs=record.outputs,
        operators=[record],
    )
    model = flatbuf.Record(
        "Model",
        version=3,
        description=f"{op.source} alone",
        operator_codes=[flatbuf.Record("OperatorCode", **_fields(op.code))],
        subgraphs=[subgraph],
        buffers=buffers,
    )
    return flatbuf.write(model, IDENTIFIER)


def _fields(record: flatbuf.Record) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key != "table"}

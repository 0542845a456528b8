"""Class probabilities of a bundle and of the original model on a set of examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import InputError
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.search.decide import probabilities

if TYPE_CHECKING:
    from gossamer.search.examples import Examples
    from gossamer_runtime import Session

Progress = Callable[[int, int], None]


def of_bundle(
    session: Session, examples: Examples, port: pb.Port, progress: Progress | None = None
) -> npt.NDArray[np.float64]:
    """Probabilities, float64 ``[N, classes]``, of the output that ``port`` describes, run by the native core."""
    found = []
    for i in range(len(examples)):
        found.append(probabilities(session.run(examples[i])[port.name], port))
        if progress:
            progress(i + 1, len(examples))
    return np.stack(found)


def of_original(
    model: Any,
    examples: Examples,
    ports: Sequence[pb.Port],
    port: pb.Port,
    *,
    example_inputs: Any = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> npt.NDArray[np.float64]:
    """Probabilities, float64 ``[N, classes]``, of the original model's first output, by ONNX Runtime or LiteRT.

    Args:
        model: what ``gossamer.load`` takes.
        ports: the inputs; ``port``: the first output as the bundle describes it.

    Raises:
        InputError: the original does not take the examples.
        BackendError: its engine refuses it.
    """
    from gossamer._reference import open_reference
    from gossamer._verify_against import _match

    reference = open_reference(model, example_inputs=example_inputs, shapes=shapes)
    names = _match([p.name for p in ports], reference.inputs)
    first = reference.outputs.index(port.name) if port.name in reference.outputs else 0
    found = []
    for i in range(len(examples)):
        try:
            outputs = reference.run({names[k]: v for k, v in examples[i].items()})
        except Exception as e:  # the engines' exceptions share no base class
            raise InputError(
                f"the original does not take the examples: {str(e).strip().splitlines()[0]}", where=reference.engine
            ) from e
        found.append(probabilities(outputs[first], port))
        if progress:
            progress(i + 1, len(examples))
    return np.stack(found)

"""Files of trained weights: read, checked, and put into the network that they belong to."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import torch
from torch import Tensor

from gossamer._errors import ModelError
from gossamer.person.models import PersonNet, build


def read_state(source: str | Path | bytes, where: str = "") -> dict[str, Tensor]:
    """A ``state_dict`` with plain weights, on the CPU.

    Args:
        source: a file that ``torch.save`` wrote, or its content.
        where: names the content in errors.

    Raises:
        ModelError: no such file, not a ``state_dict``, masked still, or not finite.
    """
    place = where if isinstance(source, bytes) else str(source)
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError("no such weights file", where=place) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"this is no file of weights: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            where=place,
            hint="torch.save(network.state_dict(), path)",
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError("the file holds no state_dict", where=place, hint="torch.save(network.state_dict(), path)")
    masked = [k for k in state if "parametrizations." in k]
    if masked:
        raise ModelError(
            f"'{masked[0]}' is masked still", where=place, hint="end with Sparsifier.finish(), then save the state_dict"
        )
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(
                f"'{key}' holds {int((~torch.isfinite(value)).sum())} values that are not finite",
                where=place,
                hint="the training diverged: train again with a lower learning rate",
            )
    return state


def load_network(path: str | Path, network: str) -> PersonNet:
    """A network in evaluation mode with the weights of a file.

    Raises:
        ModelError: as :func:`read_state`, or the weights are those of another network.
        InputError: no such network.
    """
    model = build(network)
    state, wanted = read_state(path), model.state_dict()
    wrong = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    wrong += [k for k in state if k not in wanted]
    wrong += [k for k in wanted if k in state and state[k].shape != wanted[k].shape]
    if wrong:
        raise ModelError(
            f"the weights are not those of {network}: {len(wrong)} tensors differ, first '{wrong[0]}'",
            where=str(path),
            hint="name the network that was trained",
        )
    model.load_state_dict(state, strict=False)
    return model.eval()

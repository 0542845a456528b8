"""A person network's weights with their channels rearranged, to start block-sparse training from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from gossamer.person.models import ConvNorm, PersonNet
from gossamer.person.onnx_export import to_onnx
from gossamer.sparsify.rearrange.run import SECONDS, permute_like, rearrange

if TYPE_CHECKING:
    from gossamer.recipe import SparsifyStep
    from gossamer.sparsify.rearrange.report import RearrangeReport


def rearranged_state(
    network: PersonNet, step: SparsifyStep, *, seed: int = 0, seconds: float = SECONDS
) -> dict[str, Tensor]:
    """The ``state_dict`` of ``network`` in the order of channels in which ``step`` keeps most magnitude.

    A network that loads it computes the same function. ``network`` itself is left as it is.

    Args:
        network: trained weights, on any device.
        step: the pruning that is going to follow.
        seed, seconds: as for :func:`gossamer.sparsify.rearrange.rearrange`.

    Returns:
        Copies of all entries, on the device where they were.

    Raises:
        RecipeError: ``step`` names layers that the network lacks; its layers are called as in its ONNX export.
        ModelError: a weight is NaN or infinite.
    """
    return rearranged_with_report(network, step, seed=seed, seconds=seconds)[0]


def rearranged_with_report(
    network: PersonNet, step: SparsifyStep, *, seed: int = 0, seconds: float = SECONDS
) -> tuple[dict[str, Tensor], RearrangeReport]:
    """:func:`rearranged_state` and what it gained."""
    from gossamer import load

    report = rearrange(load(to_onnx(network)), step, seed=seed, seconds=seconds)
    names = exported_names(network)
    exported = {names.get(key, key): tensor for key, tensor in network.state_dict().items()}
    permuted = permute_like(report, exported)
    return {key: permuted[names.get(key, key)].detach().clone() for key in network.state_dict()}, report


def exported_names(network: PersonNet) -> dict[str, str]:
    """Names of the constants in the network's ONNX export by key of its ``state_dict``, where they differ."""
    names: dict[str, str] = {}
    for path, module in network.named_modules():
        if isinstance(module, ConvNorm):
            for child, exported in ((module[0], "conv"), (module[1], "norm")):
                assert isinstance(child, nn.Module)
                place = "0" if exported == "conv" else "1"
                for key in child.state_dict():
                    names[f"{path}.{place}.{key}"] = f"{path}.{exported}.{key}"
    return names

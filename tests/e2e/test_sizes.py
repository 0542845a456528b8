"""MobileNetV1 1.0/224, the whole way: how small the bundle is, and that it still computes what the model does."""

from __future__ import annotations

import numpy as np
import pytest

import gossamer
from gossamer_runtime import Session

TFLITE_BYTES = 4_500_000
"""A dense int8 .tflite of this network."""


@pytest.fixture(scope="module")
def optimized(tmp_path_factory):
    torch_models = pytest.importorskip("tests.models", reason="needs torch: pip install 'gossamer[torch]'")
    folder = tmp_path_factory.mktemp("sizes")
    calibration = np.random.default_rng(0).standard_normal((4, 3, 224, 224), dtype=np.float32)
    return gossamer.optimize(
        torch_models.build("mobilenet_v1"),
        recipe="1x4-75-small-int8",
        calibration=calibration,
        example_inputs=torch_models.example("mobilenet_v1"),
        output=folder / "mobilenet.goss",
        key=False,
    )


@pytest.mark.slow
def test_bundle_is_at_most_40_percent_of_the_dense_tflite(optimized):
    assert len(optimized.data) <= 0.4 * TFLITE_BYTES


@pytest.mark.slow
def test_three_quarters_of_the_pruned_layers_are_zero(optimized):
    pruned = [row for row in optimized.layers if row.pruned_pattern == "1x4"]
    assert len(pruned) == 14  # thirteen pointwise layers and the classifier
    for row in pruned:
        # Blocks are counted exactly; quantisation adds the weights that round to zero.
        assert 75.0 <= row.sparsity_percent < 78.0, row.name


@pytest.mark.slow
def test_same_bits_with_one_thread_and_two_and_without_vector_instructions(optimized):
    x = np.random.default_rng(1).standard_normal((1, 3, 224, 224), dtype=np.float32)
    outputs = []
    for options in ({}, {"threads": 2}, {"isa": "scalar"}):
        with Session(optimized.data, verify=False, **options) as session:
            outputs.append(np.asarray(session.run(x)))
    assert np.ptp(outputs[0]) > 0
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])

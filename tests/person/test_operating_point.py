"""The decision threshold: Platt scaling with both labels weighing the same, folded into the classifier."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gossamer import InputError

torch = pytest.importorskip("torch", reason="networks need the [torch] extra")

from gossamer.person import models, operating_point  # noqa: E402 - after the skip


def test_two_groups_of_known_rates_give_the_logits_of_their_balanced_shares() -> None:
    # At margin +1: 3 of 4 persons and 2 of 10 others; at -1 the rest. Balanced, P(person | +1) = .75/(.75 + .2).
    margins = np.array([1.0] * 3 + [-1.0] + [1.0] * 2 + [-1.0] * 8)
    label = np.array([1] * 4 + [0] * 10)
    scale, offset = operating_point.fit(margins, label)
    high, low = math.log(0.75 / 0.2), math.log(0.25 / 0.8)
    assert scale + offset == pytest.approx(high, abs=1e-4)
    assert offset - scale == pytest.approx(low, abs=1e-4)


def test_shifted_and_stretched_margins_lead_to_the_same_decisions() -> None:
    rng = np.random.default_rng(3)
    label = np.repeat([0, 1], [300, 60])
    margins = rng.normal(label * 1.5, 1.0)
    scale, offset = operating_point.fit(margins, label)
    again = operating_point.fit(7.0 * margins + 40.0, label)
    assert 7.0 * again[0] == pytest.approx(scale, rel=1e-3)
    assert again[0] * 40.0 + again[1] == pytest.approx(offset, abs=1e-2)
    decided = scale * margins + offset > 0
    rates = decided[label == 1].mean(), (~decided)[label == 0].mean()
    assert abs(rates[0] - rates[1]) < 0.1  # unlike at a margin of 40
    assert min(rates) > 0.7


@pytest.mark.parametrize(
    ("margins", "label", "message"),
    [
        ([0.0, float("nan")], [0, 1], "no number"),
        ([0.0, 1.0], [1, 1], "both labels"),
        ([0.3] * 6, [0, 1, 0, 1, 0, 1], "every photo has the same margin"),
        ([2.0, 1.5, -1.0, -2.0, 1.0, -1.0], [0, 0, 1, 1, 0, 1], "score higher"),
    ],
)
def test_what_cannot_be_fitted_is_refused(margins: list[float], label: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        operating_point.fit(margins, label)


def test_folding_scales_and_shifts_the_margin_of_a_copy() -> None:
    torch.manual_seed(0)
    network = models.build("v1-0.25").eval()
    x = torch.rand(3, 3, 96, 96)
    with torch.no_grad():
        before = network(x)
        moved = operating_point.folded(network, 2.5, -0.75)
        after = moved(x)
        assert torch.equal(network(x), before)
    margin = before[:, 1] - before[:, 0]
    assert torch.allclose(after[:, 1] - after[:, 0], 2.5 * margin - 0.75, atol=1e-5)

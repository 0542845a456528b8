"""Plots of benchmark rows as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tools.bench.table import Row, label


def latency(rows: Sequence[Row], path: Path, title: str) -> None:
    """Latency against sparsity: a panel per model, a line per engine; engines without sparsity are level lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    models = list(dict.fromkeys(r["model"] for r in rows))
    names = list(dict.fromkeys(label(r) for r in rows))
    colours = {name: plt.get_cmap("tab20")(i % 20) for i, name in enumerate(names)}
    figure, axes = plt.subplots(1, len(models), figsize=(5.2 * len(models), 5.2), squeeze=False, layout="constrained")
    for ax, model in zip(axes[0], models, strict=True):
        mine = [r for r in rows if r["model"] == model]
        for name in names:
            points = sorted((r["sparsity"], r["median_ms"]) for r in mine if label(r) == name)
            if not points:
                continue
            ours = name.startswith("gossamer")
            style = {"color": colours[name], "linewidth": 2.6 if ours else 1.3, "label": name}
            if len(points) == 1 and points[0][0] == 0:
                ax.axhline(points[0][1], linestyle="--", **style)
            else:
                ax.plot(*zip(*points, strict=True), marker="o", **style)
        ax.set(title=model, xlabel="sparsity (share of zeros)", ylabel="median latency, ms")
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
    axes[0][-1].legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)

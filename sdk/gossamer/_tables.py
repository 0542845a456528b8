"""Text tables and sizes for terminals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def columns(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: set[int] | frozenset[int] = frozenset(),
    widest: Mapping[int, int] | None = None,
) -> str:
    """Columns two blanks apart, those in ``left`` to the left; ``widest`` cuts long cells in their middle."""
    short = [[cut(printable(c, ends=""), (widest or {}).get(i)) for i, c in enumerate(row)] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *short]) for i in range(len(head))]
    lines = []
    for row in [list(head), ["-" * w for w in widths], *short]:
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def printable(text: str, *, ends: str = "\n\t") -> str:
    """The text with ``\ufffd`` for control characters but ``ends``: they would let whoever wrote a model's name or a
    device's message change what the terminal shows."""
    return "".join(c if c.isprintable() or c in ends else "\ufffd" for c in text)


def cut(text: str, width: int | None) -> str:
    """The text with ``...`` in its middle when it is longer than ``width`` characters."""
    if width is None or len(text) <= width:
        return text
    half = (width - 3) // 2
    return text[: width - 3 - half] + "..." + text[len(text) - half :]


def bytes_text(count: int) -> str:
    """``1234567`` as ``1.235 MB`` (powers of ten)."""
    if count < 1000:
        return f"{count} B"
    for unit, size in (("kB", 1e3), ("MB", 1e6)):
        if count < size * 1000:
            return f"{count / size:.3f} {unit}"
    return f"{count / 1e9:.3f} GB"

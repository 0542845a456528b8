"""Inputs with or without labels, decoded when asked for: what accuracy is measured on and training draws from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import CalibrationError, InputError

Sample = dict[str, npt.NDArray[Any]]
CACHE_BYTES = 1 << 30
"""Decoded inputs are kept up to this many bytes; beyond it they are decoded again each time."""
MAX_UNREADABLE = 0.1
"""More than this share of unreadable entries is an error, not a few bad files."""


@dataclass(frozen=True)
class Classes:
    """The classes of a model's first output: how many, and their names where the model or the user gives them."""

    count: int
    names: tuple[str, ...] = ()

    def index(self, text: str) -> int | None:
        """The class that ``text`` names, by name or else by number; None when it names none."""
        if text in self.names:
            return self.names.index(text)
        if text.isascii() and text.isdigit() and int(text) < self.count:
            return int(text)
        return None

    @property
    def told(self) -> str:
        """The classes in words, for errors."""
        if not self.names:
            return f"the classes are 0 to {self.count - 1}"
        more = f" and {self.count - 8} more" if self.count > 8 else ""
        return f"the classes are {', '.join(map(repr, self.names[:8]))}{more}"


@dataclass(frozen=True)
class Entry:
    """One example: its name for messages, its class (None: not known), and how to get the model's inputs."""

    name: str
    label: int | None
    read: Callable[[], Sample]


@dataclass
class Examples:
    """A set of examples; all have a label or none has.

    Attributes:
        entries: in the order of the source.
        source: where they came from, for reports.
        classes: of the model that they are for.
        skipped: names of entries that could not be read and were left out by :meth:`prepare`.
    """

    entries: list[Entry]
    source: str
    classes: Classes
    skipped: tuple[str, ...] = ()
    _kept: dict[int, Sample] = field(default_factory=dict, repr=False)
    _bytes: int = field(default=0, repr=False)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> Sample:
        """The inputs of example ``i`` by name, of the model's types and shapes."""
        entry = self.entries[i]
        found = self._kept.get(id(entry))
        if found is None:
            found = entry.read()
            size = sum(a.nbytes for a in found.values())
            if self._bytes + size <= CACHE_BYTES:
                self._kept[id(entry)] = found
                self._bytes += size
        return found

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """int64 [N]; None when the examples have no labels."""
        found = [e.label for e in self.entries]
        return None if None in found else np.array(found, np.int64)

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> Examples:
        """Reads every example once and leaves out those that cannot be read; returns itself.

        Raises:
            InputError: none is left, or more than a tenth cannot be read (the message counts and names them), or all
                have the same label.
        """
        good, bad = [], []
        reason: Exception | None = None
        for i, entry in enumerate(self.entries):
            try:
                self[i]
                good.append(entry)
            except (InputError, CalibrationError) as e:
                bad.append(entry.name)
                reason = reason or e
            if progress:
                progress(i + 1, len(self.entries))
        if bad and (not good or len(bad) > MAX_UNREADABLE * len(self.entries)):
            raise InputError(
                f"{len(bad)} of {len(self.entries)} examples cannot be read: {_some(bad)}",
                where=self.source,
                hint=f"the first: {reason.message if isinstance(reason, InputError | CalibrationError) else reason}",
            )
        self.entries, self.skipped = good, (*self.skipped, *bad)
        self._check_labels()
        return self

    def _check_labels(self) -> None:
        labels = self.labels
        if labels is None or len(np.unique(labels)) > 1:
            return
        only = int(labels[0])
        name = repr(self.classes.names[only]) if self.classes.names else str(only)
        raise InputError(
            f"all {len(self)} examples are labelled {name}: what always says so would be perfect on them",
            where=self.source,
            hint=f"add examples of the other classes; {self.classes.told}",
        )

    def subset(self, count: int) -> Examples:
        """At most ``count`` examples, evenly spread over the source and, where there are labels, over the classes."""
        if count >= len(self):
            return self
        labels = self.labels
        groups = [np.arange(len(self))] if labels is None else [np.flatnonzero(labels == c) for c in np.unique(labels)]
        chosen: list[int] = []
        left, waiting = count, sorted(groups, key=len)
        while waiting:  # small classes first: what they cannot fill goes to the larger ones
            group = waiting.pop(0)
            take = min(len(group), -(-left // (len(waiting) + 1)))
            chosen += group[np.linspace(0, len(group) - 1, take).round().astype(int)].tolist() if take else []
            left -= take
        picked = [self.entries[i] for i in sorted(chosen)]
        return Examples(picked, self.source, self.classes, self.skipped, self._kept, self._bytes)

    def told(self) -> str:
        """One line for reports: how many, of what, and what was left out."""
        labels = self.labels
        text = f"{len(self)} examples"
        if labels is None:
            text += " without labels"
        else:
            seen = len(np.unique(labels))
            text += f" of {seen} classes" + (
                f" ({self.classes.count - seen} without any)" * (seen < self.classes.count)
            )
        if self.skipped:
            text += f"; {len(self.skipped)} unreadable left out: {_some(self.skipped)}"
        return f"{text}, {self.source}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")

"""Every way to become sparse, described: training methods and the techniques beside them, from their own words.

Nothing here loads torch. Titles, rules and sources are constants of the modules; options and their descriptions are
read off the signatures and docstrings of what one calls.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gossamer._errors import RecipeError

_TECHNIQUES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "squarehead": ("distillation", "training.squarehead", ("training.squarehead:SquareHead",)),
    "model-soups": ("averaging", "training.soups", ("training.soups:sparse_soup",)),
    "activation-thresholds": (
        "activations",
        "activation",
        ("activation:sparsify_activations", "training.activation:ActivationThresholds"),
    ),
    "one-shot-knee": ("one-shot", "knee", ("knee:essential", "knee:sweep", "knee:knee")),
    "dsnot": ("mask repair", "dsnot", ("dsnot:repair",)),
    "exact-swaps": ("mask repair", "swaps", ("swaps:repair",)),
    "bias-correction": ("after pruning", "bias_correction", ("bias_correction:correct_biases",)),
    "rearrange": ("before pruning", "rearrange", ("rearrange:rearrange",)),
}
"""Name to kind, the module with ``TITLE``, ``SOURCE`` and ``RULE``, and what one calls."""
_PACKAGE = "gossamer.sparsify"
_BLOCKS = ("unstructured", "1x4", "4x1", "4x4")


@dataclass(frozen=True)
class Option:
    """A setting: its name, its default as Python writes it, and what it means."""

    name: str
    default: str
    description: str


@dataclass(frozen=True)
class Technique:
    """A training method, or a technique beside them.

    Attributes:
        name: what recipes and the command line call it.
        kind: ``training`` for a method of recipes' ``train.method``; else what it is part of.
        title: one line.
        source: paper or code.
        rule: as one formula or sentence.
        patterns: names of patterns that it works with.
        use: how it is called.
        options: settings with a default.
        doc: docstrings of what one calls.
    """

    name: str
    kind: str
    title: str
    source: str
    rule: str
    patterns: tuple[str, ...]
    use: tuple[str, ...]
    options: tuple[Option, ...]
    doc: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def names() -> list[str]:
    """Of all methods and techniques, in the order in which they are listed."""
    from gossamer.sparsify.training.registry import METHODS

    return [*METHODS, *_TECHNIQUES]


def describe(name: str) -> Technique:
    """The method or technique called ``name``.

    Raises:
        RecipeError: there is none; the message names the nearest.
    """
    from gossamer.sparsify.training.registry import METHODS

    if name in METHODS:
        return _method(name)
    if name in _TECHNIQUES:
        return _technique(name)
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise RecipeError(f"no method or technique '{name}'", hint=f"{hint}There are {', '.join(names())}")


def every() -> Iterator[Technique]:
    """All of them."""
    return map(describe, names())


def _method(name: str) -> Technique:
    from gossamer.sparsify.training.registry import METHODS

    found = METHODS[name]
    options = tuple(
        Option(field, repr(info.get_default(call_default_factory=False)), info.description or "")
        for field, info in found.model_fields.items()
    )
    use = (f"recipe: train: {{method: {name}}}", f'Sparsifier(model, target, "{name}", total_steps=...)')
    return Technique(
        name,
        "training",
        found.title,
        found.source,
        found.rule,
        _patterns(found.patterns),
        use,
        options,
        _doc(found),
    )


def _technique(name: str) -> Technique:
    kind, module, called = _TECHNIQUES[name]
    constants = importlib.import_module(f"{_PACKAGE}.{module}")
    options: dict[str, Option] = {}
    use, docs = [], []
    for place in called:
        home, attribute = place.split(":")
        function = getattr(importlib.import_module(f"{_PACKAGE}.{home}"), attribute)
        use.append(f"from {_PACKAGE}.{home} import {attribute}")
        doc = _doc(function)
        docs.append(doc if len(called) == 1 else f"{attribute}: {doc}")
        for option in _options(function, doc):
            if option.name not in options or not options[option.name].description:
                options[option.name] = option
    return Technique(
        name,
        kind,
        constants.TITLE,
        constants.SOURCE,
        constants.RULE,
        _patterns(getattr(constants, "PATTERNS", ("blocks",))),
        tuple(use),
        tuple(options.values()),
        "\n\n".join(docs),
    )


def _doc(documented: Any) -> str:
    """A docstring as plain text: of a reference with a role, such as ``:func:`name```, the name in backticks."""
    return re.sub(r":\w+:(`[^`]+`)", r"\1", inspect.cleandoc(documented.__doc__ or ""))


def _options(function: Any, doc: str) -> Iterator[Option]:
    """Parameters that have a default, with what the docstring's ``Args`` say of them."""
    described = _arguments(doc)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not inspect.Parameter.empty:
            yield Option(parameter.name, repr(parameter.default), described.get(parameter.name, ""))


def _arguments(doc: str) -> dict[str, str]:
    """The ``Args`` section of a docstring: name to text, in one line each."""
    section = re.search(r"^Args:\n((?:(?:[ ]{4}.*)?\n?)*)", doc, re.MULTILINE)
    found: dict[str, str] = {}
    current: list[str] = []
    for line in section[1].splitlines() if section else []:
        if not line.strip():
            break
        start = re.match(r"[ ]{4}(\w+(?:, \w+)*): (.*)", line)
        if start:
            current = start[1].split(", ")
            found.update(dict.fromkeys(current, start[2]))
        else:
            found.update({name: f"{found[name]} {line.strip()}" for name in current})
    return found


def _patterns(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Kinds of patterns by the names that recipes use; what is no kind stays as it is."""
    return tuple(name for kind in kinds for name in (_BLOCKS if kind == "blocks" else (kind,)))

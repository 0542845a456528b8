"""Selectors of devices: ``key=value,key!=value`` over labels and facts, all of which must hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer_services.common.errors import bad_field

FACTS = tuple(field.name for field in pb.DeviceFacts.DESCRIPTOR.fields)


@dataclass(frozen=True)
class Term:
    """One comparison; ``equal`` False: the value must be another, or missing."""

    key: str
    equal: bool
    value: str


def parse(text: str, field: str = "selector") -> tuple[Term, ...]:
    """The terms of a selector; none for the empty one, which every device fits.

    Raises:
        ServiceError: INVALID_ARGUMENT.
    """
    terms = []
    for part in text.split(",") if text.strip() else ():
        key, equals, value = part.partition("=")
        equal = not key.endswith("!")
        key = key.removesuffix("!").strip()
        if not (equals and key):
            raise bad_field(field, f"{part.strip()!r} is not key=value or key!=value")
        terms.append(Term(key, equal, value.strip()))
    return tuple(terms)


def fits(terms: tuple[Term, ...], labels: Mapping[str, str], facts: pb.DeviceFacts) -> bool:
    """True when all terms hold; a fact goes before a label of the same name."""
    for term in terms:
        found = str(getattr(facts, term.key)) if term.key in FACTS else labels.get(term.key)
        if (found == term.value) != term.equal:
            return False
    return True

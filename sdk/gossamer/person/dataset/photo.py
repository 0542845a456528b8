"""What every data set says about a photo: its label, where it is from, and the slices that it belongs to.

The slices are the five fine-grained benchmark sets of Wake Vision (arXiv 2405.00892, section 5). Where a data set has
no such fields but boxes and pixels, distance and lighting follow from them by the thresholds of Wake Vision's own code
(https://github.com/harvard-edge/Wake_Vision, ``wake_vision_loader.get_distance_eval``, ``data_filters``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MIN_PERSON_AREA = 0.005
"""A photo is a positive when a person box covers at least this fraction of it (Visual Wake Words' rule)."""
FAR_BELOW = 0.10
"""Distance ``far``: the largest person box covers less than this fraction of the photo."""
NEAR_FROM = 0.60
"""Distance ``near``: the largest person box covers at least this fraction of the photo."""
DARK_BELOW = 85.0
"""Lighting ``dark``: mean luma of the photo below this, of 0..255."""
BRIGHT_FROM = 170.0
"""Lighting ``bright``: mean luma of the photo at least this, of 0..255."""
FINE_GRAINED: dict[str, tuple[str, ...]] = {
    "distance": ("near", "medium", "far"),
    "lighting": ("dark", "normal", "bright"),
    "gender": ("female", "male", "unknown"),
    "age": ("young", "middle", "older", "unknown"),
    "depiction": ("person", "other", "none"),
}
"""The five sets and their slices. Distance, gender and age cut photos with a person, depiction photos without one
(a drawing or statue of a person; of something else; none), lighting cuts both."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo's record, without its pixels.

    Attributes:
        file: name inside the data set: a path, or ``<shard>#<row>`` with rows counted from 0.
        split: as the data set calls it, such as ``train``, ``train_quality``, ``val``, ``validation``, ``test``.
        label: 1 person, 0 no person.
        source: the collection the photo came from.
        largest_person_area: area of the largest person box as a fraction (0..1) of the photo, 0 without persons, NaN
            where the data set has no boxes.
        brightness: mean luma (0..255) of the original photo, NaN where it is not known before decoding.
        distance, lighting, gender, age, depiction: slice of each of ``FINE_GRAINED``'s sets, empty where unknown or not
            applicable. Gender and age are the perceived ones of Open Images' MIAP annotations.
    """

    file: str
    split: str
    label: int
    source: str
    largest_person_area: float = math.nan
    brightness: float = math.nan
    distance: str = ""
    lighting: str = ""
    gender: str = ""
    age: str = ""
    depiction: str = ""


def distance_of(label: int, largest_person_area: float) -> str:
    """Slice of the set ``distance``; empty for a photo without a person or of unknown area."""
    if label != 1 or math.isnan(largest_person_area):
        return ""
    if largest_person_area < FAR_BELOW:
        return "far"
    return "near" if largest_person_area >= NEAR_FROM else "medium"


def lighting_of(brightness: float) -> str:
    """Slice of the set ``lighting``; empty for NaN."""
    if math.isnan(brightness):
        return ""
    if brightness < DARK_BELOW:
        return "dark"
    return "bright" if brightness >= BRIGHT_FROM else "normal"

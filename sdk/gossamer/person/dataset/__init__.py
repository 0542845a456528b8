"""Photos with a label, person or none, in their published layouts: person128, Wake Vision, COCO and Visual Wake Words.

::

    from gossamer.person.dataset import Skipped, open_photos

    photos = open_photos("wake_vision/data")          # finds out the layout
    skipped = Skipped()
    for photo, image in photos.read("test", skipped):  # one decoded photo in memory at a time
        print(photo.label, photo.distance, image.size)
    print(skipped.count, "photos could not be read")
"""

from __future__ import annotations

from gossamer.person.dataset.arrays import areas, labels, sampling_weights, sources
from gossamer.person.dataset.opening import LAYOUTS, open_photos
from gossamer.person.dataset.person128 import PHOTO_SIZE, SPLITS, PersonDataset
from gossamer.person.dataset.photo import FINE_GRAINED, MIN_PERSON_AREA, Photo, distance_of, lighting_of
from gossamer.person.dataset.photo_set import PhotoSet, Skipped, require_both_labels

__all__ = [
    "FINE_GRAINED",
    "LAYOUTS",
    "MIN_PERSON_AREA",
    "PHOTO_SIZE",
    "SPLITS",
    "PersonDataset",
    "Photo",
    "PhotoSet",
    "Skipped",
    "areas",
    "distance_of",
    "labels",
    "lighting_of",
    "open_photos",
    "require_both_labels",
    "sampling_weights",
    "sources",
]

"""Recipes: what to do with a model, as one checked YAML file.

>>> from gossamer.recipe import load_recipe
>>> load_recipe("1x4-75-int8").sparsify.pattern
'1x4'
"""

from __future__ import annotations

from gossamer.recipe._loader import available, canonical, json_schema, load_recipe, parse_recipe, placed, text_of
from gossamer.recipe.schema import (
    Distill,
    LayerRule,
    Policy,
    Preprocess,
    QuantizeStep,
    Recipe,
    SparsifyStep,
    Target,
    TrainStep,
)

__all__ = [
    "Distill",
    "LayerRule",
    "Policy",
    "Preprocess",
    "QuantizeStep",
    "Recipe",
    "SparsifyStep",
    "Target",
    "TrainStep",
    "available",
    "canonical",
    "json_schema",
    "load_recipe",
    "parse_recipe",
    "placed",
    "text_of",
]

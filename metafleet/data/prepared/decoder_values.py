"""Decoder options that a recipe of prepared data records."""

from collections.abc import Mapping
from typing import Any

from metafleet.data.prepared.prepared import MEASURED, PreparedData


def decoder_values(prepared: PreparedData, modality: str) -> dict[str, Any]:
    """Return the decoder options in the recipe of a modality, JSON values; {} if there are none."""
    recipe = prepared.recipe.get(modality) or prepared.recipe.get("columns", {}).get(modality)
    if isinstance(recipe, Mapping) and "options" in recipe:
        return dict(recipe["options"])
    kind = prepared.arrays[modality].kind
    own = (table for table in prepared.recipe.get("kinds", ()) if table["name"] == kind)
    by_kind = next(own, prepared.recipe.get(kind))  # for the user's own folders
    measured = prepared.recipe.get(MEASURED, {}).get(modality, {})
    return {**(by_kind if isinstance(by_kind, Mapping) else {}), **measured}

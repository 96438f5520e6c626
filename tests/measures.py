"""How far are two gradients apart?"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def computed(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A dict of arrays without the entries that were not computed (NaN), in one row each."""
    return {name: np.asarray(value)[~np.isnan(value)] for name, value in tree.items()}


def norm(tree: Mapping[str, Any]) -> float:
    """Euclidean norm of a dict of arrays."""
    return float(np.sqrt(sum(np.sum(np.abs(value) ** 2) for value in tree.values())))


def deviation(tree: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    """||tree - reference|| / ||reference|| over the entries that both have (NaN: not computed), of which there must be some."""
    assert set(tree) == set(reference), f"names {list(tree)} instead of {list(reference)}"
    keep = {name: ~np.isnan(value) & ~np.isnan(reference[name]) for name, value in tree.items()}
    assert any(mask.any() for mask in keep.values()), "nothing to compare"
    ours, theirs = ({name: np.asarray(side[name])[keep[name]] for name in tree} for side in (tree, reference))
    return norm({name: ours[name] - theirs[name] for name in tree}) / norm(theirs)

"""How far may a nudge go before the free minimum becomes unstable?

At the free minimum with curvature H the nudge beta * C adds beta * B. In the coordinates that C reads, the minimum stays one
while 1 + beta * lambda > 0 for every eigenvalue lambda of (P H^-1 P^T) B.
"""

import numpy as np

from ..core.system import replaced
from .clamped_systems import unit_forces
from .energy import AbstractEnergySystem
from .landscape import Landscape
from .newton import Curvature
from .relax import solve_masked

MANY = 200
"""Coordinates in a cost above which the limits are not computed: that needs a solve for each."""


def check_nudge(system: AbstractEnergySystem, position: np.ndarray, free: Curvature) -> None:
    """Refuse a nudge that makes the free minimum unstable.

    Raises:
        ValueError: the strength lies outside the limits, which are in the message.
    """
    for term, strength in system.nudges:
        block, rows = system.term_block(term, position)
        if not strength or not 0 < len(rows) <= MANY or not np.all(np.isfinite(block)):
            continue  # of a cost that is no number the status will tell
        compliance = free.factor.solve(unit_forces(len(system.free), rows))[rows]
        softening = np.linalg.eigvals(compliance @ block).real
        _refuse_beyond(strength, softening)


def check_nudges(land: Landscape, free: np.ndarray) -> None:
    """The same for a batch, at free minima (batch, n_free): refuse a nudge that makes one of them unstable.

    Coordinates that a bound holds do not move, and their curvature does not count.
    """
    bare, held = land.free().curvatures(free), land.free().held(free)
    for term, strength in land.system.nudges:
        if strength:
            whole = replaced(land, system=replaced(land.system, nudges=((term, strength),)))
            bent = np.where(held[:, :, None] | held[:, None, :], 0.0, whole.curvatures(free) - bare) / strength
            relative = solve_masked(bare, held, bent)
            known = np.all(np.isfinite(relative), axis=(1, 2))  # of others the status says that they are no minima
            if known.any():
                _refuse_beyond(strength, np.linalg.eigvals(relative[known]).real)


def _refuse_beyond(strength: float, softening: np.ndarray) -> None:
    if np.min(1 + strength * softening) <= 0:
        lowest = -1 / softening.max() if softening.max() > 0 else -np.inf
        highest = -1 / softening.min() if softening.min() < 0 else np.inf
        raise ValueError(
            f"The nudge beta = {strength:g} makes the free minimum unstable: beta must lie between {lowest:.4g} and "
            f"{highest:.4g}. Use a smaller beta, or LinearResponse()."
        )

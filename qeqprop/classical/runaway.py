"""Energies without a minimum: a search for one that has failed may have gone downhill for ever."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.status import Status
from ..core.system import Params

if TYPE_CHECKING:
    from .energy import AbstractEnergySystem

FAR = 1e6
"""Displacement, in units of the largest coordinate (at least 1), above which a search that goes on downhill has run away."""


def ran_away(start: np.ndarray, end: np.ndarray, before: Any, after: Any) -> np.ndarray:
    """Whether searches that have not converged left for infinity, sample by sample.

    Args:
        start, end: coordinates (batch, n).
        before, after: energies there, shape (batch,); of the end they may be no numbers any more.

    Example:
        >>> ran_away(np.zeros((3, 1)), np.array([[3.0], [1e9], [-np.inf]]), np.zeros(3), np.array([-1.0, -1e18, np.nan]))
        array([False,  True,  True])
    """
    size = np.maximum(np.abs(start).max(axis=1, initial=0.0), 1.0)
    with np.errstate(invalid="ignore"):
        far = ~(np.abs(end - start).max(axis=1, initial=0.0) <= FAR * size)
        return far & ~(np.asarray(after) > np.asarray(before))


def explained(system: "AbstractEnergySystem", params: Params, status: Status) -> dict[str, str]:
    """For `stats`: the most negative stiffness of a system whose search for an equilibrium has failed, as `advice`."""
    lowest = {name: params[name] for name in system.stiffnesses if np.min(params[name], initial=0.0) < 0}
    if not status.failed or not lowest:
        return {}
    named = [
        f"{name}{list(map(int, np.unravel_index(np.argmin(value), value.shape)))} = {np.min(value):.6g}"
        for name, value in lowest.items()
    ]
    return {
        "advice": f"Negative stiffnesses push apart what is apart, the most negative {' and '.join(named)}: only where the "
        "others outweigh them there is an equilibrium. In a training, chain the optimizer with "
        "`optax.keep_params_nonnegative()`."
    }

"""FIRE, the fast inertial relaxation engine: molecular dynamics that is stopped where it runs uphill.

On rugged landscapes it follows the valleys where Newton's method leaps between them. Many states relax at once, each with its
own time step. Source: Bitzek, Koskinen, Gaehler, Moseler and Gumbsch, Phys. Rev. Lett. 97, 170201 (2006).
"""

from collections.abc import Callable

import equinox as eqx
import numpy as np

from ..core.graph import check_count
from ..core.module import AbstractModule

GROW, SHRINK, START_ALPHA, FADE, PATIENCE = 1.1, 0.5, 0.1, 0.99, 5
"""The constants of the paper: f_inc, f_dec, alpha_start, f_alpha, N_min."""
HUGE = 1e100
"""Force at which the relaxation ends: it runs away."""


class Fire(AbstractModule):
    """How far to relax by FIRE before Newton's method takes over.

    Args:
        steps: at most so many.
        tolerance: end where no component of any slope is above this fraction of the largest at the start.
        dt: first time step, with unit masses; steps may grow tenfold.

    Raises:
        ValueError: numbers out of range.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> fire = qp.classical.Fire(steps=500, tolerance=1e-6)
        >>> slope = lambda s: s * np.array([1.0, 10.0])
        >>> bool(np.abs(fire.relax(slope, np.ones((3, 2)), np.full(2, -np.inf), np.full(2, np.inf))).max() < 1e-4)
        True
    """

    steps: int = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    dt: float = eqx.field(static=True)

    def __init__(self, *, steps: int = 200, tolerance: float = 1e-3, dt: float = 0.1):
        self.steps = check_count(steps, "steps")
        if not (0 <= tolerance < 1 and 0 < dt < np.inf):
            raise ValueError(
                f"Arguments `tolerance` and `dt` must lie in [0, 1) and (0, inf), but are {tolerance} and {dt}."
            )
        self.tolerance, self.dt = float(tolerance), float(dt)

    def relax(
        self, slope: Callable[[np.ndarray], np.ndarray], states: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        """Relax states (batch, n) between bounds; a bound that is hit stops the motion against it."""
        velocity, alpha, good = np.zeros_like(states), np.full(len(states), START_ALPHA), np.zeros(len(states), int)
        dt, force = np.full(len(states), self.dt), -slope(states)
        enough = self.tolerance * np.abs(force).max(initial=0.0)
        for _ in range(self.steps):
            blocked = ((states <= low) & (force < 0)) | ((states >= high) & (force > 0))
            force, velocity = np.where(blocked, 0.0, force), np.where(blocked, 0.0, velocity)
            if not enough < np.abs(force).max(initial=0.0) < HUGE:
                break
            downhill = np.sum(force * velocity, axis=1) > 0
            good = np.where(downhill, good + 1, 0)
            speeding = good > PATIENCE
            dt = np.where(speeding, np.minimum(GROW * dt, 10 * self.dt), np.where(downhill, dt, SHRINK * dt))
            along = force * (_norm(velocity) / np.maximum(_norm(force), 1e-300))
            mixed = velocity + alpha[:, None] * (along - velocity)
            velocity = np.where(downhill[:, None], mixed, 0.0)
            alpha = np.where(speeding, FADE * alpha, np.where(downhill, alpha, START_ALPHA))
            velocity = velocity + dt[:, None] * force
            states = np.clip(states + dt[:, None] * velocity, low, high)
            force = -slope(states)
        return states


def _norm(rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows, axis=1, keepdims=True)

"""The way to the operating point of a circuit with exponential diodes.

Newton's method in the node voltages overshoots at an exponential, or creeps down it by n V_T a step. Here every diode is a
straight line at a junction voltage w of its own. Where these lines let the network drive a larger current than a diode has
at w, the next w is the one of that current, and not of the voltage, as in the alternate bases of circuit simulators.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .diode_model import DiodeModel
from .factorization import factorize

SETTLED = 1e-3
"""Junction voltages that move by less than this many n V_T are where Newton's method converges at once."""
ITERATIONS = 100


def approach(
    model: DiodeModel,
    junctions: Callable[[np.ndarray], np.ndarray],
    balance: Callable[[np.ndarray, np.ndarray], np.ndarray],
    matrix: Callable[[np.ndarray, np.ndarray], Any],
    value: Callable[[np.ndarray], float],
    move: Callable[[np.ndarray, np.ndarray], np.ndarray],
    v: np.ndarray,
    highest: float,
) -> np.ndarray:
    """Node voltages from which Newton's method needs few steps: those of lowest energy on the way.

    Args:
        model: of all diodes.
        junctions: voltages across the diodes at node voltages.
        balance: currents out of the free nodes at node voltages and diode currents.
        matrix: their derivative by the free voltages at node voltages and diode conductances.
        value: the energy.
        move: node voltages displaced by a step of the free ones.
        v: node voltages to start from.
        highest: bound on the junction voltages.
    """
    w = np.minimum(junctions(v), highest)
    best, lowest = v, value(v)
    for _ in range(ITERATIONS):
        conductance, current = model.conductance(w), model.current(w)
        factor = factorize(matrix(v, conductance))
        if not factor.definite:  # a nudge beyond its limits
            return best
        v = move(v, -factor.solve(balance(v, current + conductance * (junctions(v) - w))))
        if (energy := value(v)) < lowest:
            best, lowest = v, energy
        u = junctions(v)
        before, w = w, _next(model, u, current + conductance * (u - w))
        if np.abs(w - before).max(initial=0.0) <= SETTLED * model.scale:
            break
    return best


def _next(model: DiodeModel, u: np.ndarray, driven: np.ndarray) -> np.ndarray:
    """Junction voltages for voltages across the diodes and the currents of their straight lines."""
    opening = model.scale * np.log1p(np.maximum(u, 0.0) / model.scale)  # of a diode that blocked until now
    conducting = model.voltage(np.maximum(driven, 0.0))
    return np.where(driven > model.saturation, conducting, np.where(u > 0, opening, u))

"""Newton's method to the rounding level of the slope, with as few factorisations as it takes.

One factorisation serves a Newton step with a line search, and then chord steps for as long as they shrink the slope well.
A nudged minimum starts from the free one with its factor, and often needs no other.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from ..core.module import AbstractModule
from ..core.system import Params
from .energy import AbstractEnergySystem, Matrix
from .factorization import DENSE, Factor, factorize, shifted

CONTRACTION = 0.2
"""A chord step must shrink the slope to this fraction, or the curvature is factorised anew."""
STALLS = 4
"""Newton steps in a row that may neither lower the energy nor halve the slope."""


class Curvature(AbstractModule):
    """The factorised second derivative at a point.

    Attributes:
        factor: of the matrix, or of the matrix plus `shift` where that is not positive definite.
        shift: 0 at a minimum.
        noise: size of the forces that cancel in the slope, || |H| (|s| + |s - start|) ||: its rounding error is a few
            times 1e-16 of this.
    """

    factor: Factor
    shift: float
    noise: float


class Minimum(AbstractModule):
    """Where Newton's method ended. `definite`: the curvature there is positive definite."""

    position: np.ndarray
    slope: np.ndarray
    curvature: Curvature
    newton_steps: int
    chord_steps: int
    converged: bool
    definite: bool


class _Point(NamedTuple):
    position: np.ndarray
    slope: np.ndarray
    size: float


def minimize(
    system: AbstractEnergySystem,
    params: Params,
    position: np.ndarray,
    known: Curvature | None,
    tolerance: float,
    max_iterations: int,
) -> Minimum:
    """Descend from `position` until the slope is below `tolerance` times the noise, or at rounding."""
    here, local = _look(system, params, position), known
    newton = chord = stalls = 0
    flat = False  # whether what is not positive definite here has no direction downhill
    while True:
        if local is not None and not local.shift:
            here, steps = _chords(system, params, here, local)
            chord += steps
            floor = tolerance * local.noise
            if here.size <= floor or (stalls and here.size <= 1e3 * floor) or stalls > STALLS:
                converged = here.size <= 1e3 * floor
                return Minimum(here.position, here.slope, local, newton, chord, converged, definite=True)
        if newton == max_iterations or not np.isfinite(here.size):
            local = local or Curvature(Factor(None, False), 0.0, 0.0)
            return Minimum(here.position, here.slope, local, newton, chord, converged=False, definite=False)
        matrix = system.curvature(params, here.position)
        local = _curvature(system, matrix, here)
        newton += 1
        stationary = here.size <= tolerance * local.noise
        if local.shift and (
            stationary or stalls
        ):  # at a saddle point, or so near that the energy does not fall any more
            away = _downhill(system, params, here, matrix)
            if away is not None:
                here, stalls, flat = away, 0, False
                continue
            flat = True
            if stationary or stalls > STALLS:
                converged = here.size <= 1e3 * tolerance * local.noise
                return Minimum(here.position, here.slope, local, newton, chord, converged, definite=False)
        here, advanced = _line_search(system, params, here, local, halving=flat or not local.shift)
        local = Curvature(local.factor, local.shift, _noise(system, matrix, here.position))
        stalls = 0 if advanced else stalls + 1


def moved(system: AbstractEnergySystem, position: np.ndarray, step: np.ndarray) -> np.ndarray:
    """`position` with its free coordinates displaced by `step`."""
    new = position.copy()
    new.flat[system.free] += step
    return new


def _look(system: AbstractEnergySystem, params: Params, position: np.ndarray) -> _Point:
    with np.errstate(over="ignore", invalid="ignore"):  # a step too far: it will not be taken
        slope = system.slope(params, position)
        return _Point(position, slope, float(np.linalg.norm(slope)))


def _noise(system: AbstractEnergySystem, matrix: Matrix, position: np.ndarray) -> float:
    """|| |H| (|s| + |s - start|) ||, the size of the forces that cancel in the slope."""
    free = system.free
    reach = np.abs(position.flat[free]) + np.abs(position.flat[free] - system.start().flat[free])
    return float(np.linalg.norm(abs(matrix) @ reach))


def _curvature(system: AbstractEnergySystem, matrix: Matrix, here: _Point) -> Curvature:
    noise = _noise(system, matrix, here.position)
    factor, shift = factorize(matrix), 0.0
    while not factor.definite:
        shift = 10 * shift if shift else _least_shift(matrix, here)
        factor = factorize(shifted(matrix, shift))
    return Curvature(factor, shift, noise)


def _least_shift(matrix: Matrix, here: _Point) -> float:
    """A part of the curvature; where that vanishes what makes the step as long as the coordinates are large."""
    return 1e-3 * float(np.abs(matrix.diagonal()).max(initial=0.0)) or here.size / _reach(here.position) or 1.0


def _reach(position: np.ndarray) -> float:
    """The largest coordinate, or 1 where that is less."""
    return max(float(np.abs(position).max(initial=0.0)), 1.0)


def _chords(system: AbstractEnergySystem, params: Params, here: _Point, local: Curvature) -> tuple[_Point, int]:
    """Steps with an old factor while each shrinks the slope well. Their contraction shows that the curvature has not
    changed by more than itself, so that it is still positive definite."""
    steps = 0
    while here.size > 0:
        there = _look(system, params, moved(system, here.position, -local.factor.solve(here.slope)))
        steps += 1
        if not there.size <= CONTRACTION * here.size:
            return (there if there.size < here.size else here), steps
        here = there
    return here, steps


def _line_search(
    system: AbstractEnergySystem, params: Params, here: _Point, local: Curvature, halving: bool
) -> tuple[_Point, bool]:
    """The first of the steps 1, 1/2, 1/4, ... that lowers the energy enough, or (`halving`) near a minimum halves the slope.

    Also says whether it did so by more than rounding.
    """
    direction = -local.factor.solve(here.slope)
    value, decrease = system.value(params, here.position), float(here.slope @ direction)
    for halvings in range(40):
        there = _look(system, params, moved(system, here.position, direction / 2**halvings))
        if halving and there.size <= 0.5 * here.size:
            return there, True
        fall = value - system.value(params, there.position)
        if fall >= -1e-4 * decrease / 2**halvings:
            return there, bool(fall > 1e-13 * abs(value))
    return here, False  # the energy is flat to rounding


def _downhill(system: AbstractEnergySystem, params: Params, here: _Point, matrix: Matrix) -> _Point | None:
    """A lower point along the softest direction of a saddle; None where nothing is lower (a flat direction)."""
    if matrix.shape[0] <= DENSE:
        softness, modes = np.linalg.eigh(matrix.toarray() if sp.issparse(matrix) else matrix)
    else:
        softness, modes = spla.eigsh(matrix, k=1, which="SA", v0=np.random.default_rng(0).normal(size=matrix.shape[0]))
    if softness[0] >= -1e-10 * np.abs(matrix.diagonal()).max():
        return None
    value = system.value(params, here.position)
    for step in _reach(here.position) * 2.0 ** -np.arange(1, 30):
        for mode in (modes[:, 0], -modes[:, 0]):
            if system.value(params, there := moved(system, here.position, step * mode)) < value:
                return _look(system, params, there)
    return None

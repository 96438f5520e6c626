"""Equilibria at complex nudges: the minimum of an analytic energy, followed into the complex plane by Newton's method."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..core.estimate import Estimate
from ..core.scheme import AbstractScheme
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params, replaced
from .energy import AbstractEnergySystem, AbstractPotentialSystem, PointState
from .minimize import Minimizer
from .newton import moved
from .root import find_root, solved

CONTRACTION = 0.25
"""The second step of Newton's method is at most this part of the first, or the nudge is approached in smaller ones."""
SHORTEST = 2.0**-8
"""Part of the way to the nudge that a step must make, or a singularity is on it."""
SLANT = 1e-6
"""Displacement, relative to the state, by which is tested that a slope is analytic."""


class HolomorphicMinimizer(AbstractSolver):
    r"""Minima of analytic energies, and their continuation to complex nudges, for `holomorphic`.

    Real phases are those of a `Minimizer`. At a complex nudge the equilibrium is where the analytic continuation of the slope
    vanishes, on the branch of the free state: the nudge is raised along a straight line, in steps so short that Newton's method
    contracts from the first on. So a state is never taken from another branch; where a singularity stops the way (an
    exceptional point, at which two equilibria merge), the status is `BRANCH_JUMP`.

    Only for potentials written in analytic functions (tanh, exp, polynomials; not abs, max, real or conj), in real space or on
    a torus, one sample at a time.

    Args:
        minimizer: of the real phases.

    Raises (from `solve`):
        TypeError: a system without a potential in JAX. ValueError: a box; a potential or a cost that is not analytic.

    Source: A. Laborieux and F. Zenke, NeurIPS 35 (2022), arXiv:2209.00530.

    Example:
        >>> import jax.numpy as jnp, qeqprop as qp
        >>> unit = qp.classical.EnergySystem(
        ...     lambda p, s, x: (s**2).sum() / 2 - p["b"] * jnp.tanh(s).sum() - 0.4 * s.sum(), (1,), {"b": ()})
        >>> cost = qp.classical.StateCost(lambda s, y: ((s - y) ** 2).sum())
        >>> solver = qp.classical.HolomorphicMinimizer()
        >>> exact = qp.linear_response(unit, {"b": 0.5}, cost, 1.0, solver=solver).grad["b"]
        >>> found = qp.ep_gradient(unit, {"b": 0.5}, cost, 1.0, solver=solver, scheme=qp.holomorphic(0.1, 16)).grad["b"]
        >>> bool(abs(found - exact) < 1e-12)  # at nudges of a tenth
        True
    """

    minimizer: Minimizer

    name: ClassVar[str] = "HolomorphicMinimizer"
    analytic: ClassVar[bool] = True
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, minimizer: Minimizer | None = None):
        if minimizer is not None and not isinstance(minimizer, Minimizer):
            raise TypeError(f"Argument `minimizer` must be a Minimizer or None, but is {minimizer!r}.")
        self.minimizer = Minimizer() if minimizer is None else minimizer

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The minimum; under complex nudges the continuation of `init`, the state without them."""
        if not (isinstance(system, AbstractEnergySystem) and _is_complex(system)):
            return self.minimizer.solve(system, params, init=init)
        if not isinstance(system, AbstractPotentialSystem):
            raise wrong_system(system, "HolomorphicMinimizer", "potentials written in JAX")
        if np.any(np.isfinite(system.domain.bounds(system.state_shape))):
            raise ValueError(
                "A state has a kink where it reaches the bounds of its box: no complex nudge can be followed."
            )
        if init is None:
            init = self.minimizer.solve(_on_the_way(system, 0.0), params)
        return self._continued(system, params, init)

    def _continued(self, system: AbstractPotentialSystem, params: Params, init: Equilibrium) -> Equilibrium:
        place, reached, length, steps = np.asarray(init.state.position, complex), 0.0, 1.0, 0
        status = Status.OK
        while reached < 1:
            length = min(length, 1 - reached)
            near = _approached(_on_the_way(system, reached + length), params, place)
            if near is None:
                length /= 2
                if length < SHORTEST:
                    status = Status.BRANCH_JUMP
                    break
                continue
            place, reached, length, steps = near, reached + length, 2 * length, steps + 1
        free = system.free

        def at(coordinates: np.ndarray) -> np.ndarray:
            return moved(system, place, coordinates - place.flat[free])

        root = find_root(
            lambda coordinates: system.slope(params, at(coordinates)),
            lambda coordinates: system.curvature(params, at(coordinates)),
            place.flat[free],
            self.minimizer.tolerance,
            self.minimizer.max_iterations,
        )
        end = at(root.place)
        if status is Status.OK and not root.converged:
            status = Status.UNCONVERGED if np.all(np.isfinite(end)) else Status.NOT_FINITE
        if np.all(np.isfinite(end)):
            _check_analytic(system, params, end)
        displacement = float(np.linalg.norm(end - init.state.position))
        stats = {"continuation_steps": steps, "newton_steps": root.steps, "displacement": displacement}
        energy = Estimate.exact(np.asarray(system.value(params, end)))
        return Equilibrium(PointState(end), energy, np.asarray(root.left), None, status, stats)

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Implicit differentiation, as by the `Minimizer`."""
        return self.minimizer.respond(system, params, equilibrium, term, tolerance=tolerance)

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """Linear response."""
        return self.minimizer.default_scheme(free, term)

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free state, from which every nudge is followed."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """One sample at a time."""
        return False

    def __repr__(self) -> str:
        return f"HolomorphicMinimizer({self.minimizer!r})"


def _is_complex(system: AbstractEnergySystem) -> bool:
    return any(isinstance(beta, complex) for _, beta in system.nudges)


def _on_the_way(system: AbstractPotentialSystem, part: float) -> AbstractPotentialSystem:
    """The system with this part of its complex nudges; none of them at 0."""
    kept = [(term, beta * part if isinstance(beta, complex) else beta) for term, beta in system.nudges]
    return replaced(system, nudges=tuple((term, beta) for term, beta in kept if beta))


def _approached(system: AbstractPotentialSystem, params: Params, place: np.ndarray) -> np.ndarray | None:
    """Two steps of Newton's method; None where they do not contract."""
    lengths = []
    for _ in range(2):
        step = solved(system.curvature(params, place), system.slope(params, place))
        place = moved(system, place, -step)
        lengths.append(float(np.linalg.norm(step)))
    small = 1e-12 * float(np.linalg.norm(place))
    return place if lengths[1] <= CONTRACTION * lengths[0] or lengths[1] <= small else None


def _check_analytic(system: AbstractPotentialSystem, params: Params, place: np.ndarray) -> None:
    """The slope must change along i v by i times what it changes by along v: Cauchy and Riemann."""
    way = np.random.default_rng(0).normal(size=len(system.free))
    way *= SLANT * max(1.0, float(np.linalg.norm(place))) / np.linalg.norm(way)
    there, back = (system.slope(params, moved(system, place, sign * 1j * way)) for sign in (1, -1))
    found, expected = (there - back) / 2, 1j * (system.curvature(params, place) @ way)
    if not np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected):
        raise ValueError(
            "The potential and the cost must be analytic functions of the state at complex nudges, but are not: abs, max, "
            "real, conj and norms of vectors are not analytic. Use `centered` or `richardson`."
        )

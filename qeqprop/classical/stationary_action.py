"""Trajectories that make an action stationary, and its linear response."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.real import check_fraction
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response, check_start, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .coordinates import AbstractCoordinateState
from .energy import PointState
from .factorization import DENSE
from .lagrangian import LagrangianSystem
from .newton import moved
from .root import displacement, find_root

SINGULAR = 1e-11
"""Smallest over largest curvature below which a trajectory counts as not isolated."""


class StationaryAction(AbstractSolver):
    """Newton's method for trajectories of a `LagrangianSystem`, with a sparse factorisation of the second variation.

    An action is stationary at a motion, but not least: over longer times than half a period of the fastest oscillation its
    second variation has negative eigenvalues, one for every conjugate point that was passed. They are accepted, and counted:
    `stats["negative_directions"]`, the Morse index. Equilibrium propagation asks only that no eigenvalue vanishes:
    `stats["smallest_curvature"]` is the one nearest to zero, and the status is `DEGENERATE` where it is zero to rounding (a
    resonance, or a periodic motion without a drive, which may begin at any time). Where the index of a nudged
    trajectory differs from the free one's, an eigenvalue has passed through zero, and the status is `BRANCH_JUMP`.

    Args:
        tolerance: bound on ||dS/dq|| relative to || |S''| |q| ||, the forces that cancel in it.
        max_iterations: bound on the Newton steps.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> thrown = qp.classical.LagrangianSystem(
        ...     lambda p, q, v, x: v @ v / 2 - p["g"] * q[0], 1, {"g": ()}, dt=0.25, steps=4, ends=[[0.0], [0.0]])
        >>> ball = qp.equilibrate(thrown, {"g": 8.0}, solver=qp.classical.StationaryAction())
        >>> print(ball.state.position.T)  # 4 t (1 - t)
        [[0.   0.75 1.   0.75 0.  ]]
    """

    tolerance: float = eqx.field(static=True)
    max_iterations: int = eqx.field(static=True)

    name: ClassVar[str] = "StationaryAction"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, *, tolerance: float = 1e-15, max_iterations: int = 100):
        self.tolerance, self.max_iterations = (
            check_fraction(tolerance, "tolerance", 1e-16),
            check_count(max_iterations, "max_iterations"),
        )

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The trajectory that Newton's method finds from `init`, or from the system's start."""
        motion = _checked(system)
        check_start(init, AbstractCoordinateState, "StationaryAction")
        way = motion.start().copy()
        if init is not None:
            if np.shape(init.state.position) != motion.state_shape:
                raise ValueError(
                    f"Argument `init` must have a trajectory of shape {motion.state_shape}, but has "
                    f"{np.shape(init.state.position)}."
                )
            way.flat[motion.free] = init.state.position.flat[motion.free]
        held = way.copy()
        held.flat[motion.free] = 0.0
        root = find_root(
            lambda q: motion.slope(params, moved(motion, held, q)),
            lambda q: motion.curvature(params, moved(motion, held, q)),
            way.flat[motion.free],
            self.tolerance,
            self.max_iterations,
        )
        position = moved(motion, held, root.place)
        stats: dict[str, Any] = {"newton_steps": root.steps}
        status = Status.OK if root.converged else Status.UNCONVERGED
        if not np.isfinite(root.left):
            status = Status.NOT_FINITE
        elif root.converged:
            status = _spectrum(motion.curvature(params, position), stats)
        if init is not None:
            stats["displacement"] = float(np.linalg.norm(position - init.state.position))
            before = init.stats.get("negative_directions")
            if motion.nudges and status is Status.OK and before not in (None, stats["negative_directions"]):
                status = Status.BRANCH_JUMP
        action = Estimate.exact(np.asarray(motion.value(params, position)))
        return Equilibrium(PointState(position), action, np.asarray(root.left), None, status, stats)

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """The displacement of the trajectory per unit of nudge, S'' dq = -dC/dq, and the change of dS/dtheta along it."""
        motion, position = _checked(system), equilibrium.state.position
        matrix, load = motion.curvature(params, position), -motion.term_slope(term, position)
        step, residual, status = displacement(matrix, load, tolerance)
        return Response(Estimate.exact(motion.force_change(params, position, step)), residual, status, {})

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """Linear response: one linear system."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free trajectory."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """One drive at a time."""
        return False

    def __repr__(self) -> str:
        return f"StationaryAction(tolerance={self.tolerance:g})"


def _checked(system: AbstractSystem) -> LagrangianSystem:
    if not isinstance(system, LagrangianSystem):
        raise wrong_system(system, "StationaryAction", "a LagrangianSystem")
    return system


def _spectrum(matrix: sp.csc_array, stats: dict[str, Any]) -> Status:
    """Count the negative eigenvalues of the second variation, and find the one nearest to zero."""
    largest = np.abs(matrix.diagonal()).max(initial=0.0)
    if matrix.shape[0] <= DENSE:
        levels = scipy.linalg.eigvalsh(matrix.toarray())
        nearest, negative = levels[np.argmin(np.abs(levels))], int(np.sum(levels < 0))
    else:
        try:
            nearest, negative = _nearest(matrix), _negative(matrix)
        except RuntimeError:  # exactly singular
            nearest, negative = 0.0, 0
    stats |= {"negative_directions": negative, "smallest_curvature": float(nearest)}
    return Status.OK if abs(nearest) > SINGULAR * largest else Status.DEGENERATE


def _nearest(matrix: sp.csc_array) -> float:
    """The eigenvalue nearest to zero, by inverse iteration."""
    inverse = spla.LinearOperator(matrix.shape, matvec=spla.splu(sp.csc_matrix(matrix)).solve, dtype=float)
    start = np.random.default_rng(0).normal(size=matrix.shape[0])
    return float(1 / spla.eigsh(inverse, k=1, which="LM", v0=start, tol=1e-3, return_eigenvectors=False)[0])


def _negative(matrix: sp.csc_array) -> int:
    """Sylvester's law of inertia: as many eigenvalues are negative as pivots, where only the diagonal is pivoted on."""
    order = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    return int(np.sum(spla.splu(sp.csc_matrix(matrix), **order).U.diagonal() < 0))

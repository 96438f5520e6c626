"""Lagrangian systems: the state is a whole trajectory, and its energy is the action."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from ..core.graph import check_count
from ..core.memory import check_memory
from ..core.module import AbstractModule
from ..core.precision import jax_float64
from ..core.real import check_positive
from ..core.system import Params, real_array
from ..core.written import check_function, check_scalar
from .declared import AbstractDeclaredSystem, check_shape, check_shapes
from .energy import AbstractEnergySystem, Nudge, batch_length

if TYPE_CHECKING:
    from .stationary_action import StationaryAction

Lagrangian = Callable[[Any, Any, Any, Any], Any]


class LagrangianSystem(AbstractDeclaredSystem, AbstractEnergySystem):
    r"""Motions that make an action stationary, on a grid of times t_k = k dt:

    .. math:: S = \sum_{k=0}^{K-1} dt \, L\!\left(\theta, \frac{q_k + q_{k+1}}{2}, \frac{q_{k+1} - q_k}{dt}, x_k\right) .

    A physical motion is where dS/dq = 0, the discrete Euler-Lagrange equations of the midpoint rule (second order in dt,
    symplectic). It is in general no minimum of S: its solver is `StationaryAction`. With the action in the place of the
    energy equilibrium propagation is unchanged: a cost C of the trajectory nudges the motion to where S + beta C is
    stationary, and

    .. math:: \frac{dC}{d\theta} = \frac{d}{d\beta} \frac{\partial S}{\partial\theta}\Big|_{\beta = 0} .

    The trajectory has fixed ends, or is periodic, q_K = q_0, as the response to a periodic drive is. A motion from given
    initial values is no stationary point of an action of this kind: see `HamiltonianSystem`.

    A state is a trajectory of shape (points, size): K + 1 points, K of a periodic one. So `nodes` of a `StateCost` are
    points in time, and `cost(q[nodes], target)` sees rows of coordinates.

    Source: B. Scellier, thesis, arXiv:2103.09985 (2021); S. Massar, "Equilibrium propagation for learning in Lagrangian
    dynamical systems", arXiv:2505.07363 (2025).

    Args:
        lagrangian: `lagrangian(params, position, velocity, drive) -> scalar`, written with `jax.numpy`; `position` and
            `velocity` have shape (size,).
        size: number of coordinates.
        params: name -> shape of the parameters.
        dt: time between points.
        steps: number K of intervals, at least 2.
        ends: first and last positions, shape (2, size), which are held; None for a periodic trajectory.
        inputs: shape of the drive at one time; the inputs of the system are the drives in the middles of the intervals,
            shape (steps, \*inputs). None for none.
        start: trajectory where the solver begins; None takes the straight way between the ends, or rest at 0.

    Raises:
        TypeError, ValueError: bad shapes; a Lagrangian that does not return a scalar, before anything is solved.
        MemoryError: blocks of the second variation, (2 size)^2 numbers an interval, that do not fit.

    Example:
        >>> import jax.numpy as jnp, qeqprop as qp
        >>> driven = qp.classical.LagrangianSystem(
        ...     lambda p, q, v, x: (v @ v - p["k"] * q @ q) / 2 + x * q[0], 1, {"k": ()}, dt=0.1, steps=60, inputs=())
        >>> force = jnp.cos(2 * jnp.pi * (jnp.arange(60) + 0.5) / 60)
        >>> cost = qp.classical.StateCost(lambda q, y: ((q - y) ** 2).sum() / 2, nodes=[0])
        >>> out = qp.ep_gradient(driven, {"k": 3.0}, cost, [[1.0]], inputs=force)
        >>> print(out.free.state.position[0].round(3), out.grad["k"].round(4), out.free.stats["negative_directions"])
        [0.527] 0.1311 3
    """

    lagrangian: Lagrangian = eqx.field(static=True)
    size: int = eqx.field(static=True)
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)
    drive_shape: tuple[int, ...] | None = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    periodic: bool = eqx.field(static=True)
    origin: np.ndarray
    inputs: np.ndarray | None
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        lagrangian: Lagrangian,
        size: int,
        params: Mapping[str, tuple[int, ...]],
        *,
        dt: float,
        steps: int,
        ends: ArrayLike | None = None,
        inputs: tuple[int, ...] | None = None,
        start: ArrayLike | None = None,
    ):
        self.lagrangian = check_function(lagrangian, "lagrangian")
        self.size = check_count(size, "size")
        self.shapes = check_shapes(params)
        self.drive_shape = None if inputs is None else check_shape(inputs, "inputs")
        self.dt, self.steps = check_positive(dt, "dt"), check_count(steps, "steps", 2)
        self.periodic = ends is None
        self.origin = self._origin(ends, start)
        self.inputs = None if self.input_shape is None else np.zeros(self.input_shape)
        self.nudges = ()
        rest, drive = np.zeros(self.size), None if self.drive_shape is None else np.zeros(self.drive_shape)
        check_scalar(lagrangian, "lagrangian", self._zeros(), rest, rest, drive)
        check_memory(
            24 * self.steps * (2 * self.size) ** 2,
            f"The second variation of {self.steps} intervals with {self.size} coordinates",
            "Take fewer steps.",
        )

    def _origin(self, ends: ArrayLike | None, start: ArrayLike | None) -> np.ndarray:
        if ends is None:
            shape = (self.steps, self.size)
            return np.zeros(shape) if start is None else real_array(start, "start", shape)
        first, last = real_array(ends, "ends", (2, self.size))
        shape = (self.steps + 1, self.size)
        way = np.linspace(first, last, self.steps + 1) if start is None else real_array(start, "start", shape)
        way[0], way[-1] = first, last
        return way

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return None if self.drive_shape is None else (self.steps, *self.drive_shape)

    @property
    def batch_size(self) -> int | None:
        return batch_length(self.inputs, self.input_shape)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self.origin.shape

    @property
    def times(self) -> np.ndarray:
        """Of the points of a trajectory, shape (points,)."""
        return self.dt * np.arange(len(self.origin))

    @property
    def midpoints(self) -> np.ndarray:
        """The times at which the inputs are given, shape (steps,)."""
        return self.dt * (np.arange(self.steps) + 0.5)

    @property
    def free(self) -> np.ndarray:
        everything = np.arange(self.origin.size)
        return everything if self.periodic else everything[self.size : -self.size]

    def start(self) -> np.ndarray:
        return self.origin

    def bare_value(self, params: Params, position: np.ndarray) -> float:
        """The action, without nudges."""
        return float(_derivatives(self.lagrangian).action(params, *self._intervals(position)))

    def bare_slope(self, params: Params, position: np.ndarray) -> np.ndarray:
        parts = np.asarray(_derivatives(self.lagrangian).slopes(params, *self._intervals(position)))
        return np.bincount(self._places().ravel(), parts.ravel(), self.origin.size)[self.free]

    def bare_curvature(self, params: Params, position: np.ndarray) -> sp.csc_array:
        blocks = np.asarray(_derivatives(self.lagrangian).curvatures(params, *self._intervals(position)))
        number = np.append(self.free_places().ravel(), -1)[self._places()]
        rows, columns = np.broadcast_arrays(number[:, :, None], number[:, None, :])
        kept = (rows >= 0) & (columns >= 0)
        return sp.coo_array((blocks[kept], (rows[kept], columns[kept])), shape=(len(self.free),) * 2).tocsc()

    def forces(self, params: Params, position: np.ndarray) -> Params:
        """dS/dtheta along a fixed trajectory."""
        forces = _derivatives(self.lagrangian).forces(params, *self._intervals(position))
        return {name: np.asarray(force) for name, force in forces.items()}

    def force_change(self, params: Params, position: np.ndarray, step: np.ndarray) -> Params:
        along = np.zeros(position.shape)
        along.flat[self.free] = step
        moving, still = self._intervals(along)[0], self._intervals(position)
        change = _derivatives(self.lagrangian).force_change(params, *still, moving)
        return {name: np.asarray(value) for name, value in change.items()}

    def _places(self) -> np.ndarray:
        """Flat indices of both ends of every interval, shape (steps, 2 size)."""
        points = np.arange(self.origin.size).reshape(self.origin.shape)
        return np.hstack([points[: self.steps], np.roll(points, -1, axis=0)[: self.steps]])

    def _intervals(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, float]:
        """Both ends of every interval, the drive in it, and how long it lasts."""
        return position.ravel()[self._places()], self.inputs, self.dt

    def _solver_of_kind(self) -> "StationaryAction":
        from .stationary_action import StationaryAction

        return StationaryAction()

    def __repr__(self) -> str:
        kind = "periodic" if self.periodic else "fixed ends"
        return f"LagrangianSystem({self.size} coordinates, {self.steps} steps of {self.dt:g}, {kind}, {self._shapes_text()})"


class _Derivatives(AbstractModule):
    """The action of intervals and its derivatives: functions of (params, both ends (steps, 2 size), drives, dt)."""

    action: Any
    slopes: Any
    curvatures: Any
    forces: Any
    force_change: Any


@functools.lru_cache(maxsize=64)
def _derivatives(lagrangian: Lagrangian) -> _Derivatives:
    jax = jax_float64()

    def interval(params: Any, ends: Any, drive: Any, dt: Any) -> Any:
        first, last = ends.reshape(2, -1)
        return dt * lagrangian(params, (first + last) / 2, (last - first) / dt, drive)

    def along(part: Callable[..., Any]) -> Callable[..., Any]:
        def of_all(params: Any, ends: Any, drives: Any, dt: Any) -> Any:
            return jax.vmap(part, in_axes=(None, 0, None if drives is None else 0, None))(params, ends, drives, dt)

        return of_all

    def action(params: Any, ends: Any, drives: Any, dt: Any) -> Any:
        return along(interval)(params, ends, drives, dt).sum()

    forces = jax.grad(action)

    def force_change(params: Any, ends: Any, drives: Any, dt: Any, step: Any) -> Any:
        return jax.jvp(lambda e: forces(params, e, drives, dt), (ends,), (step,))[1]

    slopes, curvatures = along(jax.grad(interval, argnums=1)), along(jax.hessian(interval, argnums=1))
    return _Derivatives(*map(jax.jit, (action, slopes, curvatures, forces, force_change)))

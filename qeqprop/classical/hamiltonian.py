"""Hamiltonian systems that start from given positions and momenta: the state is the trajectory, or its echo."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.real import check_positive
from ..core.system import Params, real_array
from ..core.written import check_function, check_scalar
from .coordinates import AbstractExactState, Coordinates
from .declared import AbstractDeclaredSystem, check_shape, check_shapes
from .energy import Nudge, batch_length
from .leapfrog import Way, leapfrog
from .state_cost import StateTerm, other_nudge

if TYPE_CHECKING:
    from .hamiltonian_echo import HamiltonianEcho

Potential = Callable[[Any, Any, Any], Any]
Kinetic = Callable[[Any, Any], Any]


def half_square(params: Any, momentum: Any) -> Any:
    """|p|^2 / 2: unit masses."""
    return momentum @ momentum / 2


class EchoState(AbstractExactState):
    """A trajectory in the order of time, or its echo in the same order.

    Attributes:
        position: q_k, shape (steps + 1, size).
        momentum: p_{k+1/2}, between the points, shape (steps, size); of an echo its reverse.
        origin: the positions of the forward trajectory, of which a nudged echo is the echo; shape (steps + 1, size).
        impulse: p_0 of the forward trajectory and of this one, shape (2, size).
    """

    position: np.ndarray
    momentum: np.ndarray
    origin: np.ndarray
    impulse: np.ndarray

    def read(self, observable: Coordinates) -> np.ndarray:
        """The coordinates that an observable reads at its points in time, time axis first."""
        return observable.of(self.position)

    def __repr__(self) -> str:
        return f"EchoState(points {len(self.position)}, coordinates {self.position.shape[1]})"


class HamiltonianSystem(AbstractDeclaredSystem):
    r"""Motion from given initial values under H = T(theta, p) + V(theta, q, x), by the leapfrog (kick, drift, kick):

    .. math:: p_{k+1/2} = p_k - \tfrac{dt}{2} V'(q_k, x_k), \quad q_{k+1} = q_k + dt\, T'(p_{k+1/2}), \quad
              p_{k+1} = p_{k+1/2} - \tfrac{dt}{2} V'(q_{k+1}, x_{k+1}) .

    With momenta reversed the same steps lead back. Nudged by the cost on this way back, the motion misses its beginning, and

    .. math:: \frac{dC}{d\theta} = \frac{d}{d\beta} \sum_k \left[ h_k \frac{\partial V}{\partial\theta}(q_k)
              + dt \frac{\partial T}{\partial\theta}(p_{k+1/2}) \right] , \quad h_k = dt \text{ (ends } dt/2) ,

    along the echo (`HamiltonianEcho`, the default solver): what backpropagation through the steps computes, without a
    stored history and without a Jacobian. For motions with fixed ends, or periodic ones, see `LagrangianSystem`.

    A state is a trajectory of steps + 1 points, so `nodes` of a `StateCost` are points in time, and `cost(q[nodes], target)`
    sees rows of coordinates.

    Source: V. Lopez-Pastor and F. Marquardt, Phys. Rev. X 13, 031020 (2023); G. Pourcel and M. Ernoult, arXiv:2506.05259
    (2025), for sequences; G. Pourcel, D. Basu, M. Ernoult and A. Gilra, arXiv:2506.06248 (2025), for the action behind it.

    Args:
        potential: `potential(params, position, drive) -> scalar`, written with `jax.numpy`; `position` has shape (size,).
        size: number of coordinates.
        params: name -> shape of the parameters.
        dt: time of a step.
        steps: number of steps.
        start: q_0 and p_0, shape (2, size); None takes rest at 0.
        kinetic: `kinetic(params, momentum) -> scalar`, an even function of the momentum; None takes \|p\|^2/2.
        inputs: shape of the drive at one time; the inputs of the system have shape (steps + 1, \*inputs), the drives at the
            points. None for none.

    Raises:
        TypeError, ValueError: bad shapes; functions that do not return a scalar, before anything is solved.

    Example:
        >>> import qeqprop as qp
        >>> pendulum = qp.classical.HamiltonianSystem(
        ...     lambda p, q, x: p["k"] * (q**2).sum() / 2, 1, {"k": ()}, dt=0.1, steps=10, start=[[1.0], [0.0]])
        >>> cost = qp.classical.StateCost(lambda q, y: ((q - y) ** 2).sum() / 2, nodes=[10])
        >>> out = qp.ep_gradient(pendulum, {"k": 1.0}, cost, [[0.0]], scheme=qp.centered(1e-3))
        >>> print(out.free.state.position[10].round(3), out.grad["k"].round(4))  # -sin(2) / 4, but for dt
        [0.54] -0.2275
    """

    potential: Potential = eqx.field(static=True)
    kinetic: Kinetic = eqx.field(static=True)
    size: int = eqx.field(static=True)
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)
    drive_shape: tuple[int, ...] | None = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    origin: np.ndarray
    inputs: np.ndarray | None
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        potential: Potential,
        size: int,
        params: Mapping[str, tuple[int, ...]],
        *,
        dt: float,
        steps: int,
        start: ArrayLike | None = None,
        kinetic: Kinetic | None = None,
        inputs: tuple[int, ...] | None = None,
    ):
        self.potential = check_function(potential, "potential")
        self.kinetic = half_square if kinetic is None else check_function(kinetic, "kinetic")
        self.size = check_count(size, "size")
        self.shapes = check_shapes(params)
        self.drive_shape = None if inputs is None else check_shape(inputs, "inputs")
        self.dt, self.steps = check_positive(dt, "dt"), check_count(steps, "steps")
        self.origin = np.zeros((2, self.size)) if start is None else real_array(start, "start", (2, self.size))
        self.inputs = None if self.input_shape is None else np.zeros(self.input_shape)
        self.nudges = ()
        drive = None if self.drive_shape is None else np.zeros(self.drive_shape)
        check_scalar(self.potential, "potential", self._zeros(), self.origin[0], drive)
        check_scalar(self.kinetic, "kinetic", self._zeros(), self.origin[1])

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return None if self.drive_shape is None else (self.steps + 1, *self.drive_shape)

    @property
    def batch_size(self) -> int | None:
        return batch_length(self.inputs, self.input_shape)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.steps + 1, self.size)

    @property
    def free(self) -> np.ndarray:
        """Every position but the first, which is given."""
        return np.arange(self.size, (self.steps + 1) * self.size)

    @property
    def times(self) -> np.ndarray:
        """Of the points of a trajectory, shape (steps + 1,)."""
        return self.dt * np.arange(self.steps + 1)

    def pull(self, path: np.ndarray) -> np.ndarray:
        """dC/dq_k of the nudges along a trajectory, each times its strength; shape (steps + 1, size)."""
        total = np.zeros(self.state_shape)
        for term, beta in self.nudges:
            nodes = slice(None) if term.coordinates.nodes is None else np.asarray(term.coordinates.nodes, int)
            total[nodes] += beta * term.slope(path)
        return total

    def energy(self, params: Params, state: EchoState) -> Estimate:
        r"""Minus the action, nudges included, and less the work at the beginning of an echo.

        The nudges are linear about the forward trajectory. An echo does not end at q_0, and with the mean of its momentum
        there and that of the forward trajectory times the distance taken off, the derivative of the energy by the nudge is the
        cost to second order.
        """
        bare = leapfrog(self.potential, self.kinetic).energy(params, _way(state), self.inputs, self.dt)
        moved = state.position - state.origin
        linear = sum(beta * term.value(state.origin) for term, beta in self.nudges) + np.sum(
            self.pull(state.origin) * moved
        )
        return Estimate.exact(np.asarray(bare) + linear - state.impulse.mean(axis=0) @ moved[0])

    def param_grad(self, params: Params, state: EchoState) -> Estimate:
        """The sum of dH/dtheta along the trajectory, at fixed positions and momenta."""
        forces = leapfrog(self.potential, self.kinetic).forces(params, _way(state), self.inputs, self.dt)
        return Estimate.exact({name: np.asarray(force) for name, force in forces.items()})

    def nudged(self, term: Any, strength: complex) -> "HamiltonianSystem":
        """The system whose echo is kicked by -strength * dC/dq."""
        if not isinstance(term, StateTerm):
            raise other_nudge(self, term)
        return term.applied(self, float(np.real(strength)))  # type: ignore[no-any-return]

    def default_solver(self) -> "HamiltonianEcho":
        from .hamiltonian_echo import HamiltonianEcho

        return HamiltonianEcho()

    def __repr__(self) -> str:
        return f"HamiltonianSystem({self.size} coordinates, {self.steps} steps of {self.dt:g}, {self._shapes_text()})"


def _way(state: EchoState) -> Way:
    return Way(state.position, state.momentum)

"""Vector-field dynamics: states at rest under forces that no energy need have, such as those of asymmetric weights."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.module import AbstractModule
from ..core.precision import jax_float64
from ..core.system import Params, real_array
from ..core.written import check_function, traced
from .coordinates import AbstractExactState, Coordinates
from .declared import AbstractDeclaredSystem, check_shape, check_shapes
from .energy import Nudge, batch_length
from .state_cost import StateTerm, other_nudge

if TYPE_CHECKING:
    from .asymmetric import AsymEP

NODES = np.polynomial.legendre.leggauss(6)
"""Points and weights by which the work along a straight way is integrated: exact for polynomials of degree 11."""


class FieldState(AbstractExactState):
    """A point, and the point from which the work of the field is counted.

    Attributes:
        position: shape (n,).
        origin: the free state, from which a nudge has moved it; shape (n,).
    """

    position: np.ndarray
    origin: np.ndarray

    def read(self, observable: Coordinates) -> np.ndarray:
        """The coordinates that an observable reads."""
        return observable.of(self.position)

    def __repr__(self) -> str:
        return f"FieldState(coordinates {self.position.shape})"


class VectorField(AbstractDeclaredSystem):
    r"""Any smooth dynamics ds/dt = F(s; theta, x), studied where it is at rest; a nudge adds the force -beta dC/ds.

    There need be no energy. In its place stands the work against the field on the straight way from the free state s_0,

    .. math:: E = -\int_0^1 F(s_0 + t (s - s_0)) \cdot (s - s_0) \, dt ,

    which is the difference of the energies where F = -dE/ds. The difference quotient of dE/dtheta in beta is then
    -(dF/dtheta)^T J^-1 dC/ds, with the Jacobian J = dF/ds at s_0: the learning rule of Scellier et al. The gradient of the
    loss has J^T for J. Both agree where J is symmetric, that is where there is an energy. `AsymEP`, the default solver,
    corrects the nudged dynamics so that they agree for every field; `FixedPoint` leaves the dynamics as it is.

    Source: Scellier, Goyal, Binas, Mesnard and Bengio, "Generalization of equilibrium propagation to vector field
    dynamics", arXiv:1808.04873 (2018).

    Args:
        field: `field(params, state, inputs) -> velocity`, written with `jax.numpy`; of the shape of the state.
        size: number of coordinates n.
        params: name -> shape of the parameters.
        inputs: shape of one sample's inputs, None for none.
        start: where the search for a state at rest begins; None takes zeros.

    Raises:
        TypeError, ValueError: bad shapes; a field that does not return a velocity, before anything is solved.

    Example:
        >>> import jax.numpy as jnp, qeqprop as qp
        >>> def field(p, s, x):  # the second unit hears the first, and not the other way round
        ...     return jnp.array([x[0], p["w"] * s[0]]) - s
        >>> net = qp.classical.VectorField(field, 2, {"w": ()}, inputs=(1,))
        >>> cost = qp.classical.StateCost(lambda s, y: (s[0] - y) ** 2 / 2, nodes=[1])
        >>> print(qp.ep_gradient(net, {"w": 2.0}, cost, 1.0, inputs=[1.5]).grad["w"].round(6))  # (2 x - 1) x
        3.0
    """

    field: Callable[[Any, Any, Any], Any] = eqx.field(static=True)
    size: int = eqx.field(static=True)
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)
    sample_shape: tuple[int, ...] | None = eqx.field(static=True)
    origin: np.ndarray
    inputs: np.ndarray | None
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        field: Callable[[Any, Any, Any], Any],
        size: int,
        params: Mapping[str, tuple[int, ...]],
        *,
        inputs: tuple[int, ...] | None = None,
        start: ArrayLike | None = None,
    ):
        self.field = check_function(field, "field")
        self.origin = np.zeros(size) if start is None else real_array(start, "start", (size,))
        self.size = len(self.origin)
        self.shapes = check_shapes(params)
        self.sample_shape = None if inputs is None else check_shape(inputs, "inputs")
        self.inputs = None if self.sample_shape is None else np.zeros(self.sample_shape)
        self.nudges = ()
        out = traced(field, "field", self._zeros(), self.origin, self.inputs)
        if getattr(out, "shape", None) != (self.size,):
            raise ValueError(f"Argument `field` must return a velocity of shape ({self.size},), but returns {out}.")

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return self.sample_shape

    @property
    def batch_size(self) -> int | None:
        return batch_length(self.inputs, self.input_shape)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.size,)

    @property
    def free(self) -> np.ndarray:
        """All coordinates can move."""
        return np.arange(self.size)

    def velocity(self, params: Params, position: np.ndarray) -> np.ndarray:
        """F and the forces of the nudges, shape (n,)."""
        bare = np.asarray(_derivatives(self.field).velocity(params, position, self.inputs))
        return bare - sum((beta * self.term_slope(term, position) for term, beta in self.nudges), np.zeros(self.size))

    def jacobian(self, params: Params, position: np.ndarray) -> np.ndarray:
        """dF/ds, without nudges, shape (n, n)."""
        return np.asarray(_derivatives(self.field).jacobian(params, position, self.inputs))

    def nudged_jacobian(self, params: Params, position: np.ndarray) -> np.ndarray:
        """The derivative of `velocity`, shape (n, n)."""
        matrix = self.jacobian(params, position).copy()
        for term, beta in self.nudges:
            rows = term.coordinates.of(np.arange(self.size))
            matrix[np.ix_(rows, rows)] -= beta * term.curvature(position)
        return matrix

    def term_slope(self, term: StateTerm, position: np.ndarray) -> np.ndarray:
        """The derivative of a nudging term by all coordinates."""
        whole = np.zeros(self.size)
        whole[term.coordinates.of(np.arange(self.size))] = term.slope(position)
        return whole

    def energy(self, params: Params, state: FieldState) -> Estimate:
        """The work against the field since the free state, and the nudges."""
        work = _derivatives(self.field).work(params, state.position, state.origin, self.inputs)
        return Estimate.exact(np.asarray(work) + sum(beta * term.expect(state).mean for term, beta in self.nudges))

    def param_grad(self, params: Params, state: FieldState) -> Estimate:
        """The derivative of that work by the parameters, at a fixed state."""
        forces = _derivatives(self.field).forces(params, state.position, state.origin, self.inputs)
        return Estimate.exact({name: np.asarray(force) for name, force in forces.items()})

    def force_change(self, params: Params, position: np.ndarray, step: np.ndarray) -> Params:
        """The derivative of `param_grad` along a displacement from the free state: -(dF/dtheta)^T step."""
        change = _derivatives(self.field).force_change(params, position, step, self.inputs)
        return {name: np.asarray(value) for name, value in change.items()}

    def nudged(self, term: Any, strength: complex) -> "VectorField":
        """The system with the force -strength * dC/ds besides."""
        if not isinstance(term, StateTerm):
            raise other_nudge(self, term)
        return term.applied(self, float(np.real(strength)))

    def default_solver(self) -> "AsymEP":
        from .asymmetric import AsymEP

        return AsymEP()

    def __repr__(self) -> str:
        return f"VectorField(coordinates ({self.size},), {self._shapes_text()})"


class _Derivatives(AbstractModule):
    """A field with its derivatives and its work, compiled once."""

    velocity: Any
    jacobian: Any
    work: Any
    forces: Any
    force_change: Any


@functools.lru_cache(maxsize=64)
def _derivatives(field: Callable[[Any, Any, Any], Any]) -> _Derivatives:
    jax = jax_float64()
    places, weights = (NODES[0] + 1) / 2, NODES[1] / 2

    def work(params: Any, position: Any, origin: Any, inputs: Any) -> Any:
        way = position - origin
        powers = jax.vmap(lambda t: field(params, origin + t * way, inputs) @ way)(places)
        return -(weights @ powers)

    def force_change(params: Any, position: Any, step: Any, inputs: Any) -> Any:
        return jax.grad(lambda p: -(field(p, position, inputs) @ step))(params)

    jit = jax.jit
    return _Derivatives(
        jit(field), jit(jax.jacfwd(field, argnums=1)), jit(work), jit(jax.grad(work)), jit(force_change)
    )

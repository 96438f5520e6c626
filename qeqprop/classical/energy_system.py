"""`EnergySystem`: a new classical system is an energy, and nothing else."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.graph import Edges, check_edges
from ..core.system import real_array
from ..core.written import check_function, check_scalar
from .declared import AbstractDeclaredSystem, check_shape, check_shapes
from .derivatives import Potential
from .domains import AbstractDomain, RealSpace, Spins
from .energy import AbstractPotentialSystem, Nudge

if TYPE_CHECKING:
    from ..core.solver import AbstractSolver


class EnergySystem(AbstractDeclaredSystem, AbstractPotentialSystem):
    """Any smooth energy of real coordinates: bring your own potential.

    Args:
        potential: `potential(params, state, inputs) -> scalar`, written with `jax.numpy`; `params` is a dict of arrays,
            `state` an array of shape `shape`, `inputs` an array or None. Forces and Hessians come from autodiff.
        shape: of the state, node axis first.
        params: name -> shape of the parameters.
        inputs: shape of one sample's inputs, None for none.
        start: where minimisations start, and where coordinates are held; None takes zeros (of spins +1).
        domain: where the coordinates live: `RealSpace()` (None), `Box(low, high)`, `Torus(period)` or `Spins()`.
        held: a mask of shape `shape` of coordinates that keep their start: clamped nodes, or one that fixes a gauge (an
            energy that does not change under a common phase has a flat direction; hold one phase).
        interactions: list of pairs of nodes, or a graph: no other two nodes interact in the potential. Above 300 free
            coordinates second derivatives are then sparse, and those of 10^4 nodes are a few products; a pattern that lacks
            interactions of the potential is found out and refused. None: every node may interact with every other.

    Raises:
        TypeError, ValueError: bad shapes; a start outside the domain; a potential that does not return a scalar, before
            anything is solved.

    Example:
        >>> import jax.numpy as jnp, qeqprop as qp
        >>> well = qp.classical.EnergySystem(
        ...     lambda p, s, x: (s**4).sum() / 4 + p["k"] @ s**2 / 2 - p["f"] @ s, (2,), {"k": (2,), "f": (2,)})
        >>> params = {"k": [1.0, 2.0], "f": [0.5, -1.0]}
        >>> out = qp.ep_gradient(well, params, qp.classical.StateCost(lambda s, y: (s[0] - y) ** 2), 1.0)
        >>> print(out.grad["f"][:1].round(6))
        [-0.748749]
    """

    potential: Potential = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)
    sample_shape: tuple[int, ...] | None = eqx.field(static=True)
    domain: AbstractDomain
    origin: np.ndarray
    held: np.ndarray
    edges: Edges | None = eqx.field(static=True)
    inputs: np.ndarray | None
    nudges: tuple[Nudge, ...]

    def __init__(
        self,
        potential: Potential,
        shape: tuple[int, ...],
        params: Mapping[str, tuple[int, ...]],
        *,
        inputs: tuple[int, ...] | None = None,
        start: ArrayLike | None = None,
        domain: AbstractDomain | None = None,
        held: ArrayLike | None = None,
        interactions: Any = None,
    ):
        self.potential = check_function(potential, "potential")
        self.shape = check_shape(shape, "shape")
        self.shapes = check_shapes(params)
        self.sample_shape = None if inputs is None else check_shape(inputs, "inputs")
        self.domain = RealSpace() if domain is None else domain
        self.origin = _check_start(start, self.shape, self.domain)
        self.held = _check_mask(held, self.shape)
        self.edges = None if interactions is None else check_edges(interactions, _n_nodes(self.shape))
        self.inputs = None if self.sample_shape is None else np.zeros(self.sample_shape)
        self.nudges = ()
        check_scalar(self.potential, "potential", self._zeros(), self.origin, self.inputs)

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return self.sample_shape

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def free(self) -> np.ndarray:
        return np.flatnonzero(~self.held)

    @property
    def interactions(self) -> Edges | None:
        return self.edges

    def starts(self) -> np.ndarray:
        return np.repeat(self.origin[None], self.batch_size or 1, axis=0)

    def _solver_of_kind(self) -> "AbstractSolver":
        """A minimiser; of spins their enumeration at T = 1."""
        from .enumeration import ExactEnumeration
        from .minimize import Minimizer

        return ExactEnumeration(1.0) if isinstance(self.domain, Spins) else Minimizer()

    def __repr__(self) -> str:
        return f"EnergySystem(coordinates {self.shape}, {self._shapes_text()})"


def _check_start(start: ArrayLike | None, shape: tuple[int, ...], domain: AbstractDomain) -> np.ndarray:
    if not isinstance(domain, AbstractDomain):
        raise TypeError(f"Argument `domain` must be RealSpace(), Box(...), Torus(...) or Spins(), but is {domain!r}.")
    if start is None:
        return domain.nearest(np.zeros(shape))
    origin = real_array(start, "start", shape)
    if np.any(domain.nearest(origin) != origin):
        raise ValueError(f"Argument `start` must lie in the domain {domain}, but is {origin.tolist()}.")
    return origin


def _check_mask(held: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool) if held is None else np.asarray(held)
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(
            f"Argument `held` must be a mask (bool) of shape {shape}, but is {mask.dtype} of shape {mask.shape}."
        )
    return mask


def _n_nodes(shape: tuple[int, ...]) -> int:
    if not shape:
        raise ValueError("Argument `shape` must have an axis of nodes where `interactions` are given, but is ().")
    return shape[0]

r"""Clamping: output nodes are not pulled towards their targets but held part of the way.

A phase of strength eta holds the nodes at s_free + eta (y - s_free), and a stencil over eta makes the learning rule:
`one_sided(eta)` gives [dE/dtheta(clamped) - dE/dtheta(free)] / eta, which is coupled learning, and contrastive learning
at eta = 1. `classical.RULES` lists the seven rules of this family.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.nudge import AbstractNudge, finite_target
from ..core.system import Params, real_array, replaced
from .energy import AbstractEnergySystem, Matrix, Nudge, PointState
from .state_cost import AbstractStateTerm, Coordinates

if TYPE_CHECKING:
    from .newton import Curvature


class ClampedState(PointState):
    """A point some of whose coordinates are held.

    Attributes:
        position: all coordinates.
        curvature: None: that of the coordinates left free does not serve other phases.
        reaction: the forces dE/ds on the held coordinates, 0 elsewhere; the shape of `position`.
    """

    reaction: Any = None

    def __repr__(self) -> str:
        return f"ClampedState(coordinates {self.position.shape})"


class ClampTerm(AbstractStateTerm):
    """Nodes held at free + strength * (target - free)."""

    coordinates: Coordinates
    anchor: np.ndarray
    target: np.ndarray

    def expect(self, state: Any) -> Estimate:
        """de/d(strength): the work of the holding forces along target - anchor. Nothing holds a free state."""
        batched = getattr(state, "batched", False)
        reaction = getattr(state, "reaction", None)
        if reaction is None:
            return Estimate.exact(np.zeros(len(state.position) if batched else ()))
        force = self.coordinates.of_batch(reaction) if batched else self.coordinates.of(reaction)
        return Estimate.exact(_total(force * (self.target - self.anchor), batched))

    def applied(self, system: Any, strength: complex) -> "ClampedSystem":
        """The system with these nodes held; coordinates that cannot move are refused."""
        if isinstance(strength, complex):
            raise ValueError("Nodes cannot be held at complex values: use a real stencil with a Clamp.")
        rows = self._rows(system)
        values = self.anchor + strength * (self.target - self.anchor)
        return ClampedSystem(system, rows, np.ravel(values))

    def load(self, system: Any, position: np.ndarray, solve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The forces on the nodes that displace them by target - anchor: (P H^-1 P^T)^-1 (target - anchor)."""
        rows = self._rows(system)
        units = _units(len(system.free), rows)
        force = np.zeros(len(system.free))
        force[rows] = np.linalg.solve(solve(units)[rows], np.ravel(self.target - self.anchor))
        return force

    def _rows(self, system: AbstractEnergySystem) -> np.ndarray:
        """The places of the held coordinates among the free ones."""
        rows = np.ravel(self.coordinates.of(system.free_places()))
        if np.any(rows < 0):
            raise ValueError(
                "Argument `nodes` of the Clamp must hold nodes that are free to move, but some of their coordinates are "
                "pinned, driven or grounded."
            )
        return rows


class Clamp(AbstractNudge):
    r"""Coupled learning: the nudged phase holds nodes at s_free + eta (y - s_free), with eta the strength of the scheme.

    .. math:: G = \frac{1}{\eta} \left[ \frac{\partial E}{\partial\theta}(s^{clamped}_\eta)
              - \frac{\partial E}{\partial\theta}(s^{free}) \right]

    `one_sided(1.0)` is contrastive learning, the gradient of min E(s | outputs = y) - min E(s). At any other eta, and for
    `centered(eta)` and `LinearResponse()` (eta -> 0), G is *not* the gradient of any function: the clamped values move with
    theta. In the limit G is the gradient of (s - y)^T K (s - y)/2 with the effective stiffness K = (P H^-1 P^T)^-1 of the
    output nodes held fixed.

    The reported loss is |s_free - y|^2, `squared_error`.

    Works on every `AbstractEnergySystem`, with `Minimizer`.

    Args:
        nodes: the nodes that are held, distinct. The target has the shape of their coordinates, shape (len(nodes), ...).

    Raises:
        ValueError: repeated nodes; nodes that are pinned, driven or grounded; a target of another shape.

    Source: Movellan (1991), contrastive learning; Stern, Hexner, Rocks and Liu, Phys. Rev. X 11, 021045 (2021), Eqs. 3-6;
    Scellier, Ernoult, Kendall and Kumar, arXiv:2312.15103 (2023), for the signs of eta.

    Example:
        >>> import qeqprop as qp
        >>> divider = qp.classical.FlowNetwork(3, [(0, 1), (1, 2)], driven=[0], grounded=[2])
        >>> clamp = qp.classical.Clamp(nodes=[1])
        >>> out = qp.ep_gradient(divider, {"k": [2.0, 1.0]}, clamp, [1.0], inputs=[3.0], scheme=qp.one_sided(1.0))
        >>> print(out.loss, out.grad["k"].round(6))  # (2**2 - 1**2) / 2 and (1**2 - 2**2) / 2
        1 [ 1.5 -1.5]
    """

    observables: tuple[Any, ...] = eqx.field(static=True)

    def __init__(self, nodes: Sequence[int]):
        chosen = tuple(check_count(node, "nodes", 0) for node in nodes)
        if not chosen or len(set(chosen)) != len(chosen):
            raise ValueError(f"Argument `nodes` must hold distinct nodes, at least one, but is {list(chosen)}.")
        self.observables = (Coordinates(chosen),)

    def cost(self, state: Any, target: ArrayLike | None) -> Estimate:
        term = self.term(state, target)
        return Estimate.exact(_total((term.anchor - term.target) ** 2, getattr(state, "batched", False)))

    def term(self, free_state: Any, target: ArrayLike | None) -> Any:
        read = self.observables[0].of_batch if getattr(free_state, "batched", False) else self.observables[0].of
        anchor = read(free_state.position)
        return ClampTerm(self.observables[0], anchor, real_array(np.asarray(target), "target", anchor.shape))

    def check_target(self, target: ArrayLike | None, batch_size: int | None) -> np.ndarray:
        if target is None:
            raise ValueError("Argument `target` must be given for a Clamp: it is where the nodes are held.")
        return finite_target(target, batch_size)


class ClampedSystem(AbstractEnergySystem):
    """An energy system some of whose free coordinates are held at given values.

    Attributes:
        inner: the system, with its nudges.
        held: places of the held coordinates among `inner.free`.
        values: where they are held.
    """

    inner: AbstractEnergySystem
    held: np.ndarray
    values: np.ndarray
    nudges: tuple[Nudge, ...]

    def __init__(self, inner: AbstractEnergySystem, held: np.ndarray, values: np.ndarray):
        self.inner, self.held, self.values, self.nudges = inner, held, values, ()

    @property
    def kept(self) -> np.ndarray:
        """Places of the coordinates that stay free among `inner.free`."""
        return np.delete(np.arange(len(self.inner.free)), self.held)

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return self.inner.param_shapes

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return self.inner.input_shape

    @property
    def batch_size(self) -> int | None:
        return self.inner.batch_size

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self.inner.state_shape

    @property
    def free(self) -> np.ndarray:
        return self.inner.free[self.kept]

    def start(self) -> np.ndarray:
        position = self.inner.start().copy()
        position.flat[self.inner.free[self.held]] = self.values
        return position

    def with_inputs(self, inputs: ArrayLike) -> "ClampedSystem":
        return replaced(self, inner=self.inner.with_inputs(inputs))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        return self.inner.init_params(rng)

    def _check_domain(self, params: Params) -> None:
        self.inner._check_domain(params)

    def bare_value(self, params: Params, position: np.ndarray) -> float:
        return self.inner.value(params, position)

    def bare_slope(self, params: Params, position: np.ndarray) -> np.ndarray:
        return self.inner.slope(params, position)[self.kept]

    def bare_curvature(self, params: Params, position: np.ndarray) -> Matrix:
        return self.inner.curvature(params, position)[self.kept][:, self.kept]

    def forces(self, params: Params, position: np.ndarray) -> Params:
        return self.inner.forces(params, position)

    def force_change(self, params: Params, position: np.ndarray, step: np.ndarray) -> Params:
        whole = np.zeros(len(self.inner.free))
        whole[self.kept] = step
        return self.inner.force_change(params, position, whole)

    def _state_at(self, params: Params, position: np.ndarray, curvature: "Curvature | None") -> ClampedState:
        """The state with the forces that hold it, dE/ds of the inner system."""
        force = np.zeros(self.state_shape)
        force.flat[self.inner.free[self.held]] = self.inner.slope(params, position)[self.held]
        return ClampedState(position, reaction=force)

    def _inherited(self, known: "Curvature") -> "Curvature":
        """The factor of the free coordinates from that of the inner system, by a Schur complement of the held ones."""
        from .factorization import Factor

        known = self.inner._inherited(known)
        response = known.factor.solve(_units(len(self.inner.free), self.held))
        stiffness, kept = np.linalg.inv(response[self.held]), self.kept

        def solve(right: np.ndarray) -> np.ndarray:
            whole = np.zeros((len(self.inner.free), *right.shape[1:]))
            whole[kept] = right
            loose = known.factor.solve(whole)
            return (loose - response @ (stiffness @ loose[self.held]))[kept]

        return replaced(known, factor=Factor(solve, definite=True))

    def __repr__(self) -> str:
        return f"ClampedSystem({len(self.held)} coordinates held, {self.inner})"


def _total(values: np.ndarray, batched: bool) -> np.ndarray:
    """The sum over the nodes; of a batch, of every sample."""
    return np.asarray(np.sum(values.reshape(len(values), -1), axis=1) if batched else np.sum(values))


def _units(size: int, rows: np.ndarray) -> np.ndarray:
    units = np.zeros((size, len(rows)))
    units[rows, np.arange(len(rows))] = 1.0
    return units

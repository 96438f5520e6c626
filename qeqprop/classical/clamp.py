r"""Clamping: output nodes are not pulled towards their targets but held part of the way.

A phase of strength eta holds the nodes at s_free + eta (y - s_free), and a stencil over eta makes the learning rule:
`one_sided(eta)` gives [dE/dtheta(clamped) - dE/dtheta(free)] / eta, which is coupled learning, and contrastive learning
at eta = 1. `classical.RULES` lists the seven rules of this family.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.estimate import Estimate
from ..core.nudge import AbstractNudge, finite_target
from ..core.system import real_array, replaced
from .clamped_systems import ClampedPotential, ClampedSystem, unit_forces
from .coordinates import Coordinates, has_starts, is_distribution
from .energy import AbstractEnergySystem, AbstractPotentialSystem
from .state_cost import AbstractStateTerm, distinct_nodes, repeated


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

    def applied(self, system: Any, strength: complex) -> Any:
        """The system with these nodes held; coordinates that cannot move are refused."""
        if isinstance(strength, complex):
            raise ValueError("Nodes cannot be held at complex values: use a real stencil with a Clamp.")
        rows = self._rows(system)
        values = self.anchor + strength * (self.target - self.anchor)
        if isinstance(system, AbstractPotentialSystem):
            return ClampedPotential(system, rows, values.reshape(system.batch_size or 1, -1))
        return ClampedSystem(system, rows, np.ravel(values))

    def copied(self, number: int, batched: bool) -> "ClampTerm":
        anchor, target = (repeated(values, number, batched) for values in (self.anchor, self.target))
        return replaced(self, anchor=anchor, target=target)  # type: ignore[no-any-return]

    def loads(self, system: Any, positions: np.ndarray, solve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The forces of `load`, sample by sample."""
        rows = self._rows(system)
        compliance = solve(np.repeat(unit_forces(len(system.free), rows)[None], len(positions), axis=0))[:, rows]
        if not np.all(np.einsum("bii->bi", compliance) > 0):
            raise ValueError(
                "A node that the Clamp is to hold rests against a bound of the box: use a stencil such as one_sided(eta)."
            )
        force = np.zeros((len(positions), len(system.free)))
        away = (self.target - self.anchor).reshape(len(positions), -1, 1)
        force[:, rows] = np.linalg.solve(compliance, away)[..., 0]
        return force

    def load(self, system: Any, position: np.ndarray, solve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The forces on the nodes that displace them by target - anchor: (P H^-1 P^T)^-1 (target - anchor)."""
        rows = self._rows(system)
        units = unit_forces(len(system.free), rows)
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

    Works on every `AbstractEnergySystem` with `Minimizer`, also on batches and in boxes, and on layered networks with
    `BlockDescent`.

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
        self.observables = (Coordinates(distinct_nodes(nodes)),)

    def cost(self, state: Any, target: ArrayLike | None) -> Estimate:
        term = self.term(state, target)
        return Estimate.exact(_total((term.anchor - term.target) ** 2, getattr(state, "batched", False)))

    def term(self, free_state: Any, target: ArrayLike | None) -> Any:
        if has_starts(free_state):
            raise ValueError("A Clamp holds nodes near one free state: it has no average over random starts.")
        if is_distribution(free_state):
            raise ValueError("A Clamp holds nodes near one free state: spins at a temperature take a StateCost.")
        anchor = free_state.read(self.observables[0])
        return ClampTerm(self.observables[0], anchor, real_array(np.asarray(target), "target", anchor.shape))

    def check_target(self, target: ArrayLike | None, batch_size: int | None) -> np.ndarray:
        if target is None:
            raise ValueError("Argument `target` must be given for a Clamp: it is where the nodes are held.")
        return finite_target(target, batch_size)


def _total(values: np.ndarray, batched: bool) -> np.ndarray:
    """The sum over the nodes; of a batch, of every sample."""
    return np.asarray(np.sum(values.reshape(len(values), -1), axis=1) if batched else np.sum(values))

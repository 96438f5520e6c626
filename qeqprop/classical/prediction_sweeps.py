"""Equilibria of predictive coding networks: the free one by a forward pass, nudged ones by sweeps back and forth.

A backward sweep sets the errors that balance the pull on the outputs, at the slopes of the present activities; a forward
sweep sets the activities that are wrong by these errors. Where neither changes any more the state is at rest. The activities
move by beta, so that each pair of sweeps gains a factor of beta, times how strongly the outputs depend on the layers.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .prediction_passes import Facts, passes, sweeps
from .predictive_coding import Known, LayeredActivities, PredictiveCodingNetwork, frozen
from .state_cost import Coordinates, StateTerm


class PredictionSweeps(AbstractSolver):
    """Equilibria of a `PredictiveCodingNetwork`, a whole batch at once.

    The linear response is the backward pass of backpropagation. `stats` of nudged states: `sweeps`, pairs of a backward and
    a forward one; `relative_residual`, in units of the nudging force; `displacement` from the state they started from.

    Args:
        tolerance: bound on the violated stationarity, in units of the nudging force.
        max_sweeps: bound on the pairs of sweeps.

    Raises (from `solve`):
        ValueError: a nudge that leaves the energy without a minimum, with the limit.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.classical.PredictiveCodingNetwork((1, 1), readout="tanh")
        >>> params = {"w0": [[1.0]], "b0": [0.0]}
        >>> cost = qp.classical.StateCost(lambda s, y: ((s - y) ** 2).sum() / 2, net.outputs)
        >>> out = qp.ep_gradient(net, params, cost, [1.0], inputs=[0.5], scheme=qp.centered(0.1))
        >>> print(out.nudged[0][1].stats["sweeps"], out.status)
        13 ok
    """

    tolerance: float = eqx.field(static=True)
    max_sweeps: int = eqx.field(static=True)

    name: ClassVar[str] = "PredictionSweeps"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, *, tolerance: float = 1e-12, max_sweeps: int = 100):
        if not 1e-15 <= tolerance < 1:
            raise ValueError(f"Argument `tolerance` must lie between 1e-15 and 1, but is {tolerance}.")
        self.tolerance = float(tolerance)
        self.max_sweeps = check_count(max_sweeps, "max_sweeps")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The forward pass; with nudges, the state at rest that it (or `init`) leads to."""
        net = _checked(system)
        drive = net.drive(params, None if init is None else init.state)
        if not net.nudges:
            layers = passes(net.activations).forward(params, drive)
            zeros = np.zeros(len(drive))
            status = Status.OK if _finite(layers) else Status.NOT_FINITE
            return _equilibrium(net, _state(net, params, drive, layers, None), zeros, zeros, status, {})
        start = passes(net.activations).forward(params, drive) if init is None else _layers(net, init, len(drive))
        readers, strengths, targets = _nudges(net)
        found = sweeps(net.activations, readers)(
            params, drive, start, strengths, targets, self.tolerance, self.max_sweeps
        )
        facts = Facts(*np.asarray(found.facts).tolist())
        if not facts.softest > 0:
            _check_strengths(net, np.asarray(start[-1]))
        stats: dict[str, Any] = {"sweeps": int(facts.sweeps), "relative_residual": facts.relative}
        if init is not None:
            stats["displacement"] = facts.displacement
        state, status = _state(net, params, drive, found.layers, found.signals), self._status(facts)
        return _equilibrium(net, state, np.asarray(found.energies), np.asarray(found.residual), status, stats)

    def _status(self, facts: Facts) -> Status:
        if facts.finite and facts.relative <= self.tolerance:
            return Status.OK
        return Status.UNCONVERGED if facts.sweeps == self.max_sweeps else Status.NUDGE_TOO_LARGE  # the sweeps lead away

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Backpropagation: -dC/ds at the outputs, sent back through the slopes of the free state."""
        net = _checked(system)
        if net.nudges:
            raise ValueError("The linear response is known of a network without nudges: use a stencil.")
        nudged = net.nudged(term, 1.0)
        layers = _layers(net, equilibrium, net.batch_size or 1)
        pull = np.zeros_like(layers[-1])
        at_outputs, rows = _at_outputs(nudged, term)
        pull[:, rows] = at_outputs.slopes(layers[-1])
        drive = net.drive(params, equilibrium.state)
        signals = passes(net.activations).backward(params, drive, layers, -pull)
        return Response(net.forces(equilibrium.state, signals), np.asarray(0.0), Status.OK, {})

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """Linear response: one backward pass."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free state."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """All samples at once."""
        return True

    def __repr__(self) -> str:
        return f"PredictionSweeps(tolerance={self.tolerance:g})"


def _checked(system: AbstractSystem) -> PredictiveCodingNetwork:
    if not isinstance(system, PredictiveCodingNetwork):
        raise TypeError(f"PredictionSweeps solves a PredictiveCodingNetwork, not {type(system).__name__}.")
    return system


def _finite(layers: Any) -> bool:
    return all(np.all(np.isfinite(layer)) for layer in layers)


def _layers(net: PredictiveCodingNetwork, init: Equilibrium, batch: int) -> list[np.ndarray]:
    """The activities above the inputs, with their batch axis."""
    layers = [np.atleast_2d(layer) for layer in init.state.layers[1:]]
    shapes = [(batch, size) for size in net.sizes[1:]]
    if [layer.shape for layer in layers] != shapes:
        raise ValueError(f"Argument `init` must have layers of shapes {shapes}, but has {[a.shape for a in layers]}.")
    return layers


def _state(net: PredictiveCodingNetwork, params: Params, drive: Any, layers: Any, signals: Any) -> LayeredActivities:
    above = [np.asarray(layer if net.batch_size is not None else layer[0]) for layer in layers]
    known = Known(frozen(params), np.asarray(drive), None if signals is None else tuple(map(np.asarray, signals)))
    return LayeredActivities((net.inputs, *above), known)


def _equilibrium(
    net: PredictiveCodingNetwork,
    state: LayeredActivities,
    energies: np.ndarray,
    residual: np.ndarray,
    status: Status,
    stats: dict[str, Any],
) -> Equilibrium:
    if net.batch_size is None:
        energies, residual = np.asarray(energies[0]), np.asarray(residual[0])
    return Equilibrium(
        state=state, energy=Estimate.exact(energies), residual=residual, gap=None, status=status, stats=stats
    )


def _at_outputs(net: PredictiveCodingNetwork, term: StateTerm) -> tuple[StateTerm, list[int]]:
    """The cost as a function of the outputs of a batch, and which outputs it reads."""
    rows = [node - net.outputs[0] for node in term.coordinates.nodes or ()]
    target = term.target if net.batch_size is not None or term.target is None else term.target[None]
    return StateTerm(term.cost, Coordinates(tuple(rows)), target), rows


def _nudges(net: PredictiveCodingNetwork) -> tuple[Any, Any, Any]:
    """Costs with the rows they read, strengths and targets."""
    first, single = net.outputs[0], net.batch_size is None
    readers = tuple((term.cost, tuple(node - first for node in term.coordinates.nodes or ())) for term, _ in net.nudges)
    targets = tuple(term.target[None] if single and term.target is not None else term.target for term, _ in net.nudges)
    return readers, tuple(beta for _, beta in net.nudges), targets


def _check_strengths(net: PredictiveCodingNetwork, outputs: np.ndarray) -> None:
    """Refuse nudges under which no minimum is left along the outputs: 1 + beta d2C/ds2 must be positive."""
    curvature = np.zeros((len(outputs), net.sizes[-1], net.sizes[-1]))
    for original, beta in net.nudges:
        term, rows = _at_outputs(net, original)
        curvature[:, np.array(rows)[:, None], rows] += beta * term.curvatures(outputs)
    if not np.all(np.isfinite(curvature)):
        return  # the status will say so
    lowest = float(np.linalg.eigvalsh(curvature).min())
    if lowest <= -1:
        betas = ", ".join(f"{beta:g}" for _, beta in net.nudges)
        limit = sum(abs(beta) for _, beta in net.nudges) / -lowest
        raise ValueError(
            f"The nudge beta = {betas} leaves the energy without a minimum: |beta| must be below {limit:.4g}, one over the "
            "largest curvature of the cost. Use a smaller beta, or LinearResponse()."
        )

"""Equilibria of predictive coding networks: the free one by a forward pass, nudged ones by sweeps back and forth.

A backward sweep sets the errors that balance the pull on the outputs, at the slopes of the present activities; a forward
sweep sets the activities that are wrong by these errors. Where neither changes any more the state is at rest. The activities
move by beta, so that each pair of sweeps gains a factor of beta, times how strongly the outputs depend on the layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.joint import AbstractJointSolver
from ..core.real import check_fraction
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import Equilibrium, Response, check_start, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .coordinates import AbstractLayeredState
from .known import Known, frozen, known_drives
from .layered import as_forces, at_outputs, check_strengths, side_by_side
from .prediction_passes import Facts, passes, response, sweeps
from .predictive_coding import LayeredActivities, PredictiveCodingNetwork, with_batch_axis

SIDE_BY_SIDE = 50_000
"""Units of the widest layer in a batch up to which nudged phases take their sweeps in one loop: larger ones leave the cache."""


class PredictionSweeps(AbstractJointSolver):
    """Equilibria of a `PredictiveCodingNetwork`, a whole batch at once.

    The linear response is the backward pass of backpropagation. `stats` of nudged states: `sweeps`, pairs of a backward and
    a forward one; `relative_residual`, in units of the nudging force; `displacement` from the state they started from. A nudged
    state with a barrier between it and the free one has the status `BRANCH_JUMP`.

    Args:
        tolerance: bound on the violated stationarity, in units of the nudging force.
        max_sweeps: bound on the pairs of sweeps.

    Raises (from `solve`):
        ValueError: a nudge that leaves the outputs without a minimum, with the limit.

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
        self.tolerance = check_fraction(tolerance, "tolerance", 1e-15)
        self.max_sweeps = check_count(max_sweeps, "max_sweeps")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The forward pass; with nudges, the state at rest that it (or `init`) leads to."""
        net = _checked(system)
        if net.nudges:
            return self._settled([net], params, init)[0]
        inputs = _inputs(net)
        drives, above = passes(net.net).forward(params, inputs)
        nothing = np.zeros(len(inputs))
        state = _state(net, above, Known(frozen(params), drives))
        finite = all(np.all(np.isfinite(layer)) for layer in state.layers[1:])
        status = Status.OK if finite else Status.NOT_FINITE
        return _equilibrium(net, state, nothing, nothing, status, {})

    def solve_nudged(
        self, system: AbstractSystem, params: Params, term: Any, strengths: Sequence[float], free: Equilibrium
    ) -> list[Equilibrium]:
        """The states at rest under these nudges that the free one leads to; of small batches by the same sweeps."""
        groups = side_by_side(_checked(system), term, strengths, SIDE_BY_SIDE)
        return [found for group in groups for found in self._settled(group, params, free)]

    def _settled(
        self, nets: Sequence[PredictiveCodingNetwork], params: Params, init: Equilibrium | None
    ) -> list[Equilibrium]:
        """The equilibria of networks that differ in their nudges alone."""
        check_start(init, AbstractLayeredState, "a layered network")
        net, inputs = nets[0], _inputs(nets[0])
        if init is None:
            drives, above = passes(net.net).forward(params, inputs)
            layers = (inputs, *above)
        else:
            drives, layers = _drives(net, params, inputs, init), _layers(net, init, inputs)
        readers, strengths, targets = _nudges(nets)
        settle = sweeps(net.net, readers, len(nets))
        found = settle(params, drives, layers, strengths, targets, self.tolerance, self.max_sweeps)
        settled = [np.asarray(layer) for layer in found.layers]
        arrays = {layer: np.asarray(signal) for layer, signal in found.signals.items()}
        energies, residual = np.asarray(found.energies), np.asarray(found.residual)
        known, equilibria = frozen(params), []
        for each, numbers, k in zip(nets, np.asarray(found.facts).tolist(), range(len(nets)), strict=True):
            facts = Facts(*numbers)
            if not facts.softest > 0:
                check_strengths(each, np.reshape(layers[-1], (len(inputs), -1)), 1.0)
            stats: dict[str, Any] = {"sweeps": int(facts.sweeps), "relative_residual": facts.relative}
            if init is not None:
                stats["displacement"] = facts.displacement
            rows = slice(k * len(inputs), (k + 1) * len(inputs))
            signals = {layer: signal[rows] for layer, signal in arrays.items()}
            state = _state(each, [layer[rows] for layer in settled], Known(known, drives, signals))
            equilibria.append(_equilibrium(each, state, energies[rows], residual[rows], self._status(facts), stats))
        return equilibria

    def _status(self, facts: Facts) -> Status:
        if facts.finite and facts.relative <= self.tolerance:
            return Status.BRANCH_JUMP if facts.jumped else Status.OK
        return Status.UNCONVERGED if facts.sweeps == self.max_sweeps else Status.NUDGE_TOO_LARGE  # the sweeps lead away

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Backpropagation: -dC/ds at the outputs, sent back through the slopes of the free state."""
        net = _checked(system)
        if net.nudges:
            raise ValueError("The linear response is known of a network without nudges: use a stencil.")
        (reader,), _, (target,) = _nudges([net.nudged(term, 1.0)])
        inputs = with_batch_axis(equilibrium.state)[0]
        layers, drives = _layers(net, equilibrium, inputs), _drives(net, params, inputs, equilibrium)
        forces = response(net.net, reader)(params, drives, layers, target)
        return Response(as_forces(forces, equilibrium.state.batched), np.asarray(0.0), Status.OK, {})

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
        raise wrong_system(system, "PredictionSweeps", "a PredictiveCodingNetwork")
    return system


def _inputs(net: PredictiveCodingNetwork) -> np.ndarray:
    """The inputs, batch axis first."""
    return net.inputs if net.batch_size is not None else net.inputs[None]


def _drives(net: PredictiveCodingNetwork, params: Params, inputs: Any, init: Equilibrium) -> Any:
    """What the inputs send, where `init` knows it from there."""
    known = known_drives(init.state.known, params, with_batch_axis(init.state)[0], inputs)
    return passes(net.net).forward(params, inputs)[0] if known is None else known


def _layers(net: PredictiveCodingNetwork, init: Equilibrium, inputs: Any) -> tuple[Any, ...]:
    """All layers of `init` above these inputs, with their batch axis."""
    above = with_batch_axis(init.state)[1:]
    shapes = [(len(inputs), *shape) for shape in net.architecture.shapes[1:]]
    if [layer.shape for layer in above] != shapes:
        raise ValueError(f"Argument `init` must have layers of shapes {shapes}, but has {[a.shape for a in above]}.")
    return inputs, *above


def _state(net: PredictiveCodingNetwork, above: Sequence[Any], known: Known) -> LayeredActivities:
    batched = net.batch_size is not None
    layers = [np.asarray(layer if batched else layer[0]) for layer in above]
    return LayeredActivities((net.inputs, *layers), batched, known)


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


def _nudges(nets: Sequence[PredictiveCodingNetwork]) -> tuple[Any, Any, Any]:
    """Costs with the rows they read, their strengths in every one of the networks, and their targets."""
    terms = [at_outputs(nets[0], term) for term, _ in nets[0].nudges]
    readers = tuple((term.cost, term.coordinates.nodes or ()) for term in terms)
    strengths = tuple(np.array([net.nudges[j][1] for net in nets]) for j in range(len(terms)))
    return readers, strengths, tuple(term.target for term in terms)

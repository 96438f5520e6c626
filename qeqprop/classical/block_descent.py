"""Exact block coordinate descent for layered resistive networks.

A node whose neighbours are held takes their weighted mean, clipped by its diode. Nodes of one layer are not joined, so that
a whole layer, of the whole batch, is minimised at once; and so are all odd layers, then all even ones. The energy is
convex: there is one minimum. Source: Scellier, arXiv:2402.11674.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import numpy as np

from ..core.graph import check_count
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .deep_resistive import DeepResistiveNetwork, LayeredVoltages
from .state_cost import Coordinates, StateTerm

STALLED = 20
"""Sweeps without a smaller residual after which a descent ends: it is at rounding, or does not converge."""
ROUNDING = 1e3
"""A descent that ended so is converged within this many tolerances."""
RUNAWAY = 1e6
"""Growth of the residual at which a descent ends: the nudge has left no minimum."""
EXPANSIONS = 50
"""Expansions of a cost that is not quadratic, at most."""
Settle = Callable[[int, np.ndarray], np.ndarray]


class Layers(NamedTuple):
    """The conductances as the descent needs them.

    `inflow[l]` are the currents into layer l+1 per volt of layer l, `back[l]` those into layer l per volt of layer l+1, and
    `total[l]` the sum of the conductances at the nodes of layer l, as the node feels it.
    """

    inflow: list[np.ndarray]
    back: list[np.ndarray]
    total: list[np.ndarray]
    drive: np.ndarray

    def current(self, layer: int, v: list[np.ndarray]) -> np.ndarray:
        """Current from the neighbouring layers into a layer that stands at zero volts."""
        total = self.drive if layer == 1 else v[layer - 1] @ self.inflow[layer - 1]
        return total if layer == len(v) - 1 else total + v[layer + 1] @ self.back[layer]


def layers_of(system: DeepResistiveNetwork, params: Params, drive: np.ndarray) -> Layers:
    """The network whose first layer receives the currents `drive` (batch, n) from the sources."""
    gain, loss = system.voltage_gain, system.current_gain
    w = [params[name] for name in system.param_shapes]
    total = [np.empty(0)]  # sources have no balance
    for layer, before in enumerate(w, 1):
        out = loss * gain * w[layer].sum(axis=1) if layer < len(w) else 0.0
        total.append(before.sum(axis=0) + out)
    inflow = [w[0], *(gain * part for part in w[1:])]
    return Layers(inflow, [w[0].T, *(loss * part.T for part in w[1:])], total, drive)


class Descent(NamedTuple):
    """Where a descent ended.

    Attributes:
        v: voltages, one array a layer.
        residual: norm of the currents that do not balance, of every sample.
        relative: the largest of them in units of the currents of its sample.
        growth: the largest of them in units of what it was at the start: above 1 where there is no minimum.
        sweeps: over the layers.
    """

    v: list[np.ndarray]
    residual: np.ndarray
    relative: float
    growth: float
    sweeps: int


def descend(layers: Layers, v: list[np.ndarray], settle: Settle, tolerance: float, max_sweeps: int) -> Descent:
    """Settle even and odd layers in turn, until the residual is below `tolerance` of the currents or stalls.

    Args:
        v: voltages to start from, one array (batch, n) a layer.
        settle: `settle(layer, current)`: the voltages of a layer at the minimum, given the current from its neighbours.
    """
    v = list(v)
    odd, even = range(1, len(v), 2), range(2, len(v), 2)
    best, stalled, sweeps, first = np.inf, 0, 0, np.inf
    while True:
        for layer in even:
            v[layer] = settle(layer, layers.current(layer, v))
        # the even layers are at rest now: all that is out of balance is in the odd ones
        moved = {layer: settle(layer, layers.current(layer, v)) for layer in odd}
        squares = sum(np.sum((layers.total[m] * (new - v[m])) ** 2, axis=-1) for m, new in moved.items())
        scale = sum(np.sum((layers.total[m] * new) ** 2, axis=-1) for m, new in moved.items())
        residual = np.sqrt(squares)
        relative = float(np.max(residual / np.maximum(np.sqrt(scale), 1e-300), initial=0.0))
        best, stalled = (relative, 0) if relative < best else (best, stalled + 1)
        first = float(residual.max(initial=0.0)) if sweeps == 0 else first
        growth = float(residual.max(initial=0.0)) / max(first, 1e-300)
        if not relative > tolerance or stalled == STALLED or sweeps == max_sweeps or growth > RUNAWAY:
            return Descent(v, residual, relative, growth, sweeps)
        for layer, new in moved.items():
            v[layer] = new
        sweeps += 1


class BlockDescent(AbstractSolver):
    """Equilibria of a `DeepResistiveNetwork`, a whole batch at once, to the rounding of the currents.

    A squared error of the outputs stays exact under the update; another cost is expanded to second order about the outputs,
    anew until its slope agrees. `stats`: `sweeps`; `kink_distance`, how many volts the nearest diode is from switching;
    and of nudged states `displacement` from, and `diode_flips` against, the state that they started from: the free state
    for the first nudge, the state at -beta (or beta) for its opposite. Across a flip the equilibrium has a kink in beta:
    the gradient is then that of the finite-beta loss, and `LinearResponse` that on the free state's side.

    Args:
        tolerance: bound on the unbalanced currents, relative to all currents.
        max_sweeps: bound on the sweeps over the layers.

    Raises (from `solve`):
        ValueError: a nudge that makes the outputs unstable, with the limit.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.classical.DeepResistiveNetwork((1, 1, 1))
        >>> params = {"w0": [[3.0], [1.0]], "w1": [[1.0]]}
        >>> state = qp.equilibrate(net, params, inputs=[[1.0], [-1.0]]).state  # the diode blocks the second sample
        >>> print(state.layers[1].ravel(), state.layers[2].ravel())
        [0.5 0. ] [0.5 0. ]
    """

    tolerance: float = eqx.field(static=True)
    max_sweeps: int = eqx.field(static=True)

    name: ClassVar[str] = "BlockDescent"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, *, tolerance: float = 1e-15, max_sweeps: int = 10_000):
        if not 1e-16 <= tolerance < 1:
            raise ValueError(f"Argument `tolerance` must lie between 1e-16 and 1, but is {tolerance}.")
        self.tolerance = float(tolerance)
        self.max_sweeps = check_count(max_sweeps, "max_sweeps")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The minimum, from the voltages of `init` or from zero."""
        net = _checked(system)
        layers = layers_of(net, params, net.drive(params))
        start = _start(net, len(layers.drive), init)
        with np.errstate(over="ignore", invalid="ignore"):  # an unstable nudge: the status will say so
            found, expansions = self._minimum(net, layers, start)
        state = _state(net, net.sources(), found.v)
        stats: dict[str, Any] = {"sweeps": found.sweeps}
        if expansions > 1:
            stats["expansions"] = expansions
        stats["kink_distance"] = _kink_distance(layers, found.v)
        if init is not None:
            pairs = list(zip(found.v, start, strict=True))
            stats["displacement"] = float(np.sqrt(sum(np.sum((a - b) ** 2) for a, b in pairs)))
            stats["diode_flips"] = sum(int(np.sum((a == 0) != (b == 0))) for a, b in pairs[1:-1])
        return Equilibrium(
            state=state,
            energy=net.energy(params, state, layers.drive),
            residual=found.residual if state.batched else found.residual[0],
            gap=None,
            status=self._status(found, self.tolerance),
            stats=stats,
        )

    def _minimum(self, net: DeepResistiveNetwork, layers: Layers, v: list[np.ndarray]) -> tuple[Descent, int]:
        """Descend; with a nudge, as often as its expansion about the outputs must be renewed."""
        clip = _clipping(net, layers)
        if not any(beta for _, beta in net.nudges):
            return descend(layers, v, clip, self.tolerance, self.max_sweeps), 1
        last, cost, expansions = len(v) - 1, _Expansion.about(net, layers, v[-1]), 0
        while True:

            def settle(layer: int, current: np.ndarray, cost: _Expansion = cost) -> np.ndarray:
                return cost.settle(current) if layer == last else clip(layer, current)

            found, expansions = descend(layers, v, settle, self.tolerance, self.max_sweeps), expansions + 1
            renewed = _Expansion.about(net, layers, found.v[-1])
            error = np.linalg.norm(renewed.injected - cost.slope(found.v[-1]), axis=-1)
            scale = np.linalg.norm(layers.total[-1] * found.v[-1], axis=-1) + np.linalg.norm(renewed.injected, axis=-1)
            worst = float(np.max(error / np.maximum(scale, 1e-300), initial=0.0))
            if not worst > 0.1 * ROUNDING * self.tolerance or expansions == EXPANSIONS:
                whole = found._replace(residual=np.hypot(found.residual, error), relative=max(found.relative, worst))
                return whole, expansions
            v, cost = found.v, renewed

    @staticmethod
    def _status(found: Descent, tolerance: float) -> Status:
        if not all(np.all(np.isfinite(layer)) for layer in found.v):
            return Status.NOT_FINITE
        if found.relative <= ROUNDING * tolerance:
            return Status.OK
        return Status.NUDGE_TOO_LARGE if found.growth > RUNAWAY else Status.UNCONVERGED

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Implicit differentiation: the currents of the response balance, with -dC/dv/s injected into the outputs.

        A diode that holds its node keeps it; the others let it move.
        """
        net, state = _checked(system), equilibrium.state
        free = [np.atleast_2d(layer) for layer in state.layers]
        layers = layers_of(net, params, np.zeros_like(free[1]))
        injected = -_nudging_current(net, term, 1.0, free[-1])
        existing = _Expansion.about(net, layers, free[-1])
        moves = [layer != 0 for layer in free]

        def settle(layer: int, current: np.ndarray) -> np.ndarray:
            if layer == len(free) - 1:
                return existing.solve(current + injected)
            return np.where(moves[layer], current / layers.total[layer], 0.0)

        zeros = [np.zeros_like(layer) for layer in free]
        found = descend(layers, zeros, settle, 1e-3 * tolerance, self.max_sweeps)
        change = _state(net, np.zeros_like(state.layers[0]), found.v)
        status = self._status(found, 1e-3 * max(tolerance, 1e-8))
        return Response(net.force_change(params, state, change), np.asarray(found.relative), status, {})

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """Linear response: it is implicit differentiation, and costs less than one nudged state."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The opposite nudge's state, so that the flips between both are counted; else the free one."""
        return phases.get(-strength, phases[0.0])

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """All samples at once."""
        return True

    def __repr__(self) -> str:
        return f"BlockDescent(tolerance={self.tolerance:g})"


class _Expansion(NamedTuple):
    """The nudges to second order about the outputs `at`: the current `injected` + `stiffness` (v - at) leaves each.

    `solve(current)`: the voltages at which (total + stiffness) v = current.
    """

    at: np.ndarray
    injected: np.ndarray
    stiffness: np.ndarray
    solve: Callable[[np.ndarray], np.ndarray]

    @classmethod
    def about(cls, net: DeepResistiveNetwork, layers: Layers, outputs: np.ndarray) -> "_Expansion":
        """All nudges of the network; refused where they make the outputs unstable."""
        total = layers.total[-1]
        if not net.nudges:
            nothing = np.zeros((len(outputs), 1, 1))
            return cls(outputs, np.zeros_like(outputs), nothing, lambda current: current / total)
        injected = np.sum([_nudging_current(net, term, beta, outputs) for term, beta in net.nudges], axis=0)
        stiffness = np.sum([_nudging_stiffness(net, term, beta, outputs) for term, beta in net.nudges], axis=0)
        matrix = stiffness + np.diag(total)
        try:
            np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            _refuse(net, stiffness, total)
        inverse = np.linalg.inv(matrix)
        return cls(outputs, injected, stiffness, lambda current: np.einsum("bij,bj->bi", inverse, current))

    def slope(self, v: np.ndarray) -> np.ndarray:
        """The expanded nudging current."""
        return self.injected + np.einsum("bij,bj->bi", self.stiffness, v - self.at)

    def settle(self, current: np.ndarray) -> np.ndarray:
        """Voltages of the outputs at the minimum, given the current from their neighbours."""
        return self.solve(current - self.slope(np.zeros_like(current)))


def _refuse(net: DeepResistiveNetwork, stiffness: np.ndarray, total: np.ndarray) -> None:
    softest = np.linalg.eigvalsh(stiffness / np.sqrt(total[:, None] * total)).min()
    betas = ", ".join(f"{beta:g}" for _, beta in net.nudges)
    limit = sum(abs(beta) for _, beta in net.nudges) / -softest
    raise ValueError(
        f"The nudge beta = {betas} makes the outputs unstable: |beta| must be below {limit:.4g}. Use a smaller beta, or "
        "LinearResponse()."
    )


def _nudging_current(net: DeepResistiveNetwork, term: Any, beta: float, outputs: np.ndarray) -> np.ndarray:
    """What beta times a cost draws from every output: its slope, in units of the last layer's currents."""
    term, rows, scale = _at_outputs(net, term, beta)
    current = np.zeros_like(outputs)
    current[:, rows] = scale * term.slopes(outputs)
    return current


def _nudging_stiffness(net: DeepResistiveNetwork, term: Any, beta: float, outputs: np.ndarray) -> np.ndarray:
    """How that current grows with the voltages, shape (batch, n_outputs, n_outputs)."""
    term, rows, scale = _at_outputs(net, term, beta)
    stiffness = np.zeros((*outputs.shape, outputs.shape[1]))
    stiffness[:, rows[:, None], rows] = scale * term.curvatures(outputs)
    return stiffness


def _at_outputs(net: DeepResistiveNetwork, term: StateTerm, beta: float) -> tuple[StateTerm, np.ndarray, float]:
    """The cost as a function of the outputs of a batch, which outputs it reads, and its weight."""
    rows = np.asarray(term.coordinates.nodes, int) - net.outputs[0]
    target = term.target if net.batch_size is not None or term.target is None else term.target[None]
    scale = beta / net.symmetrizer(len(net.sizes) - 2)
    return StateTerm(term.cost, Coordinates(tuple(rows.tolist())), target), rows, scale


def _checked(system: AbstractSystem) -> DeepResistiveNetwork:
    if not isinstance(system, DeepResistiveNetwork):
        raise TypeError(f"BlockDescent solves a DeepResistiveNetwork, not {type(system).__name__}.")
    return system


def _start(net: DeepResistiveNetwork, batch: int, init: Equilibrium | None) -> list[np.ndarray]:
    """Voltages of `init`, or zeros; what stands for the sources is not used."""
    if init is None:
        return [np.zeros((batch, size)) for size in net.layer_sizes]
    layers = [np.atleast_2d(layer) for layer in init.state.layers]
    shapes = [(batch, size) for size in net.layer_sizes]
    if [layer.shape for layer in layers] != shapes:
        raise ValueError(f"Argument `init` must have layers of shapes {shapes}, but has {[a.shape for a in layers]}.")
    return layers


def _state(net: DeepResistiveNetwork, sources: np.ndarray, v: list[np.ndarray]) -> LayeredVoltages:
    rest = v[1:] if net.batch_size is not None else [layer[0] for layer in v[1:]]
    return LayeredVoltages((sources, *rest))


def _clipping(net: DeepResistiveNetwork, layers: Layers) -> Settle:
    """The weighted mean of the neighbours, clipped by the diodes."""
    bounds = [net.bounds(layer) for layer in range(1, len(net.sizes))]

    def settle(layer: int, current: np.ndarray) -> np.ndarray:
        return np.clip(current / layers.total[layer], *bounds[layer - 1])

    return settle


def _kink_distance(layers: Layers, v: list[np.ndarray]) -> float:
    """Volts that the weighted mean of the nearest hidden node is away from its diode's threshold."""
    return min(
        (float(np.abs(layers.current(m, v) / layers.total[m]).min()) for m in range(1, len(v) - 1)), default=np.inf
    )

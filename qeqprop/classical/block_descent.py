"""Exact block coordinate descent for layered networks.

The layers of a group are not joined, so that with the others held all of them, of the whole batch, are set to their minimum at
once: all odd layers, then all even ones. The energy falls with every group. Source: Scellier, arXiv:2402.11674 (2024). Units
that clip a parabola (hard sigmoids, rectifiers, diodes, linear ones) go beyond their minima, as far as over-relaxation gains by
it: see `over_relaxation`.
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
from .architecture import SCHEDULES
from .block_loop import ROUNDING, RUNAWAY
from .block_relaxation import Facts, Relaxed, forward_pass, relaxed, response
from .blocks import Scene, Setting
from .clamp import ClampTerm
from .convolution import Convolution
from .coordinates import AbstractLayeredState
from .known import Known, frozen, known_drives
from .layered import AbstractLayeredNetwork, LayeredState, at_outputs, check_strengths, relaxing, side_by_side

DTYPES = ("float64", "float32", "bfloat16")
SIDE_BY_SIDE = 4096
"""Units of the widest layer in a batch up to which nudged phases are relaxed in one loop: that halves what an update costs
besides its arithmetic. In larger ones arithmetic is all, and each phase had better stop when it is at rest itself."""


class BlockDescent(AbstractJointSolver):
    """Equilibria of layered networks, a whole batch at once, to the rounding of the forces.

    A squared error of the outputs is settled at once under the updates; other costs are followed as the outputs move.
    `stats`: `sweeps`; `relative_residual`, the largest displacement that one more update would make, in units of its layer;
    `kink_distance`, how far the nearest unit is from reaching or leaving a bound (in circuits: a diode from switching); and of
    nudged states `displacement` from, and `bound_changes` against, the state that they started from. Across such a change the
    equilibrium has a kink in beta: the gradient is then that of the finite-beta loss, and `LinearResponse` that on the free
    state's side. A nudged state with a barrier between it and the free one has the status `BRANCH_JUMP`.

    Args:
        tolerance: bound on the displacement that one more update would make, relative to its layer; None: to rounding.
        max_sweeps: bound on the sweeps over the layers.
        schedule: "even_odd" groups of layers that are not joined, "asynchronous": layer after layer, or "synchronous": all at
            once, which may end in alternating states.
        over_relaxed: hard-sigmoid, rectified and linear units and diodes go beyond their minima, in every sample by the factor
            that its own sweeps call for (where all units of the network are of these kinds, and layers do not move all at
            once). Fewer sweeps lead to the same equilibria.
        feedforward: start free states from a forward pass, in which every layer sees those before it alone, and not from zero.
        dtype: "float64", "float32" or "bfloat16", of the relaxation; energies and forces have all digits of the state found.

    Raises (from `solve`):
        ValueError: a nudge that leaves the outputs without a minimum, with the limit.

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
    schedule: str = eqx.field(static=True)
    feedforward: bool = eqx.field(static=True)
    dtype: str = eqx.field(static=True)
    over_relaxed: bool = eqx.field(static=True, default=True)

    name: ClassVar[str] = "BlockDescent"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(
        self,
        *,
        tolerance: float | None = None,
        max_sweeps: int = 10_000,
        schedule: str = "even_odd",
        feedforward: bool = False,
        over_relaxed: bool = True,
        dtype: str = "float64",
    ):
        for name, value, known in (("schedule", schedule, SCHEDULES), ("dtype", dtype, DTYPES)):
            if value not in known:
                raise ValueError(f"Argument `{name}` must be one of {', '.join(known)}, but is {value!r}.")
        tolerance = 4 * _rounding(dtype) if tolerance is None else tolerance
        self.tolerance = check_fraction(tolerance, "tolerance", 1e-16)
        self.max_sweeps = check_count(max_sweeps, "max_sweeps")
        self.schedule, self.feedforward, self.dtype = schedule, bool(feedforward), dtype
        self.over_relaxed = bool(over_relaxed)

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The state at rest, from `init`, a forward pass or the layers' start."""
        return self._relaxed([_checked(system)], params, init)[0]

    def solve_nudged(
        self, system: AbstractSystem, params: Params, term: Any, strengths: Sequence[float], free: Equilibrium
    ) -> list[Equilibrium]:
        """The states at rest under these nudges, from the free one; of small batches all in one relaxation."""
        groups = side_by_side(_checked(system), term, strengths, SIDE_BY_SIDE)
        return [found for group in groups for found in self._relaxed(group, params, free)]

    def _relaxed(
        self, nets: Sequence[AbstractLayeredNetwork], params: Params, init: Equilibrium | None
    ) -> list[Equilibrium]:
        """The equilibria of networks that differ in their nudges alone."""
        check_start(init, AbstractLayeredState, "a layered network")
        known = (
            None if init is None else known_drives(init.state.known, params, init.state.layers[0], nets[0].sources())
        )
        setting, scene = posed(nets, params, self.schedule, self.dtype, self.over_relaxed, known)
        start = self._start(nets[0], scene, init)
        found = relaxed(setting)(scene, start, self.tolerance, self.max_sweeps)
        drives, arrays = found.drives if known is None else known, found._replace(drives=None).mapped(np.asarray)
        size, equilibria = len(scene.sources), []
        for k, net in enumerate(nets):
            facts = Facts(*arrays.facts[k].tolist())
            if not facts.softest > 0:
                check_strengths(net, np.reshape(start[-1], (size, -1)), _output_stiffness(net, params))
            rows = k if net.batch_size is None else slice(k * size, (k + 1) * size)
            part = arrays._replace(facts=None).mapped(lambda x, rows=rows: x[rows])  # type: ignore[misc]
            equilibria.append(self._equilibrium(net, part, facts, Known(frozen(params), drives), init))
        return equilibria

    def _equilibrium(
        self, net: AbstractLayeredNetwork, found: Relaxed, facts: Facts, known: Known, init: Equilibrium | None
    ) -> Equilibrium:
        stats: dict[str, Any] = {"sweeps": int(facts.sweeps), "relative_residual": facts.relative}
        stats["kink_distance"] = facts.kink_distance
        status = self._status(facts, nudged=bool(net.nudges or net.held))
        if init is not None:
            stats |= {"displacement": facts.displacement, "bound_changes": int(facts.bound_changes)}
            status = max(status, Status.BRANCH_JUMP) if facts.jumped else status
        if status is Status.UNCONVERGED and (tied := _tied(net)):
            stats["advice"] = (
                f"The max pooling {tied[0]!r} leads to units that may be negative: minima may lie where pixels tie, and no "
                'update rests there. Use units that are not ("hard_sigmoid"), or average pooling.'
            )
        return Equilibrium(
            state=_state(net, found, known),
            energy=Estimate.exact(np.asarray(found.energies)),
            residual=np.asarray(found.residual),
            gap=None,
            status=status,
            stats=stats,
        )

    def _start(self, net: AbstractLayeredNetwork, scene: Scene, init: Equilibrium | None) -> list[np.ndarray]:
        """Layers 1 to L of `init`, of a forward pass, or at their start; batch axis first."""
        architecture = net.architecture
        shapes = [(len(scene.sources), *shape) for shape in architecture.shapes[1:]]
        if init is None and self.feedforward:
            return list(forward_pass(architecture)(scene, [np.zeros(shape) for shape in shapes]))
        if init is None:
            pairs = zip(architecture.activations, shapes, strict=True)
            return [np.broadcast_to(activation.rest(shape[1:]), shape) for activation, shape in pairs]
        layers = list(relaxing(net.architecture, init.state)[1:])
        if [layer.shape for layer in layers] != shapes:
            raise ValueError(
                f"Argument `init` must have layers of shapes {shapes}, but has {[a.shape for a in layers]}."
            )
        return layers

    def _status(self, facts: Facts, nudged: bool) -> Status:
        if not np.isfinite(facts.relative):
            return Status.NOT_FINITE
        if facts.relative <= max(self.tolerance, ROUNDING * _rounding(self.dtype)):
            return Status.OK
        return Status.NUDGE_TOO_LARGE if nudged and facts.growth > RUNAWAY else Status.UNCONVERGED

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Implicit differentiation by the same relaxation, of the changes: -dC/ds is injected into the last layer.

        A unit at a bound stays there; the others move. Outputs that a `Clamp` holds move towards their targets.
        """
        net, state = _checked(system), equilibrium.state
        nudged = net.nudged(term, 1.0)
        if net.nudges and net.architecture.readout is not None:
            raise ValueError("With a readout, the linear response is known of a network without nudges: use a stencil.")
        held = isinstance(term, ClampTerm)
        setting, scene = posed(
            [nudged if held else net], params, self.schedule, "float64", self.over_relaxed,
            known_drives(state.known, params, state.layers[0], net.sources()),
        )  # fmt: skip
        layers = relaxing(net.architecture, state)[1:]
        at = None if held else at_outputs(net, term)
        reader = None if at is None else (at.cost, at.coordinates.nodes or ())
        target = np.reshape(term.target - term.anchor, (len(scene.sources), -1)) if at is None else at.target
        found = response(setting, reader)(scene, layers, target, 1e-3 * tolerance, self.max_sweeps)
        change = net.force_change(params, state, found.layers[1:], term)
        relative = float(found.relative)
        good = relative <= max(1e-3 * tolerance, ROUNDING * _rounding("float64"))
        status = Status.OK if good else Status.UNCONVERGED
        return Response(change, np.asarray(relative), status, {"sweeps": int(found.sweeps)})

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """Linear response: it is implicit differentiation, and costs less than one nudged state."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free state, against which bounds and branches are compared."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """All samples at once."""
        return True

    def __repr__(self) -> str:
        return f"BlockDescent(tolerance={self.tolerance:g})"


def _checked(system: AbstractSystem) -> AbstractLayeredNetwork:
    if not isinstance(system, AbstractLayeredNetwork):
        raise wrong_system(system, "BlockDescent", "layered networks")
    return system


def _rounding(dtype: str) -> float:
    """Distance of 1 from the next number."""
    return {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7}[dtype]


def posed(
    nets: Sequence[AbstractLayeredNetwork], params: Params, schedule: str, dtype: str, over_relaxed: bool, drives: Any
) -> tuple[Setting, Scene]:
    """What the relaxation of networks is compiled for that differ in their nudges alone, and its numbers."""
    net = nets[0]
    sources = net.sources() if net.batch_size is not None else net.sources()[None]
    terms = [at_outputs(net, term) for term, _ in net.nudges]
    readers = tuple((term.cost, term.coordinates.nodes or ()) for term in terms)
    strengths = tuple(np.array([each.nudges[j][1] for each in nets]) for j in range(len(terms)))
    rows, values = () if net.held is None else net.held[0], None
    if rows:
        values = np.concatenate(
            [np.reshape(each.held[1], (len(sources), -1)) for each in nets if each.held is not None]
        )
    architecture = net.architecture
    groups = SCHEDULES[schedule](architecture)
    setting = Setting(architecture, groups, readers, rows, dtype, len(nets), over_relaxed)
    return setting, Scene(params, sources, strengths, tuple(t.target for t in terms), values, drives)


def _state(net: AbstractLayeredNetwork, found: Relaxed, known: Known) -> LayeredState:
    architecture, reaction = net.architecture, found.reaction
    if reaction is not None:
        reaction = np.pad(reaction, ((0, 0),) * (reaction.ndim - 1) + ((architecture.outputs[0], 0),))
    read = () if architecture.readout is None else (found.outputs,)
    return LayeredState(
        (net.sources(), *found.layers, *read),
        batched=net.batch_size is not None,
        reaction=reaction,
        pull=found.signal,
        known=known,
    )


def _output_stiffness(net: AbstractLayeredNetwork, params: Params) -> np.ndarray:
    """Force per displacement of every output, while the other layers are held."""
    architecture = net.architecture
    total = architecture.stiffness(params)[-1] + architecture.activations[-1].curvature
    return np.asarray(architecture.units[-1] * np.ravel(np.broadcast_to(total, architecture.shapes[-1])))


def _tied(net: AbstractLayeredNetwork) -> list[Convolution]:
    """Interactions by which minima may lie on kinks of the energy."""
    architecture = net.architecture
    return [
        link
        for link in architecture.interactions
        if isinstance(link, Convolution) and link.ties(np.min(architecture.activations[link.post - 1].bounds(1)))
    ]

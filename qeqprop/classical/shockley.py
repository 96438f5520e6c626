"""Resistive networks with the exponential diodes of Shockley: smooth energies, solved by sparse Newton."""

from typing import Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from ..core.system import Params, real_array, replaced
from .deep_resistive import DeepResistiveNetwork
from .diode_model import DiodeModel
from .energy import AbstractEnergySystem, Matrix, Nudge
from .junctions import approach
from .newton import moved
from .resistive import ResistiveNetwork
from .wiring import Wiring, wiring_of

SILICON = DiodeModel(emission=1.0, saturation=1e-14)
"""A silicon diode, SPICE's default model."""


class ShockleyNetwork(AbstractEnergySystem):
    r"""A resistive network whose diodes are real ones: I = I_s (exp(u/(n V_T)) - 1). Its voltages minimise the co-content

    .. math:: E = \tfrac12 \sum_{(ij)} g_{ij} (v_i - v_j)^2 - \sum_k I_k v_k
              + \sum_{(a, c, d)} I_s \left[ n V_T \left( e^{u/(n V_T)} - 1 \right) - u \right] , \qquad u = v_a - v_c - d ,

    smooth and strictly convex, with dE/dg = (v_i - v_j)^2/2: equilibrium propagation needs no model of the diodes. As
    n -> 0 they become those of the ideal network, which is `net`. Behind amplifiers of a layered network the branches count
    with the weights (c/A)^l of its energy, see `DeepResistiveNetwork`.

    Newton's method on exponentials creeps, or overshoots: the way to the minimum goes by linearised diodes, each where its
    linearised *current* lies, as in SPICE; the last steps are those of `Minimizer`, to the rounding of the currents.

    Source: Kendall, Pantone, Manickavasagam, Bengio, Scellier, arXiv:2006.01981, sections 3 and 4; Millar, Phil. Mag. 42,
    1150 (1951), for the co-content.

    Args:
        net: a `ResistiveNetwork` or `DeepResistiveNetwork`: nodes, resistors, sources, diodes, amplifiers.
        diode: the model of all its diodes; None takes silicon, n = 1 and I_s = 1e-14 A.

    Parameters: those of `net`.

    Raises:
        TypeError, ValueError: another system, a nudged one, no diode model; amplifiers of current gain 0.

    Example:
        >>> import qeqprop as qp
        >>> divider = qp.classical.ResistiveNetwork(3, [(0, 1), (1, 2)], sources=[0], grounded=[2], diodes=[(1, None)])
        >>> real = qp.classical.ShockleyNetwork(divider)
        >>> params = {"g": [2e-3, 1e-3]}
        >>> print(qp.equilibrate(real, params, inputs=[0.6]).state.position.round(4))  # the diode blocks
        [0.6 0.4 0. ]
        >>> print(qp.equilibrate(real, params, inputs=[3.0]).state.position.round(4))  # 4 mA, most of it through the diode
        [3.     0.6905 0.    ]
    """

    net: Any
    diode: DiodeModel = eqx.field(static=True)
    wiring: Wiring
    nudges: tuple[Nudge, ...]

    def __init__(self, net: ResistiveNetwork | DeepResistiveNetwork, diode: DiodeModel | None = None):
        self.wiring = wiring_of(net)
        if net.nudges or getattr(net, "held", None) is not None:
            raise ValueError("Argument `net` must not be nudged or clamped: nudge the ShockleyNetwork.")
        if diode is not None and not isinstance(diode, DiodeModel):
            raise TypeError(f"Argument `diode` must be a DiodeModel or None, but is {diode!r}.")
        if isinstance(net, DeepResistiveNetwork) and net.current_gain == 0:
            raise ValueError(
                "Argument `net` has `current_gain` 0: nothing flows back through its amplifiers, and it has no energy. "
                "Use bidirectional amplifiers, e.g. `current_gain=1/voltage_gain`."
            )
        self.net, self.diode, self.nudges = net, (SILICON if diode is None else diode).check(), ()

    @property
    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        return self.net.param_shapes  # type: ignore[no-any-return]

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        return self.net.input_shape  # type: ignore[no-any-return]

    @property
    def batch_size(self) -> int | None:
        return self.net.batch_size  # type: ignore[no-any-return]

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.wiring.n_nodes,)

    @property
    def free(self) -> np.ndarray:
        return self.wiring.pattern.free

    @property
    def outputs(self) -> tuple[int, ...]:
        """Of a layered network the numbers of its output nodes."""
        if not isinstance(self.net, DeepResistiveNetwork):
            raise AttributeError("Only layered networks have `outputs`: name the nodes of the cost yourself.")
        return self.net.outputs

    def start(self) -> np.ndarray:
        if isinstance(self.net, ResistiveNetwork):
            return self.net.start()
        volts = np.zeros(self.wiring.n_nodes)
        volts[: self.net.layer_sizes[0]] = self.net.sources()
        return volts

    def with_inputs(self, inputs: ArrayLike) -> "ShockleyNetwork":
        """The network with its sources at these voltages; a leading axis is the batch axis."""
        return replaced(self, net=self.net.with_inputs(inputs))

    def init_params(self, rng: np.random.Generator | int) -> Params:
        return self.net.init_params(rng)  # type: ignore[no-any-return]

    def _check_domain(self, params: Params) -> None:
        self.net._check_domain(params)

    def diode_currents(self, state: Any) -> np.ndarray:
        """Currents through the diodes in amperes, from anode to cathode, in the order of the network's diodes."""
        return self.diode.current(self._junctions(real_array(state.position, "state", self.state_shape)))

    def bare_value(self, params: Params, position: np.ndarray) -> float:
        wiring, u = self.wiring, self.wiring.across(position)
        content = np.concatenate([0.5 * self._conductances(params) * u[: wiring.n_resistors] ** 2,
                                  self.diode.content(u[wiring.n_resistors :])])  # fmt: skip
        return float(wiring.weights @ content - self._injected(params) @ position)

    def bare_slope(self, params: Params, position: np.ndarray) -> np.ndarray:
        return self._balance(params, position, self.diode.current(self._junctions(position)))

    def bare_curvature(self, params: Params, position: np.ndarray) -> Matrix:
        return self._matrix(params, self.diode.conductance(self._junctions(position)))

    def forces(self, params: Params, position: np.ndarray) -> Params:
        return self._by_resistor(0.5 * self.wiring.across(position) ** 2, position)

    def force_change(self, params: Params, position: np.ndarray, step: np.ndarray) -> Params:
        change = np.zeros(self.wiring.n_nodes)
        change[self.free] = step
        return self._by_resistor(self.wiring.across(position) * self.wiring.along(step), change)

    def _approached(self, params: Params, position: np.ndarray) -> np.ndarray:
        """Near the minimum, by linearised diodes."""
        nudges, free = self.nudges, self.free

        def balance(v: np.ndarray, currents: np.ndarray) -> np.ndarray:
            pull = sum((beta * self.term_slope(term, v) for term, beta in nudges), np.zeros(len(free)))
            return self._balance(params, v, currents) + pull

        def matrix(v: np.ndarray, conductances: np.ndarray) -> Matrix:
            bare = self._matrix(params, conductances)
            return bare + self.curvature(params, v) - self.bare_curvature(params, v) if nudges else bare

        return approach(
            self.diode,
            self._junctions,
            balance,
            matrix,
            lambda v: self.value(params, v),
            lambda v, step: moved(self, v, step),
            position,
            self._highest(params, position),
        )

    def _highest(self, params: Params, position: np.ndarray) -> float:
        """Junction voltage of a current larger than any in the network."""
        volts = np.abs(self.wiring.across(position)).max(initial=0.0)
        total = self._conductances(params).sum() * volts + np.abs(self._injected(params)).sum()
        return float(self.diode.voltage(total))

    def _junctions(self, position: np.ndarray) -> np.ndarray:
        """Voltages across the diodes, without the batteries in series."""
        return self.wiring.across(position)[self.wiring.n_resistors :]

    def _balance(self, params: Params, position: np.ndarray, diode_currents: np.ndarray) -> np.ndarray:
        """Weighted currents out of the free nodes."""
        ohmic = self._conductances(params) * self.wiring.across(position)[: self.wiring.n_resistors]
        return self.wiring.out(np.concatenate([ohmic, diode_currents])) - self._injected(params)[self.free]

    def _matrix(self, params: Params, diode_conductances: np.ndarray) -> Matrix:
        """Its derivative by the free voltages."""
        return self.wiring.matrix(np.concatenate([self._conductances(params), diode_conductances]))

    def _conductances(self, params: Params) -> np.ndarray:
        """Of all resistors in one row, layer by layer."""
        return np.concatenate([value.ravel() for name, value in params.items() if name != "i"])

    def _injected(self, params: Params) -> np.ndarray:
        """Currents injected into the nodes."""
        return self.net.injected(params) if "i" in params else np.zeros(self.wiring.n_nodes)

    def _by_resistor(self, forces: np.ndarray, v: np.ndarray) -> Params:
        """Forces of the branches as those on the conductances, shaped as these, and on the injected currents."""
        shapes = {name: shape for name, shape in self.param_shapes.items() if name != "i"}
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes.values()])
        parts = np.split((self.wiring.weights * forces)[: ends[-1]], ends[:-1])
        found = {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return {**found, "i": -v[list(self.net.currents)]} if "i" in self.param_shapes else found

    def __repr__(self) -> str:
        return f"ShockleyNetwork({self.net!r}, n = {self.diode.emission:g}, I_s = {self.diode.saturation:g} A)"

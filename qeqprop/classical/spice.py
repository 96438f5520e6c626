"""Resistive networks as SPICE netlists, and their voltages checked with ngspice.

Ideal diodes become Shockley diodes, I = I_s (exp(v / (n V_T)) - 1), with so small an emission coefficient n that they
conduct at n V_T ln(I/I_s), some 1e-4 volts: the voltages tend to the ideal ones linearly in n. Those of a `ShockleyNetwork`
are written as they are. An amplifier of voltage
gain A and current gain c is a voltage-controlled voltage source (E), a current probe (V), and a current-controlled current
source (F).
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..core.module import AbstractModule
from ..core.solver import AbstractSolver, equilibrate
from ..core.system import AbstractSystem, Params
from .deep_resistive import DeepResistiveNetwork
from .diode_model import DiodeModel
from .resistive import Diode, ResistiveNetwork
from .shockley import ShockleyNetwork

OPTIONS = ".options reltol=1e-9 abstol=1e-15 vntol=1e-12 gmin=1e-18"
"""Tolerances of ngspice that leave its error below that of the diodes."""
NGSPICE_THERMAL_VOLTAGE = 1.38064852e-23 * 300.15 / 1.6021766208e-19
"""k T / e in ngspice, which has the constants of CODATA 2014: 3e-7 less than ours."""


class Amplifier(NamedTuple):
    """Drives the node `output` at `voltage_gain` times the voltage of `node`, and loads that with `current_gain` times its
    own current."""

    node: str
    output: str
    voltage_gain: float
    current_gain: float


class Circuit(NamedTuple):
    """The elements of a netlist. Nodes are names; "0" is ground.

    Attributes:
        resistors: (node, node, siemens).
        sources: node -> volts.
        currents: (node, amperes into it).
        diodes: (anode, cathode, volts of the battery in series).
        amplifiers: between layers.
        probes: nodes whose voltages are wanted, in the order of the network.
    """

    resistors: list[tuple[str, str, float]]
    sources: dict[str, float]
    currents: list[tuple[str, float]]
    diodes: list[tuple[str, str, float]]
    amplifiers: list[Amplifier]
    probes: list[str]

    def reduced(self) -> "Circuit":
        """The Norton equivalent: all resistors from a node to sources merged into one resistor to one source."""
        kept: list[tuple[str, str, float]] = []
        merged: dict[str, tuple[float, float]] = {}
        for a, b, g in self.resistors:
            node, source = (a, b) if b in self.sources else (b, a)
            if source not in self.sources or node in self.sources:
                kept.append((a, b, g))
                continue
            total, current = merged.get(node, (0.0, 0.0))
            merged[node] = (total + g, current + g * self.sources[source])
        merged = {node: pair for node, pair in merged.items() if pair[0] > 0}
        sources = {f"s_{node}": current / g for node, (g, current) in merged.items()}
        kept += [(f"s_{node}", node, g) for node, (g, _) in merged.items()]
        needed = {end for a, b, _ in kept for end in (a, b)} | {e for a, c, _ in self.diodes for e in (a, c)}
        sources |= {name: volts for name, volts in self.sources.items() if name in needed}
        return self._replace(resistors=kept, sources=sources)

    def netlist(self, title: str, diode: DiodeModel) -> str:
        """The netlist as text."""
        lines = [title, *self._elements()]
        lines += [f".model d D(IS={diode.saturation:.17g} N={diode.emission:.17g})", OPTIONS]
        chunks = [self.probes[k : k + 50] for k in range(0, len(self.probes), 50)]
        lines += [".save " + " ".join(f"v({node})" for node in chunk) for chunk in chunks]
        return "\n".join([*lines, ".op", ".end", ""])

    def _elements(self) -> Iterator[str]:
        for k, (node, volts) in enumerate(self.sources.items()):
            yield f"VS{k} {node} 0 {volts:.17g}"
        for k, (a, b, g) in enumerate(self.resistors):
            if g > 0:
                yield f"R{k} {a} {b} {1 / g:.17g}"
        for k, (node, amperes) in enumerate(self.currents):
            yield f"I{k} 0 {node} {amperes:.17g}"
        for k, (anode, cathode, drop) in enumerate(self.diodes):
            yield f"D{k} {anode} {cathode if drop == 0 else f'b{k}'} d"
            if drop != 0:
                yield f"VB{k} b{k} {cathode} {drop:.17g}"
        for k, amplifier in enumerate(self.amplifiers):
            yield f"E{k} e{k} 0 {amplifier.node} 0 {amplifier.voltage_gain:.17g}"
            yield f"VP{k} e{k} {amplifier.output} 0"
            yield f"F{k} {amplifier.node} 0 VP{k} {amplifier.current_gain:.17g}"


def _general(net: ResistiveNetwork, params: Params) -> Circuit:
    def name(node: int | None) -> str:
        return "0" if node is None or node in net.grounded else f"n{node}"

    return Circuit(
        resistors=[(name(i), name(j), float(g)) for (i, j), g in zip(net.edges, params["g"], strict=True)],
        sources={name(node): float(volts) for node, volts in zip(net.sources, net.inputs, strict=True)},
        currents=[(name(node), float(i)) for node, i in zip(net.currents, params.get("i", []), strict=True)],
        diodes=[(name(a), name(c), drop) for a, c, drop in net.diodes],
        amplifiers=[],
        probes=[name(node) for node in net.free],
    )


def _layered(net: DeepResistiveNetwork, params: Params) -> Circuit:
    sizes, last = net.layer_sizes, len(net.sizes) - 1
    wired = net.voltage_gain == net.current_gain == 1

    def node(layer: int, k: int) -> str:
        return f"n{sum(sizes[:layer]) + k}"

    def driver(layer: int, k: int) -> str:
        return node(layer, k) if wired or layer == 0 else f"u{sum(sizes[:layer]) + k}"

    hidden = [(layer, k) for layer in range(1, last) for k in range(sizes[layer])]
    grounded = Diode(None, 0), Diode(0, None)  # excitatory, inhibitory
    amplifiers = (
        [] if wired else [Amplifier(node(*at), driver(*at), net.voltage_gain, net.current_gain) for at in hidden]
    )
    return Circuit(
        resistors=[
            (driver(layer, i), node(layer + 1, j), float(params[f"w{layer}"][i, j]))
            for layer in range(last)
            for i, j in np.ndindex(sizes[layer], sizes[layer + 1])
        ],
        sources={node(0, k): float(volts) for k, volts in enumerate(net.sources())},
        currents=[],
        diodes=[
            ("0" if a is None else node(layer, k), "0" if c is None else node(layer, k), 0.0)
            for layer, k in hidden
            for a, c, _ in (grounded[k % 2],)
        ],
        amplifiers=amplifiers,
        probes=[node(layer, k) for layer in range(1, last + 1) for k in range(sizes[layer])],
    )


_CIRCUITS: dict[type, Callable[[Any, Params], Circuit]] = {
    ResistiveNetwork: _general,
    DeepResistiveNetwork: _layered,
    ShockleyNetwork: lambda net, params: _CIRCUITS[type(net.net)](net.net, params),
}


def _model_of(system: AbstractSystem, diode: DiodeModel | None) -> DiodeModel:
    """The diodes of a netlist: those of the system where it has real ones."""
    if not isinstance(system, ShockleyNetwork):
        return (DiodeModel() if diode is None else diode).check()
    if diode is not None:
        raise ValueError(f"Argument `diode` must be None: the network has diodes of its own, {system.diode}.")
    return system.diode


def circuit_of(
    system: AbstractSystem, params: Any, inputs: ArrayLike | None = None, *, reduced: bool = False
) -> Circuit:
    """The elements of a network, driven by the inputs of one sample.

    Args:
        reduced: merge all resistors from a node to sources into one (the Norton equivalent): the same voltages from a
            smaller netlist.

    Raises:
        TypeError, ValueError: not a resistive network, a batch, or a nudged network.
    """
    if type(system) not in _CIRCUITS:
        raise TypeError(
            "Argument `system` must be a ResistiveNetwork, DeepResistiveNetwork or ShockleyNetwork, but is "
            f"{type(system).__name__}."
        )
    checked = system.check_params(params)
    driven: Any = system if inputs is None else system.with_inputs(inputs)
    if driven.batch_size is not None:
        raise ValueError("Argument `inputs` must be of one sample: a netlist has one set of sources.")
    if driven.nudges:
        raise ValueError("Argument `system` must not be nudged: a netlist holds the free network.")
    circuit = _CIRCUITS[type(system)](driven, checked)
    return circuit.reduced() if reduced else circuit


def to_spice(
    system: AbstractSystem,
    params: Any,
    path: str | os.PathLike[str],
    *,
    inputs: ArrayLike | None = None,
    diode: DiodeModel | None = None,
    reduced: bool = False,
) -> Path:
    """Write a network as a SPICE netlist; `ngspice -b path` prints its voltages.

    Node k of the network is `nk`; a grounded one is `0`.

    Args:
        system: a `ResistiveNetwork`, `DeepResistiveNetwork` or `ShockleyNetwork`.
        params: its conductances (and currents).
        path: of the file.
        inputs: of one sample.
        diode: the Shockley model of ideal diodes; None takes the nearly ideal `DiodeModel()`. A `ShockleyNetwork` has its
            own.
        reduced: write the Norton equivalent, see `circuit_of`.

    Example:
        >>> import tempfile, qeqprop as qp
        >>> net = qp.classical.ResistiveNetwork(3, [(0, 1), (1, 2)], sources=[0], grounded=[2], diodes=[(1, None, 0.7)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = qp.classical.to_spice(net, {"g": [2.0, 1.0]}, f"{folder}/divider.cir", inputs=[3.0])
        ...     print("".join(path.read_text().splitlines(keepends=True)[1:6]), end="")
        VS0 n0 0 3
        R0 n0 n1 0.5
        R1 n1 0 1
        D0 n1 b0 d
        VB0 b0 0 0.69999999999999996
    """
    model = _model_of(system, diode)
    target = Path(path)
    target.write_text(circuit_of(system, params, inputs, reduced=reduced).netlist(f"* {system!r}", model))
    return target


class SpiceCheck(AbstractModule):
    """Voltages of one network from its solver and from ngspice.

    Attributes:
        nodes: names of the nodes whose voltage is not held, `nk` for node k.
        ours, theirs: their voltages.
        error: max |ours - theirs| / max |ours|, over these nodes and the outputs of the amplifiers, which stand at A v.
        our_seconds, their_seconds: CPU time; theirs with reading the netlist.
        diode: the model of the diodes.
    """

    nodes: tuple[str, ...]
    ours: np.ndarray
    theirs: np.ndarray
    error: float
    our_seconds: float
    their_seconds: float
    diode: DiodeModel

    def __repr__(self) -> str:
        return (
            f"SpiceCheck({len(self.nodes)} nodes, emission coefficient {self.diode.emission:g}: error {self.error:.1e} of "
            f"the largest voltage; CPU {self.our_seconds:.3g} s against {self.their_seconds:.3g} s in ngspice)"
        )


def check_with_ngspice(
    system: AbstractSystem,
    params: Any,
    *,
    inputs: ArrayLike | None = None,
    solver: AbstractSolver | None = None,
    diode: DiodeModel | None = None,
    reduced: bool = False,
    timeout: float = 600.0,
) -> SpiceCheck:
    """The equilibrium of a network beside the operating point that ngspice finds for its netlist.

    Args:
        system, params, inputs, diode, reduced: as in `to_spice`.
        solver: of the equilibrium; None takes the system's own.
        timeout: seconds that ngspice may take.

    Raises:
        RuntimeError: ngspice is not installed, or found no operating point.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.classical.ResistiveNetwork(3, [(0, 1), (1, 2)], sources=[0], grounded=[2], diodes=[(1, None, 0.7)])
        >>> check = qp.classical.check_with_ngspice(net, {"g": [2.0, 1.0]}, inputs=[3.0])  # doctest: +SKIP
    """
    if shutil.which("ngspice") is None:
        raise RuntimeError("ngspice was not found. Install it (Debian, Ubuntu: apt-get install ngspice; macOS: brew).")
    model = _model_of(system, diode)
    circuit = circuit_of(system, params, inputs, reduced=reduced)
    started = os.times()
    state = equilibrate(system, params, solver=solver, inputs=inputs).state
    ended = os.times()
    same = DiodeModel(model.scale / NGSPICE_THERMAL_VOLTAGE, model.saturation)
    text = circuit.netlist(f"* {system!r}", same)
    voltages, seconds = run_ngspice(text, circuit.probes, timeout)
    ours = state.position[[int(node[1:]) for node in circuit.probes]]
    gains = {amplifier.node: max(amplifier.voltage_gain, 1.0) for amplifier in circuit.amplifiers}
    gain = np.array([gains.get(node, 1.0) for node in circuit.probes])
    return SpiceCheck(
        nodes=tuple(circuit.probes),
        ours=ours,
        theirs=voltages,
        error=float(np.abs(gain * (ours - voltages)).max() / max(np.abs(gain * ours).max(), 1e-300)),
        our_seconds=(ended.user - started.user) + (ended.system - started.system),
        their_seconds=seconds,
        diode=model,
    )


def run_ngspice(netlist: str, nodes: list[str], timeout: float = 600.0) -> tuple[np.ndarray, float]:
    """Voltages of `nodes` at the operating point of a netlist, and the CPU seconds that ngspice took."""
    with tempfile.TemporaryDirectory() as folder:
        source, raw = Path(folder, "network.cir"), Path(folder, "network.raw")
        source.write_text(netlist)
        before = os.times()
        done = subprocess.run(
            ["ngspice", "-b", str(source), "-r", str(raw)], capture_output=True, text=True, timeout=timeout, check=False
        )
        after = os.times()
        if not raw.exists():
            raise RuntimeError(f"ngspice found no operating point:\n{(done.stdout + done.stderr)[-1000:]}")
        found = _read_raw(raw.read_bytes())
    if missing := [node for node in nodes if f"v({node})" not in found]:
        raise RuntimeError(f"ngspice gave no voltage of {missing[:5]}:\n{(done.stdout + done.stderr)[-1000:]}")
    seconds = after.children_user - before.children_user + after.children_system - before.children_system
    return np.array([found[f"v({node})"] for node in nodes]), seconds


def _read_raw(raw: bytes) -> dict[str, float]:
    """Names and values of a binary raw file with one point."""
    head, _, data = raw.partition(b"Binary:\n")
    rows = head.decode().partition("Variables:\n")[2].splitlines()
    names = [row.split()[1].lower() for row in rows if row.strip()]
    return dict(zip(names, np.frombuffer(data[: 8 * len(names)], dtype="<f8").tolist(), strict=True))

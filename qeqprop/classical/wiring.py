"""Circuits as lists of branches between numbered nodes: resistors, some driven by amplifiers, and diodes.

Behind amplifiers of voltage gain A and current gain c the currents count c/A as much in the energy as before them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from .deep_resistive import DeepResistiveNetwork
from .resistive import ResistiveNetwork
from .sparsity import EdgePattern


class Wiring(NamedTuple):
    """Branches of a circuit, the resistors first. Ground is the node after the last.

    Attributes:
        first, second: ends of the branches; of a diode anode and cathode.
        gains: of the amplifiers between the first end and the branch, 1 for none.
        weights: what the currents of the branches count in the energy.
        drops: batteries in series, 0 for resistors.
        n_resistors, n_nodes: numbers; ground is not counted.
        pattern: of the matrix of the free nodes.
    """

    first: np.ndarray
    second: np.ndarray
    gains: np.ndarray
    weights: np.ndarray
    drops: np.ndarray
    n_resistors: int
    n_nodes: int
    pattern: EdgePattern

    def across(self, v: np.ndarray) -> np.ndarray:
        """Voltages across the branches, without the batteries, at node voltages (n_nodes,)."""
        whole = np.append(v, 0.0)
        return self.gains * whole[self.first] - whole[self.second] - self.drops

    def along(self, step: np.ndarray) -> np.ndarray:
        """The change of `across` with a change of the free voltages."""
        whole = np.zeros(self.n_nodes + 1)
        whole[self.pattern.free] = step
        return self.gains * whole[self.first] - whole[self.second]

    def out(self, currents: np.ndarray) -> np.ndarray:
        """Weighted currents out of the free nodes, from those through the branches."""
        counted, size = self.weights * currents, self.n_nodes + 1
        total = np.bincount(self.first, self.gains * counted, size) - np.bincount(self.second, counted, size)
        return total[self.pattern.free]

    def matrix(self, conductances: np.ndarray) -> sp.csc_array:
        """The derivative of `out` by the free voltages."""
        counted = (self.weights * conductances)[:, None, None]
        return self.pattern.assemble(counted, self.gains[:, None, None])


def _wired(
    resistors: tuple[Any, Any, Any, Any], diodes: tuple[Any, Any, Any, Any], n_nodes: int, held: Sequence[int]
) -> Wiring:
    """Of resistors (first, second, gains, weights) and diodes (first, second, drops, weights)."""
    first, second, gains, weights = (np.asarray(x) for x in resistors)
    anodes, cathodes, drops, counts = (np.asarray(x) for x in diodes)
    begins, ends = (np.concatenate(pair).astype(int) for pair in ((first, anodes), (second, cathodes)))
    return Wiring(
        first=begins,
        second=ends,
        gains=np.concatenate([gains, np.ones(len(drops))]),
        weights=np.concatenate([weights, counts]),
        drops=np.concatenate([np.zeros(len(first)), drops]),
        n_resistors=len(first),
        n_nodes=n_nodes,
        pattern=EdgePattern.of(begins, ends, (n_nodes + 1, 1), [*held, n_nodes]),
    )


def _general(net: ResistiveNetwork) -> Wiring:
    ground, plain = net.n_nodes, np.ones(len(net.edges))
    anodes, cathodes = ([ground if diode[k] is None else diode[k] for diode in net.diodes] for k in (0, 1))
    diodes = anodes, cathodes, [diode.drop for diode in net.diodes], np.ones(len(net.diodes))
    return _wired((*net.ends, plain, plain), diodes, net.n_nodes, net.sources + net.grounded)


def _layered(net: DeepResistiveNetwork) -> Wiring:
    sizes, last = net.layer_sizes, len(net.sizes) - 1
    starts = np.concatenate([[0], np.cumsum(sizes)])
    pairs = [np.indices((sizes[k], sizes[k + 1])).reshape(2, -1) + starts[k : k + 2, None] for k in range(last)]
    counts = [pair.shape[1] for pair in pairs]
    first, second = np.concatenate(pairs, axis=1)
    gains = np.repeat([1.0, *[net.voltage_gain] * (last - 1)], counts)
    weights = np.repeat([net.symmetrizer(layer) for layer in range(last)], counts)
    hidden, ground = np.arange(starts[1], starts[last]), int(starts[-1])
    layers = np.repeat(np.arange(1, last), sizes[1:last])
    excitatory = (hidden - starts[layers]) % 2 == 0
    diodes = (
        np.where(excitatory, ground, hidden),
        np.where(excitatory, hidden, ground),
        np.zeros(len(hidden)),
        np.array([net.symmetrizer(int(layer) - 1) for layer in layers]),
    )
    return _wired((first, second, gains, weights), diodes, ground, range(sizes[0]))


_WIRINGS: dict[type, Callable[[Any], Wiring]] = {ResistiveNetwork: _general, DeepResistiveNetwork: _layered}


def wiring_of(net: Any) -> Wiring:
    """The branches of a `ResistiveNetwork` or `DeepResistiveNetwork`.

    Raises:
        TypeError: another system.
    """
    if type(net) not in _WIRINGS:
        raise TypeError(f"Argument `net` must be a ResistiveNetwork or DeepResistiveNetwork, but is {net!r}.")
    return _WIRINGS[type(net)](net)

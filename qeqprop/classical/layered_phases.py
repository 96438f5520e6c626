"""Layers of phase oscillators: the XY model on the layered engine, block by block at its exact minimum."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np

from ..core.graph import check_count
from ..core.precision import jax_float64
from ..core.system import Params
from .architecture import Architecture
from .energy import Nudge
from .interactions import check_links
from .layered import AbstractLayeredNetwork, LayeredState
from .unit_vectors import Alignment, Circle, unit_vectors


class LayeredPhaseOscillators(AbstractLayeredNetwork):
    r"""`PhaseOscillators` in layers, driven by the phases x of layer 0, each a unit vector s = (cos phi, sin phi):

    .. math:: E = -\sum_{(l, m)} \sum_{ij} w^{lm}_{ij} \, s^l_i \cdot s^m_j - \sum_l \sum_i b^l_i \cdot s^l_i .

    With the others held a phase is at rest along its field, s = F/|F|, so that `BlockDescent` sets whole layers of whole
    batches to their minima by matrix products. The fields b = (h cos psi, h sin psi) are the reference signals of
    `PhaseOscillators`. The residual of an equilibrium is how far its phases would still turn.

    A layer of n phases has the shape (2, n), cosines before sines, and a cost sees the outputs so, flattened to (2 n,):
    `aligned_misalignment` and `aligned_log_alignment` compare them with target phases. The first is linear in the vectors, so
    that nudged blocks are exact as well. `phases` gives angles.

    There are many minima as soon as couplings compete. Gradients are those of the branch that the start (all phases 0, or a
    forward pass) leads to, and a nudged state that leaves it is flagged.

    Args:
        sizes: numbers of phases of the layers, from the inputs to the outputs.
        interactions: `Alignment`s that join them, "w0", "w1", ... in this order; None: each layer to the next.

    Parameters: couplings "w0", ... (n_pre, n_post); fields "b0", ... (2, n) of layers 1, 2, ...

    Raises:
        TypeError, ValueError: fewer than two layers, layers that no interaction reaches.

    Source: Wang, Wanjura and Marquardt, arXiv:2402.08579; for the block updates Scellier, arXiv:2402.11674.

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> net = qp.classical.LayeredPhaseOscillators((1, 1))
        >>> params = {"w0": [[1.0]], "b0": [[1.0], [0.0]]}  # halfway between the input and phase 0
        >>> print(net.phases(qp.equilibrate(net, params, inputs=[1.0]).state)[1])
        [0.5]
    """

    architecture: Architecture = eqx.field(static=True)
    inputs: np.ndarray
    nudges: tuple[Nudge, ...]
    held: tuple[tuple[int, ...], np.ndarray] | None

    def __init__(self, sizes: Sequence[int], *, interactions: Sequence[Alignment] | None = None):
        counts = tuple(check_count(n, "sizes") for n in sizes)
        if len(counts) < 2:
            raise ValueError(f"Argument `sizes` must name the inputs and the outputs at least, but is {counts}.")
        links = [Alignment(k, k + 1) for k in range(len(counts) - 1)] if interactions is None else list(interactions)
        if not all(isinstance(link, Alignment) for link in links):
            raise TypeError(f"Argument `interactions` must hold `Alignment`s, but is {interactions!r}.")
        check_links(links, len(counts))
        shapes = tuple((2, n) for n in counts)
        self.architecture = Architecture(shapes, (Circle(),) * (len(counts) - 1), tuple(links), biased=True)
        self.inputs = np.zeros(counts[0])
        self.nudges = ()
        self.held = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.architecture.shapes[0][1:]

    def sources(self) -> np.ndarray:
        """The unit vectors of the inputs."""
        return unit_vectors(self.inputs)

    def phases(self, state: LayeredState) -> tuple[np.ndarray, ...]:
        """The phases of all layers, the inputs first, between -pi and pi."""
        return tuple(np.arctan2(layer[..., 1, :], layer[..., 0, :]) for layer in state.layers)

    def init_params(self, rng: np.random.Generator | int) -> Params:
        """Normal couplings of width 1/sqrt(n), n the number of phases that send to one; fields of length 1 along phase 0."""
        rng, net = np.random.default_rng(rng), self.architecture
        links = enumerate(net.interactions)
        fans = {f"w{k}": link.fan_in(net.shapes[link.pre]) for k, link in links}
        rest = Circle().rest
        return {
            name: rng.normal(size=shape) / np.sqrt(fans[name]) if name in fans else rest(shape)
            for name, shape in net.param_shapes.items()
        }

    def __repr__(self) -> str:
        return f"LayeredPhaseOscillators({'-'.join(str(n) for _, n in self.architecture.shapes)})"


def aligned_misalignment(outputs: Any, target: Any) -> Any:
    """`misalignment`, sum 1 - cos(phi - target), of unit vectors (2 n,) and target phases (n,): linear in the vectors."""
    return (1 - _cosines(outputs, target)).sum()


def aligned_log_alignment(outputs: Any, target: Any) -> Any:
    """`log_alignment`, -sum log((1 + cos(phi - target))/2), of unit vectors (2 n,) and target phases (n,).

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> phases, target = np.array([0.3, -1.0]), np.array([0.0, 1.0])
        >>> vectors = np.concatenate([np.cos(phases), np.sin(phases)])
        >>> print(aligned_log_alignment(vectors, target).round(6), qp.classical.log_alignment(phases, target).round(6))
        1.253838 1.253838
    """
    return -jax_float64().numpy.log((1 + _cosines(outputs, target)) / 2).sum()


def _cosines(outputs: Any, target: Any) -> Any:
    jnp = jax_float64().numpy
    x, y = outputs.reshape(2, -1)
    return x * jnp.cos(target) + y * jnp.sin(target)

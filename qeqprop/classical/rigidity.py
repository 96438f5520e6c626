"""Is an elastic network rigid? Its zero modes, its states of self stress, and whether a cost can feel them."""

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from ..core.memory import check_memory
from ..core.module import AbstractModule
from ..core.nudge import AbstractNudge
from ..core.system import Params
from .elastic import ElasticNetwork
from .energy import PointState
from .flat_directions import overlap
from .relax import FLAT
from .state_cost import StateCost


class RigidityReport(AbstractModule):
    """How rigid an elastic network is at a point. Prints a table with advice.

    The compatibility matrix C takes displacements of the free coordinates to elongations of the springs. Its null space
    are the zero modes, that of C^T the states of self stress (tensions in balance), and their numbers differ by Maxwell's
    count: n_coordinates - n_constraints = len(zero_modes) - len(self_stresses). Prestress may stiffen a zero mode, or make
    a direction unstable: `curvatures` are the eigenvalues of the second derivative of the whole energy.

    Source: Calladine, Int. J. Solids Struct. 14, 161 (1978); Lubensky et al., Rep. Prog. Phys. 78, 073901 (2015).

    Attributes:
        n_coordinates: free coordinates.
        n_constraints: springs that have a stiffness and a free end, and on-site springs, one a coordinate.
        rigid_motions: translations and rotations of the whole that nothing forbids, among the zero modes.
        zero_modes: orthonormal, shape (n_zero, n_nodes, dimension).
        self_stresses: orthonormal tensions, shape (n_stresses, n_edges); what on-site springs bear is left out.
        curvatures: ascending, shape (n_coordinates,).
        flat: number of directions whose curvature is zero to rounding.
        unstable: number of directions of negative curvature.
        overlap: norm of the cost's derivative along the flat directions, relative to the whole: above 0 the response to
            the cost diverges. None without a cost.
    """

    n_coordinates: int
    n_constraints: int
    rigid_motions: int
    zero_modes: np.ndarray
    self_stresses: np.ndarray
    curvatures: np.ndarray
    flat: int
    unstable: int
    overlap: float | None

    @property
    def maxwell_count(self) -> int:
        """Coordinates minus constraints; below 0 the network is over-constrained."""
        return self.n_coordinates - self.n_constraints

    @property
    def rigid(self) -> bool:
        """No direction is flat or unstable."""
        return not self.flat and not self.unstable

    @property
    def advice(self) -> str:
        """What this means for an equilibrium, and what to do."""
        if self.unstable:
            return "unstable here: minimise first (`equilibrate`), and report at its `state`"
        if not self.flat:
            return "rigid: the equilibrium is isolated, and has gradients"
        floppy = self.flat - min(self.flat, self.rigid_motions)
        cures = [f"pin nodes against its rigid motions ({self.rigid_motions})"] if self.rigid_motions else []
        cures += [f"brace its mechanisms ({floppy}) with a spring each"] if floppy else []
        return f"floppy: {' and '.join(cures)}, or give the network an on-site `stiffness`"

    def __repr__(self) -> str:
        softest = f"{self.curvatures[0]:.4g}" if self.curvatures.size else "none"
        rows = [
            (
                "Maxwell count",
                f"{self.maxwell_count} = {self.n_coordinates} coordinates - {self.n_constraints} springs",
            ),
            ("zero modes", f"{len(self.zero_modes)}, of these {self.rigid_motions} rigid motions"),
            ("self stresses", str(len(self.self_stresses))),
            ("curvature", f"smallest {softest}, {self.flat} flat and {self.unstable} unstable directions"),
            *([] if self.overlap is None else [("cost", f"{self.overlap:.2g} of its slope along flat directions")]),
            ("verdict", self.advice),
        ]
        return "RigidityReport\n" + "\n".join(f"  {name:<14} {value}" for name, value in rows)


def rigidity_report(
    network: ElasticNetwork,
    params: Params,
    nudge: AbstractNudge | None = None,
    target: ArrayLike | None = None,
    *,
    inputs: ArrayLike | None = None,
    state: PointState | None = None,
) -> RigidityReport:
    """Zero modes and states of self stress of an elastic network, by dense linear algebra.

    Args:
        network, params: springs of stiffness 0 do not count.
        nudge, target: a `StateCost`, to tell whether its gradient exists on a network that is not rigid.
        inputs: one sample of displacements (and strain).
        state: where to look; None takes the point where a minimisation starts, which a floppy network has as well.

    Raises:
        TypeError: no elastic network, or another cost. ValueError: a batch of inputs. MemoryError: the matrices do not fit.

    Example:
        >>> square = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
        >>> net = ElasticNetwork([(0, 1), (1, 2), (2, 3), (3, 0)], square, pinned=[0, 1])
        >>> rigidity_report(net, {"k": [1.0] * 4, "l": [1.0] * 4})
        RigidityReport
          Maxwell count  1 = 4 coordinates - 3 springs
          zero modes     1, of these 0 rigid motions
          self stresses  0
          curvature      smallest 0, 1 flat and 0 unstable directions
          verdict        floppy: brace its mechanisms (1) with a spring each, or give the network an on-site `stiffness`
    """
    if not isinstance(network, ElasticNetwork):
        raise TypeError(f"Argument `network` must be an ElasticNetwork, but is {type(network).__name__}.")
    if nudge is not None and not isinstance(nudge, StateCost):
        raise TypeError(f"Argument `nudge` must be a StateCost, but is {type(nudge).__name__}.")
    params = network.check_params(params)
    network = network if inputs is None else network.with_inputs(inputs)
    if network.batch_size is not None:
        raise ValueError("Argument `inputs` must be one sample, but has a batch axis.")
    n, m = len(network.free), len(network.edges) + (len(network.free) if network.stiffness else 0)
    check_memory(8 * (3 * n * n + 3 * n * m + m * m), "A rigidity report", "Report on a part of the network.")
    position = network.start() if state is None else state.position
    bonds, rows = _compatibility(network, params, position)
    modes, stresses = _null_spaces(rows)
    curvatures, directions = np.linalg.eigh(network.bare_curvature(params, position).toarray())
    zero = FLAT * np.abs(curvatures).max(initial=0.0)
    level = np.abs(curvatures) <= zero
    tensions = np.zeros((len(stresses), len(network.edges)))
    tensions[:, bonds] = stresses[:, : len(bonds)]
    return RigidityReport(
        n_coordinates=n,
        n_constraints=len(rows),
        rigid_motions=_rigid_motions(network, position),
        zero_modes=_on_nodes(network, modes),
        self_stresses=tensions,
        curvatures=curvatures,
        flat=int(level.sum()),
        unstable=int(np.sum(curvatures < -zero)),
        overlap=None if nudge is None else _overlap(network, nudge, target, position, directions[:, level]),
    )


def _compatibility(network: ElasticNetwork, params: Params, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The springs that constrain something, and the elongations by the free coordinates: theirs, then on-site ones."""
    s, (n_nodes, dim) = network.springs(position), position.shape
    rows = np.zeros((len(s.i), n_nodes, dim))
    every = np.arange(len(s.i))
    rows[every, s.i], rows[every, s.j] = s.unit, -s.unit
    free = rows.reshape(len(s.i), -1)[:, network.free]
    bonds = np.flatnonzero((params["k"] != 0) & np.any(free != 0, axis=1))
    on_site = np.eye(len(network.free)) if network.stiffness else np.zeros((0, len(network.free)))
    return bonds, np.concatenate([free[bonds], on_site])


def _null_spaces(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal rows that span the null spaces of a matrix and of its transpose."""
    left, values, right = scipy.linalg.svd(matrix)
    rank = int(np.sum(values > np.sqrt(FLAT) * values.max(initial=0.0)))
    return right[rank:], left[:, rank:].T


def _rigid_motions(network: ElasticNetwork, position: np.ndarray) -> int:
    """Number of independent translations and (without a cell) rotations that leave every held node where it is."""
    if network.stiffness:
        return 0
    n_nodes, dim = position.shape
    motions = [np.tile(axis, (n_nodes, 1)) for axis in np.eye(dim)]
    for a in range(dim if network.cell is None else 0):
        for b in range(a):
            turn = np.zeros((n_nodes, dim))
            turn[:, a], turn[:, b] = -position[:, b], position[:, a]
            motions.append(turn)
    flat = np.array([motion.ravel() for motion in motions]).T
    held = np.setdiff1d(np.arange(position.size), network.free)
    allowed = _null_spaces(flat[held])[0].T if len(held) else np.eye(len(motions))
    return int(np.linalg.matrix_rank(flat @ allowed)) if allowed.size else 0


def _on_nodes(network: ElasticNetwork, modes: np.ndarray) -> np.ndarray:
    """Vectors of free coordinates as displacements of all nodes."""
    whole = np.zeros((len(modes), network.reference.size))
    whole[:, network.free] = modes
    return whole.reshape(len(modes), *network.state_shape)


def _overlap(
    network: ElasticNetwork, nudge: StateCost, target: ArrayLike | None, position: np.ndarray, flat: np.ndarray
) -> float:
    term: Any = nudge.term(PointState(position), nudge.check_target(target, None))
    network.nudged(term, 0.0)  # refuses nodes that are not there
    return overlap(network.term_slope(term, position), flat)

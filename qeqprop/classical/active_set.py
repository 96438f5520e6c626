"""Primal-dual active sets: ideal diodes on any resistive network, in a handful of sparse factorisations.

With conductances H, diodes B v <= d and their currents u >= 0, the equilibrium is

    slope(v) + B^T u = 0,    u = max(0, u + c (B v - d))    for any c > 0 .

Which diodes conduct (u + c (B v - d) > 0) is guessed from the last iterate, and the linear equations for that guess are
solved: a semismooth Newton method (Hintermueller, Ito, Kunisch, SIAM J. Optim. 13, 865 (2002)). Where the guesses would
cycle, one diode is switched at a time, the one of least index, which ends for certain (Judice & Pires, Comput. Oper. Res.
21, 587 (1994)). Coordinate descent stalls at a diode between two nodes that move; this does not.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.real import check_fraction
from ..core.scheme import AbstractScheme, LinearResponse
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .factorization import DENSE, factorize
from .resistive import CircuitState, ResistiveNetwork
from .state_cost import StateTerm

ROUNDING = 1e3
"""A residual that shrinks no more is at rounding within this many tolerances."""


class ActiveSet(AbstractSolver):
    """Equilibria of a `ResistiveNetwork`: primal-dual active sets with sparse LU, to the rounding of the currents.

    `stats`: `factorizations`; `conducting` diodes; `kink_distance`, how many volts the nearest diode is from switching; of free
    states `smallest_curvature`, the least conductance against voltages that the conducting diodes allow; and of nudged states
    `displacement` from, and `diode_flips` against, the state that they started from: the free state for the
    first nudge, the state at -beta (or beta) for its opposite. Across a flip the equilibrium has a kink in beta.

    Args:
        tolerance: bound on the unbalanced currents, relative to those that cancel in them.
        max_iterations: bound on the factorisations.

    Raises (from `solve`):
        ValueError: a nudge that makes the network unstable while its diodes block.

    Example:
        >>> import qeqprop as qp
        >>> bridge = qp.classical.ResistiveNetwork(  # a diode between two nodes that move
        ...     4, [(0, 1), (1, 3), (0, 2), (2, 3)], sources=[0], grounded=[3], diodes=[(1, 2, 0.0)])
        >>> found = qp.equilibrate(bridge, {"g": [3.0, 1.0, 1.0, 1.0]}, inputs=[1.0])
        >>> print(found.state.position.round(6), found.state.diode_currents.round(6))
        [1.       0.666667 0.666667 0.      ] [0.333333]
    """

    tolerance: float = eqx.field(static=True)
    max_iterations: int = eqx.field(static=True)

    name: ClassVar[str] = "ActiveSet"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, *, tolerance: float = 1e-15, max_iterations: int = 1000):
        self.tolerance = check_fraction(tolerance, "tolerance", 1e-16)
        self.max_iterations = check_count(max_iterations, "max_iterations")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The minimum, from the voltages and conducting diodes of `init` or from zero."""
        circuit = _Balance(_checked(system), params)
        v, currents = circuit.start(None if init is None else init.state)
        circuit.check_stability(v)
        found = self._newton(circuit, v, currents)
        state = CircuitState(found.v, diode_currents=np.maximum(found.currents, 0.0))
        stats: dict[str, Any] = {
            "factorizations": found.factorizations,
            "conducting": int(np.sum(found.currents > 0)),
            "kink_distance": float(np.abs(circuit.switching(found.v, found.currents)).min(initial=np.inf)),
        }
        if found.status is Status.DEGENERATE:
            stats["advice"] = circuit.loop()
        elif found.status is Status.OK and not circuit.net.nudges:
            stats["smallest_curvature"] = circuit.smallest_curvature(found.v, found.currents > 0)
        if init is not None:
            stats["displacement"] = float(np.linalg.norm(found.v - init.state.position))
            stats["diode_flips"] = int(np.sum((found.currents > 0) != (init.state.diode_currents > 0)))
        return Equilibrium(
            state=state,
            energy=circuit.net.energy(params, state),
            residual=np.asarray(found.residual),
            gap=None,
            status=found.status,
            stats=stats,
        )

    def _newton(self, circuit: "_Balance", v: np.ndarray, currents: np.ndarray) -> "_Found":
        conducting = circuit.switching(v, currents) > 0
        seen, one_by_one, last = {conducting.tobytes()}, False, np.inf
        for count in range(1, self.max_iterations + 1):
            try:
                solve = circuit.factorize(v, conducting)
            except RuntimeError:  # singular: conducting diodes form a loop
                return _Found(v, currents, np.inf, count, Status.DEGENERATE)
            currents = np.where(conducting, currents, 0.0)
            for _ in range(2):  # the second step is an iterative refinement
                v, currents = circuit.step(solve, v, currents, conducting)
            residual = circuit.residual(v, currents)
            if not np.isfinite(residual):
                return _Found(v, currents, residual, count, Status.NOT_FINITE)
            wanted = circuit.switching(v, currents) > 0
            if np.array_equal(wanted, conducting):
                floor = self.tolerance * circuit.noise(v)
                if residual <= floor or (residual <= ROUNDING * floor and residual > 0.5 * last):
                    return _Found(v, currents, residual, count, Status.OK)
                last = residual
                continue
            one_by_one = one_by_one or wanted.tobytes() in seen
            if one_by_one:
                first = int(np.flatnonzero(wanted != conducting)[0])
                wanted = conducting.copy()
                wanted[first] = not wanted[first]
            conducting, last = wanted, np.inf
            seen.add(conducting.tobytes())
        return _Found(v, currents, residual, self.max_iterations, Status.UNCONVERGED)

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Implicit differentiation with the conducting diodes shorted: H dv + B^T du = -dC/dv, B dv = 0."""
        circuit, state = _Balance(_checked(system), params), equilibrium.state
        conducting = state.diode_currents > 0
        slope = circuit.term_slope(term, state.position)
        right = np.concatenate([-slope, np.zeros(int(conducting.sum()))])
        matrix = circuit.matrix(state.position, conducting)
        lu = spla.splu(matrix)
        step = lu.solve(right)
        step += lu.solve(right - matrix @ step)
        residual = float(np.linalg.norm(right - matrix @ step)) / max(float(np.linalg.norm(right)), 1e-300)
        change = np.zeros_like(state.position)
        change[circuit.free] = step[: len(circuit.free)]
        status = Status.OK if residual <= max(tolerance, 1e-8) else Status.UNCONVERGED
        forces = circuit.net.force_change(params, state.position, change)
        return Response(Estimate.exact(forces), np.asarray(residual), status, {})

    def default_scheme(self, free: Equilibrium, term: Any) -> AbstractScheme:
        """Linear response: it is implicit differentiation, and costs one factorisation."""
        return LinearResponse()

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The opposite nudge's state, so that the flips between both are counted; else the free one."""
        return phases.get(-strength, phases[0.0])

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """One sample at a time."""
        return False

    def __repr__(self) -> str:
        return f"ActiveSet(tolerance={self.tolerance:g})"


class _Found(NamedTuple):
    v: np.ndarray
    currents: np.ndarray
    residual: float
    factorizations: int
    status: Status


class _Balance:
    """The balance of currents at the nodes whose voltage is not held."""

    def __init__(self, net: ResistiveNetwork, params: Params):
        self.net, self.free = net, net.free
        self.whole, self.injected = net.laplacian(params), net.injected(params)
        self.conductances = self.whole[self.free][:, self.free].tocsc()
        self.diodes, self.drop = net.diode_matrix()
        self.free_diodes = self.diodes[:, self.free]
        diagonal = self.conductances.diagonal()
        self.unit = float(diagonal.mean()) if len(diagonal) else 1.0  # amperes per volt: what `switching` compares with

    def start(self, state: CircuitState | None) -> tuple[np.ndarray, np.ndarray]:
        """Voltages and diode currents to begin with; held nodes as the network has them now."""
        v, currents = self.net.start(), np.zeros(len(self.drop))
        if state is None:
            return v, currents
        if state.position.shape != v.shape or state.diode_currents.shape != currents.shape:
            raise ValueError(f"Argument `init` must be a state of this network, but is {state}.")
        v[self.free] = state.position[self.free]
        return v, state.diode_currents

    def switching(self, v: np.ndarray, currents: np.ndarray) -> np.ndarray:
        """Volts by which every diode conducts (positive) or blocks (negative)."""
        return currents / self.unit + self.diodes @ v - self.drop

    def slope(self, v: np.ndarray) -> np.ndarray:
        """Currents out of the free nodes, without those through the diodes."""
        total = (self.whole @ v - self.injected)[self.free]
        return total + sum((beta * self.term_slope(term, v) for term, beta in self.net.nudges), np.zeros(len(total)))

    def curvature(self, v: np.ndarray) -> sp.csc_array:
        """The derivative of `slope` by the free voltages."""
        matrix = self.conductances
        for term, beta in self.net.nudges:
            nodes = term.coordinates.nodes or range(self.net.n_nodes)
            i, j = (index.ravel() for index in np.meshgrid(nodes, nodes, indexing="ij"))
            whole = sp.csc_array((beta * term.curvature(v).ravel(), (i, j)), shape=self.whole.shape)
            matrix = matrix + whole[self.free][:, self.free]
        return sp.csc_array(matrix)

    def term_slope(self, term: StateTerm, v: np.ndarray) -> np.ndarray:
        """The derivative of a cost by the free voltages."""
        whole = np.zeros(self.net.n_nodes)
        whole[list(term.coordinates.nodes or range(self.net.n_nodes))] = term.slope(v)
        return whole[self.free]

    def matrix(self, v: np.ndarray, conducting: np.ndarray) -> sp.csc_array:
        """The linear equations for free voltages and currents of the conducting diodes."""
        rows = self.free_diodes[np.flatnonzero(conducting)]
        if not rows.shape[0]:
            return self.curvature(v)
        return sp.csc_array(sp.block_array([[self.curvature(v), rows.T], [rows, None]]))

    def factorize(self, v: np.ndarray, conducting: np.ndarray) -> Any:
        """Their solution, as a function of the right-hand side."""
        return spla.splu(self.matrix(v, conducting)).solve if len(self.free) else lambda right: right

    def smallest_curvature(self, v: np.ndarray, conducting: np.ndarray) -> float:
        """The smallest eigenvalue of the curvature among free voltages that conducting diodes leave; infinite without any.

        With the diodes shorted the response to a current is Z (Z^T H Z)^-1 Z^T, Z a basis of B v = 0: its largest eigenvalue
        is the inverse.
        """
        rows, n = self.free_diodes[np.flatnonzero(conducting)], len(self.free)
        if rows.shape[0] >= n:
            return np.inf
        if n <= DENSE:
            left = scipy.linalg.null_space(rows.toarray()) if rows.shape[0] else np.eye(n)
            return float(scipy.linalg.eigvalsh(left.T @ self.curvature(v) @ left, subset_by_index=(0, 0))[0])
        solve, rest = self.factorize(v, conducting), np.zeros(rows.shape[0])
        response = spla.LinearOperator((n, n), matvec=lambda b: solve(np.append(b, rest))[:n], dtype=float)
        start = np.random.default_rng(0).normal(size=n)
        return float(1 / spla.eigsh(response, k=1, which="LA", v0=start, tol=1e-3, return_eigenvectors=False)[0])

    def step(
        self, solve: Any, v: np.ndarray, currents: np.ndarray, conducting: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """A Newton step of voltages and currents for a given set of conducting diodes."""
        gap = (self.drop - self.diodes @ v)[conducting]
        change = solve(np.concatenate([-self.slope(v) - self.free_diodes.T @ currents, gap]))
        v, currents = v.copy(), currents.copy()
        v[self.free] += change[: len(self.free)]
        currents[conducting] += change[len(self.free) :]
        return v, currents

    def residual(self, v: np.ndarray, currents: np.ndarray) -> float:
        """Norm of the unbalanced currents."""
        return float(np.linalg.norm(self.slope(v) + self.free_diodes.T @ currents))

    def noise(self, v: np.ndarray) -> float:
        """Norm of the currents that cancel at the nodes."""
        return float(np.linalg.norm((abs(self.whole) @ np.abs(v) + np.abs(self.injected))[self.free]))

    def loop(self) -> str:
        """Diodes that may form a loop, in words for the error."""
        names = [str(tuple(diode)) for diode in self.net.diodes[:5]] + ["..."] * (len(self.drop) > 5)
        return (
            f"Conducting diodes form a loop without a resistor (the diodes are {', '.join(names)}): their currents are "
            "not defined, or without bound. Put a resistor in series, or raise a drop."
        )

    def check_stability(self, v: np.ndarray) -> None:
        """Refuse a nudge that makes the network unstable with all its diodes blocking."""
        if any(beta for _, beta in self.net.nudges) and not factorize(self.curvature(v)).definite:
            betas = ", ".join(f"{beta:g}" for _, beta in self.net.nudges)
            raise ValueError(
                f"The nudge beta = {betas} makes the network unstable: its voltages would run away while its diodes block. "
                "Use a smaller beta, or LinearResponse()."
            )


def _checked(system: AbstractSystem) -> ResistiveNetwork:
    if not isinstance(system, ResistiveNetwork):
        raise wrong_system(system, "ActiveSet", "a ResistiveNetwork")
    return system

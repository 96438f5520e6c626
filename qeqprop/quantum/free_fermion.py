"""Free fermions: transverse-field chains and rings of thousands of sites, exactly."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..core.estimate import Estimate
from ..core.memory import check_memory
from ..core.nudge import WeightedObservables
from ..core.scheme import LinearResponse, Stencil, balanced_nudge
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .fermion_states import (
    AbstractFermionState,
    FermionState,
    OpenChainState,
    bond_of,
    cofactors,
    edge_mode,
    fermion_state,
    flipped,
    on_bond,
    open_chain_state,
)
from .jordan_wigner import ADVICE, chain_order, fermion_table
from .pauli import PauliSum
from .spins import AbstractSpinSystem

EPS = float(np.finfo(float).eps)
MATRICES = 10
"""Matrices of size n^2 held at a time."""
DEGENERACY = 1e-9
"""Gap, against the largest coupling, below which levels count as degenerate."""
MATERIAL = 1e-8
"""Difference of correlations above which two degenerate parities count as two states."""


class FreeFermions(AbstractSolver):
    r"""Exact ground states of chains that are quadratic in fermions: open or periodic, in any labelling, any couplings.

    .. math:: H = - \sum_i J_i Z_i Z_{i+1} - \sum_i g_i X_i

    without longitudinal field. The Z Z terms of the system say which sites are neighbours. Also solved: terms such as
    Z_i X_{i+1} Z_{i+2} and Y_i Y_{i+1} along the chain. Refused: everything that is not quadratic in the fermions.

    Open chains cost time and memory proportional to n; rings (and the other terms) a singular-value decomposition, n^3.
    On a ring the fermions are antiperiodic in the even and periodic in the odd sector of the parity prod_i X_i, and in
    each only states of that parity count; both are solved and the lower taken.

    Costs may have any observable; longer strings such as Z_i Z_j are determinants. Nudges must stay quadratic, as X_o
    or Z_o Z_{o+1}; `LinearResponse` takes the longer strings as well.

    A nudge conserves the parity: the nudged phases stay in the sector of the free one, and `gap` is the distance to the
    next level *of the same parity*. The lowest level of the other parity is `stats["parity_gap"]` above. Where that
    vanishes (a chain in its ordered phase) and both states share all local correlations, the gradient exists; where
    they do not share them, the ground state is degenerate.

    Raises (from `solve`):
        ValueError: a term or a nudge that is not quadratic; couplings that form no chain.
        MemoryError: the modes of a ring do not fit.

    Reference: Lieb, Schultz, Mattis, Ann. Phys. 16, 407 (1961); Pfeuty, Ann. Phys. 57, 79 (1970).

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> n = 1000
        >>> chain = qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])
        >>> params = {"J": np.ones(n - 1), "h": np.zeros(n), "g": np.ones(n)}
        >>> out = qp.ep_gradient(chain, params, qp.ObservableCost(qp.X(500)), solver=qp.FreeFermions())
        >>> print(f"{float(out.free.energy):.6f}")  # 1 - 1/sin(pi/4002)
        -1272.876295
        >>> print(out.status, out.grad["g"][499:502].round(4))
        ok [0.1509 0.3626 0.1509]
    """

    name: ClassVar[str] = "FreeFermions"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The ground state; a nudged one in the parity sector of `init`. `key` is not used (nothing is random)."""
        if not isinstance(system, AbstractSpinSystem):
            raise wrong_system(system, "FreeFermions", "spin networks")
        h = _quadratic(system, params)
        parity = init.state.parity if init is not None and system.nudges else None
        return _solve_open(h, parity) if h.is_open else _solve_modes(h, parity)

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """d<G>/dbeta in closed form: see `OpenChainState.response` and `FermionState.response`."""
        assert isinstance(system, AbstractSpinSystem)  # `solve` has refused the others
        state: AbstractFermionState = equilibrium.state
        rows, cols, W = _linearised(term, state)
        forces = fermion_table(tuple(op for _, ops in system.terms for op in ops), state.order)
        pairs = forces.bilinears
        if isinstance(state, OpenChainState) and np.all(on_bond(rows, cols)) and np.all(on_bond(pairs.row, pairs.col)):
            strength = np.bincount(bond_of(rows, cols), weights=W, minlength=len(state.bonds))
            changes = state.response(strength)[bond_of(pairs.row, pairs.col)]
        else:
            h = _quadratic(system, params)
            _check_modes(len(h.order))
            modes = state if isinstance(state, FermionState) else fermion_state(state.order, h.matrix(1), state.parity)
            changes = modes.response((rows, cols, W), pairs)
        grad = system.forces(forces.linear(changes, state.parity))
        finite = all(np.all(np.isfinite(value)) for value in grad.values())
        residual, gap = equilibrium.worst()
        relative = np.asarray(residual / max(gap or np.inf, 1e-300))
        return Response(Estimate.exact(grad), relative, Status.OK if finite else Status.NOT_FINITE, {})

    def default_scheme(self, free: Equilibrium, term: Any) -> Stencil | LinearResponse:
        """centered(beta) with beta where truncation and residual errors meet; see `balanced_nudge`.

        `LinearResponse()` where the cost has longer strings, with which no chain can be nudged.
        """
        if fermion_table(term.observables, free.state.order).products:
            return LinearResponse()
        residual, gap = free.worst()
        return balanced_nudge(residual, gap, float(np.max(term.norm_bound())))

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free phase: only its parity is used."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """Batches go sample by sample."""
        return False

    def __repr__(self) -> str:
        return "FreeFermions()"


class QuadraticHamiltonian(NamedTuple):
    """H = constant - sum_k values[k] * (parity where wraps[k]) * G[rows[k], cols[k]]."""

    order: tuple[int, ...]
    constant: float
    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray
    wraps: np.ndarray

    @property
    def is_open(self) -> bool:
        """An open transverse-field chain: M is bidiagonal."""
        return bool(np.all(on_bond(self.rows, self.cols)) and not np.any(self.wraps))

    def bonds(self) -> np.ndarray:
        """(g_0, J_0, g_1, ...) of an open chain."""
        return np.bincount(bond_of(self.rows, self.cols), weights=self.values, minlength=2 * len(self.order) - 1)

    def matrix(self, parity: int) -> np.ndarray:
        """M in the sector of the given parity."""
        n = len(self.order)
        signed = np.where(self.wraps, parity, 1) * self.values
        return np.bincount(self.rows * n + self.cols, weights=signed, minlength=n * n).reshape(n, n)

    def expectations(self, state: AbstractFermionState) -> np.ndarray:
        """What `values` multiply, in a state."""
        return np.where(self.wraps, state.parity, 1) * state.correlations(self.rows, self.cols)


def _quadratic(system: AbstractSpinSystem, params: Params) -> QuadraticHamiltonian:
    operators, strengths = system.operators(), system.strengths(params)
    trained = tuple(operator for _, terms in system.terms for operator in terms)
    order = chain_order((*trained, system.fixed), system.n_sites)
    table = fermion_table(operators, order)
    if table.products and (quartic := table.products[0].operator) < len(trained):  # its force is not linear in Q
        raise ValueError(_refusal(operators[quartic], strengths[quartic], nudge=False))
    if (bad := table.beyond_quadratic(strengths)) is not None:
        nudge = bad > len(trained) + len(system.input_terms)
        raise ValueError(_refusal(operators[bad], strengths[bad], nudge=nudge))
    pairs = table.bilinears
    values = -strengths[pairs.operator] * pairs.coefficient
    return QuadraticHamiltonian(order, float(strengths @ table.constant), pairs.row, pairs.col, values, pairs.wraps)


def _linearised(term: WeightedObservables, state: AbstractFermionState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nudge as sum_k W[k] G[rows[k], cols[k]] about a state; a determinant by its derivative, the cofactors.

    A Gaussian state is a function of Q, so that d<C>/dtheta = sum_rc (d<C>/dQ_rc) dQ_rc/dtheta: the chain rule by which
    a nudge carries the error signal of a nonlinear cost.
    """
    table = fermion_table(term.observables, state.order)
    weights = np.asarray(term.weights, dtype=float)
    if np.any(bad := table.odd & (weights != 0)):
        k = int(np.argmax(bad))
        raise ValueError(_refusal(term.observables[k], weights[k], nudge=True))
    pairs = table.bilinears
    parts = [(pairs.row, pairs.col, pairs.signed(state.parity) * weights[pairs.operator])]
    for product in table.products:
        slope = cofactors(state.block(product.rows, product.cols)) * weights[product.operator] * product.coefficient
        mesh = np.meshgrid(product.rows, product.cols, indexing="ij")
        parts.append((*(m.reshape(-1) for m in mesh), slope.reshape(-1) * (state.parity if product.wraps else 1)))
    rows, cols, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    return rows, cols, values


def _refusal(operator: PauliSum, strength: float, *, nudge: bool) -> str:
    quadratic = "quadratic in fermions (X_i, and Z_i Z_j of neighbours on the chain)"
    if nudge:
        return (
            f"FreeFermions needs nudges {quadratic}, but the cost has {operator}. LinearResponse() also takes longer "
            f"strings that conserve the parity, such as Z_i Z_j. {ADVICE}"
        )
    return (
        f"FreeFermions needs a Hamiltonian {quadratic}, but it has {strength:.6g} * ({operator}). {ADVICE} Finite "
        "differences leave out a parameter that must stay 0 by `components`."
    )


def _solve_open(h: QuadraticHamiltonian, parity: int | None) -> Equilibrium:
    bonds = h.bonds()
    scale = float(np.abs(bonds).max())
    if not 1e-100 < scale < 1e100:  # squares under- or overflow
        return _solve_modes(h, parity)
    state, smallest = open_chain_state(h.order, bonds)
    parity_gap = 2 * smallest[0]
    gap = 2 * smallest.sum() if len(smallest) > 1 else np.inf
    tied = parity_gap <= DEGENERACY * scale
    shared = tied and edge_mode(bonds, smallest) <= MATERIAL
    if parity not in (None, state.parity) and not shared:  # the other parity is lower now: stay in the sector
        return _solve_modes(h, parity)
    status = Status.OK
    if not np.all(np.isfinite(state.local)):
        status = Status.NOT_FINITE
    elif gap <= DEGENERACY * scale or (tied and not shared):
        status = Status.DEGENERATE
    rounding = 16 * EPS * min(gap, scale)  # every correlation is known to some EPS, whatever the gap
    return _equilibrium(h, state, gap, parity_gap, rounding, status, "continued fractions")


def _solve_modes(h: QuadraticHamiltonian, parity: int | None) -> Equilibrium:
    n = len(h.order)
    _check_modes(n)
    closed = bool(np.any(h.wraps))
    sector = 1 if closed and parity is None else parity
    state = fermion_state(h.order, h.matrix(sector or 1), sector)
    other = None
    if parity is None:
        other = fermion_state(h.order, h.matrix(-1), -1) if closed else flipped(state)
        if other.values.sum() > state.values.sum():
            state, other = other, state
    scale = max(float(np.abs(h.values).max(initial=0.0)), 1e-300)
    gap = 2 * float(state.values[:2].sum()) if n > 1 else np.inf
    parity_gap = np.nan if other is None else float(state.values.sum() - other.values.sum())
    status = Status.OK
    if not np.all(np.isfinite(state.values)):
        status = Status.NOT_FINITE
    elif gap <= DEGENERACY * scale:
        status = Status.DEGENERATE
    elif other is not None and parity_gap <= DEGENERACY * scale:
        apart = h.expectations(state) - h.expectations(other)
        status = Status.DEGENERATE if np.max(np.abs(apart)) > MATERIAL else Status.OK
    rounding = 8 * EPS * scale * np.sqrt(n)
    return _equilibrium(h, state, gap, parity_gap, rounding, status, "singular values")


def _check_modes(n: int) -> None:
    what = f"The modes of a chain of {n} spins ({MATRICES} matrices of n^2 float64)"
    advice = (
        "Open transverse-field chains with costs of X_i and Z_i Z_j at neighbours need memory proportional to n only."
    )
    check_memory(MATRICES * 8 * n * n, what, advice)


def _equilibrium(
    h: QuadraticHamiltonian,
    state: AbstractFermionState,
    gap: float,
    parity_gap: float,
    residual: float,
    status: Status,
    method: str,
) -> Equilibrium:
    return Equilibrium(
        state=state,
        energy=Estimate.exact(np.asarray(h.constant - h.values @ h.expectations(state))),
        residual=np.asarray(residual),
        gap=np.asarray(gap),
        status=status,
        stats={"method": method, "parity": state.parity, "parity_gap": float(parity_gap)},
    )

"""Gibbs states, exact: by full diagonalisation, or in closed form where they are Gaussian, with their response."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.special

from ..core import display
from ..core.estimate import Estimate
from ..core.memory import check_memory, format_bytes
from ..core.module import AbstractModule
from ..core.real import check_real
from ..core.scheme import LinearResponse, Stencil, balanced_nudge
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .gaussian_equilibrium import respond_dense, solve_dense
from .gaussian_occupation import Occupation
from .gaussian_state import GaussianState
from .operators import MatrixOperator, OperatorSystem
from .oscillators import HarmonicNetwork
from .pauli import PauliSum
from .spins import AbstractSpinSystem

MAX_DIM = 4096
"""Largest dimension that is diagonalised: 12 spins, a minute."""
MATRICES = 6
"""Matrices of full size held at a time."""
GAUSSIAN_ADVICE = "Use fewer nodes, or fewer samples at a time; at T = 0 GaussianGroundState has a sparse method."


class ThermalState(AbstractModule):
    """A density matrix and the levels it is made of: rho = sum_m p_m |m><m| with p_m ~ exp(-E_m / T).

    Attributes:
        n_sites: number of spins; 0 for the state of an `OperatorSystem`, which has no sites.
        temperature: T, with k_B = 1.
        levels: E_m, ascending, nudges included.
        vectors: the eigenvectors as columns.
        probabilities: p_m.
        density: rho, shape (dim, dim); site 0 is the most significant bit, spin up comes first.
    """

    n_sites: int = eqx.field(static=True)
    temperature: float = eqx.field(static=True)
    levels: np.ndarray
    vectors: np.ndarray
    probabilities: np.ndarray
    density: np.ndarray

    _repr_html_ = display.of_state

    def expect(self, observable: Any) -> Estimate:
        """tr(rho O), exact.

        Example:
            >>> import qeqprop as qp
            >>> spin = qp.TransverseFieldIsing(1, [])
            >>> state = qp.equilibrate(spin, {"J": [], "h": [1.0], "g": [0.0]}, solver=qp.GibbsState(2.0)).state
            >>> state.expect(qp.Z(0))  # tanh(1/2)
            0.462117
        """
        return Estimate.exact(self.expect_all((observable,)).mean[0])

    def expect_all(self, observables: Sequence[Any]) -> Estimate:
        """Expectation values of K observables, shape (K,)."""
        return Estimate.exact(_traces(self.density, self.n_sites, observables))

    def free_energy(self) -> float:
        """F = E - T S = -T ln tr exp(-H/T)."""
        excited = np.exp(-(self.levels - self.levels[0]) / self.temperature)
        return float(self.levels[0] - self.temperature * np.log(excited.sum()))

    def entropy(self) -> float:
        """S = - sum_m p_m ln p_m."""
        return float(scipy.special.entr(self.probabilities).sum())

    def susceptibility(self) -> np.ndarray:
        """(p_m - p_n) / (E_m - E_n), shape (dim, dim); -p_m / T for equal levels. It is symmetric and negative."""
        higher = np.maximum(self.probabilities[:, None], self.probabilities)
        distance = np.abs(self.levels[:, None] - self.levels) / self.temperature
        return higher * scipy.special.exprel(-distance) / -self.temperature

    def __repr__(self) -> str:
        size = f"{self.n_sites} spins" if self.n_sites else f"dimension {len(self.levels)}"
        return f"ThermalState({size}, temperature {self.temperature:g})"


def check_temperature(temperature: float) -> float:
    """`temperature` as a positive, finite number."""
    number = check_real(temperature, "temperature")
    if not 0 < temperature < np.inf:
        raise ValueError(
            f"Argument `temperature` must be positive and finite, but is {temperature}. At T = 0 use ExactDiagonalization."
        )
    return number


class GibbsState(AbstractSolver):
    r"""Thermal equilibrium at a temperature, exactly: rho = exp(-H/T) / Z.

    Spin networks and operator systems: by diagonalising all of H. A `HarmonicNetwork`: in closed form, from its normal
    modes (a mode of frequency omega has <pi^2> = omega^2 <x^2> = (hbar omega/2) coth(hbar omega/2T)), for whole batches;
    at hbar = 0 this is the classical Gibbs state with covariances T K^-1 and T M, its entropy that of the phase-space
    density in units of 2 pi.

    It minimises the free energy F = E - T S, which therefore is the `energy` of the equilibrium (the identity
    dF/dbeta = <C>_beta holds for it); `stats` has the mean energy and the entropy. Equilibrium propagation is exact for
    Gibbs states, degenerate levels included. Its limit beta -> 0 (`LinearResponse`) is the Kubo-Mori covariance

    .. math:: \frac{d\langle A \rangle}{d\beta} = \sum_{mn} \frac{p_m - p_n}{E_m - E_n} A_{mn} C_{nm}
              + \frac{\langle A \rangle \langle C \rangle}{T} ,

    with -p_m/T where E_m = E_n. It is -Cov(A, C)/T only where A or C commutes with H. For oscillators it is the
    derivative of the Gaussian's moments, by divided differences of the modes' variances.

    Args:
        temperature: T > 0, with k_B = 1.

    Raises (from `solve`):
        ValueError: more than 12 spins, or a dimension above 4096; an unbound network of oscillators. MemoryError: the
            matrices do not fit.

    Reference: R. Kubo, J. Phys. Soc. Jpn. 12, 570 (1957); H. Mori, Prog. Theor. Phys. 33, 423 (1965).

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> out = qp.linear_response(net, params, qp.ObservableCost(qp.Z(1)), solver=qp.GibbsState(0.5))
        >>> print(out.grad["g"].round(4))
        [-0.1516 -0.1618]
    """

    temperature: float = eqx.field(static=True)

    name: ClassVar[str] = "GibbsState"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, temperature: float):
        self.temperature = check_temperature(temperature)

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The Gibbs state. It is unique: `init` and `key` are not used."""
        if isinstance(system, HarmonicNetwork):
            return solve_dense(system, params, Occupation(system.hbar, self.temperature), GAUSSIAN_ADVICE)
        n_sites, matrix = _dense(system, params)
        levels, vectors = scipy.linalg.eigh(matrix)
        weights = np.exp(-(levels - levels[0]) / self.temperature)
        probabilities = weights / weights.sum()
        occupied = vectors[:, : np.count_nonzero(probabilities)]
        density = (occupied * probabilities[: occupied.shape[1]]) @ occupied.conj().T
        state = ThermalState(n_sites, self.temperature, levels, vectors, probabilities, density)
        violation = np.linalg.norm(matrix @ occupied - occupied * levels[: occupied.shape[1]], axis=0).max()
        gap = float(levels[1] - levels[0]) if len(levels) > 1 else np.inf
        return Equilibrium(
            state=state,
            energy=Estimate.exact(np.asarray(state.free_energy())),
            residual=np.asarray(violation / max(self.temperature, gap / 2)),
            gap=None,
            status=Status.OK if np.all(np.isfinite(density)) else Status.NOT_FINITE,
            stats={
                "method": "full diagonalisation",
                "mean_energy": float(probabilities @ levels),
                "entropy": state.entropy(),
                "level_spacing": gap,
            },
        )

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """The derivative of the density matrix along the term, measured by all forces."""
        if isinstance(system, HarmonicNetwork):
            occupation = Occupation(system.hbar, self.temperature)
            return respond_dense(system, params, equilibrium.state, term, occupation, tolerance)
        state: ThermalState = equilibrium.state
        vectors = state.vectors
        kicked = sum(
            w * (_sparse(op, state.n_sites) @ vectors) for w, op in zip(term.weights, term.observables, strict=True)
        )
        cost = vectors.conj().T @ kicked
        # <C> - C_00 vanishes with the thermal excitations: no difference of large numbers is divided by a small T
        shifts = np.diagonal(cost).real - cost[0, 0].real
        np.fill_diagonal(cost, shifts - state.probabilities @ shifts)
        change = vectors @ (state.susceptibility() * cost) @ vectors.conj().T
        if isinstance(system, OperatorSystem):
            grad = {name: _traces(change, 0, operators) for name, operators in system.terms}
        else:
            assert isinstance(system, AbstractSpinSystem)  # `solve` has refused the others
            grad = system.forces(_traces(change, state.n_sites, [op for _, ops in system.terms for op in ops]))
        finite = np.all(np.isfinite(change))
        return Response(Estimate.exact(grad), equilibrium.residual, Status.OK if finite else Status.NOT_FINITE, {})

    def default_scheme(self, free: Equilibrium, term: Any) -> Stencil | LinearResponse:
        """centered(beta), beta small against the temperature or half the level spacing, whichever is larger; linear
        response for oscillators, where it is closed-form."""
        if isinstance(free.state, GaussianState):
            return LinearResponse()
        scale = max(self.temperature, free.stats["level_spacing"] / 2)
        return balanced_nudge(float(free.residual), scale, float(np.max(term.norm_bound())))

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free phase: no starting point is needed."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """Batches of oscillator networks are one call; other systems go sample by sample."""
        return isinstance(system, HarmonicNetwork)

    def __repr__(self) -> str:
        return f"GibbsState(temperature={self.temperature:g})"


def _check_size(dim: int, n_sites: int) -> None:
    needed = MATRICES * 16 * dim**2
    if dim > MAX_DIM:
        what = f"{n_sites} spins" if n_sites else f"dimension {dim}"
        raise ValueError(
            f"GibbsState diagonalises H up to 12 spins (dimension {MAX_DIM}), but this system has {what}: that would "
            f"need {format_bytes(needed)}. Use fewer sites, or ExactDiagonalization where T is far below the gap."
        )
    check_memory(needed, f"The Gibbs state of a system of dimension {dim}", "Use fewer sites.")


def _dense(system: AbstractSystem, params: Params) -> tuple[int, np.ndarray]:
    """Number of sites (0: none) and H(theta) with inputs and nudges."""
    if isinstance(system, OperatorSystem):
        _check_size(system.dim, 0)
        return 0, system.matrix(params).toarray()
    if not isinstance(system, AbstractSpinSystem):
        raise wrong_system(system, "GibbsState", "spin networks, operator systems and harmonic networks")
    _check_size(1 << system.n_sites, system.n_sites)
    weighted = zip(system.strengths(params), system.operators(), strict=True)
    total = PauliSum((x, z, w * c) for w, operator in weighted for x, z, c in operator)
    return system.n_sites, total.to_dense(system.n_sites)


def _sparse(observable: Any, n_sites: int) -> sp.csr_array:
    if isinstance(observable, MatrixOperator):
        return observable.matrix
    if not isinstance(observable, PauliSum):
        raise TypeError(f"An observable must be a Pauli sum or a MatrixOperator, not {type(observable).__name__}.")
    if not n_sites:
        raise TypeError("This state has no sites: measure it with a MatrixOperator, not with a Pauli sum.")
    return observable.to_scipy(n_sites)


def _traces(matrix: np.ndarray, n_sites: int, observables: Sequence[Any]) -> np.ndarray:
    """Re tr(matrix O_k) of every observable."""
    values = np.zeros(len(observables))
    for k, observable in enumerate(observables):
        operator = _sparse(observable, n_sites).tocoo()
        values[k] = np.sum(operator.data * matrix[operator.col, operator.row]).real
    return values

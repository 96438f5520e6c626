"""Ground states of harmonic networks: Gaussian, exact, with every covariance that the forces need."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.memory import check_memory
from ..core.scheme import LinearResponse, Stencil, richardson
from ..core.solver import AbstractSolver, Equilibrium, Response
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from . import gaussian_dense, gaussian_sparse
from .gaussian_dense import Modes
from .gaussian_stability import refuse
from .gaussian_state import AbstractGaussianState, GaussianState
from .oscillators import HarmonicNetwork, QuadraticHamiltonian

FEW = 64
"""Coordinates in a cost up to which linear response is the default of large networks."""
WIDE_ADVICE = "Use centered or richardson: a nudged solve costs the same whatever the cost acts on."
DENSE_ADVICE = "Lower `dense_size`: the sparse method stores no full matrix."


class GaussianGroundState(AbstractSolver):
    """The ground state of a `HarmonicNetwork` and its linear response, in closed form.

    Up to `dense_size` coordinates one diagonalisation gives all covariances. Above it no n x n matrix is formed: the
    means come from a sparse factorisation, and the covariances on the springs from selected inverses at the poles of a
    rational approximation of K^(-1/2) (Hale, Higham & Trefethen 2008), relative error at most `tolerance`. The gap is
    hbar times the smallest normal-mode frequency. At hbar = 0 the state is the minimum of the elastic energy.

    A nudge bends the stiffness: beyond the strengths at which a ground state exists it is refused, with the limits.

    Args:
        tolerance: bound on the relative error of the rational approximation (large networks).
        dense_size: coordinates (nodes * components) up to which the dense method is used.
        memory: bytes that may be used; None takes 90 % of what is free (the container's limit included).

    Raises (from `solve`):
        ValueError: no ground state (floating nodes, negative stiffness, too strong a nudge).

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> pair = qp.HarmonicNetwork(2, [(0, 1)], trainable=("k", "kappa"))
        >>> ground = qp.equilibrate(pair, {"k": [1.5], "kappa": [1.0, 1.0]}, solver=qp.GaussianGroundState())
        >>> print(f"{float(ground.energy):.6f} {float(ground.gap):.6f}")  # omega = 1 and 2
        1.500000 1.000000
    """

    tolerance: float = eqx.field(static=True)
    dense_size: int = eqx.field(static=True)
    memory: int | None = eqx.field(static=True)

    name: ClassVar[str] = "GaussianGroundState"
    analytic: ClassVar[bool] = True
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(self, *, tolerance: float = 1e-12, dense_size: int = 200, memory: int | None = None):
        if not 1e-13 <= tolerance < 1:
            raise ValueError(f"Argument `tolerance` must lie between 1e-13 and 1, but is {tolerance}.")
        self.tolerance = float(tolerance)
        self.dense_size = check_count(dense_size, "dense_size", 0)
        self.memory = None if memory is None else check_count(memory, "memory")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The ground state; `init` and `key` are not used (there is one minimum, and nothing is random)."""
        if not isinstance(system, HarmonicNetwork):
            raise TypeError(f"GaussianGroundState solves harmonic networks, not {type(system).__name__}.")
        h = system.hamiltonian(params)
        dense = system.n_coordinates <= self.dense_size
        if any(np.iscomplexobj(strength) for _, strength in system.nudges):
            return self._solve_complex(system, params, h, dense)
        solve = self._solve_dense if dense else self._solve_sparse
        return solve(system, params, h)

    def _solve_dense(self, system: HarmonicNetwork, params: Params, h: QuadraticHamiltonian) -> Equilibrium:
        check_memory(
            64 * system.n_coordinates**2,
            f"A dense solve of {system.n_coordinates} coordinates",
            DENSE_ADVICE,
            self.memory,
        )
        if not gaussian_dense.is_bound(h):
            refuse(system, params)
        modes = Modes(h)
        stats = {"method": "dense", "omega_min": float(modes.omega[0]), "omega_max": float(modes.omega[-1])}
        return _equilibrium(system, params, h, gaussian_dense.ground_state(system, h, modes), modes.omega[0], stats)

    def _solve_sparse(self, system: HarmonicNetwork, params: Params, h: QuadraticHamiltonian) -> Equilibrium:
        k = gaussian_sparse.factored(h)
        if k is None:
            refuse(system, params)
        state, poles = gaussian_sparse.ground_state(system, h, k, self.tolerance)
        stats = {
            "method": "sparse",
            "omega_min": float(np.sqrt(k.low)),
            "poles": len(poles.shifts),
            "covariance_error": poles.error,
        }
        return _equilibrium(system, params, h, state, np.sqrt(k.low), stats, poles.error <= 10 * self.tolerance)

    def _solve_complex(
        self, system: HarmonicNetwork, params: Params, h: QuadraticHamiltonian, dense: bool
    ) -> Equilibrium:
        if not dense:
            raise ValueError(
                f"Complex nudges need the dense method, but this network has {system.n_coordinates} coordinates: use "
                f"centered or richardson, or raise `dense_size` (now {self.dense_size})."
            )
        if not gaussian_dense.is_bound(h):
            refuse(system, params)
        return _equilibrium(system, params, h, gaussian_dense.complex_state(system, h), None, {"method": "complex"})

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """d(means, covariances)/dbeta in closed form: the Daleckii-Krein formula, or one linear equation for every pole
        and every coordinate of the cost."""
        assert isinstance(system, HarmonicNetwork)  # `solve` has refused the others
        h, bent, state = system.hamiltonian(params), system.term_form(term), equilibrium.state
        if isinstance(state, GaussianState):
            change = gaussian_dense.response(system, h, state, bent)
        else:
            width = sum(len(gaussian_sparse.support(form)) for form in (bent.stiffness, bent.inverse_mass))
            needed = 8 * width * (8 * system.n_coordinates + 4 * len(system.edges) * system.components)
            check_memory(needed, f"The linear response to a cost on {width} coordinates", WIDE_ADVICE, self.memory)
            change = gaussian_sparse.response(system, h, state, bent)
        slope = bent.stiffness @ state.mean - bent.force
        residual = np.linalg.norm(h.stiffness @ change.mean + slope) / max(float(np.linalg.norm(slope)), 1e-300)
        status = Status.OK if residual <= max(10 * tolerance, 1e-9) else Status.UNCONVERGED
        if not np.isfinite(residual):
            status = Status.NOT_FINITE
        grad = system.force_change(params, state, change)
        return Response(Estimate.exact(grad), np.asarray(residual), status, {})

    def default_scheme(self, free: Equilibrium, term: Any) -> Stencil | LinearResponse:
        """Linear response, which is closed-form; for costs on many nodes of a large network richardson, with beta from
        the curvature of the cost against the softest mode."""
        state = free.state
        curvature = sum(
            abs(weight) * sum(abs(c) for monomial, c in observable if len(monomial) == 2 and monomial[0][0] == "R")
            for weight, observable in zip(term.weights, term.observables, strict=True)
        )
        touched = {
            v for observable in term.observables for monomial, _ in observable if len(monomial) == 2 for v in monomial
        }
        if isinstance(state, GaussianState) or len(touched) <= FEW or not curvature:
            return LinearResponse()
        return richardson(1e-3 * free.stats["omega_min"] ** 2 * float(np.min(state.masses)) / curvature)

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free phase: the solve is direct and needs no start."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """One sample at a time."""
        return False

    def __repr__(self) -> str:
        return f"GaussianGroundState(tolerance={self.tolerance:g}, dense_size={self.dense_size})"


def _equilibrium(
    system: HarmonicNetwork,
    params: Params,
    h: QuadraticHamiltonian,
    state: AbstractGaussianState,
    omega: float | None,
    stats: dict[str, Any],
    accurate: bool = True,
) -> Equilibrium:
    """Collect what is known; the residual is the net force ||K <r> - f|| on the means."""
    residual = np.asarray(np.linalg.norm(h.stiffness @ state.mean - h.force))
    scale = np.linalg.norm(abs(h.stiffness) @ np.abs(state.mean)) + np.linalg.norm(h.force)
    status = Status.OK if accurate and residual <= 1e-10 * scale else Status.UNCONVERGED
    energy = system.energy(params, state)
    if not np.all(np.isfinite(energy.mean)):
        status = Status.NOT_FINITE
    return Equilibrium(
        state=state,
        energy=energy,
        residual=residual,
        gap=np.asarray(system.hbar * omega) if system.hbar and omega is not None else None,
        status=status,
        stats=stats,
    )

"""Ground states of harmonic networks: Gaussian, exact, with every covariance that the forces need."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.graph import check_count
from ..core.memory import check_memory
from ..core.real import check_fraction
from ..core.scheme import LinearResponse, Stencil, richardson
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.system import AbstractSystem, Params
from . import gaussian_dense, gaussian_sparse
from .gaussian_equilibrium import bound_or_refused, collect, measured, respond_dense, solve_dense
from .gaussian_occupation import Occupation
from .gaussian_stability import refuse
from .gaussian_state import GaussianState
from .oscillators import HarmonicNetwork

FEW = 64
"""Coordinates in a cost up to which linear response is the default of large networks."""
WIDE_ADVICE = "Use centered or richardson: a nudged solve costs the same whatever the cost acts on."
DENSE_ADVICE = "Lower `dense_size`: the sparse method stores no full matrix."


class GaussianGroundState(AbstractSolver):
    """The ground state of a `HarmonicNetwork` and its linear response, in closed form.

    Up to `dense_size` coordinates one diagonalisation gives all covariances, and a batch is one call: samples that
    differ in forces only share it. Above it no n x n matrix is formed: the
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
        self.tolerance = check_fraction(tolerance, "tolerance", 1e-13)
        self.dense_size = check_count(dense_size, "dense_size", 0)
        self.memory = None if memory is None else check_count(memory, "memory")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The ground state; `init` and `key` are not used (there is one minimum, and nothing is random)."""
        if not isinstance(system, HarmonicNetwork):
            raise wrong_system(system, "GaussianGroundState", "harmonic networks")
        dense = system.n_coordinates <= self.dense_size
        if any(np.iscomplexobj(strength) for _, strength in system.nudges):
            return self._solve_complex(system, params, dense)
        if dense:
            return solve_dense(system, params, Occupation(system.hbar, 0.0), DENSE_ADVICE, self.memory)
        return self._solve_sparse(system, params)

    def _solve_sparse(self, system: HarmonicNetwork, params: Params) -> Equilibrium:
        h = system.hamiltonian(params)
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
        gap = np.asarray(system.hbar * np.sqrt(k.low)) if system.hbar else None
        accurate = poles.error <= 10 * self.tolerance
        return collect(h, state, system.energy(params, state).mean, gap, stats, accurate)

    def _solve_complex(self, system: HarmonicNetwork, params: Params, dense: bool) -> Equilibrium:
        if not dense:
            raise ValueError(
                f"Complex nudges need the dense method, but this network has {system.n_coordinates} coordinates: use "
                f"centered or richardson, or raise `dense_size` (now {self.dense_size})."
            )
        h = system.hamiltonian(params)
        bound_or_refused(system, params, h)
        state = gaussian_dense.complex_state(system, h)
        return collect(h, state, system.energy(params, state).mean, None, {"method": "complex"})

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """d(means, covariances)/dbeta in closed form: the Daleckii-Krein formula, or one linear equation for every pole
        and every coordinate of the cost."""
        assert isinstance(system, HarmonicNetwork)  # `solve` has refused the others
        state = equilibrium.state
        if isinstance(state, GaussianState):
            return respond_dense(system, params, state, term, Occupation(system.hbar, 0.0), tolerance)
        h, bent = system.hamiltonian(params), system.term_form(term)
        width = sum(len(gaussian_sparse.support(form)) for form in (bent.stiffness, bent.inverse_mass))
        needed = 8 * width * (8 * system.n_coordinates + 4 * len(system.edges) * system.components)
        check_memory(needed, f"The linear response to a cost on {width} coordinates", WIDE_ADVICE, self.memory)
        change = gaussian_sparse.response(system, h, state, bent)
        return measured(system, params, h, state, bent, change, tolerance)

    def default_scheme(self, free: Equilibrium, term: Any) -> Stencil | LinearResponse:
        """Linear response, which is closed-form; for costs on many nodes of a large network richardson, with beta from
        the curvature of the cost against the softest mode."""
        state = free.state
        if isinstance(state, GaussianState):
            return LinearResponse()
        curvature = sum(
            abs(weight) * sum(abs(c) for monomial, c in observable if len(monomial) == 2 and monomial[0][0] == "R")
            for weight, observable in zip(term.weights, term.observables, strict=True)
        )
        touched = {
            v for observable in term.observables for monomial, _ in observable if len(monomial) == 2 for v in monomial
        }
        if len(touched) <= FEW or not curvature:
            return LinearResponse()
        return richardson(1e-3 * free.stats["omega_min"] ** 2 * float(np.min(state.masses)) / curvature)

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free phase: the solve is direct and needs no start."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """Batches are one call below `dense_size` coordinates, and go sample by sample above it."""
        return isinstance(system, HarmonicNetwork) and system.n_coordinates <= self.dense_size

    def __repr__(self) -> str:
        return f"GaussianGroundState(tolerance={self.tolerance:g}, dense_size={self.dense_size})"

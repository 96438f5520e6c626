"""Exact diagonalisation: one eigenstate, its gap, linear response and complex nudges of spin and operator systems."""

from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.graph import check_count
from ..core.real import check_fraction
from ..core.scheme import LinearResponse, Stencil, balanced_nudge
from ..core.solver import AbstractSolver, Equilibrium, Response, check_start, wrong_system
from ..core.system import AbstractSystem, Params, replaced
from . import exact_levels, exact_matrix, exact_spins, holomorphic
from .batch import MAX_BITS
from .operators import OperatorSystem
from .spins import AbstractSpinSystem
from .states import BilinearState, PureState


class ExactDiagonalization(AbstractSolver):
    """Ground states, or any other level, to a residual of 1e-10, with their gap.

    Spins: matrix-free, float64. Up to 14 spins the kernel for batches of small systems is used (dense below 5), above
    it Lanczos without reorthogonalisation on a blocked, compiled H|psi>; the Hamiltonian is never stored. Operator
    systems: dense up to dimension 1024, Lanczos on the sparse matrix above. The gap comes from a second, deflated run,
    which sees exact degeneracies; nudged phases skip it.

    Equilibrium propagation is exact for every eigenstate that is not degenerate. With `level` = k > 0 the free phase is
    the k-th excited state (exactly degenerate levels counted one by one) and the nudged phases stay on its branch: the
    eigenstate whose overlap with the free one has a square above 1/2, else the status is `BRANCH_JUMP`. The gap is the
    distance to the *nearest* level, above or below. Dense up to dimension 1024; above it the levels below are found one
    after the other, so k should be small.

    Args:
        level: which eigenstate; 0 is the ground state.
        tolerance: bound on the residual ||H psi - E psi||, relative to max(1, |E|) above 14 spins.
        max_iterations: bound on the products H|psi> of one solve.
        memory: bytes that may be used; None takes 90 % of what is free (the container's limit included).
        threads: None uses all cores from 21 spins on and for batches.

    Raises (from `solve`):
        MemoryError: the vectors do not fit; before anything is allocated.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=8, edges=[(i, i + 1) for i in range(7)])
        >>> params = {"J": [1.0] * 7, "h": [0.0] * 8, "g": [1.0] * 8}
        >>> ground = qp.equilibrate(net, params, solver=qp.ExactDiagonalization())
        >>> print(f"{float(ground.energy):.10f}")  # 1 - 1/sin(pi/34) for the critical chain
        -9.8379514475
        >>> first = qp.equilibrate(net, params, solver=qp.ExactDiagonalization(level=1))
        >>> print(f"{float(first.energy) - float(ground.energy):.6f}")  # 4 sin(pi/34)
        0.369073

    Reference: B. Scellier, arXiv:2406.00879 (2024).
    """

    level: int = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    max_iterations: int = eqx.field(static=True)
    memory: int | None = eqx.field(static=True)
    threads: int | None = eqx.field(static=True)

    name: ClassVar[str] = "ExactDiagonalization"
    analytic: ClassVar[bool] = True
    responds: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False

    def __init__(
        self,
        *,
        level: int = 0,
        tolerance: float = 1e-10,
        max_iterations: int = 5000,
        memory: int | None = None,
        threads: int | None = None,
    ):
        self.level = check_count(level, "level", 0)
        self.tolerance = check_fraction(tolerance, "tolerance", 1e-14)
        self.max_iterations = check_count(max_iterations, "max_iterations")
        self.memory = None if memory is None else check_count(memory, "memory")
        self.threads = None if threads is None else check_count(threads, "threads")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The eigenstate asked for; `key` is not used (nothing is random)."""
        if not isinstance(system, AbstractSpinSystem | OperatorSystem):
            raise wrong_system(system, "ExactDiagonalization", "spin networks and operator systems")
        check_start(init, (PureState, BilinearState), "ExactDiagonalization")
        if any(np.iscomplexobj(strength) for _, strength in system.nudges):
            return holomorphic.solve(self, system, params, init)
        if self.level:
            return exact_levels.solve(self, system, params, init)
        if isinstance(system, OperatorSystem):
            return exact_matrix.solve(self, system, params, init)
        hamiltonian = system.hamiltonian(params)
        if hamiltonian.n_bits <= MAX_BITS:
            return exact_spins.solve_small(self, system, hamiltonian, init)
        return exact_spins.solve_large(self, system, hamiltonian, init)

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """The Sternheimer equation (H - E) x = -(C - <C>) psi, one solve for all parameters:
        d<O_k>/dbeta = 2 Re <psi|O_k|x>."""
        assert isinstance(system, AbstractSpinSystem | OperatorSystem)  # `solve` has refused the others
        if self.level:
            return exact_levels.respond(self, system, params, equilibrium, term, tolerance)
        if isinstance(system, OperatorSystem):
            return exact_matrix.respond(self, system, params, equilibrium, term, tolerance)
        return exact_spins.respond(self, system, params, equilibrium, term, tolerance)

    def default_scheme(self, free: Equilibrium, term: Any) -> Stencil | LinearResponse:
        """centered(beta) with beta where truncation and residual errors meet; see `balanced_nudge`."""
        residual, gap = free.worst()
        return balanced_nudge(residual, gap, float(np.max(term.norm_bound())))

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The polynomial through the states solved so far (signs aligned), e.g. 2 psi_0 - psi_beta for -beta."""
        free = phases[0.0]
        known = [b for b in phases if np.iscomplexobj(strength) or not np.iscomplexobj(b)]
        weights = [np.prod([(strength - c) / (b - c) for c in known if c != b]) for b in known]
        reference = free.state.amplitudes
        amplitudes: Any = 0.0
        for b, weight in zip(known, weights, strict=True):
            psi = phases[b].state.amplitudes
            overlap = np.sum(np.conj(reference) * psi, axis=-1, keepdims=True)
            amplitudes = amplitudes + weight * psi * np.conj(overlap / np.maximum(np.abs(overlap), 1e-300))
        made = BilinearState if np.iscomplexobj(strength) else PureState
        norm = np.linalg.norm(amplitudes, axis=-1, keepdims=True)
        return replaced(free, state=made(free.state.n_sites, amplitudes / norm))

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """Batches of ground states of up to 14 spins (13 where H is complex) are one call; others go one by one."""
        return not self.level and isinstance(system, AbstractSpinSystem) and system.n_bits <= MAX_BITS

    def __repr__(self) -> str:
        level = f"level={self.level}, " if self.level else ""
        return f"ExactDiagonalization({level}tolerance={self.tolerance:g})"

"""Ground states as matrix product states: long chains and narrow lattices with any couplings."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.real import check_fraction
from ..core.scheme import Stencil, richardson
from ..core.solver import AbstractSolver, Equilibrium, Response, wrong_system
from ..core.status import Status
from ..core.system import AbstractSystem, Params
from .mps_operator import StringSum, string_sum
from .mps_search import Level, Search, SearchSettings
from .mps_start import chain_order
from .mps_state import MatrixProductState
from .spins import AbstractSpinSystem

MIN_SITES = 3
"""Two-site sweeps need a site more than two."""
SCHMIDT_CUT = 0.1
"""Smallest Schmidt value kept, in units of the tolerance: the residual comes out at about a tenth of the tolerance."""
LARGEST_NUDGE = 0.05
"""Of the gap, for the fourth-order stencil."""
ROUNDING = 1e-15
"""Of energies and forces, relative to the energy."""


class MatrixProductGroundState(AbstractSolver):
    r"""Ground states of spin networks by the density-matrix renormalisation group (two-site DMRG, by TeNPy).

    For any Pauli strings at any distance: chains of hundreds of spins with all fields, and narrow two-dimensional
    lattices. The cost grows with the entanglement, sum chi^3 over the bonds, where chi grows exponentially with the
    width of a lattice. The sites are laid along a chain as they are numbered, or in reverse Cuthill-McKee order where
    fewer couplings cross a bond (`state.order`, `stats["order"]`). No symmetry is conserved: nudges break them.

    How well a state is known:

    - `stats["energy_variance"]` = <H^2> - <H>^2, from all ranges of H and without cancellation. Its root is the
      distance ||H psi - E psi|| to an eigenstate; relative to max(1, |E|) it must not exceed `tolerance`.
    - `residual` = drift gap/2 + variance/gap, so that forces are known to 2 residual/gap. The drift is the largest change
      of a one-site expectation value by the last sweep, `stats["drift"]`. The variance says what truncation costs:
      E - E_0 <= variance/gap (Temple). Discarded Schmidt states are orthogonal on both sides of their bond, so that
      forces, like the energy, are wrong in second order only.
    - `gap` is the energy of a second state, orthogonal to the first, of bond dimension at most `gap_bond`. It bounds
      the true gap *from above* and is usually close. It is sought where the other half of a broken symmetry, or its
      other superposition, is found: a ferromagnet in a weak transverse field is `degenerate`, although each of its
      states is perfect. Where the second state is lower than the first, the search begins anew from it.

    Nudged runs begin at the free state and skip the gap; a state that overlaps with it by less than half is a branch
    jump.

    Args:
        max_bond: largest bond dimension.
        tolerance: bound on ||H psi - E psi|| / max(1, |E|). Schmidt values below a tenth of it are discarded.
        gap_bond: largest bond dimension of the second state; None does not look for it, and then no degeneracy is seen.
        max_sweeps: at most so many sweeps, each to the right end and back.
        order: the site at each position of the chain; None chooses.

    Raises (from `solve`):
        ImportError: TeNPy is missing; `pip install "qeqprop[mps]"`.
        ValueError: fewer than 3 spins, a batch, or an order that is no permutation of the sites.
        MemoryError: states of the largest bond dimension do not fit.

    Reference: S. R. White, Phys. Rev. Lett. 69, 2863 (1992); U. Schollwoeck, Ann. Phys. 326, 96 (2011); J. Hauschild et
    al., SciPost Phys. Codebases 41 (2024).

    Example:
        >>> import numpy as np, qeqprop as qp
        >>> n = 16
        >>> chain = qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])
        >>> params = {"J": np.ones(n - 1), "h": np.full(n, 0.1), "g": np.full(n, 1.2)}
        >>> solver = qp.quantum.MatrixProductGroundState()
        >>> out = qp.ep_gradient(chain, params, qp.ObservableCost(qp.Z(8)), solver=solver)
        >>> print(out.status, out.grad["h"][7:10].round(4))
        ok [0.249  0.4626 0.252 ]
    """

    max_bond: int = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    gap_bond: int | None = eqx.field(static=True)
    max_sweeps: int = eqx.field(static=True)
    order: tuple[int, ...] | None = eqx.field(static=True)

    name: ClassVar[str] = "MatrixProductGroundState"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __init__(
        self,
        *,
        max_bond: int = 256,
        tolerance: float = 1e-8,
        gap_bond: int | None = 32,
        max_sweeps: int = 30,
        order: Sequence[int] | None = None,
    ):
        self.max_bond = check_count(max_bond, "max_bond")
        self.tolerance = check_fraction(tolerance, "tolerance", 1e-12)
        self.gap_bond = None if gap_bond is None else check_count(gap_bond, "gap_bond")
        self.max_sweeps = check_count(max_sweeps, "max_sweeps")
        self.order = None if order is None else tuple(check_count(site, "order", 0) for site in order)

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The ground state; a nudged one from `init`, in its order. `key` is not used (nothing is random)."""
        if not isinstance(system, AbstractSpinSystem):
            raise wrong_system(system, self.name, "spin networks")
        self._check_size(system)
        start = None if init is None else _check_start(init, system.n_sites)
        order, choice = self._order(system) if start is None else (start.order, "as the initial state")
        settings = SearchSettings(self.max_bond, SCHMIDT_CUT * self.tolerance, self.max_sweeps, self.gap_bond)
        search = Search(system.operators(), system.strengths(params), order, settings)
        if start is not None and init is not None and system.nudges:
            known = init.worst()[1]
            scale = init.stats["energy_scale"] if known is None else known
            enough = self.tolerance * max(1.0, abs(float(init.energy)))
            level, gap = search.nudged(start, _nudge_strings(system, order), scale, enough), None
            overlap = float(level.state.overlap(start))
        else:
            level, gap = search.lowest(start)
            overlap, known = None, gap
        scale = search.energy_scale(level) if known is None else known
        # E - E_0 <= norm^2/gap; and an eigenvalue is within `norm` of E, whatever the gap
        cost = level.norm**2 / scale if scale > level.norm else level.norm
        residual = level.drift * scale / 2 + cost + ROUNDING * max(1.0, abs(level.energy))
        stats: dict[str, Any] = {
            "method": "two-site DMRG (TeNPy)",
            "order": choice,
            "sweeps": level.sweeps,
            "bond_dimension": int(max(level.state.bond_dimensions)),
            "truncation_error": level.truncation_error,
            "energy_variance": level.norm**2,
            "drift": level.drift,
            "energy_scale": search.energy_scale(level),
        }
        return Equilibrium(
            state=level.state,
            energy=Estimate.exact(np.asarray(level.energy)),
            residual=np.asarray(residual),
            gap=None if gap is None else np.asarray(gap),
            status=self._status(level, gap, search.largest, overlap),
            stats=stats if overlap is None else stats | {"overlap": overlap},
        )

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Not available."""
        raise ValueError(f"{self.name} has no linear response: use a stencil such as richardson(beta).")

    def default_scheme(self, free: Equilibrium, term: Any) -> Stencil:
        """richardson(beta) with beta = (residual/gap)^(1/5) gap/||C||, where truncation and residual errors meet.

        The forces are known so well that the fourth order pays: its nudges are stronger and amplify less. Without a gap
        the energy per site takes its place.
        """
        residual, gap = free.worst()
        scale = max(free.stats["energy_scale"] if gap is None else gap, 1e-12)
        norm = float(np.max(term.norm_bound())) or 1.0
        return richardson(min((residual / scale) ** 0.2, LARGEST_NUDGE) * scale / norm)

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free phase."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """Batches go sample by sample."""
        return False

    def _check_size(self, system: AbstractSpinSystem) -> None:
        n = system.n_sites
        if n < MIN_SITES:
            raise ValueError(f"{self.name} needs at least {MIN_SITES} spins, but has {n}: use ExactDiagonalization.")
        if system.batch_size is not None:
            raise ValueError(f"{self.name} solves one sample at a time, but the batch has {system.batch_size}.")
        if self.order is not None and sorted(self.order) != list(range(n)):
            raise ValueError(f"Argument `order` must be a permutation of the sites 0 to {n - 1}, but is {self.order}.")

    def _order(self, system: AbstractSpinSystem) -> tuple[tuple[int, ...], str]:
        if self.order is not None:
            return self.order, "given"
        order = chain_order(system.operators(), system.n_sites)
        return order, "as numbered" if order == tuple(range(system.n_sites)) else "reverse Cuthill-McKee"

    def _status(self, level: Level, gap: float | None, largest: float, overlap: float | None) -> Status:
        """The worst that is wrong.

        A state that is known to `tolerance` may hold a part of another one, see `exact_spins.status_of`; and truncation,
        which lowers the entropy, chooses among states that are closer in energy than it costs.
        """
        if not np.isfinite(level.norm):
            return Status.NOT_FINITE
        if level.norm > self.tolerance * max(1.0, abs(level.energy)) or level.drift > self.tolerance:
            return Status.UNCONVERGED
        mixed = max(level.drift, 0.01 * self.tolerance)
        resolved = max(np.cbrt(1e4 * mixed**2 * largest**3), 100 * level.norm**2 / max(largest, 1e-300), 1e-9 * largest)
        if gap is not None and gap <= resolved:
            return Status.DEGENERATE
        if overlap is not None and overlap**2 < 0.5:
            return Status.BRANCH_JUMP
        return Status.OK

    def __repr__(self) -> str:
        return f"{self.name}(max_bond={self.max_bond}, tolerance={self.tolerance:g})"


def _nudge_strings(system: AbstractSpinSystem, order: Sequence[int]) -> StringSum:
    observables = [observable for term, _ in system.nudges for observable in term.observables]
    strengths = [np.real(strength) * term.weights for term, strength in system.nudges]
    return string_sum(observables, np.concatenate(strengths), order)


def _check_start(init: Equilibrium, n_sites: int) -> MatrixProductState:
    state = init.state
    if not isinstance(state, MatrixProductState) or state.n_sites != n_sites:
        raise TypeError(f"Argument `init` must hold a MatrixProductState of {n_sites} spins, but holds {state!r}.")
    return state

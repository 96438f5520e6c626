"""The lowest level of one Hamiltonian among matrix product states, and the next one that tells whether it is alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core.memory import check_memory
from .mps_dmrg import DMRG
from .mps_operator import StringSum, matrix_product_operator, string_sum
from .mps_residual import residual_norm
from .mps_start import local_operator, product_start, spinors
from .mps_state import MatrixProductState
from .pauli import PauliSum

COARSE_SWEEPS, COARSE_BOND, COARSE_CUT = 2, 32, 1e-5
"""First sweeps of a cold start, with few states and noise (White, Phys. Rev. B 72, 180403 (2005))."""
SECOND_SWEEPS = 8
"""Most sweeps towards the second state."""
SEARCHES = 3
"""How often a second state is sought; where it turns out to be the lower one, the search begins anew from it."""
KICKS = 4
"""How often far-reaching nudges are put into the start of a nudged run."""
ROUNDING = 1e-12
"""Of the energies, relative."""
KRYLOV = 24
"""Two-site vectors that the eigensolver holds at a time."""


class SearchSettings(NamedTuple):
    """Largest bond dimension, smallest Schmidt value, most sweeps, and the bond dimension of the second state."""

    max_bond: int
    svd_min: float
    max_sweeps: int
    gap_bond: int | None


class Level(NamedTuple):
    """A state and how well it is known.

    Attributes:
        energy: <H>.
        norm: ||H psi - E psi||, the root of the energy variance.
        state, sweeps, truncation_error, drift: see `Sweeps`.
    """

    energy: float
    norm: float
    state: MatrixProductState
    sweeps: int
    truncation_error: float
    drift: float


class Search:
    """Everything about one Hamiltonian.

    Args:
        operators, strengths: H = sum_k strengths[k] * operators[k].
        order: the site at each position of the chain.
        settings: see `SearchSettings`.
    """

    def __init__(
        self, operators: Sequence[PauliSum], strengths: np.ndarray, order: Sequence[int], settings: SearchSettings
    ):
        self.h: StringSum = string_sum(operators, strengths, order)
        self.order, self.settings = tuple(order), settings
        self.operator = matrix_product_operator(self.h)
        self._check_memory()
        self.engine = DMRG(self.operator, order)

    @property
    def largest(self) -> float:
        """The largest coefficient: the scale against which a gap vanishes."""
        return float(np.abs(self.h.coefficients).max(initial=0.0))

    def energy_scale(self, level: Level) -> float:
        """The energy per site, without the constant."""
        return max(abs(level.energy - self.h.constant) / len(self.order), 1e-300)

    def follow(self, start: MatrixProductState) -> Level:
        """The state that sweeps lead to from `start`."""
        settings = self.settings
        run = self.engine.minimise(
            self._cast(start), max_bond=settings.max_bond, svd_min=settings.svd_min, max_sweeps=settings.max_sweeps
        )
        return Level(self._energy(run.state), residual_norm(run.state, self.operator), *run)

    def nudged(self, start: MatrixProductState, nudge: StringSum, scale: float, enough: float) -> Level:
        """The state that sweeps lead to from the free one; `enough` is the norm at which it is known.

        Sweeps over pairs of neighbours see the mean field of a string that reaches farther, but never find the states in
        which both its ends are excited. Those are put into the start, roughly as first-order perturbation theory has
        them, (1 - C/scale) psi, and once more where the answer spreads.
        """
        places = [np.flatnonzero(letters) for letters in nudge.letters]
        far = np.array([place[-1] - place[0] > 1 for place in places], dtype=bool)
        if not far.any():
            return self.follow(start)
        kick = StringSum(nudge.letters[far], -nudge.coefficients[far] / scale, 0.0)
        kicked, most = matrix_product_operator(kick, shift=1.0), self.settings.max_bond
        level = self.follow(start.applied(kicked).truncated(most))
        for _ in range(KICKS - 1):
            if level.norm <= enough:
                break
            again = self.follow(level.state.applied(kicked).truncated(most))
            if again.norm > 0.5 * level.norm:
                break
            level = again
        return level

    def lowest(self, start: MatrixProductState | None) -> tuple[Level, float | None]:
        """The ground state and an upper bound of its gap."""
        bloch = product_start(self.h)
        level = self.follow(self._coarse(bloch) if start is None else start)
        if self.settings.gap_bond is None:
            return level, None
        for _ in range(SEARCHES):
            second = self._second(level.state, bloch, self.settings.gap_bond)
            gap = self._gap(level, second)
            if gap >= -ROUNDING * max(1.0, abs(level.energy)):
                break
            level = self.follow(second)
        return level, max(gap, 0.0)

    def _coarse(self, bloch: np.ndarray) -> MatrixProductState:
        start, bond = self._product(bloch), min(COARSE_BOND, self.settings.max_bond)
        run = self.engine.minimise(start, max_bond=bond, svd_min=COARSE_CUT, max_sweeps=COARSE_SWEEPS, noise=True)
        return run.state

    def _second(self, state: MatrixProductState, bloch: np.ndarray, bond: int) -> MatrixProductState:
        """A low state orthogonal to `state`.

        It is sought from a sum of two: the product of all spins turned round, which leads to the other half of a broken
        symmetry; and (sum_i b_i . sigma_i) psi with the Bloch vectors b of the best product state. This order parameter
        turns the symmetric superposition of two halves into the antisymmetric one, and else makes single flips.
        """
        # the part along `state` is projected to the eigenvalue 0, which must lie above all levels that are sought
        below = matrix_product_operator(self.h, shift=-float(np.abs(self.h.coefficients).sum()))
        flips = matrix_product_operator(local_operator(bloch))
        opposite = self._product(-state.bloch_vectors()[list(self.order)])
        start = state.applied(flips).truncated(max(bond - 1, 1)).plus(opposite)
        engine = DMRG(below, self.order)
        return engine.minimise(
            self._cast(start), max_bond=bond, svd_min=COARSE_CUT, max_sweeps=SECOND_SWEEPS, orthogonal_to=[state]
        ).state

    def _gap(self, level: Level, second: MatrixProductState) -> float:
        """Of a state a psi + b phi with phi orthogonal to psi the energy is E + |b|^2 (E_phi - E)."""
        distance = 1 - float(level.state.overlap(second)) ** 2
        return (self._energy(second) - level.energy) / max(distance, 1e-12)

    def _energy(self, state: MatrixProductState) -> float:
        return self.h.constant + float(self.h.coefficients @ state.string_moments(self.h.letters))

    def _product(self, bloch: np.ndarray) -> MatrixProductState:
        return MatrixProductState.product(spinors(bloch, real=self.h.is_real), self.order)

    def _cast(self, state: MatrixProductState) -> MatrixProductState:
        """Complex where H is: TeNPy keeps the type of the state."""
        if self.h.is_real:
            return state
        return MatrixProductState(state.order, tuple(t.astype(complex) for t in state.tensors), state.schmidt)

    def _check_memory(self) -> None:
        n, widest = len(self.order), max(W.shape[0] for W in self.operator)
        bond = min(self.settings.max_bond, 2 ** (n // 2))
        entries = bond**2 * (n * (widest + 2) + 4 * KRYLOV)
        what = f"A matrix product state of {n} spins with bond dimension {bond} and its environments"
        advice = "Lower `max_bond`: the entanglement may need less."
        check_memory(entries * self.operator[0].dtype.itemsize, what, advice)

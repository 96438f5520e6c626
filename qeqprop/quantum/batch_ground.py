"""Ground states of a few samples with one thread: Lanczos, Newton steps, and the gap that certifies them."""

import numpy as np
from numpy.typing import NDArray

from .batch_kernels import aligned, defect_range
from .batch_lanczos import EXCITATION, GIVEN, KRYLOV_DIMENSION, PERTURBATIVE, allocate_lanczos, lowest_range
from .batch_plan import BatchPlan
from .batch_response import allocate_response, respond_range

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

HANDOVER = 3e-6  # residual over sum |g| at which a Newton step takes over from Lanczos, and mostly finishes
HANDOVER_BITS = 6  # below it Newton steps would not run on half of the amplitudes
ROUNDING = 1e-14
STAGNATION = 0.95  # a pass that leaves more of the residual than this is the last one
GAP_TOLERANCE = 1e-3  # residual over gap; at 1e-2 one run in 200 stops at the second excitation
GAP_PASSES = 8
WRONG_SECTORS = 3  # states below "the ground state" that we follow before giving up


class GroundStates:
    """Solver of one task: `solve` turns the starts in `vector (B, N)` into ground states, `certify` finds their gaps.

    Every step runs over the `active` samples; the others are left as they are.
    """

    def __init__(self, plan: BatchPlan, coefs: Array, vector: Array, tol: float, max_iterations: int) -> None:
        self.plan, self.coefs, self.vector = plan, coefs, vector
        self.tol, self.max_iterations = float(tol), int(max_iterations)
        batch = coefs.shape[0]
        self.energy, self.residual = np.zeros(batch), np.full(batch, np.inf)
        self.products = np.zeros(batch, dtype=np.int64)
        self.flip_width = np.abs(coefs[:, plan.groups.flip_term]).sum(axis=1)
        self._lanczos = allocate_lanczos(plan.groups, plan.n_bits)
        self._response = allocate_response(plan.groups, plan.n_bits)
        self._defect_work = aligned(2, plan.dimension)
        self._spent = np.zeros(batch, dtype=np.int64)
        self._x, self._defect = np.empty_like(vector), np.empty_like(vector)
        self._nothing, self._no_step = np.empty((0, *vector.shape)), np.empty((0, plan.dimension))

    def solve(self, cold: bool) -> None:
        """Energies, residuals and ground states of all samples, from `vector` unless `cold`."""
        self._relax(np.ones(self.energy.shape, dtype=np.bool_), PERTURBATIVE if cold else GIVEN)

    def _relax(self, active: Mask, kind: int) -> None:
        """Passes of Lanczos and Newton steps, until converged, out of budget, or stagnating at rounding level."""
        newton = self.plan.flips_only and self.plan.n_bits >= HANDOVER_BITS
        while active.any():
            before = self.residual.copy()
            handover = HANDOVER * self.flip_width if newton else np.zeros_like(before)
            goal = np.maximum(0.5 * self.tol, handover)
            self._lowest(active, self._nothing, kind, goal, 0.0, self._left(), self.vector, self.energy)
            self.products[active] += self._spent[active]
            self._measure(active, self._no_step)
            self._newton(active & (self.residual < 10.0 * handover))
            active = active & self._undone() & (self.residual < STAGNATION * before)
            kind, newton = GIVEN, False

    def certify(self, realified: bool) -> Array:
        """`E_1 - E_0`; a state found below "E_0" starts another round."""
        gap = np.full(self.energy.shape, np.nan)
        active = np.ones(gap.shape, dtype=np.bool_)
        excited, level = np.empty_like(self.vector), np.empty_like(gap)
        for _ in range(WRONG_SECTORS + 1):
            deflated = np.stack([self.vector, partner_of(self.vector)]) if realified else self.vector[None]
            self._excite(active, deflated, excited, level)
            gap[active] = level[active] - self.energy[active]
            active = active & (gap < -10.0 * self.residual - ROUNDING * np.abs(self.energy))
            active = active & (self.products < self.max_iterations)
            if not active.any():
                break
            self.vector[active], self.residual[active] = excited[active], np.inf
            self._relax(active, GIVEN)
        return gap

    def _excite(self, active: Mask, deflated: Array, x: Array, level: Array) -> None:
        """Lowest levels in the complement of `deflated`, to `GAP_TOLERANCE`; a pass that fills its basis goes on."""
        goal, budget = np.full(level.shape, self.tol), np.full(level.shape, KRYLOV_DIMENSION)
        kind = EXCITATION
        for _ in range(GAP_PASSES):
            self._lowest(active, deflated, kind, goal, GAP_TOLERANCE, budget, x, level)
            active, kind = active & (self._spent == KRYLOV_DIMENSION), GIVEN
            if not active.any():
                break

    def _newton(self, active: Mask) -> None:
        """Newton steps on the Rayleigh quotient, `(H - E) x = -(H - E) psi`: residual over gap to its third power."""
        active = active & self._undone()
        while active.any():
            before = self.residual.copy()
            # Residual over gap, for a gap of a tenth of the width.
            loss = 10.0 * before / np.where(active, self.flip_width, 1.0)
            goal = np.maximum(0.3 * self.tol, np.minimum(0.1, loss**2) * before)
            psi, groups = self.vector, self.plan.groups
            scratch = np.empty_like(before)
            respond_range(
                groups, self.coefs, active, self.energy, psi[None], self._defect, goal, self._left(), self._response,
                self._x, scratch, self._spent,
            )  # fmt: skip
            self._measure(active, self._x)
            self.products[active] += self._spent[active] + 1
            active = active & self._undone() & (self.residual < 0.3 * before)

    def _lowest(
        self,
        active: Mask,
        deflated: Array,
        kind: int,
        atol: Array,
        rtol: float,
        budget: NDArray[np.int64],
        x: Array,
        theta: Array,
    ) -> None:
        """Lanczos in the complement of `deflated`; the reference of `rtol` is the present energy."""
        lowest_range(
            self.plan.groups, self.coefs, active, deflated, kind, atol, rtol, self.energy, budget, self._lanczos,
            x, theta, self._spent,
        )  # fmt: skip

    def _measure(self, active: Mask, step: Array) -> None:
        """Energy, true residual and defect of `vector`, after a step."""
        defect_range(
            self.plan.groups, self.coefs, active, step, self._lanczos.h, self._defect_work, self.vector, self.energy,
            self.residual, self._defect,
        )  # fmt: skip

    def _left(self) -> NDArray[np.int64]:
        return self.max_iterations - self.products

    def _undone(self) -> Mask:
        return (self.residual > self.tol) & (self.products < self.max_iterations)


def partner_of(psi: Array) -> Array:
    """`J psi`: i times the complex state whose real and imaginary parts are the halves of the last axis."""
    half = psi.shape[-1] // 2
    return np.concatenate([-psi[..., half:], psi[..., :half]], axis=-1)

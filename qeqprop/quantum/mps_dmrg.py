"""Two-site DMRG by TeNPy: the only file that imports it.

No symmetry is conserved: a nudge by Z breaks the parity of a transverse-field network, and the nudged state must be
reachable from the free one. TeNPy's log messages and warnings are silenced; what they say is judged from the state
itself, by its residual.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.extras import extra_module
from .mps_state import MatrixProductState

DRIFT = 1e-2
"""Change of local expectation values at which sweeps end, in units of the smallest Schmidt value."""


class Sweeps(NamedTuple):
    """What a run of DMRG made.

    Attributes:
        state: normalised.
        sweeps: how many there were.
        truncation_error: largest weight discarded at a bond in the last sweep.
        drift: largest change of a component of a Bloch vector by the last sweep.
    """

    state: MatrixProductState
    sweeps: int
    truncation_error: float
    drift: float


class DMRG:
    """TeNPy's model and engine for one Hamiltonian.

    Args:
        operator: tensors of `matrix_product_operator`.
        order: the site at each position.

    Raises:
        ImportError: TeNPy is not installed.
    """

    def __init__(self, operator: Sequence[np.ndarray], order: Sequence[int]):
        self.order = tuple(order)
        with quiet():
            tenpy = extra_module("tenpy", "A matrix product state", "TeNPy", "mps")
            n = len(operator)
            site = tenpy.SpinHalfSite(conserve=None, sort_charge=False)
            mpo = tenpy.MPO.from_Wflat(
                [site] * n,
                [W.transpose(2, 3, 0, 1) for W in operator],
                IdL=[0] * n + [None],
                IdR=[None] + [-1] * n,
                unit_cell_width=n,
            )
            self.model = tenpy.MPOModel(tenpy.Chain(n, site, bc_MPS="finite"), mpo)
        self.tenpy = tenpy

    def minimise(
        self,
        start: MatrixProductState,
        *,
        max_bond: int,
        svd_min: float,
        max_sweeps: int,
        noise: bool = False,
        orthogonal_to: Sequence[MatrixProductState] = (),
    ) -> Sweeps:
        """Sweep from `start` until entanglement, energy and Bloch vectors stand still, as far as truncation lets them.

        Args:
            start: where to begin.
            max_bond: largest bond dimension.
            svd_min: smaller Schmidt values are discarded.
            max_sweeps: at most so many, each to the right end and back.
            noise: mix in some of H psi, so that a start without quantum fluctuations is left.
            orthogonal_to: states of the same order to stay orthogonal to; H must have no positive levels then.
        """
        options: dict[str, Any] = {
            "trunc_params": {"chi_max": max_bond, "svd_min": svd_min, "trunc_cut": None},
            "combine": True,
            "diag_method": "lanczos",
            "lanczos_params": {"P_tol": 0.05 * svd_min**2},  # of the squared error; loosened by TeNPy to what is cut
            "mixer": noise,
            "norm_tol": None,  # `MatrixProductState.canonical` follows
        }
        if noise:
            options["mixer_params"] = {"amplitude": 1e-4, "decay": 4.0, "disable_after": max_sweeps - 1}
        with quiet(), self.tenpy.tools.optimization.temporary_level("skip_arg_checks"):  # a third of the time, else
            psi = self._to_tenpy(start)
            engine = self.tenpy.TwoSiteDMRGEngine(
                psi, self.model, options, orthogonal_to=[self._to_tenpy(other) for other in orthogonal_to]
            )
            engine.pre_run_initialize()
            state, drifts = start, [np.inf]
            for _ in range(max_sweeps):
                engine.run_iteration()
                if engine.mixer is not None:
                    continue
                before, state = state, self._from_tenpy(psi)
                drifts.append(float(np.max(np.abs(state.bloch_vectors() - before.bloch_vectors()))))
                settled = drifts[-1] <= DRIFT * svd_min or drifts[-1] > 0.5 * drifts[-2]
                if settled and _stands_still(engine.sweep_stats, svd_min):
                    break
            engine.post_run_cleanup()
            if noise:
                state = self._from_tenpy(psi)
            engine.options.touch(*engine.options.unused)
        truncation_error = engine.sweep_stats["max_trunc_err"][-1]
        return Sweeps(state, int(engine.sweeps), float(truncation_error), drifts[-1])

    def _to_tenpy(self, state: MatrixProductState) -> Any:
        sites = self.model.lat.mps_sites()
        tensors = [tensor.transpose(1, 0, 2) for tensor in state.tensors]
        return self.tenpy.MPS.from_Bflat(sites, tensors, [*state.schmidt, np.ones(1)], unit_cell_width=len(sites))

    def _from_tenpy(self, psi: Any) -> MatrixProductState:
        tensors = [psi.get_B(k, "B").itranspose(["vL", "p", "vR"]).to_ndarray() for k in range(psi.L)]
        return MatrixProductState.canonical(tensors, self.order)


def _stands_still(stats: dict[str, list[float]], svd_min: float) -> bool:
    """Whether the last sweep changed the entropy and the energy by no more than what it cut.

    The entropy is of first order in the error of the state, the energy of second; a truncation by the weight w moves
    them by about sqrt(w) and w. What a symmetry of the state forbids, as the other parity, changes both in second order:
    that is left to the Bloch vectors.
    """
    energy, weight = max(1.0, abs(stats["E"][-1])), stats["max_trunc_err"][-1]
    entropy_noise = max(svd_min, 0.1 * np.sqrt(weight))
    energy_noise = energy * max(1e-12, 10 * svd_min**2, 10 * weight)
    return bool(abs(stats["Delta_S"][-1]) <= entropy_noise and abs(stats["Delta_E"][-1]) <= energy_noise)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No log message and no warning of TeNPy's."""
    logger = logging.getLogger("tenpy")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

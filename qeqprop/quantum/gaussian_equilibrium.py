"""Gaussian states as equilibria: what a dense solve reports, at T = 0 and above, and the response to a nudge."""

from typing import Any

import numpy as np

from ..core.estimate import Estimate
from ..core.memory import check_memory
from ..core.solver import Equilibrium, Response
from ..core.status import Status
from ..core.system import Params
from . import gaussian_dense
from .gaussian_dense import Modes
from .gaussian_hamiltonian import QuadraticHamiltonian
from .gaussian_occupation import Occupation
from .gaussian_stability import refuse
from .gaussian_state import AbstractGaussianState
from .oscillators import HarmonicNetwork, Moments


def solve_dense(
    network: HarmonicNetwork, params: Params, occupation: Occupation, advice: str, memory: int | None = None
) -> Equilibrium:
    """The equilibrium of one network or of a batch, by diagonalisation.

    Its energy is <H> - T S; at a temperature both parts are in the stats, and there is no gap that a nudge could close.

    Raises:
        MemoryError: the matrices do not fit; `advice` says what to do. ValueError: a sample has no equilibrium.
    """
    samples = "" if network.batch_size is None else f" and {network.batch_size} samples"
    what = f"A dense solve of {network.n_coordinates} coordinates{samples}"
    check_memory(gaussian_dense.bytes_needed(network), what, advice, memory)
    h = network.hamiltonian(params)
    bound_or_refused(network, params, h)
    modes = Modes(h)
    omega, state = modes.omega, gaussian_dense.equilibrium_state(network, h, modes, occupation)
    stats: dict[str, Any] = {"method": "dense", "omega_min": float(omega.min()), "omega_max": float(omega.max())}
    energy = network.energy(params, state).mean
    if not occupation.temperature:
        spacing = network.hbar * omega[..., 0] if network.hbar else None
        return collect(h, state, energy, spacing, stats)
    entropy = np.broadcast_to(occupation.entropy(omega).sum(axis=-1), energy.shape)
    stats |= {"mean_energy": energy, "entropy": entropy}
    return collect(h, state, energy - occupation.temperature * entropy, None, stats)


def bound_or_refused(network: HarmonicNetwork, params: Params, h: QuadraticHamiltonian) -> None:
    """Nothing, or the reason why a sample has no equilibrium."""
    if not np.all(bound := gaussian_dense.is_bound(h)):
        refuse(network.sample(int(np.argmin(bound))), params)


def collect(
    h: QuadraticHamiltonian,
    state: AbstractGaussianState,
    energy: np.ndarray,
    gap: np.ndarray | None,
    stats: dict[str, Any],
    accurate: bool = True,
) -> Equilibrium:
    """An equilibrium with its status; the residual is the net force ||K <r> - f|| on the means."""
    residual = np.linalg.norm(h.stiffness.apply(state.mean) - h.force, axis=-1)
    pulls = np.linalg.norm(h.stiffness.magnitude().apply(np.abs(state.mean)), axis=-1)
    scale = pulls + np.linalg.norm(h.force, axis=-1)
    status = Status.OK if accurate and np.all(residual <= 1e-10 * scale) else Status.UNCONVERGED
    if not np.all(np.isfinite(energy)):
        status = Status.NOT_FINITE
    return Equilibrium(
        state=state,
        energy=Estimate.exact(np.asarray(energy)),
        residual=np.asarray(residual),
        gap=None if gap is None else np.array(np.broadcast_to(gap, np.shape(energy))),
        status=status,
        stats=stats,
    )


def respond_dense(
    network: HarmonicNetwork, params: Params, state: Any, term: Any, occupation: Occupation, tolerance: float
) -> Response:
    """The response of the forces, by divided differences of the modes' variances."""
    h, bent = network.hamiltonian(params), network.term_form(term)
    return measured(
        network, params, h, state, bent, gaussian_dense.response(network, h, state, bent, occupation), tolerance
    )


def measured(
    network: HarmonicNetwork,
    params: Params,
    h: QuadraticHamiltonian,
    state: AbstractGaussianState,
    bent: QuadraticHamiltonian,
    change: Moments,
    tolerance: float,
) -> Response:
    """The forces along a change of the moments; the residual is that of K <r>' = f' - K' <r>, relative."""
    slope = bent.stiffness.apply(state.mean) - bent.force
    violation = np.linalg.norm(h.stiffness.apply(change.mean) + slope, axis=-1)
    residual = violation / np.maximum(np.linalg.norm(slope, axis=-1), 1e-300)
    status = Status.OK if np.all(residual <= max(10 * tolerance, 1e-9)) else Status.UNCONVERGED
    if not np.all(np.isfinite(residual)):
        status = Status.NOT_FINITE
    return Response(Estimate.exact(network.force_change(params, state, change)), np.asarray(residual), status, {})

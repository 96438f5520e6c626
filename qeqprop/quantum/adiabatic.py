"""Ground states as an experiment makes them: a product state, a ramp of the couplings, a ramp of the nudge."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import numpy as np

from ..core.estimate import Estimate
from ..core.graph import check_count
from ..core.real import check_positive
from ..core.scheme import LinearResponse, Stencil, centered
from ..core.solver import AbstractSolver, Equilibrium, Response
from ..core.status import Status
from ..core.system import AbstractSystem, Params, replaced
from .evolution import (
    check_accuracy,
    check_single,
    check_size,
    check_state,
    normalized,
    path_between,
    system_table,
)
from .exact import ExactDiagonalization
from .hamiltonian_path import HamiltonianPath, MatrixPath, SpinPath
from .operators import MatrixOperator, OperatorSystem
from .pauli import PauliSum, X
from .product_preparation import check_product, default_product, field_vectors, product_ground_state
from .ramps import check_ramp
from .spins import AbstractSpinSystem
from .states import PureState
from .strings import StringTable
from .taylor import VECTORS, Trajectory, follow, turned

SMALL_NUDGE = 0.09
"""beta*||C||/gap of the default scheme: the largest that gives no warning."""


class AdiabaticPreparation(AbstractSolver):
    r"""The state that an experiment reaches by ramps of finite duration, by solving i d psi/dt = H(t) psi (hbar = 1).

    Free phase: psi(0) is the ground state of a product Hamiltonian H_0, and

    .. math:: H(t) = (1 - s(t)) H_0 + s(t) H(\theta) ,  \qquad 0 < t < T .

    Nudged phases begin with the free state reached (not with the ground state) and add beta*s(t)*C within `nudge_time`,
    at fixed theta. The free phase waits for as long, without a nudge: all phases then last equally long, as the runs
    of an experiment do, so that what the first ramp left behind is at the same point of its oscillation in each of
    them and cancels in their difference.

    **The nudge must be ramped as well.** An abrupt one (`nudge_ramp="sudden"`) leaves the state oscillating about the
    nudged ground state with an amplitude as large as the response itself: to first order in beta

    .. math:: \frac{\langle O \rangle_\beta - \langle O \rangle_0}{\beta}
              = 2\,\mathrm{Re} \sum_n \frac{O_{0n} C_{n0}}{E_0 - E_n} (1 - e^{-i (E_n - E_0) t}) .

    That bias depends neither on beta nor, in size, on the time. The cure is a ramp; the other one, with a sudden nudge,
    is to measure at random times: an average over a window W has a bias of order 1/(gap W) (use `evolve`).

    **A longer nudge is not always better.** An amplitude epsilon left by the first ramp turns at a frequency that the
    nudge shifts by beta*(C_nn - C_00): its share of the gradient grows as epsilon*||C||*`nudge_time` (in no other way
    is epsilon amplified: there is no epsilon/beta). So the first ramp must be the slower one.

    `stats["nudge_violation"]` of a nudged phase sees both. It is ||(H - E) delta + (C - <C>) psi|| / ||(C - <C>) psi||,
    with delta = d psi/d beta: the relative residual of the equation of linear response. It is 1 after a sudden nudge,
    and within a factor of about two the relative error of the gradient.

    Every free phase is compared with the exact ground state (which the experiment does not know): `gap` is exact, and
    `stats` has the `infidelity`. Where a longer time does not lower it, a symmetry keeps the start from the ground
    state (as for a Heisenberg network and fields along X): choose another `start`.

    Args:
        time: T, of the first ramp, in units of 1/energy.
        ramp: "smooth", s = (1 - cos(pi t/T))/2, "linear", or "quintic", s = x^3 (10 - 15 x + 6 x^2) with x = t/T. For
            long times the infidelity falls as T^-4, T^-2 and T^-6.
        nudge_time: duration of the nudge's ramp; None takes `time`/4.
        nudge_ramp: one of the same, or "sudden"; None takes `ramp`.
        start: H_0. For spins a sum of one-site terms; None takes the one-site terms of H(theta), so that fields stay on
            and couplings are ramped, and where H(theta) has none, -a*sum_i X_i with a its largest coefficient. For
            operator systems a `MatrixOperator`.
        tolerance: largest excited amplitude of the free state, sqrt(infidelity), and largest `nudge_violation`. Above it
            the status is `UNCONVERGED`: take a longer time, or a smoother ramp.
        accuracy: bound on the error of the numerical evolution.
        memory: bytes that may be used; None takes 90 % of what is free.

    Note:
        `residual` is ||H psi - E psi||, nudge included. The engine reports it amplified by 1/beta, which is the worst
        case: phases that share their excitations do much better, see `nudge_violation`.

    Raises (from `solve`):
        ValueError: a site without field in H_0, a batch. MemoryError: the vectors do not fit.

    Reference: B. Scellier, arXiv:2406.00879 (2024); C. C. Wanjura and F. Marquardt, Nat. Commun. 16, 6595 (2025).

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> slow = qp.AdiabaticPreparation(time=100.0)
        >>> out = qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(1)), solver=slow, scheme=qp.centered(1e-3))
        >>> print(out.status, out.grad["g"].round(2))  # exact: -0.234, -0.2551
        ok [-0.23 -0.26]
    """

    time: float = eqx.field(static=True)
    ramp: str = eqx.field(static=True)
    nudge_time: float = eqx.field(static=True)
    nudge_ramp: str = eqx.field(static=True)
    start: PauliSum | MatrixOperator | None = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    accuracy: float = eqx.field(static=True)
    memory: int | None = eqx.field(static=True)

    name: ClassVar[str] = "AdiabaticPreparation"
    analytic: ClassVar[bool] = False
    responds: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False

    def __init__(
        self,
        time: float,
        ramp: str = "smooth",
        *,
        nudge_time: float | None = None,
        nudge_ramp: str | None = None,
        start: PauliSum | MatrixOperator | None = None,
        tolerance: float = 0.1,
        accuracy: float = 1e-10,
        memory: int | None = None,
    ):
        if ramp == "sudden":
            raise ValueError(
                "Argument `ramp` must be 'smooth', 'linear' or 'quintic': a sudden switch prepares nothing. "
                "For an abrupt nudge use nudge_ramp='sudden'."
            )
        self.time = check_positive(time, "time")
        self.ramp = check_ramp(ramp, among=("linear", "smooth", "quintic"))
        self.nudge_time = self.time / 4 if nudge_time is None else check_positive(nudge_time, "nudge_time")
        self.nudge_ramp = self.ramp if nudge_ramp is None else check_ramp(nudge_ramp, "nudge_ramp")
        if start is not None and not isinstance(start, PauliSum | MatrixOperator):
            raise TypeError(f"Argument `start` must be a Pauli sum or a MatrixOperator, but is {type(start).__name__}.")
        self.start = start
        if not 0 < tolerance <= np.inf:
            raise ValueError(f"Argument `tolerance` must be positive, but is {tolerance}.")
        self.tolerance, self.accuracy = float(tolerance), check_accuracy(accuracy)
        self.memory = None if memory is None else check_count(memory, "memory")

    def solve(
        self, system: AbstractSystem, params: Params, *, init: Equilibrium | None = None, key: Any = None
    ) -> Equilibrium:
        """The state reached. A free phase begins with the product state, whatever `init` is; a nudged phase begins where
        the ramp of the free phase `init` ended (None: the free phase is run first)."""
        if not isinstance(system, AbstractSpinSystem | OperatorSystem):
            raise TypeError(
                f"AdiabaticPreparation evolves spin networks and operator systems, not {type(system).__name__}."
            )
        check_single(system)
        check_size(system, VECTORS + 4, self.memory)
        if not system.nudges:
            return self._prepare(system, params)
        free = self._prepare(replaced(system, nudges=()), params) if init is None else init
        return self._nudge(system, params, free)

    def _prepare(self, system: AbstractSpinSystem | OperatorSystem, params: Params) -> Equilibrium:
        path, amplitudes = _first_ramp(system, params, self.start)
        ground = ExactDiagonalization(memory=self.memory).solve(system, params)
        ramped = follow(path, path.to_real(amplitudes), self.ramp, self.time, self.accuracy / 2)
        prepared = normalized(path.to_amplitudes(ramped.final))
        held = path_between(system, params, params)
        waited = follow(held, held.to_real(prepared), "sudden", self.nudge_time, self.accuracy / 2)
        state = PureState(ground.state.n_sites, normalized(held.to_amplitudes(waited.final)))
        energy, defect = _defect(held, 0.0, state.amplitudes)
        psi = ground.state.amplitudes
        infidelity = float(np.linalg.norm(state.amplitudes - psi * np.vdot(psi, state.amplitudes)) ** 2)
        reached = Status.OK if np.sqrt(infidelity) <= self.tolerance else Status.UNCONVERGED
        return Equilibrium(
            state=state,
            energy=Estimate.exact(np.asarray(energy)),
            residual=np.asarray(np.linalg.norm(defect)),
            gap=ground.gap,
            status=ground.status if ground.status.failed else reached,
            stats={
                "method": "adiabatic preparation",
                "infidelity": infidelity,
                "excess_energy": energy - float(ground.energy),
                "energy_variance": float(np.linalg.norm(defect) ** 2),
                **_report(ramped, waited),
                "prepared": PureState(state.n_sites, prepared),
            },
        )

    def _nudge(self, system: AbstractSpinSystem | OperatorSystem, params: Params, free: Equilibrium) -> Equilibrium:
        waited = check_state(free.state, system, "init.state")
        prepared: PureState = free.stats.get("prepared", free.state)
        path = _nudge_ramp(system, params)
        out = follow(path, path.to_real(prepared.amplitudes), self.nudge_ramp, self.nudge_time, self.accuracy)
        state = PureState(prepared.n_sites, normalized(path.to_amplitudes(out.final)))
        energy, defect = _defect(path, 1.0, state.amplitudes)
        violation = _violation(path, waited, state.amplitudes, defect)
        return Equilibrium(
            state=state,
            energy=Estimate.exact(np.asarray(energy)),
            residual=np.asarray(np.linalg.norm(defect)),
            gap=None,
            status=Status.OK if violation <= self.tolerance else Status.UNCONVERGED,
            stats={
                "method": f"{self.nudge_ramp} nudge",
                "nudge_violation": violation,
                "energy_variance": float(np.linalg.norm(defect) ** 2),
                **_report(out),
            },
        )

    def respond(
        self, system: AbstractSystem, params: Params, equilibrium: Equilibrium, term: Any, *, tolerance: float
    ) -> Response:
        """Not available: what is reached in a finite time has a response to a finite nudge only."""
        raise ValueError("AdiabaticPreparation has no linear response: use a stencil such as centered(beta).")

    def default_scheme(self, free: Equilibrium, term: Any) -> Stencil | LinearResponse:
        """centered(beta) with the largest beta that is small against the gap: here a smaller one gains nothing."""
        gap, norm = free.worst()[1], float(np.max(term.norm_bound()))
        return centered(SMALL_NUDGE * max(gap or 0.0, 1e-12) / (norm or 1.0))

    def extrapolate(self, phases: Mapping[complex, Equilibrium], strength: complex) -> Equilibrium:
        """The free phase: every nudge is a run of its own."""
        return phases[0.0]

    def accepts_batch(self, system: AbstractSystem) -> bool:
        """Batches go sample by sample."""
        return False

    def __repr__(self) -> str:
        nudge = f", nudge_time={self.nudge_time:g}, nudge_ramp={self.nudge_ramp!r}"
        return f"AdiabaticPreparation(time={self.time:g}, ramp={self.ramp!r}{nudge})"


class _Ends(NamedTuple):
    """A spin Hamiltonian and the product Hamiltonian before it, as coefficients of the same strings."""

    table: StringTable
    product: np.ndarray
    target: np.ndarray


def _first_ramp(
    system: AbstractSpinSystem | OperatorSystem, params: Params, start: PauliSum | MatrixOperator | None
) -> tuple[HamiltonianPath, np.ndarray]:
    """The path from H_0 to H(theta), and the ground state of H_0."""
    if isinstance(system, OperatorSystem):
        return _first_ramp_of_matrices(system, params, start)
    table, product, target = _spin_ends(system, params, start)
    fields = field_vectors(table, product, system.n_sites)
    amplitudes = product_ground_state(fields, float(np.abs([*product, *target]).max()))
    return SpinPath(system.n_sites, table, product, target), amplitudes


def _spin_ends(system: AbstractSpinSystem, params: Params, start: PauliSum | MatrixOperator | None) -> _Ends:
    strengths = system.strengths(params)
    if start is None:
        table = system_table(system)
        target = table.coefficients.T @ strengths
        product = default_product(table, target, system.n_sites)
        if product is not None:
            return _Ends(table, product, target)
        scale = float(np.abs(target).max(initial=0.0)) or 1.0
        start = sum((-scale * X(site) for site in range(system.n_sites)), PauliSum())
    table = system_table(system, (check_product(start, system.n_sites),))
    target = table.coefficients.T @ np.append(strengths, 0.0)
    return _Ends(table, table.coefficients.T @ np.append(0.0 * strengths, 1.0), target)


def _first_ramp_of_matrices(
    system: OperatorSystem, params: Params, start: PauliSum | MatrixOperator | None
) -> tuple[HamiltonianPath, np.ndarray]:
    if not isinstance(start, MatrixOperator) or start.dim != system.dim:
        raise ValueError(
            f"Argument `start` must be a MatrixOperator of dimension {system.dim} for an OperatorSystem (which has no "
            f"sites to put a field on), but is {start}."
        )
    alone = OperatorSystem({"start": [start]})
    ground = ExactDiagonalization().solve(alone, {"start": np.ones(1)})
    if ground.status.failed:
        raise ValueError(f"Argument `start` must have a unique ground state, but its status is: {ground.status}.")
    return MatrixPath(start.matrix, system.matrix(params)), ground.state.amplitudes.astype(np.complex128)


def _nudge_ramp(system: AbstractSpinSystem | OperatorSystem, params: Params) -> HamiltonianPath:
    """The path from H(theta) to H(theta) with the nudges."""
    free = replaced(system, nudges=())
    if isinstance(system, OperatorSystem):
        return MatrixPath(free.matrix(params), system.matrix(params))
    table, strengths = system_table(system), system.strengths(params)
    without = np.where(np.arange(strengths.size) < len(free.operators()), strengths, 0.0)
    return SpinPath(system.n_sites, table, table.coefficients.T @ without, table.coefficients.T @ strengths)


def _defect(path: HamiltonianPath, s: float, amplitudes: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy and H psi - E psi at a point of the path, the latter in real form."""
    psi = path.to_real(amplitudes)
    return _centred(path.at(s), psi)


def _centred(operator: Any, psi: np.ndarray) -> tuple[float, np.ndarray]:
    out = np.empty_like(psi)
    mean, _ = operator.apply_lanczos(psi, psi, 0.0, out)
    return mean, out - mean * psi


def _violation(path: HamiltonianPath, free: np.ndarray, nudged: np.ndarray, defect: np.ndarray) -> float:
    """||defect(nudged) - defect(free)|| / ||(change - <change>) free||, the states brought to one phase.

    With nudged = free + beta delta the numerator is beta ||(H - E) delta + (C - <C>) free|| + O(beta^2): excitations
    that both states share drop out.
    """
    reference = path.to_real(free)
    overlap = np.vdot(nudged, free)
    aligned = turned(defect, complex(overlap / max(abs(overlap), 1e-300)))
    kick = float(np.linalg.norm(_centred(path.change, reference)[1]))
    error = float(np.linalg.norm(aligned - _centred(path.at(0.0), reference)[1]))
    return error / kick if kick > 1e-13 * float(np.linalg.norm(reference)) else 0.0


def _report(*parts: Trajectory) -> dict[str, Any]:
    return {
        "evolution_error": sum(part.error for part in parts),
        "norm_drift": sum(abs(part.norm_drift) for part in parts),
        "steps": sum(part.steps for part in parts),
        "products": sum(part.products for part in parts),
    }

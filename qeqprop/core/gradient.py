"""`ep_gradient`: relax, nudge, relax again, and difference the forces. It knows no physics.

dL/dtheta = d/dbeta <dE/dtheta>_beta   at beta = 0        (Scellier & Bengio 2017; Scellier 2024, arXiv:2406.00879)
"""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from . import display
from .deferred import Deferred, Evaluated
from .estimate import Estimate, batch_mean, format_uncertain, zeros_like
from .joint import AbstractJointSolver, Forces
from .module import AbstractModule
from .nudge import AbstractNudge, WeightedObservables, check_nudge
from .randomness import branch
from .scheme import AbstractScheme, LinearResponse, Stencil
from .solver import AbstractSolver, Equilibrium, Response, check_init, describe, prepare, samples_of
from .status import AccuracyWarning, EquilibriumError, NudgeWarning, Status
from .system import AbstractSystem, Params, all_finite, replaced
from .truncation import truncation_error
from .used import note
from .written import called

LARGE_NUDGE, NUDGE_TOO_LARGE = 0.1, 0.5
"""beta*||C||/gap above which a gradient is returned with a warning, or refused."""


class EPGradient(AbstractModule):
    """A gradient that knows how wrong it is.

    Attributes:
        loss: the cost at the free equilibrium (mean over the batch), an `Estimate`.
        losses: the cost of every sample; of a single system a scalar.
        grad: dict like `params`: the gradient of the loss (mean over the batch).
        stderr: dict like `params`: statistical error, 0 for exact solvers.
        truncation: dict like `params`: estimated error of the difference quotient in beta, worked out when it is first read.
            `LinearResponse` has none; there it is the systematic error of an approximate state, 0 for all solvers but
            variational Monte Carlo.
        residual: what the solver's residual may add to any gradient component of a unit-norm force.
        nudge_ratio: largest beta*||C||/gap; None where no gap is known.
        scheme, solver: what was used.
        free: the free equilibrium (of the last sample, where the solver goes sample by sample).
        nudged: pairs (strength, nudged equilibrium).
        status: the worst status met.
        stats: what the solver reports of its linear response (of the last sample, where it goes sample by sample).
    """

    loss: Estimate
    losses: np.ndarray
    grad: dict[str, np.ndarray]
    stderr: dict[str, np.ndarray]
    truncation: dict[str, np.ndarray]
    residual: float
    nudge_ratio: float | None
    scheme: Any
    solver: Any
    free: Equilibrium
    nudged: tuple[tuple[complex, Equilibrium], ...]
    status: Status
    stats: dict[str, Any] = eqx.field(default_factory=dict)

    _repr_html_ = display.of_gradient

    def __repr__(self) -> str:
        head = f"EPGradient  loss = {self.loss}  scheme = {self.scheme}  solver = {self.solver.name}"
        facts = [f"status = {self.status}", f"residual -> {self.residual:.1e}"]
        if self.nudge_ratio is not None and self.nudge_ratio > 0:
            facts.append(f"beta*||C||/gap = {self.nudge_ratio:.2g}")
        if self.free.gap is not None:
            facts.append(f"gap = {self.free.worst()[1] or 0:.4g}")
        header = f"  {'parameter':<12}{'gradient':>22}{'stderr':>11}{'truncation':>12}"
        advice = [f"  {self.stats['advice']}"] if "advice" in self.stats else []
        return "\n".join([head, "  " + "  ".join(facts), *advice, header, *self._rows()])

    def _rows(self, most: int = 8) -> list[str]:
        rows = []
        for name, grad in self.grad.items():
            indices = list(np.ndindex(grad.shape))
            for index in indices[:most]:
                label = name + (f"[{', '.join(map(str, index))}]" if index else "")
                value, stderr = float(grad[index]), float(self.stderr[name][index])
                rows.append(
                    f"  {label:<12}{format_uncertain(value, stderr, digits=8):>22}{stderr:>11.1e}"
                    f"{float(self.truncation[name][index]):>12.1e}"
                )
            if len(indices) > most:
                norm = float(np.linalg.norm(grad))
                rows.append(f"  ... {len(indices) - most} more of {name}, norm {norm:.6g}")
        return rows


EPGradient.truncation = Evaluated("truncation")  # type: ignore[assignment]  # a dataclass would take it for a default


class Problem(NamedTuple):
    """What is to be differentiated, and with what."""

    system: AbstractSystem
    params: Params
    nudge: AbstractNudge
    target: np.ndarray | None
    solver: AbstractSolver
    key: np.random.SeedSequence | None


def ep_gradient(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None = None,
    *,
    solver: AbstractSolver | None = None,
    scheme: AbstractScheme | None = None,
    inputs: ArrayLike | None = None,
    init: Equilibrium | None = None,
    key: Any = None,
    throw: bool = True,
) -> EPGradient:
    """Gradient of a cost at the equilibrium, by equilibrium propagation.

    Args:
        system: the energy functional E_theta.
        params: theta, a dict of arrays with the names and shapes of `system.param_shapes`.
        nudge: the cost (`ObservableCost`, `ExpectationCost`, ...).
        target: what an `ExpectationCost` compares with; batch axis first where `inputs` has one.
        solver: None takes `system.default_solver()`.
        scheme: `one_sided`, `centered`, `richardson`, `holomorphic` or `LinearResponse()`; None takes the solver's own.
        inputs: shape `system.input_shape`, or with a batch axis in front: then the mean gradient is returned.
        init: an equilibrium to start the free solve from; of a batch that goes sample by sample, the first sample's (each
            sample then starts from the one before it; for solvers that may, `solver.carries`).
        key: an integer seed, for stochastic solvers only; None draws a fresh one.
        throw: raise `EquilibriumError` on failure; else return the gradient with its `status`.

    Raises:
        EquilibriumError: degenerate ground state, unconverged phase, nudge too large against the gap.
        ValueError, TypeError: bad arguments, before any work.

    Warns:
        NudgeWarning: the nudge is large against the gap.
        AccuracyWarning: the error bars do not tell the whole error; the message says why.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> out = qp.ep_gradient(net, params, qp.ObservableCost(qp.Z(1)), scheme=qp.centered(1e-3))
        >>> print(out.status, out.grad["g"].round(4))
        ok [-0.234  -0.2551]
    """
    check_nudge(nudge)
    check_init(init)
    system, checked, solver, seed = prepare(system, params, solver, inputs, key)
    checked_target = nudge.check_target(target, system.batch_size)
    check_scheme(scheme, solver)
    problem = Problem(system, checked, nudge, checked_target, solver, seed)
    if system.batch_size is not None and not solver.accepts_batch(system):
        if init is not None and not solver.carries:
            raise ValueError(f"Argument `init` must be None: {solver.name} solves this batch one sample at a time.")
        return _sample_by_sample(problem, scheme, samples_of(system, solver, inputs), init, throw)
    return _estimate(problem, scheme, init, throw)


def check_scheme(scheme: AbstractScheme | None, solver: AbstractSolver) -> None:
    """Raise TypeError for what is no scheme, ValueError for one that the solver cannot follow."""
    if scheme is not None and not isinstance(scheme, AbstractScheme):
        raise TypeError(f"Argument `scheme` must be a qeqprop scheme, but is {called(scheme)}.")
    if isinstance(scheme, LinearResponse) and not solver.responds:
        raise ValueError(f"{solver.name} has no linear response: use a stencil such as centered(beta).")
    if isinstance(scheme, Stencil) and scheme.is_complex and not solver.analytic:
        raise ValueError(
            f"{solver.name} cannot follow complex nudges, which {scheme} needs: use centered or richardson."
        )


def _estimate(problem: Problem, scheme: AbstractScheme | None, init: Equilibrium | None, throw: bool) -> EPGradient:
    free = problem.solver.solve(problem.system, problem.params, init=init, key=branch(problem.key, 0))
    if free.status.failed and throw:
        raise EquilibriumError(free.status, f"free phase, {describe(free)}")
    term = problem.nudge.term(free.state, problem.target)
    problem.system.nudged(term, 0.0)  # refuses observables of another kind of system
    scheme = problem.solver.default_scheme(free, term) if scheme is None else scheme
    out = differentiate(problem, scheme, free, term)
    if throw and out.status.failed:
        ratio = "" if not out.nudge_ratio else f"beta*||C||/gap = {out.nudge_ratio:.2g}, "
        raise EquilibriumError(out.status, f"{ratio}residual -> {out.residual:.2g}; free phase, {describe(free)}")
    if throw and out.status == Status.LARGE_NUDGE:
        warnings.warn(f"beta*||C||/gap = {out.nudge_ratio:.2g}. {out.status.message}", NudgeWarning, stacklevel=3)
    if throw and out.status == Status.INACCURATE:
        warnings.warn(out.stats.get("advice", out.status.message), AccuracyWarning, stacklevel=3)
    return out


def differentiate(problem: Problem, scheme: AbstractScheme, free: Equilibrium, term: Any) -> EPGradient:
    """d<dE/dtheta>/dbeta under the nudge `term` by any scheme, from the free equilibrium on."""
    note(problem.nudge, scheme)
    out: EPGradient = _DERIVATIVES[type(scheme)](problem, scheme, free, term)
    known = all(map(all_finite, (np.asarray(out.loss.mean), *out.grad.values()))) and not np.isnan(out.residual)
    if known or (out.status.failed and out.status is not Status.UNCONVERGED):
        return out
    return replaced(out, status=Status.NOT_FINITE)  # type: ignore[no-any-return]


def _by_stencil(problem: Problem, stencil: Stencil, free: Equilibrium, term: WeightedObservables) -> EPGradient:
    system, params, nudge, target, solver, _ = problem
    phases = {0.0: free} | _nudged_phases(problem, stencil, free, term)
    forces = Forces(system, params, phases)
    grad = forces.summed(stencil, stencil.weights)
    grad = grad if system.batch_size is None else batch_mean(grad)
    ratio = nudge_ratio(stencil, free, term)
    amplified = sum(
        abs(w) * force_error(phases[b], free) for b, w in zip(stencil.strengths, stencil.weights, strict=True)
    )

    def truncation() -> dict[str, np.ndarray]:
        costs = {b: term.expect(phase.state) for b, phase in phases.items()}
        return truncation_error(stencil, grad.mean, forces, phases, costs)

    return EPGradient(
        *mean_loss(nudge.cost(free.state, target)),
        grad=grad.mean,
        stderr=grad.stderr,
        truncation=Deferred(truncation),  # type: ignore[arg-type]
        residual=float(amplified),
        nudge_ratio=ratio,
        scheme=stencil,
        solver=solver,
        free=free,
        nudged=tuple((b, phase) for b, phase in phases.items() if b != 0),
        status=max([*(phase.status for phase in phases.values()), nudge_status(ratio)]),
    )


def _nudged_phases(
    problem: Problem, stencil: Stencil, free: Equilibrium, term: WeightedObservables
) -> dict[complex, Equilibrium]:
    """The equilibria at the strengths of a stencil that are not 0, in their order."""
    system, params, _, _, solver, key = problem
    strengths = [b for b in stencil.strengths if b != 0]
    if isinstance(solver, AbstractJointSolver) and not stencil.is_complex:
        found = solver.solve_nudged(system, params, term, [complex(b).real for b in strengths], free)
        return dict(zip(strengths, found, strict=True))
    phases: dict[complex, Equilibrium] = {0.0: free}
    for i, strength in enumerate(strengths):
        start = solver.extrapolate(phases, strength)
        phases[strength] = solver.solve(system.nudged(term, strength), params, init=start, key=branch(key, i + 1))
    del phases[0.0]
    return phases


def _by_response(problem: Problem, scheme: LinearResponse, free: Equilibrium, term: WeightedObservables) -> EPGradient:
    system, params, nudge, target, solver, _ = problem
    response = solver.respond(system, params, free, term, tolerance=scheme.tolerance)
    grad = response.grad if system.batch_size is None else batch_mean(response.grad)
    return EPGradient(
        *mean_loss(nudge.cost(free.state, target)),
        grad=grad.mean,
        stderr=grad.stderr,
        truncation=_truncation(response, grad),
        residual=float(np.max(response.residual)),
        nudge_ratio=None,
        scheme=scheme,
        solver=solver,
        free=free,
        nudged=(),
        status=max(free.status, response.status),
        stats=response.stats,
    )


def _truncation(response: Response, grad: Estimate) -> dict[str, np.ndarray]:
    """What the response says of its systematic error; 0 where it says nothing."""
    if response.truncation is None:
        return {name: zeros_like(value) for name, value in grad.mean.items()}
    return response.truncation


_DERIVATIVES: dict[type, Any] = {Stencil: _by_stencil, LinearResponse: _by_response}


def mean_loss(losses: Estimate) -> tuple[Estimate, np.ndarray]:
    """The mean over the batch with its standard error, and the losses themselves."""
    if not np.ndim(losses.mean):
        return losses, losses.mean
    error = np.sqrt(np.sum(np.asarray(losses.stderr) ** 2)) / np.size(losses.mean)
    return Estimate(np.mean(losses.mean), error), losses.mean


def nudge_ratio(stencil: Stencil, free: Equilibrium, term: WeightedObservables) -> float | None:
    """Largest beta*||C||/gap of the batch; None where no gap is known or the cost is unbounded."""
    if free.gap is None or np.all(np.isnan(free.gap)):
        return None
    norm = term.norm_bound()
    if not np.all(np.isfinite(norm)):  # an unbounded cost: its solver knows, and refuses, what bends the state too far
        return None
    return float(np.nanmax(stencil.max_strength * norm / np.maximum(free.gap, 1e-300)))


def nudge_status(ratio: float | None) -> Status:
    """What that ratio means."""
    if ratio is None or ratio <= LARGE_NUDGE:
        return Status.OK
    return Status.LARGE_NUDGE if ratio <= NUDGE_TOO_LARGE else Status.NUDGE_TOO_LARGE


def force_error(phase: Equilibrium, free: Equilibrium) -> float:
    """|delta <O>| <= 2 ||delta psi|| <= 2 residual / gap for ||O|| = 1; without a gap the residual itself."""
    if free.gap is None or np.all(np.isnan(free.gap)):
        return float(np.max(phase.residual))
    return float(np.nanmax(2 * phase.residual / np.maximum(free.gap, 1e-300)))


def _sample_by_sample(
    problem: Problem, scheme: AbstractScheme | None, inputs: np.ndarray, init: Equilibrium | None, throw: bool
) -> EPGradient:
    """The batch as a mean of single calls, for solvers that take one system at a time; from `init` on, if there is one,
    each starts where the one before it ended."""
    target = problem.target
    outs = []
    for i, sample in enumerate(inputs):
        single = problem._replace(
            system=problem.system.with_inputs(sample),
            target=None if target is None else target[i],
            key=branch(problem.key, i),
        )
        outs.append(_estimate(single, scheme, init, throw))
        init = None if init is None else outs[-1].free
    size, last = len(outs), outs[-1]
    ratios = [out.nudge_ratio for out in outs if out.nudge_ratio is not None]
    losses = np.array([float(out.loss) for out in outs])
    return EPGradient(
        loss=Estimate(losses.mean(), np.sqrt(sum(float(out.loss.stderr) ** 2 for out in outs)) / size),
        losses=losses,
        grad={name: np.mean([out.grad[name] for out in outs], axis=0) for name in last.grad},
        stderr={name: np.sqrt(np.sum([o.stderr[name] ** 2 for o in outs], axis=0)) / size for name in last.grad},
        truncation={name: np.mean([out.truncation[name] for out in outs], axis=0) for name in last.grad},
        residual=max(out.residual for out in outs),
        nudge_ratio=max(ratios, default=None),
        scheme=last.scheme,
        solver=last.solver,
        free=last.free,
        nudged=last.nudged,
        status=max(out.status for out in outs),
        stats=last.stats,
    )

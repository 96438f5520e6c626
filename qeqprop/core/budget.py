r"""The nudge that a number of shots is worth.

A formula of order p with M shots a phase has the mean square error (mean over the components of the gradient)

    err^2 = a / beta^2 + (c beta^p)^2 ,    a = sum_j w_j^2 Var_j(A) / M  (weights at beta = 1) ,

with c = m F^(p+1)/(p+1)! the leading truncation (m the first moment that the formula does not cancel). It is least at

    beta^(2p+2) = a / (p c^2) ,    err^2 = (1 + 1/p) a / beta^2 .

So centered: beta ~ M^(-1/6), error ~ M^(-1/3); one-sided: beta ~ M^(-1/4), error ~ M^(-1/4).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .estimate import Estimate, batch_mean, combine, format_uncertain
from .gradient import NUDGE_TOO_LARGE, EPGradient, ep_gradient
from .graph import check_count
from .module import AbstractModule
from .nudge import AbstractNudge, check_nudge
from .randomness import branch, seed_sequence
from .scheme import Stencil, centered, check_strength
from .solver import AbstractSolver, describe, equilibrate
from .status import EquilibriumError
from .system import AbstractSystem

NODES = (0.0, 1.0, -1.0, 2.0, -2.0)
"""Strengths of the pilot's phases in units of its nudge: enough for F', F''/2 and F'''/6."""
SAFE_RATIO = 0.9 * NUDGE_TOO_LARGE


class NudgeChoice(AbstractModule):
    """A nudge strength for a number of shots, and what to expect of it. Prints itself; see `optimal_nudge`.

    Attributes:
        beta: the nudge strength.
        scheme: the formula at this strength.
        shots: what it was chosen for; None: what the solver takes.
        noise, truncation: predicted statistical and truncation error, root mean square over the components.
        size: root mean square of the gradient itself, from the pilot.
        curvature: the leading truncation coefficient c, root mean square, with its standard error.
        limited: whether the gap (beta*||C||/gap < 0.45), not the balance, sets the strength.
    """

    beta: float
    scheme: Stencil
    shots: int | None
    noise: float
    truncation: float
    size: float
    curvature: Estimate
    limited: bool

    @property
    def rms(self) -> float:
        """Predicted error of a component, root mean square."""
        return float(np.hypot(self.noise, self.truncation))

    def __repr__(self) -> str:
        shots = "the solver's shots" if self.shots is None else f"{self.shots} shots a setting"
        bound = "  (limited by the gap)" if self.limited else ""
        lines = [
            f"NudgeChoice  {self.scheme} for {shots}{bound}",
            f"  predicted error     {self.rms:.3g} a component, {100 * self.rms / self.size:.2g} % of the gradient",
            f"  noise, truncation   {self.noise:.3g}, {self.truncation:.3g}",
            f"  curvature           {format_uncertain(float(self.curvature), float(self.curvature.stderr))}",
        ]
        if float(self.curvature) < 2 * self.curvature.stderr:
            lines.append("  The pilot did not resolve the curvature: beta is a safe lower bound. Give it more shots.")
        return "\n".join(lines)


def optimal_nudge(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None = None,
    *,
    solver: AbstractSolver,
    formula: Callable[[float], Stencil] = centered,
    shots: int | None = None,
    pilot: float | None = None,
    inputs: ArrayLike | None = None,
    key: Any = None,
) -> NudgeChoice:
    """The nudge strength with the least error for a number of shots, from the noise and curvature of a pilot run.

    Five phases at 0, +-b, +-2b give the forces' variance and their leading derivatives in beta. The curvature is the
    noise-free part of its measured square, or its standard error where that is larger. As beta goes with the cube root
    (centered) or square root (one-sided) of the curvature, a rough pilot is enough.

    Args:
        solver: a stochastic solver, such as `Measured(...)`; its shots are what the pilot spends.
        formula: `centered` or `one_sided`.
        shots: what the gradient may spend in a phase and setting; None takes the solver's own number.
        pilot: b; None takes 0.2 gap/||C||.
        inputs, target: as in `ep_gradient`; a batch must be one that the solver takes in one call.
        key: an integer seed; None draws a fresh one.

    Raises:
        ValueError: a formula of higher order, a solver without noise, no gap to choose `pilot` from.
        EquilibriumError: the pilot failed.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> problem = (net, params, qp.ObservableCost(qp.Z(1)))
        >>> solver = qp.Measured(qp.ExactDiagonalization(), shots=100_000)
        >>> qp.optimal_nudge(*problem, solver=solver, shots=1000, key=0)
        NudgeChoice  centered(0.339) for 1000 shots a setting
          predicted error     0.0623 a component, 9.7 % of the gradient
          noise, truncation   0.0509, 0.036
          curvature           0.31(4)
    """
    check_nudge(nudge)
    unit = formula(1.0) if callable(formula) else formula
    if not isinstance(unit, Stencil) or unit.is_complex or unit.order > 2:
        raise ValueError(f"Argument `formula` must be qp.centered or qp.one_sided, but gives {unit!r}.")
    if not isinstance(solver, AbstractSolver) or not solver.stochastic:
        raise ValueError(
            f"Argument `solver` must draw random numbers, but is {solver!r}: without noise use a small beta."
        )
    root, scale = seed_sequence(key), _shot_ratio(solver, shots)
    shared: dict[str, Any] = {"solver": solver, "inputs": inputs}
    if pilot is None:
        pilot = _pilot_strength(system, params, nudge, target, shared, branch(root, 0))
    pilot = abs(check_strength(pilot, "pilot"))
    strengths = tuple(pilot * node for node in NODES)
    scheme = Stencil("pilot", strengths, tuple(_taylor(1) / pilot), order=4)
    out = ep_gradient(system, params, nudge, target, scheme=scheme, key=branch(root, 1), throw=False, **shared)
    if out.status.failed:
        raise EquilibriumError(out.status, f"pilot run at {pilot:.3g}; free phase, {describe(out.free)} Lower `pilot`.")
    forces = _forces(system, params, inputs, out, strengths)
    coefficient = unit.moment(unit.order + 1)
    taylor = combine(tuple(coefficient * _taylor(unit.order + 1) / pilot ** (unit.order + 1)), forces)
    variance = np.mean(np.concatenate([np.ravel(x) for force in forces for x in force.stderr.values()]) ** 2) * scale
    return _balanced(unit, formula, variance, _square(taylor), _gap_limit(out, pilot), out, shots)


def _balanced(
    unit: Stencil,
    formula: Callable[[float], Stencil],
    variance: float,
    square: Estimate,
    limit: float,
    pilot: EPGradient,
    shots: int | None,
) -> NudgeChoice:
    order, a = unit.order, variance * sum(abs(w) ** 2 for w in unit.weights)
    curvature = Estimate(np.sqrt(max(float(square.mean), 0.0)), np.sqrt(square.stderr))
    bend = max(float(curvature), float(curvature.stderr))
    best = (a / (order * bend**2)) ** (1 / (2 * order + 2)) if bend > 0 else np.inf
    beta = min(best, limit)
    if not 0 < beta < np.inf:
        raise ValueError("The pilot saw neither noise nor curvature: no nudge is better than another. Raise `pilot`.")
    grads = np.concatenate([np.ravel(value) for value in pilot.grad.values()])
    return NudgeChoice(
        beta=float(beta),
        scheme=formula(float(f"{beta:.3g}")),
        shots=shots,
        noise=float(np.sqrt(a) / beta),
        truncation=float(bend * beta**order),
        size=float(np.sqrt(np.mean(grads**2))),
        curvature=curvature,
        limited=bool(limit < best),
    )


def _taylor(power: int) -> np.ndarray:
    """Weights over `NODES` that give the coefficient of beta^power."""
    return np.linalg.inv(np.vander(NODES, increasing=True))[power]


def _square(coefficient: Estimate) -> Estimate:
    """Mean square over the components without what the noise adds to it, and the mean square of the noise."""
    values, errors = (np.concatenate([np.ravel(part) for part in tree.values()]) for tree in
                      (coefficient.mean, coefficient.stderr))  # fmt: skip
    noise = np.mean(errors**2)
    return Estimate(np.mean(values**2) - noise, noise)


def _shot_ratio(solver: AbstractSolver, shots: int | None) -> float:
    """Shots of the pilot over shots of the budget."""
    if shots is None:
        return 1.0
    if not hasattr(solver, "shots"):
        raise ValueError(f"Argument `shots` must be None: {solver.name} does not count shots.")
    return solver.shots / check_count(shots, "shots", 2)


def _pilot_strength(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None,
    shared: dict[str, Any],
    key: Any,
) -> float:
    """0.2 gap/||C||: the outer phases stay well below a level crossing, and show the curvature."""
    free = equilibrate(system, params, key=key, **shared)
    batch = np.size(free.energy.mean) if np.ndim(free.energy.mean) else None
    norm = float(np.max(nudge.term(free.state, nudge.check_target(target, batch)).norm_bound()))
    gap = free.worst()[1]
    if gap is None or not 0 < norm < np.inf:
        raise ValueError(
            f"Argument `pilot` must be given: there is no scale to choose it from (gap {gap}, ||C|| {norm:g}). "
            "Take a nudge that changes the forces visibly, but not beyond recognition."
        )
    return 0.2 * gap / norm


def _gap_limit(out: EPGradient, pilot: float) -> float:
    """Strength at which beta*||C||/gap is 0.45; infinite where no gap is known."""
    return SAFE_RATIO * 2 * pilot / out.nudge_ratio if out.nudge_ratio else np.inf


def _forces(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    inputs: ArrayLike | None,
    out: EPGradient,
    strengths: tuple[float, ...],
) -> list[Estimate]:
    """Forces of all phases of the pilot, mean over the batch."""
    system, checked = system if inputs is None else system.with_inputs(inputs), system.check_params(params)
    if np.size(out.losses) != np.size(out.free.energy.mean):
        raise ValueError(f"Argument `inputs` must be a single sample: {out.solver.name} solves this batch one by one.")
    phases = {0.0: out.free, **{complex(b).real: phase for b, phase in out.nudged}}
    forces = [system.param_grad(checked, phases[b].state) for b in strengths]
    return forces if system.batch_size is None else [batch_mean(force) for force in forces]

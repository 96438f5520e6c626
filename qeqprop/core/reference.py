"""The oracles users compare equilibrium propagation with: finite differences, linear response, and a verdict."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import display
from .estimate import Estimate, combine
from .gradient import EPGradient, Problem, ep_gradient, mean_loss
from .module import AbstractModule
from .nudge import AbstractNudge, check_nudge
from .randomness import branch
from .scheme import AbstractScheme, LinearResponse, Stencil, check_strength, richardson
from .solver import AbstractSolver, Equilibrium, describe, prepare, samples_of
from .status import EquilibriumError, Status
from .system import AbstractSystem, real_array
from .truncation import shrinkage


def linear_response(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None = None,
    *,
    solver: AbstractSolver | None = None,
    tolerance: float = 1e-10,
    **options: Any,
) -> EPGradient:
    """The gradient in the limit beta -> 0: `ep_gradient(..., scheme=LinearResponse(tolerance))`.

    Args:
        system, params, nudge, target, solver: as in `ep_gradient`.
        tolerance: relative residual to which the linear equation is solved.
        options: the other arguments of `ep_gradient`: inputs, init, key, throw.

    Raises:
        ValueError: the solver has no linear response.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> print(qp.linear_response(net, params, qp.ObservableCost(qp.Z(1))).grad["g"].round(6))
        [-0.234044 -0.255108]
    """
    scheme = LinearResponse(tolerance)
    return ep_gradient(system, params, nudge, target, solver=solver, scheme=scheme, **options)


def finite_difference(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None = None,
    *,
    solver: AbstractSolver | None = None,
    step: float = 1e-2,
    stencil: Stencil | None = None,
    components: Mapping[str, Sequence[Any]] | None = None,
    inputs: ArrayLike | None = None,
    key: Any = None,
    throw: bool = True,
) -> EPGradient:
    """The gradient by differencing the loss in every parameter: dear, and independent of equilibrium propagation.

    Every perturbed equilibrium starts from the unperturbed one, so that all of them lie on its branch. The same
    `Stencil` tables that difference forces in beta difference the loss in theta.

    Args:
        system, params, nudge, target, solver, inputs: as in `ep_gradient`.
        step: largest change of a parameter.
        stencil: None takes the fourth-order formula `richardson(step)`: four solves a parameter.
        components: the indices wanted by name, e.g. `{"J": [0, 3]}`; None takes all. The others are NaN.
        key: an integer seed, for stochastic solvers only; None draws a fresh one.
        throw: raise `EquilibriumError` where a solve failed.

    Returns:
        An `EPGradient` whose `truncation` is the error estimate of the stencil.

    Raises:
        EquilibriumError: an equilibrium was not found, at the parameters or next to them.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> out = qp.finite_difference(net, params, qp.ObservableCost(qp.Z(1)), components={"g": [0]})
        >>> print(out.grad["g"].round(6))
        [-0.234044       nan]
    """
    check_nudge(nudge)
    step = abs(check_strength(step, "step"))
    system, checked, solver, seed = prepare(system, params, solver, inputs, key)
    goal = nudge.check_target(target, system.batch_size)
    stencil = richardson(step) if stencil is None else stencil
    if not isinstance(stencil, Stencil) or stencil.is_complex:
        raise TypeError(f"Argument `stencil` must be a real Stencil, but is {stencil!r}.")
    wanted = _wanted(system.param_shapes, components)
    problem = Problem(system, checked, nudge, goal, solver, branch(seed, 0))
    phases, losses = free_losses(problem, None, inputs)
    status = worst_status(phases)
    if throw and status.failed:
        raise EquilibriumError(status, describe(max(phases, key=lambda phase: phase.status)))
    grad = {name: np.full(shape, np.nan) for name, shape in system.param_shapes.items()}
    stderr, truncation = ({n: a.copy() for n, a in grad.items()} for _ in range(2))
    for i, (name, index) in enumerate(wanted):
        changed: dict[complex, Estimate] = {0.0: losses}
        for j, strength in enumerate(stencil.strengths):
            if strength:
                moved = {n: a.copy() for n, a in checked.items()}
                moved[name][index] += complex(strength).real
                perturbed = problem._replace(params=moved, key=branch(seed, 1 + i, j))
                moved_phases, changed[strength] = free_losses(perturbed, phases, inputs)
                status = max(status, worst_status(moved_phases))
        if throw and status.failed:
            raise EquilibriumError(status, f"at {name}{list(index)} +- {stencil.max_strength:g}.")
        grad[name][index], stderr[name][index], truncation[name][index] = _difference(stencil, changed)
    mean, samples = mean_loss(losses)
    amplification = sum(abs(w) for w in stencil.weights)
    return EPGradient(
        loss=mean,
        losses=samples,
        grad=grad,
        stderr=stderr,
        truncation=truncation,
        residual=max(phase.worst()[0] for phase in phases) * amplification,
        nudge_ratio=None,
        scheme=f"finite differences of the loss, {stencil}",
        solver=solver,
        free=phases[-1],
        nudged=(),
        status=status,
    )


def _wanted(
    shapes: Mapping[str, tuple[int, ...]], components: Mapping[str, Sequence[Any]] | None
) -> list[tuple[str, tuple[int, ...]]]:
    if components is None:
        return [(name, index) for name, shape in shapes.items() for index in np.ndindex(*shape)]
    if not isinstance(components, Mapping) or not all(isinstance(indices, Iterable) for indices in components.values()):
        raise TypeError(
            f"Argument `components` must be a dict of lists such as {{'J': [0, 3]}}, but is {components!r}."
        )
    if unknown := [name for name in components if name not in shapes]:
        raise ValueError(f"Argument `components` must have names among {list(shapes)}, but also has {unknown}.")
    wanted = [
        (name, tuple(index) if isinstance(index, tuple | list) else (int(index),))
        for name, indices in components.items()
        for index in indices
    ]
    for name, index in wanted:
        shape = shapes[name]
        if len(index) != len(shape) or not all(-n <= i < n for i, n in zip(index, shape, strict=True)):
            raise ValueError(
                f"Argument `components` must have indices of `{name}`, which has shape {shape}, but has {index}."
            )
    return wanted


def free_losses(
    problem: Problem, starts: Sequence[Equilibrium] | None, inputs: ArrayLike | None
) -> tuple[list[Equilibrium], Estimate]:
    """The free equilibria and their losses: one equilibrium, or one a sample where the solver takes no batch.

    Args:
        problem: what to solve.
        starts: the equilibria of the same problem at nearby parameters, to start from.
        inputs: of the batch, as they were given.
    """
    system, params, nudge, target, solver, key = problem
    if system.batch_size is None or solver.accepts_batch(system):
        phase = solver.solve(system, params, init=None if starts is None else starts[0], key=key)
        return [phase], nudge.cost(phase.state, target)
    phases, losses = [], []
    for i, sample in enumerate(samples_of(system, solver, inputs)):
        start = None if starts is None else starts[i]
        phases.append(solver.solve(system.with_inputs(sample), params, init=start, key=branch(key, i)))
        losses.append(nudge.cost(phases[-1].state, None if target is None else target[i]))
    means, stderrs = ([getattr(loss, field) for loss in losses] for field in ("mean", "stderr"))
    return phases, Estimate(np.array(means), np.array(stderrs))


def worst_status(phases: Sequence[Equilibrium]) -> Status:
    """The worst status of some equilibria."""
    return max(phase.status for phase in phases)


def _difference(stencil: Stencil, losses: Mapping[complex, Estimate]) -> tuple[float, float, float]:
    averaged = [mean_loss(losses[b])[0] for b in stencil.strengths]
    value = combine(stencil.weights, averaged)
    if stencil.embedded is None:
        return float(value), float(value.stderr), np.nan
    step = combine([w - v for w, v in zip(stencil.weights, stencil.embedded, strict=True)], averaged)
    change = np.sqrt(max(float(step) ** 2 - (2 * float(step.stderr)) ** 2, 0.0))
    size = abs(float(value))
    return float(value), float(value.stderr), change * shrinkage(stencil, change / size if size > 0 else 1.0)


class GradientCheck(AbstractModule):
    """Equilibrium propagation beside its references, with a verdict; see `check_gradient`."""

    ep: EPGradient
    references: dict[str, EPGradient]
    deviations: dict[str, float]
    tolerances: dict[str, float]
    agrees: bool
    vanishes: bool

    _repr_html_ = display.of_check

    @property
    def verdict(self) -> str:
        """In words: agrees, DISAGREES, or vanishes within its errors."""
        return "vanishes within its errors" if self.vanishes else "agrees" if self.agrees else "DISAGREES"

    def __repr__(self) -> str:
        lines = [f"check_gradient  {self.verdict.upper()}  loss = {self.ep.loss}  "
                 f"scheme = {self.ep.scheme}  |gradient| = {_flat_norm(self.ep.grad):.6g}"]  # fmt: skip
        names = ["EP", *self.references]
        lines.append("  " + f"{'parameter':<12}" + "".join(f"{name:>20}" for name in names))
        for name, grad in self.ep.grad.items():
            for index in list(np.ndindex(grad.shape))[:6]:
                values = [out.grad[name][index] for out in (self.ep, *self.references.values())]
                label = f"{name}[{', '.join(map(str, index))}]"
                lines.append("  " + f"{label:<12}" + "".join(f"{value:>20.10f}" for value in values))
            if grad.size > 6:
                lines.append(f"  ... {grad.size - 6} more of {name}")
        for name, deviation in self.deviations.items():
            mark = "<=" if deviation <= self.tolerances[name] else "> "
            lines.append(f"  |EP - {name}| / |gradient| = {deviation:.2e} {mark} {self.tolerances[name]:.2e}")
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Scatter of EP against the references with residuals; see `qeqprop.plot.agreement`."""
        from ..plot import agreement

        return agreement(self, ax=ax)


def _flat_norm(tree: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.nansum(np.abs(value) ** 2) for value in tree.values())))


def check_gradient(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None = None,
    *,
    solver: AbstractSolver | None = None,
    scheme: AbstractScheme | None = None,
    step: float = 1e-2,
    components: Mapping[str, Sequence[Any]] | None = None,
    inputs: ArrayLike | None = None,
    key: Any = None,
    rtol: float = 1e-6,
) -> GradientCheck:
    """Equilibrium propagation against finite differences and, where the solver can, linear response.

    The verdict compares ||EP - reference|| with the errors that both report (twice the truncation, which is an
    estimate, five standard errors, the solver's residual) plus `rtol` times the norm of the gradient.
    A gradient that vanishes within these errors is never said to agree: every estimator finds zeros where a symmetry
    makes them.

    Args:
        system, params, nudge, target, solver, scheme, inputs, key: as in `ep_gradient`.
        step: of the finite differences, the largest change of a parameter.
        components: the indices that finite differences compute by name, e.g. `{"J": [0, 3]}`; None takes all.
        rtol: deviation that is tolerated besides the reported errors, relative to the norm of the gradient.

    Returns:
        A table that prints itself, with `.agrees`, `.verdict`, `.deviations` and `.plot()`.

    Raises:
        EquilibriumError: see `ep_gradient` and `finite_difference`.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> check = qp.check_gradient(net, params, qp.ObservableCost(qp.Z(1)))
        >>> print(check.verdict, check.deviations["linear response"] < 1e-6)
        agrees True
    """
    if not real_array(rtol, "rtol", ()) >= 0:
        raise ValueError(f"Argument `rtol` must not be negative, but is {rtol}.")
    solver = system.default_solver() if solver is None else solver
    shared: dict[str, Any] = {"solver": solver, "inputs": inputs, "key": key}
    ep = ep_gradient(system, params, nudge, target, scheme=scheme, **shared)
    references = {}
    if solver.responds:
        references["linear response"] = linear_response(system, params, nudge, target, **shared)
    references["finite differences"] = finite_difference(
        system, params, nudge, target, step=step, components=components, **shared
    )
    norm = _flat_norm(ep.grad)
    floor = max(norm, 1e-300)
    deviations, tolerances = {}, {}
    for name, reference in references.items():
        compared = {n: ~np.isnan(value) for n, value in reference.grad.items()}
        deviation = _flat_norm({n: ep.grad[n] - value for n, value in reference.grad.items()})
        errors = sum(
            _flat_norm({n: np.where(compared[n], getattr(out, field)[n], 0.0) for n in compared}) * factor
            for out in (ep, reference)
            for field, factor in (("truncation", 2.0), ("stderr", 5.0))
        )
        count = np.sqrt(sum(int(mask.sum()) for mask in compared.values()))
        tolerances[name] = float((errors + (ep.residual + reference.residual) * count) / floor + rtol)
        deviations[name] = deviation / floor
    vanishes = norm < 1e-12 * max(1.0, abs(float(ep.loss))) or max(tolerances.values()) >= 1
    failed = max(out.status for out in (ep, *references.values())).failed
    agrees = not vanishes and not failed and all(deviations[n] <= tolerances[n] for n in references)
    return GradientCheck(ep, references, deviations, tolerances, agrees, vanishes)

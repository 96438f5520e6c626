r"""Agnostic equilibrium propagation: the parameters are physical, and relax like everything else.

Every parameter theta is held by a spring of compliance eps to a control knob u. The whole device minimises

    E(theta, s) + beta C(s) + |theta - u|^2 / (2 eps)                                                    (A)

over its state s *and* its parameters theta. One step of training on one sample (Scellier, Mishra, Bengio and Ollivier
2022, "Agnostic physics-driven deep learning", arXiv:2205.15021; the centered variant, C-Aeqprop):

1. nudge by -beta/2; a homeostat turns u until theta rests where it was, theta_t;
2. freeze u, nudge by +beta/2: theta moves by itself to theta_{t+1}.

At rest the springs balance the forces, theta = u - eps dE/dtheta. Subtracting the two phases,

    theta_{t+1} - theta_t = -eps [dE/dtheta (theta_{t+1}, s_{+}) - dE/dtheta (theta_t, s_{-})]
                          = -eps beta grad L + O(eps^2 beta) ,     L = [e(beta/2) - e(-beta/2)] / beta ,

with e(b) the equilibrium energy at nudge b: a step of gradient descent on the two-sided loss L, taken by nobody. It
never increases L while (A) has a minimum in theta, eps |d2e/dtheta2| < 1. Nobody reads a force or knows E:
only displacements of theta are observed. This simulation does use the force dE/dtheta, to find the rest position that a
device would find by itself.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .estimate import Estimate
from .evaluation import Metric
from .gradient import force_error, nudge_ratio, nudge_status
from .history import History
from .module import AbstractModule
from .nudge import AbstractNudge, WeightedObservables, check_nudge
from .scheme import centered
from .solver import AbstractSolver, Equilibrium, check_init, describe, prepare
from .status import EquilibriumError, NudgeWarning, Status
from .system import AbstractSystem, Params, real_array
from .training import Memory, check_training, run_epochs
from .used import note

ADVICE = (
    "The parameters found no rest: theta and the control knobs have a joint equilibrium where eps * |d2e/dtheta2| < 1. "
    "Use a smaller eps, or raise `max_iterations`."
)
DIVERGED = 1e6
"""Growth of the imbalance of the springs at which the search is given up."""


class AgnosticStep(AbstractModule):
    """One training step that a device with springs on its parameters takes by itself.

    Attributes:
        params: theta_{t+1}, where the parameters came to rest.
        displacement: theta_{t+1} - theta_t, all that is observed.
        controls: u, the positions of the control knobs that the homeostat found.
        loss: the cost at the free equilibrium of theta_t, an `Estimate`.
        two_sided_loss: [e(beta/2) - e(-beta/2)] / beta at theta_t (of an `ExpectationCost`: of its linearisation), the
            function that the steps descend.
        beta, eps: nudge and compliance of the springs.
        residual: imbalance of the springs and residual of the phases, in units of a component of `grad_estimate`.
        iterations: nudged equilibria solved for until theta was at rest.
        nudge_ratio: (beta/2)*||C||/gap; None where no gap is known.
        solver: what was used.
        free, homeostatic, nudged: the equilibria at nudge 0, -beta/2 (both at theta_t) and beta/2 (at theta_{t+1}).
        status: the worst status met.
    """

    params: Params
    displacement: Params
    controls: Params
    loss: Estimate
    two_sided_loss: float
    beta: float
    eps: float
    residual: float
    iterations: int
    nudge_ratio: float | None
    solver: Any
    free: Equilibrium
    homeostatic: Equilibrium
    nudged: Equilibrium
    status: Status

    @property
    def grad_estimate(self) -> Params:
        """-displacement / (eps beta): the gradient of the two-sided loss to first order in eps."""
        return {name: value / (-self.eps * self.beta) for name, value in self.displacement.items()}

    def __repr__(self) -> str:
        head = (
            f"AgnosticStep  loss = {self.loss}  beta = {self.beta:g}  eps = {self.eps:g}  solver = {self.solver.name}"
        )
        facts = [f"status = {self.status}", f"residual -> {self.residual:.1e}", f"iterations = {self.iterations}"]
        if self.nudge_ratio:
            facts.append(f"beta/2*||C||/gap = {self.nudge_ratio:.2g}")
        rows = [f"  {'parameter':<12}{'theta':>16}{'displacement':>16}{'-displ/(eps beta)':>20}"]
        estimate = self.grad_estimate
        for name, value in self.params.items():
            for index in list(np.ndindex(value.shape))[:8]:
                label = name + (f"[{', '.join(map(str, index))}]" if index else "")
                moved = self.displacement[name][index]
                rows.append(f"  {label:<12}{value[index]:>16.8g}{moved:>16.4g}{estimate[name][index]:>20.8g}")
            if value.size > 8:
                rows.append(f"  ... {value.size - 8} more of {name}")
        return "\n".join([head, "  " + "  ".join(facts), *rows])


def agnostic_step(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    target: ArrayLike | None = None,
    *,
    solver: AbstractSolver | None = None,
    beta: float = 0.1,
    eps: float = 0.1,
    frozen: tuple[str, ...] = (),
    inputs: ArrayLike | None = None,
    init: Equilibrium | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 100,
    throw: bool = True,
) -> AgnosticStep:
    """One step of agnostic equilibrium propagation (Aeqprop) on one sample.

    The rest position of theta at nudge +beta/2 is found by iterating theta <- u - eps dE/dtheta with the state in
    equilibrium at every theta. The iteration shortens its steps where it overshoots, so that it ends in minima only.

    Args:
        system: the energy functional E_theta.
        params: theta_t, where the homeostat holds the parameters.
        nudge: the cost; its term is added with strengths -beta/2 and +beta/2.
        target: what an `ExpectationCost` compares with.
        solver: None takes `system.default_solver()`; it must be free of statistical noise.
        beta: difference of the two nudges, positive.
        eps: compliance of the springs between parameters and control knobs, positive; eps * beta is the learning rate.
        frozen: names of parameters that are clamped instead of held by springs.
        inputs: one sample, of shape `system.input_shape`.
        init: an equilibrium to start the free solve from.
        tolerance: imbalance of the springs at which theta counts as at rest, in units of a gradient component,
            relative to max(1, |grad_estimate|).
        max_iterations: bound on the nudged equilibria solved for.
        throw: raise `EquilibriumError` on failure; else return the step with its `status`.

    Raises:
        EquilibriumError: an unconverged phase, a nudge too large against the gap, no joint equilibrium at this eps.
        ValueError, TypeError: bad arguments, before any work.

    Source: B. Scellier, S. Mishra, Y. Bengio, Y. Ollivier, arXiv:2205.15021 (2022).

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> step = qp.agnostic_step(net, params, qp.ObservableCost(qp.Z(1)), beta=0.02, eps=1e-3)
        >>> print(step.status, step.grad_estimate["g"].round(3))
        ok [-0.235 -0.256]
    """
    check_nudge(nudge)
    check_init(init)
    for name, value in (("beta", beta), ("eps", eps), ("tolerance", tolerance)):
        if not real_array(value, name, ()) > 0:
            raise ValueError(f"Argument `{name}` must be positive, but is {value}.")
    system, theta, solver, _ = prepare(system, params, solver, inputs)
    note("agnostic_step")
    if solver.stochastic:
        raise ValueError(f"{solver.name} has statistical noise, in which no rest position of the parameters is found.")
    if system.batch_size is not None:
        raise ValueError(
            f"Argument `inputs` must be one sample, but has a batch axis of length {system.batch_size}: the parameters "
            "relax with the state of one device. `fit_agnostic` presents a data set sample by sample."
        )
    check_training(1, max_iterations, None, frozen, system)
    goal = nudge.check_target(target, None)
    free = solver.solve(system, theta, init=init)
    if free.status.failed and throw:
        raise EquilibriumError(free.status, f"free phase, {describe(free)}")
    term = nudge.term(free.state, goal)
    device = _Device(system, solver, term, float(beta), float(eps), frozen)
    loss = nudge.cost(free.state, goal)
    out = device.step(theta, free, loss, float(tolerance), int(max_iterations))
    if throw and out.status.failed:
        raise _failure(out)
    if throw and out.status is Status.LARGE_NUDGE:
        warnings.warn(f"beta/2*||C||/gap = {out.nudge_ratio:.2g}. {out.status.message}", NudgeWarning, stacklevel=2)
    return out


def _failure(out: AgnosticStep) -> EquilibriumError:
    details = f"residual -> {out.residual:.2g} after {out.iterations} iterations; free phase, {describe(out.free)}"
    restless = out.status is Status.UNCONVERGED and not out.nudged.status.failed
    return EquilibriumError(out.status, f"{details} {ADVICE}" if restless else details)


class _Rest(NamedTuple):
    """Where the parameters came to rest; `first_energy` is the nudged energy at the parameters they left."""

    theta: Params
    phase: Equilibrium
    first_energy: float
    imbalance: float
    iterations: int
    status: Status


class _Device:
    """A system whose parameters are held by springs."""

    def __init__(
        self,
        system: AbstractSystem,
        solver: AbstractSolver,
        term: WeightedObservables,
        beta: float,
        eps: float,
        frozen: tuple[str, ...],
    ):
        self.low, self.high = (system.nudged(term, strength) for strength in (-beta / 2, beta / 2))
        self.solver, self.term, self.beta, self.eps, self.frozen = solver, term, beta, eps, frozen

    def force(self, system: AbstractSystem, theta: Params, phase: Equilibrium) -> Params:
        """dE/dtheta on the parameters that can move."""
        force = system.param_grad(theta, phase.state).mean
        return {name: np.zeros_like(v) if name in self.frozen else v for name, v in force.items()}

    def step(
        self, start: Params, free: Equilibrium, loss: Estimate, tolerance: float, max_iterations: int
    ) -> AgnosticStep:
        """The homeostatic phase, then the joint equilibrium with the knobs frozen."""
        half = self.beta / 2
        low = self.solver.solve(self.low, start, init=self.solver.extrapolate({0.0: free}, -half))
        pull = self.force(self.low, start, low)
        controls = {name: start[name] + self.eps * pull[name] for name in start}  # what keeps theta at theta_t
        guess = self.solver.extrapolate({0.0: free, -half: low}, half)
        rest = self.relax(start, controls, guess, tolerance, max_iterations)
        ratio = nudge_ratio(centered(half), free, self.term)
        amplified = sum(force_error(equilibrium, free) for equilibrium in (low, rest.phase)) / self.beta
        return AgnosticStep(
            params=rest.theta,
            displacement={name: rest.theta[name] - start[name] for name in start},
            controls=controls,
            loss=loss,
            two_sided_loss=(rest.first_energy - float(low.energy.mean)) / self.beta,
            beta=self.beta,
            eps=self.eps,
            residual=rest.imbalance + amplified,
            iterations=rest.iterations,
            nudge_ratio=ratio,
            solver=self.solver,
            free=free,
            homeostatic=low,
            nudged=rest.phase,
            status=max(free.status, low.status, rest.status, nudge_status(ratio)),
        )

    def relax(
        self, start: Params, controls: Params, phase: Equilibrium, tolerance: float, max_iterations: int
    ) -> "_Rest":
        """Iterate theta <- u - eps dE/dtheta at nudge +beta/2. Steps that overshoot are halved: this is descent in (A)."""
        theta, length, imbalance, first_energy, largest = start, 1.0, np.inf, np.nan, np.inf
        for iteration in range(1, max_iterations + 1):
            phase = self.nudged(theta, phase, moved=iteration > 1)
            pull = self.force(self.high, theta, phase)
            rest = {name: controls[name] - self.eps * pull[name] for name in theta}
            previous, imbalance = imbalance, self._as_gradient(rest, theta)
            if iteration == 1:
                first_energy, largest = float(phase.energy.mean), DIVERGED * max(1.0, imbalance)
            rested = imbalance <= tolerance * max(1.0, self._as_gradient(theta, start))
            if rested or phase.status.failed or not imbalance <= largest or iteration == max_iterations:
                break
            length = length / 2 if imbalance > previous else length
            theta = {name: theta[name] + length * (rest[name] - theta[name]) for name in theta}
        # a phase that failed has a status of its own
        status = phase.status if rested or phase.status.failed else Status.UNCONVERGED
        return _Rest(theta, phase, first_energy, imbalance, iteration, status)

    def nudged(self, theta: Params, start: Equilibrium, moved: bool) -> Equilibrium:
        """The equilibrium at nudge +beta/2; where theta has moved to parameters that have none, say so."""
        try:
            return self.solver.solve(self.high, theta, init=start)
        except ValueError as error:
            if not moved:
                raise
            raise ValueError(
                f"At eps={self.eps:g} the parameters ran to where no equilibrium is. {error} {ADVICE}"
            ) from error

    def _as_gradient(self, one: Params, other: Params) -> float:
        """The distance of two parameter sets in units of a gradient."""
        squares = sum(float(np.sum((one[name] - other[name]) ** 2)) for name in one)
        return float(np.sqrt(squares)) / (self.eps * self.beta)


def fit_agnostic(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    nudge: AbstractNudge,
    data: tuple[ArrayLike, ArrayLike | None] | None = None,
    *,
    solver: AbstractSolver | None = None,
    beta: float = 0.1,
    eps: float = 0.1,
    epochs: int = 10,
    validation: tuple[ArrayLike, ArrayLike | None] | None = None,
    metric: Metric | None = None,
    patience: int | None = None,
    frozen: tuple[str, ...] = (),
    tolerate: Status = Status.LARGE_NUDGE,
    seed: int = 0,
    progress: bool | None = None,
    callback: Callable[[int, AgnosticStep, Params], None] | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 100,
) -> History:
    """Train by agnostic equilibrium propagation: no optimizer, every update is where the parameters come to rest.

    Samples are presented one at a time, in an order shuffled by `seed`. eps * beta is the learning rate. The other
    arguments are those of `fit` and `agnostic_step`; `callback` is called with (step, `AgnosticStep`, parameters).

    Returns:
        A `History`; `grad_norm` holds the norms of `AgnosticStep.grad_estimate`.

    Example:
        >>> import qeqprop as qp
        >>> pair = qp.HarmonicNetwork(2, [(0, 1)], trainable=("k", "kappa"), fixed={"f": [1.0, 0.0]})
        >>> start = {"k": [1.0], "kappa": [1.0, 1.0]}
        >>> cost = qp.ObservableCost((qp.R(1) - 0.5) ** 2)
        >>> history = qp.fit_agnostic(pair, start, cost, epochs=20, beta=0.2, eps=0.2, progress=False)
        >>> bool(history.loss[-1] < history.loss[0])
        True
    """
    _, current, solver, _ = prepare(system, params, solver, None)
    check_training(epochs, None, patience, frozen, system)

    def step(
        current: Params, memory: Memory, sample: Any, goal: Any, key: Any
    ) -> tuple[AgnosticStep, Params, Params, Memory]:
        out = agnostic_step(
            system, current, nudge, goal, solver=solver, beta=beta, eps=eps, frozen=frozen, inputs=sample,
            tolerance=tolerance, max_iterations=max_iterations, throw=False,
        )  # fmt: skip
        if out.status > tolerate:
            raise _failure(out)
        return out, out.grad_estimate, out.params, memory

    return run_epochs(
        step, Memory(), system, current, nudge, data, solver,
        epochs=epochs, batch_size=None, validation=validation, metric=metric, patience=patience,
        tolerate=tolerate, seed=seed, progress=progress, callback=callback,
    )  # fmt: skip

"""What became of an equilibrium or a gradient: a code, its meaning, and what to do about it."""

from enum import IntEnum


class Status(IntEnum):
    """Outcome of a solve, ordered by severity: everything from `NUDGE_TOO_LARGE` on is a failure.

    Example:
        >>> Status.OK.failed, Status.DEGENERATE.failed
        (False, True)
    """

    OK = 0
    LARGE_NUDGE = 1
    INACCURATE = 2
    NUDGE_TOO_LARGE = 3
    BRANCH_JUMP = 4
    DEGENERATE = 5
    BASIS_TOO_SMALL = 6
    UNDERSAMPLED = 7
    UNCONVERGED = 8
    NOT_FINITE = 9
    UNBOUNDED = 10

    @property
    def failed(self) -> bool:
        """True where no gradient should be trusted."""
        return self >= Status.NUDGE_TOO_LARGE

    @property
    def message(self) -> str:
        """What happened, why it happens, and what to do."""
        return _MESSAGES[self]

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


_MESSAGES = {
    Status.OK: "The equilibrium was found.",
    Status.LARGE_NUDGE: (
        "beta*||C||/gap is above 0.1: the gradient is the exact gradient of the finite-beta loss, but may differ from "
        "that of <C>. Compare with `linear_response`, use a smaller beta, or `richardson`."
    ),
    Status.INACCURATE: (
        "The gradient was estimated, but its error bars do not tell the whole error: the ansatz or the fits are poor. "
        "`stats['advice']` of the gradient says which, and what to do."
    ),
    Status.UNCONVERGED: (
        "The solver stopped before its residual reached the tolerance, and an unconverged phase would be amplified by "
        "1/beta. (a) Raise `max_iterations` (of an adiabatic preparation the `time`, or take a smoother ramp); (b) loosen "
        "`tolerance`; (c) the gap may be closing: look at `.gap`; (d) of a variational state look at `stats['v_score']`, and "
        "raise `max_steps` or take a richer `model`."
    ),
    Status.NUDGE_TOO_LARGE: (
        "beta*||C||/gap is above 0.5: the nudged ground state may be another state altogether. "
        "Use a smaller beta, or `LinearResponse()`, which needs no nudge."
    ),
    Status.BRANCH_JUMP: (
        "A nudged equilibrium is not on the branch of the free one (level crossing, or another minimum): the difference "
        "of forces is not a derivative. Use a smaller beta, or `LinearResponse()`."
    ),
    Status.DEGENERATE: (
        "The ground state is degenerate within the solver's accuracy: it has no unique gradient. (a) Add a small "
        "symmetry-breaking field; (b) move the parameters away from the level crossing; (c) if a symmetry protects the "
        "degeneracy, work in one of its sectors; (d) of a floppy mechanical network: pin nodes, add springs, or give it an "
        "on-site stiffness; `classical.rigidity_report` counts its zero modes."
    ),
    Status.BASIS_TOO_SMALL: (
        "The state reaches the edge of the truncated basis: `stats['edge_population']` of the equilibrium is above what the "
        "solver allows. (a) Keep more `levels`; (b) put the `center` of the basis where the nodes sit; (c) bring its "
        "`width` closer to that of the state."
    ),
    Status.UNDERSAMPLED: (
        "The random vectors hardly reach the levels that are occupied: ratios of such traces, and their errors, mean nothing. "
        "(a) Let the solver trace the low levels exactly (`deflated=None`); (b) raise `samples`; (c) raise the temperature."
    ),
    Status.NOT_FINITE: (
        "A NaN or an infinity appeared in the solve, or in the cost or its slope. Check the scale of the parameters and the "
        "inputs, and whether the cost has a slope at the free state (a norm has none at 0)."
    ),
    Status.UNBOUNDED: (
        "The coordinates ran away and the energy fell on: it has no minimum to come to rest in. (a) Look at the signs of the "
        "parameters, such as negative stiffnesses; (b) of a nudged phase use a smaller beta; (c) confine the coordinates by an "
        "on-site stiffness, or keep them in a `classical.Box`."
    ),
}


class EquilibriumError(RuntimeError):
    """A solve failed; `.status` says how. Raised unless `throw=False`.

    Example:
        >>> raise EquilibriumError(Status.DEGENERATE, "gap = 1e-14.")
        Traceback (most recent call last):
        ...
        qeqprop.core.status.EquilibriumError: degenerate: gap = 1e-14. The ground state is degenerate ...
    """

    def __init__(self, status: Status, details: str = ""):
        self.status = status
        super().__init__(f"{status}: {details + ' ' if details else ''}{status.message}")


class NudgeWarning(UserWarning):
    """A gradient was computed, but its nudge is large against the gap."""


class AccuracyWarning(UserWarning):
    """A gradient was computed, but its error bars do not tell the whole error (`Status.INACCURATE`)."""

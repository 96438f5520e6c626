r"""The response matrix d<O_k>/dtheta_j: how every output of a system moves with every parameter.

Each row is an equilibrium-propagation gradient with O_k as the cost. The free equilibrium is solved for once, and one
response (or one set of nudges) gives a whole row: K rows cost K responses, whatever the number of parameters.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import display
from .estimate import Estimate, format_uncertain
from .gradient import Problem, check_scheme, differentiate
from .module import AbstractModule
from .nudge import ObservableCost
from .randomness import branch
from .scheme import AbstractScheme, LinearResponse
from .solver import AbstractSolver, Equilibrium, check_init, describe, prepare
from .status import EquilibriumError, NudgeWarning, Status
from .system import AbstractSystem

if TYPE_CHECKING:
    import xarray

SHOWN_ROWS, SHOWN_COLUMNS = 12, 6


class ResponseMatrix(AbstractModule):
    """d<O_k>/dtheta_j with its errors. Prints as a table; `.matrix` and `.to_xarray()` give it to other programs.

    Attributes:
        labels: names of the K observables, the rows.
        values: <O_k> at the free equilibrium, an `Estimate` of shape (K,).
        grad: dict like `params`, each array with a first axis of length K.
        stderr: like `grad`: statistical error, 0 for exact solvers.
        truncation: like `grad`: estimated error of the difference quotients in beta, or of an approximate state (see
            `EPGradient`).
        residual: the worst residual of a row; see `EPGradient`.
        nudge_ratio: largest beta*||O_k||/gap; None where nothing was nudged or no gap is known.
        scheme: what was used, one for every row.
        solver: what was used.
        free: the free equilibrium.
        status: the worst status met.
    """

    labels: tuple[str, ...]
    values: Estimate
    grad: dict[str, np.ndarray]
    stderr: dict[str, np.ndarray]
    truncation: dict[str, np.ndarray]
    residual: float
    nudge_ratio: float | None
    scheme: tuple[Any, ...]
    solver: Any
    free: Equilibrium
    status: Status

    _repr_html_ = display.of_responses

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the parameters in the order of the columns of `matrix`."""
        return tuple(
            name + (f"[{', '.join(map(str, index))}]" if index else "")
            for name, value in self.grad.items()
            for index in np.ndindex(value.shape[1:])
        )

    @property
    def matrix(self) -> np.ndarray:
        """The responses as one array of shape (K, number of parameters)."""
        return self._flat(self.grad)

    def _flat(self, tree: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([value.reshape(len(self.labels), -1) for value in tree.values()], axis=1)

    def to_xarray(self) -> "xarray.Dataset":
        """`response`, `stderr` and `truncation` over the labelled dimensions (observable, parameter), and `value`."""
        import xarray

        tables = {"response": self.grad, "stderr": self.stderr, "truncation": self.truncation}
        both = ("observable", "parameter")
        return xarray.Dataset(
            {name: (both, self._flat(tree)) for name, tree in tables.items()}
            | {"value": ("observable", np.asarray(self.values.mean))},
            coords={"observable": list(self.labels), "parameter": list(self.columns)},
            attrs={"solver": repr(self.solver), "status": str(self.status), "residual": self.residual},
        )

    def __repr__(self) -> str:
        rows, columns, matrix = self.labels, self.columns, self.matrix
        errors = np.broadcast_to(self._flat(self.stderr), matrix.shape)
        schemes = " ".join(dict.fromkeys(map(str, self.scheme)))
        shown = columns[:SHOWN_COLUMNS]
        width = max([10, *(len(label) for label in rows[:SHOWN_ROWS])])
        lines = [
            f"ResponseMatrix  {len(rows)} observables x {len(columns)} parameters  scheme = {schemes}  "
            f"solver = {self.solver.name}",
            f"  status = {self.status}  residual -> {self.residual:.1e}  "
            f"truncation <= {np.max(self._flat(self.truncation), initial=0.0):.1e}",
            "  " + " " * width + f"{'value':>14}" + "".join(f"{name:>14}" for name in shown)
            + (f"  ... {len(columns) - len(shown)} more" if len(columns) > len(shown) else ""),
        ]  # fmt: skip
        for k, label in enumerate(rows[:SHOWN_ROWS]):
            value = format_uncertain(float(np.asarray(self.values.mean)[k]), float(np.asarray(self.values.stderr)[k]))
            cells = (format_uncertain(matrix[k, j], errors[k, j]) for j in range(len(shown)))
            lines.append(f"  {label:<{width}}{value:>14}" + "".join(f"{cell:>14}" for cell in cells))
        if len(rows) > SHOWN_ROWS:
            lines.append(f"  ... {len(rows) - SHOWN_ROWS} more observables")
        return "\n".join(lines)


def response_matrix(
    system: AbstractSystem,
    params: Mapping[str, ArrayLike],
    observables: Sequence[Any] | Mapping[str, Any],
    *,
    solver: AbstractSolver | None = None,
    scheme: AbstractScheme | None = None,
    inputs: ArrayLike | None = None,
    init: Equilibrium | None = None,
    key: Any = None,
    throw: bool = True,
) -> ResponseMatrix:
    """d<O_k>/dtheta_j of K observables by all parameters, at one operating point.

    Args:
        system: the energy functional E_theta.
        params: theta, a dict of arrays with the names and shapes of `system.param_shapes`.
        observables: what is measured: a list, or a dict {label: observable}.
        solver: None takes `system.default_solver()`.
        scheme: None takes `LinearResponse()` where the solver can, else the solver's own scheme for each observable.
        inputs: shape `system.input_shape`; no batch axis.
        init: an equilibrium to start the free solve from.
        key: an integer seed, for stochastic solvers only; None draws a fresh one.
        throw: raise `EquilibriumError` on failure; else return the matrix with its `status`.

    Raises:
        EquilibriumError: see `ep_gradient`.
        ValueError, TypeError: bad arguments, before any work.

    Example:
        >>> import qeqprop as qp
        >>> net = qp.TransverseFieldIsing(n_sites=2, edges=[(0, 1)])
        >>> params = {"J": [1.0], "h": [0.3, 0.0], "g": [1.0, 1.0]}
        >>> out = qp.response_matrix(net, params, {"left": qp.Z(0), "right": qp.Z(1)})
        >>> out
        ResponseMatrix  2 observables x 5 parameters  scheme = LinearResponse(tolerance=1e-10)  ...
          status = ok  ...
                             value          J[0]          h[0]          h[1]          g[0]          g[1]
          left             ...
          right            ...
        >>> bool(out.to_xarray().response.sel(observable="left", parameter="h[1]") == out.matrix[0, 2])
        True
    """
    check_init(init)
    system, checked, solver, seed = prepare(system, params, solver, inputs, key)
    named = _named(observables)
    costs = [ObservableCost(observable) for observable in named.values()]
    if system.batch_size is not None:
        raise ValueError(
            f"Argument `inputs` must be one sample, but has a batch axis of length {system.batch_size}: a response "
            "matrix belongs to one operating point. Call `response_matrix` once per sample."
        )
    check_scheme(scheme, solver)
    free = solver.solve(system, checked, init=init, key=branch(seed, 0))
    if free.status.failed and throw:
        raise EquilibriumError(free.status, f"free phase, {describe(free)}")
    if scheme is None and solver.responds:
        scheme = LinearResponse()
    rows = []
    for k, cost in enumerate(costs):
        term = cost.term(free.state)
        system.nudged(term, 0.0)  # refuses observables of another kind of system
        chosen = solver.default_scheme(free, term) if scheme is None else scheme
        problem = Problem(system, checked, cost, None, solver, branch(seed, 1 + k))
        rows.append(differentiate(problem, chosen, free, term))
    ratio = max((row.nudge_ratio for row in rows if row.nudge_ratio is not None), default=None)
    status = max(row.status for row in rows)
    if throw and status.failed:
        worst = max(range(len(rows)), key=lambda k: rows[k].status)
        raise EquilibriumError(status, f"response of {list(named)[worst]}; free phase, {describe(free)}")
    if throw and status is Status.LARGE_NUDGE:
        warnings.warn(f"beta*||O||/gap = {ratio:.2g}. {status.message}", NudgeWarning, stacklevel=2)
    return ResponseMatrix(
        labels=tuple(named),
        values=Estimate(*(np.array([float(getattr(row.loss, part)) for row in rows]) for part in ("mean", "stderr"))),
        grad=_stacked([row.grad for row in rows]),
        stderr=_stacked([row.stderr for row in rows]),
        truncation=_stacked([row.truncation for row in rows]),
        residual=max(row.residual for row in rows),
        nudge_ratio=ratio,
        scheme=tuple(row.scheme for row in rows),
        solver=solver,
        free=free,
        status=status,
    )


def _stacked(trees: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.stack([tree[name] for tree in trees]) for name in trees[0]}


def _named(observables: Any) -> dict[str, Any]:
    if not isinstance(observables, Mapping | list | tuple) or not observables:
        raise TypeError("Argument `observables` must be a non-empty list of observables or dict {label: observable}.")
    if isinstance(observables, Mapping):
        return {str(label): observable for label, observable in observables.items()}
    named = {str(observable): observable for observable in observables}
    if len(named) < len(observables):  # equal observables, or such as print alike
        return {f"{k}: {observable}": observable for k, observable in enumerate(observables)}
    return named

"""Static susceptibilities of NetKet states: how <A> moves when H gets a little of B, with standard errors."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.estimate import Estimate, format_uncertain
from ..core.module import AbstractModule
from ..core.precision import jax_float64
from ..core.status import Status
from .pauli import PauliSum
from .vmc_controls import chunk_size
from .vmc_operator import spin_operator
from .zero_variance import Ansatz
from .zero_variance_crossfit import cross_fit
from .zero_variance_diagnostics import diagnose, judge

FULL_SUM_RIDGE = 1e-10
"""Of fits to full sums, which have no noise: it only shuts out redundant variables."""


class StaticResponse(AbstractModule):
    """d<A>/dlambda_k of the ground state of H + sum_k lambda_k B_k.

    Attributes:
        response: an `Estimate` of shape (K,).
        value: <A> with its zero-variance control.
        status: `INACCURATE` where `stats["advice"]` has something to say.
        stats: V-score, held-out R^2 of the fits of A (`r2_cost`) and of the B (`r2_forces`), ...
    """

    response: Estimate
    value: Estimate
    status: Status
    stats: dict[str, Any]

    def __repr__(self) -> str:
        mean, stderr = np.asarray(self.response.mean), np.asarray(self.response.stderr)
        shown = [format_uncertain(float(m), float(s)) for m, s in zip(mean[:8], stderr[:8], strict=True)]
        more = f", ... {len(mean) - 8} more" if len(mean) > 8 else ""
        facts = f"  status = {self.status}  V-score = {self.stats['v_score']:.1e}"
        advice = [f"  {self.stats['advice']}"] if "advice" in self.stats else []
        head = f"StaticResponse  <A> = {self.value}  d<A>/dB = [{', '.join(shown)}{more}]"
        return "\n".join([head, facts, *advice])


def static_response(state: Any, H: Any, A: Any, B: Sequence[Any]) -> StaticResponse:
    r"""Static response of a positive variational ground state,

    .. math:: \chi_k = \left. \frac{d \langle A \rangle}{d \lambda_k} \right|_{\lambda = 0} , \qquad
        H \to H + \sum_k \lambda_k B_k ,

    that is minus twice the Kubo sum over excited states. Estimated without nudging and without excited states by the
    zero-variance, cross-fitted, doubly robust estimator (see `zero_variance`).

    Args:
        state: a `netket.vqs.MCState` on spins 1/2 (64 chains or more are best), or a `FullSumState`: then errors are 0 and
            what is left is the error of the ansatz. Its log psi must be real.
        H: the Hamiltonian that the state is the ground state of, a NetKet operator or a `PauliSum`; stoquastic: no positive
            element off the diagonal.
        A: the observable, with a real matrix.
        B: the perturbations, one or more.

    Raises:
        TypeError: a complex log psi, or a state without variables.
        ValueError: an operator that is complex or acts beyond the last site; H not stoquastic; too few samples.

    Example:
        >>> import netket as nk, qeqprop as qp
        >>> state = nk.vqs.FullSumState(nk.hilbert.Spin(0.5, 2), nk.models.Jastrow(param_dtype=float), seed=0)
        >>> state.variables = {"params": {"kernel": 0.0 * state.parameters["kernel"]}}
        >>> qp.quantum.static_response(state, -qp.X(0) - qp.X(1), qp.Z(0) * qp.Z(1), [qp.Z(0) * qp.Z(1)])
        StaticResponse  <A> = 0  d<A>/dB = [-0.5]
          status = ok  V-score = 0.0e+00
    """
    jax = jax_float64()
    if not hasattr(state, "variables") or not hasattr(state, "hilbert"):
        raise TypeError(f"Argument `state` must be a NetKet variational state, but is {type(state).__name__}.")
    if not isinstance(B, list | tuple) or not B:
        raise TypeError("Argument `B` must be a non-empty list of operators.")
    hamiltonian, observable, *perturbations = (_pauli(operator) for operator in (H, A, *B))
    exact = not hasattr(state, "sampler")
    samples = state.hilbert.all_states()[None] if exact else state.samples
    logs = jax.eval_shape(state._apply_fun, state.variables, samples[0])
    if np.issubdtype(logs.dtype, np.complexfloating):
        raise TypeError("Argument `state` must have a real log psi, but has a complex one. Take real parameters.")
    table = spin_operator((hamiltonian, *perturbations, observable), state.hilbert.size)
    chunk = chunk_size(table, state.variables)
    ansatz = Ansatz(state._apply_fun, state.variables, table, table.matrix[0], table.matrix[1:], chunk)
    if exact:
        weights = np.asarray(jax.nn.softmax(2 * state._apply_fun(state.variables, samples[0])))
        fitted = cross_fit(ansatz, samples, weights, FULL_SUM_RIDGE)
    else:
        fitted = cross_fit(ansatz, samples, None)
    sampled = fitted.respond(len(B), len(B))
    response = fitted.estimate([part.response for part in sampled])
    stats = diagnose(fitted, sampled, len(B), response)
    status, advice = judge(stats, response)
    value = fitted.estimate([values[:, [-2]] for values in fitted.reduced()])
    stats |= {"advice": advice} if advice else {}
    return StaticResponse(response, Estimate(value.mean[0], value.stderr[0]), status, stats)


def _pauli(operator: Any) -> PauliSum:
    return operator if isinstance(operator, PauliSum) else PauliSum.from_netket(operator)

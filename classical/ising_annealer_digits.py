"""Digits on an Ising machine: the annealer protocol of Laydevant et al., with simulated annealing as the machine.

python classical/ising_annealer_digits.py            # three seeds
python classical/ising_annealer_digits.py --quick    # one seed, few epochs

J. Laydevant, D. Markovic and J. Grollier, Nat. Commun. 15, 3671 (2024): a layered network of spins, annealed freely for
every image; then nudged towards the label, annealed in reverse from the free state; J moves by the difference of the two
states' correlations. Here 64 clamped pixels of scikit-learn's digits, 120 hidden and 40 output spins, four for a digit.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

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
RATES = {"J": 0.005, "h": 0.001, "W": 0.06}  # what moves the hidden spins is weak: W learns faster than J
MACHINE = SimulatedAnnealing(sweeps=10, reads=1, hottest=1.0, coldest=0.1, reheat=0.5)


def network() -> Ising:
    """64 clamped pixels - 120 hidden - 40 output spins."""
    edges = [(i, HIDDEN + j) for i in range(HIDDEN) for j in range(OUTPUTS)]
    return Ising(HIDDEN + OUTPUTS, edges, input_edges=[(m, j) for m in range(PIXELS) for j in range(HIDDEN)])


def data(seed: int) -> tuple[np.ndarray, ...]:
    """Pixels about their means over the training part (training part, test part), and labels."""
    digits = load_digits()
    images, held_out, labels, held_labels = train_test_split(
        digits.data / 8, digits.target, test_size=0.2, random_state=seed, stratify=digits.target
    )
    return images - images.mean(axis=0), held_out - images.mean(axis=0), labels, held_labels


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


def contrastive_step(net: Ising, params: Params, images: np.ndarray, target: np.ndarray, *path: int) -> Params:
    """Both anneals of a batch, and the difference of the forces over beta.

    These are the numbers of `qp.ep_gradient` (`--quick` compares them); the mean over the batch is taken in one product
    of matrices, where the engine forms the forces of every sample, of which it can give the errors.
    """
    driven = net.with_inputs(images)
    free = anneal(driven, params, *path, 0)
    nudged = driven.nudged(COST.term(free.state, target), BETA)
    before, after = spins(free), spins(anneal(nudged, params, *path, 1, init=free))
    scale = 1 / (BETA * len(images))
    bonds = before[:, :HIDDEN].T @ before[:, HIDDEN:] - after[:, :HIDDEN].T @ after[:, HIDDEN:]
    return {
        "J": scale * bonds.ravel(),
        "h": scale * (before - after).sum(axis=0),
        "W": scale * (images.T @ (before - after)[:, :HIDDEN]).ravel(),
    }


def accuracy(net: Ising, params: Params, images: np.ndarray, labels: np.ndarray) -> float:
    """The digit whose four spins point up most often, in eight annealings an image."""
    driven = net.with_inputs(images)
    votes = sum(spins(anneal(driven, params, 1, k))[:, HIDDEN:] for k in range(8))
    found = votes.reshape(-1, 10, COPIES).sum(axis=2).argmax(axis=1)
    return float(np.mean(found == labels))


def start(net: Ising, seed: int) -> Params:
    """Small random couplings, no fields."""
    rng = np.random.default_rng(seed)
    return {
        "J": rng.normal(0.0, 0.1, len(net.edges)),
        "h": np.zeros(net.n_sites),
        "W": rng.normal(0.0, 0.1, len(net.input_edges)),
    }


def train(seed: int, epochs: int) -> dict[str, Any]:
    """One seed: accuracy on the test part after every epoch, and CPU seconds of the training alone."""
    images, held_out, labels, held_labels = data(seed)
    net, rng = network(), np.random.default_rng(seed)
    params, curve, seconds = start(net, seed), [], 0.0
    for epoch in range(epochs):
        began = time.process_time()
        for step, rows in enumerate(np.array_split(rng.permutation(len(images)), len(images) // BATCH)):
            grad = contrastive_step(net, params, images[rows], targets(labels[rows]), seed, epoch, step)
            params = {name: params[name] - RATES[name] * DECAY**epoch * grad[name] for name in params}
        seconds += time.process_time() - began
        curve.append(accuracy(net, params, held_out, held_labels))
        print(f"seed {seed}  epoch {epoch + 1:2d}  test accuracy {curve[-1]:.3f}  {seconds:.1f} s CPU", flush=True)
    return {"seed": seed, "test accuracy": curve, "cpu seconds": seconds}


def check_step() -> None:
    """The step is the engine's: the same seeds give the same numbers."""
    images, _, labels, _ = data(0)
    net, target = network(), targets(labels[:10])
    params = start(net, 0)
    ours = contrastive_step(net, params, images[:10], target, 5)
    out = qp.ep_gradient(net, params, COST, target, solver=MACHINE, scheme=contrast(BETA), inputs=images[:10], key=5)
    for name, value in ours.items():
        assert np.any(value)
        np.testing.assert_allclose(value, out.grad[name], atol=1e-12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, two epochs, nothing is written")
    options = parser.parse_args()
    if options.quick:
        check_step()
        assert train(0, 2)["test accuracy"][-1] > 0.75
        return
    runs = [train(seed, EPOCHS) for seed in range(3)]
    final = [run["test accuracy"][-1] for run in runs]
    print(f"test accuracy {np.mean(final):.3f}, seeds {final}")
    (HERE / "ising_annealer_digits.json").write_text(
        json.dumps({"mean": float(np.mean(final)), "runs": runs}, indent=1) + "\n"
    )
    plot(runs)


def plot(runs: list[dict[str, Any]]) -> None:
    """Test accuracy against epochs."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(5, 3.5))
    for run in runs:
        ax.plot(range(1, len(run["test accuracy"]) + 1), run["test accuracy"], marker="o", label=f"seed {run['seed']}")
    ax.axhline(0.95, color="0.6", lw=0.8)
    ax.set(xlabel="epoch", ylabel="test accuracy", title="8x8 digits, 64-120-40 Ising machine, reverse annealing")
    ax.legend()
    figure.tight_layout()
    figure.savefig(HERE / "ising_annealer_digits.png", dpi=120)


if __name__ == "__main__":
    main()

"""Continual equilibrium propagation: the parameters learn at every step of the nudged phase, and nothing is stored.

python classical/continual_ep.py            # three seeds of a 64-100-10 Hopfield network on digits, several minutes
python classical/continual_ep.py --quick    # few images, compared with the claims

Ernoult, Grollier, Querlioz, Bengio and Scellier, arXiv:2005.04168 (2020): the updates are those of EP and of backpropagation
through time where the parameters learn slowly, and a network trained so is as good. Both trainings make the same time
steps; EP's are `qp.fit` with `DiscreteTime`, centered. The rates were chosen with continual EP on the split of seed 0.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import qeqprop as qp
from qeqprop.classical import (
    DiscreteTime,
    EnergySystem,
    StateCost,
    backpropagation_through_time,
    continual_step,
    fit_continual,
)

HERE = Path(__file__).parent
Params = dict[str, np.ndarray]
Data = tuple[np.ndarray, np.ndarray]
HIDDEN, BETA, BATCH, EPOCHS, SEEDS = 100, 0.5, 10, 12, 3
LEARNING_RATES = {"w0": 0.1, "b0": 0.05, "w1": 0.02, "b1": 0.02}
STEPS = DiscreteTime(dt=0.5, free_steps=20, nudged_steps=8, tolerance=0.2, truncation=1.0)
LONG = DiscreteTime(dt=0.5, free_steps=300, nudged_steps=8, truncation=1.0)
RATES = np.logspace(-7, -3, 9)
SHAPES = {"w0": (64, HIDDEN), "b0": (HIDDEN,), "w1": (HIDDEN, 10), "b1": (10,)}


def energy(p: Any, s: Any, x: Any) -> Any:
    """A Hopfield network: clamped pixels - hidden units with tanh - linear outputs."""
    rho, outputs = jnp.tanh(s[:HIDDEN]), s[HIDDEN:]
    return s @ s / 2 - (x @ p["w0"] + p["b0"]) @ rho - (rho @ p["w1"] + p["b1"]) @ outputs


def half_squared_error(outputs: Any, target: Any) -> Any:
    """sum (s - y)^2 / 2."""
    return ((outputs - target) ** 2).sum() / 2


NETWORK = EnergySystem(energy, (HIDDEN + 10,), SHAPES, inputs=(64,))
COST = StateCost(half_squared_error, range(HIDDEN, HIDDEN + 10))


def initial(seed: int) -> Params:
    """Weights of first layer of unit gain; weak ones to the outputs, which feed back; no biases."""
    rng = np.random.default_rng(seed)
    scale = {"w0": 1 / 8, "b0": 0.0, "w1": 0.3 / np.sqrt(HIDDEN), "b1": 0.0}
    return {name: scale[name] * rng.normal(size=shape) for name, shape in SHAPES.items()}


def data(seed: int) -> tuple[Data, Data]:
    """Pixels about their means over the training part, and one-hot targets; a fifth is held out."""
    digits = load_digits()
    images, held_out, labels, held_labels = train_test_split(
        digits.data / 8, digits.target, test_size=0.2, random_state=seed, stratify=digits.target
    )
    mean, one = images.mean(axis=0), np.eye(10)
    return (images - mean, one[labels]), (held_out - mean, one[held_labels])


def distance(tree: Params, reference: Params) -> float:
    """||tree - reference|| / ||reference||."""

    def norm(values: Any) -> float:
        return float(np.sqrt(sum(np.sum(v**2) for v in values)))

    return norm(tree[name] - reference[name] for name in reference) / norm(reference.values())


def slow_learning(n_images: int) -> dict[str, Any]:
    """Continual EP against EP at one nudge while the rate falls, and against backpropagation while both fall."""
    (images, targets), _ = data(0)
    images, targets, params = images[:n_images], targets[:n_images], initial(0)
    given = {"inputs": images, "solver": LONG}
    errors = {}
    for beta in (0.05, 0.5):
        ep = qp.ep_gradient(NETWORK, params, COST, targets, **given, scheme=qp.one_sided(beta)).grad
        found = [continual_step(NETWORK, params, COST, targets, **given, beta=beta, rate=float(r)) for r in RATES]
        errors[f"{beta:g}"] = [distance(out.grad_estimate, ep) for out in found]
    single = {"inputs": images[0]}
    back = backpropagation_through_time(
        NETWORK, params, COST, targets[0], **single, dt=LONG.dt, steps=LONG.nudged_steps, free_steps=LONG.free_steps
    )
    exact, betas = {name: grad[-1] for name, grad in back.gradient.items()}, np.logspace(-4, -1, 7)
    single["solver"] = LONG
    to_backpropagation = [
        distance(continual_step(NETWORK, params, COST, targets[0], **single, beta=b, rate=1e-3 * b**2).grad_estimate, exact)
        for b in betas.tolist()
    ]  # fmt: skip
    return {"rates": RATES.tolist(), "to EP": errors, "betas": betas.tolist(), "to BPTT": to_backpropagation}


def train(rule: str, seed: int, n_images: int, epochs: int) -> dict[str, Any]:
    """One training: the test error after every epoch."""
    (images, targets), held_out = data(seed)
    started = time.process_time()
    given: dict[str, Any] = {
        "epochs": epochs, "batch_size": BATCH, "validation": held_out, "metric": qp.accuracy, "seed": seed,
        "progress": False, "solver": STEPS,
    }  # fmt: skip
    problem = (NETWORK, initial(seed), COST, (images[:n_images], targets[:n_images]))
    if rule == "EP":
        sgd = optax.multi_transform({n: optax.sgd(r) for n, r in LEARNING_RATES.items()}, {n: n for n in SHAPES})
        history = qp.fit(*problem, scheme=qp.centered(BETA), optimizer=sgd, **given)
    else:
        history = fit_continual(*problem, beta=BETA, rate=LEARNING_RATES, random_sign=True, **given)
    seconds = time.process_time() - started
    return {"errors": (1 - history.metric).tolist(), "loss": float(history.loss[-20:].mean()), "CPU seconds": seconds}


def study(seeds: int, n_images: int, n_slow: int, epochs: int) -> dict[str, Any]:
    """All results."""
    rules = {rule: [train(rule, seed, n_images, epochs) for seed in range(seeds)] for rule in ("EP", "continual EP")}
    return {"slow": slow_learning(n_slow), "training": rules}


def check(results: dict[str, Any], bound: float) -> None:
    """What must hold: slope 1 in the rate and in the nudge; test errors as good as EP's."""
    slow = results["slow"]
    for beta, errors in slow["to EP"].items():
        slope = np.polyfit(np.log(slow["rates"][:5]), np.log(errors[:5]), 1)[0]
        assert abs(slope - 1) < 0.05, (beta, slope)
    slope = np.polyfit(np.log(slow["betas"]), np.log(slow["to BPTT"]), 1)[0]
    assert abs(slope - 1) < 0.1, slope
    ep, continual = (np.mean([run["errors"][-1] for run in runs]) for runs in results["training"].values())
    assert continual <= ep + bound, (ep, continual)


def table(results: dict[str, Any]) -> str:
    """Results as text."""
    slow = results["slow"]
    lines = ["rate      " + " ".join(f"{r:.0e}" for r in slow["rates"])]
    lines += [f"beta {b:<5}" + " ".join(f"{e:.0e}" for e in errors) for b, errors in slow["to EP"].items()]
    lines.append("to backpropagation, beta falling: " + " ".join(f"{e:.0e}" for e in slow["to BPTT"]))
    for rule, runs in results["training"].items():
        errors = ", ".join(f"{100 * run['errors'][-1]:.1f}" for run in runs)
        mean = 100 * np.mean([run["errors"][-1] for run in runs])
        lines.append(
            f"{rule:<13} test error {errors} % (mean {mean:.2f} %), {runs[0]['CPU seconds']:.0f} CPU seconds a run"
        )
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """The figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    slow = results["slow"]
    for beta, errors in slow["to EP"].items():
        left.loglog(slow["rates"], errors, "o-", ms=4, label=f"beta = {beta}")
    left.set(xlabel="rate eta", ylabel="relative distance from EP's updates", title="slow learning: slope 1")
    left.legend(frameon=False)
    middle.loglog(slow["betas"], slow["to BPTT"], "o-", ms=4)
    middle.set(
        xlabel="nudge beta, with eta = beta^2 / 1000", title="relative distance from backpropagation through time"
    )
    for number, (rule, runs) in enumerate(results["training"].items()):
        for k, run in enumerate(runs):
            epochs = 1 + np.arange(len(run["errors"]))
            label = rule if k == 0 else None
            right.plot(epochs, 100 * np.array(run["errors"]), color=f"C{number}", lw=1.2, label=label)
    right.set(xlabel="epoch", ylabel="test error (%)", title="digits, three seeds", ylim=(0, None))
    right.legend(frameon=False)
    figure.savefig(HERE / "continual_ep.png", dpi=120)


def rounded(tree: Any) -> Any:
    """Numbers of four digits."""
    if isinstance(tree, dict):
        return {name: rounded(value) for name, value in tree.items()}
    return [rounded(value) for value in tree] if isinstance(tree, list) else float(f"{tree:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the claims")
    if parser.parse_args().quick:
        check(study(1, 200, 5, 1), bound=0.05)
        print("The quick form agrees with the claims.")
        return
    results = study(SEEDS, 10_000, 20, EPOCHS)
    print(table(results))
    check(results, bound=0.01)
    draw(results)
    (HERE / "continual_ep.json").write_text(json.dumps(rounded(results)) + "\n")


if __name__ == "__main__":
    main()

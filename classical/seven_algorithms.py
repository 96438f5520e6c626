"""Seven learning rules train deep convolutional Hopfield networks: contrastive learning, EP and coupled learning.

python classical/seven_algorithms.py            # digits and Fashion-MNIST, about 25 minutes of CPU time
python classical/seven_algorithms.py --quick    # few digits, one seed, compared with the claims

After Scellier, Ernoult, Kendall and Kumar, arXiv:2312.15103 (2023), at a small size: three convolutions with average pooling
and a dense layer, units between -1 and 1 (in the paper 0 and 1), linear outputs, squared error. As in the paper relaxations
are cut off after a fixed number of sweeps. The rules (`qp.classical.RULES`) differ in the nudge and its sign. Of three learning
rates, which fall to zero along a cosine, every rule takes the one with the fewest errors on validation images, with the first
seed; test images are looked at once, at the end. Fashion-MNIST is left out where Debian's package dataset-fashion-mnist is not
installed.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax
from sklearn.datasets import load_digits

import qeqprop as qp
from qeqprop.classical import RULES, BlockDescent, Convolution, DeepHopfield, Dense

HERE = Path(__file__).parent
BETA, BATCH = 0.5, 25
RATES = (0.001, 0.003, 0.01)
SOLVER = BlockDescent(tolerance=1e-3, max_sweeps=15, over_relaxed=False, dtype="float32")
BETAS = (0.4, 0.2, 0.1, 0.05, 0.025)
Params = dict[str, np.ndarray]
Data = tuple[np.ndarray, np.ndarray]
Parts = dict[str, Data]


def digits(seed: int, sizes: tuple[int, int, int]) -> Parts:
    """scikit-learn's 8 x 8 digits, in parts that do not overlap."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    return split((images[order] / 4).reshape(-1, 1, 8, 8), np.eye(10)[labels[order]], sizes)


def clothes(seed: int, sizes: tuple[int, int, int]) -> Parts:
    """Fashion-MNIST at half the resolution; training and validation images are of its training part."""
    data = qp.data.fashion_mnist(n_train=sizes[0] + sizes[1], n_test=sizes[2], off=0.0, seed=seed)
    inputs, targets = (
        np.concatenate([data.train_inputs, data.test_inputs]),
        np.concatenate([data.train_targets, data.test_targets]),
    )
    coarse = inputs.reshape(-1, 1, 14, 2, 14, 2).mean(axis=(3, 5))
    return split(3 * coarse, targets, sizes)


def split(inputs: np.ndarray, targets: np.ndarray, sizes: tuple[int, int, int]) -> Parts:
    """Parts of these sizes, one behind the other; pixels about their means over the training part."""
    ends, centred = np.cumsum(sizes), inputs - inputs[: sizes[0]].mean(axis=0)
    return {
        name: (centred[end - size : end], targets[end - size : end])
        for name, size, end in zip(("train", "validation", "test"), sizes, ends, strict=True)
    }


def network(pixels: int, activation: str = "hard_tanh") -> DeepHopfield:
    """Images - 8 maps - 16 maps - 16 maps - 10 outputs, images made smaller by the first and the third convolution."""
    half, quarter = pixels // 2, pixels // 4
    links = [Convolution(0, 1, pooling="average"), Convolution(1, 2), Convolution(2, 3, pooling="average"), Dense(3, 4)]
    sizes = [(1, pixels, pixels), (8, half, half), (16, half, half), (16, quarter, quarter), 10]
    return DeepHopfield(sizes, interactions=links, activation=activation)


class Task(NamedTuple):
    """Images of `pixels` x `pixels`, numbers of those to train, to validate and to test, of epochs and seeds."""

    load: Callable[[int, tuple[int, int, int]], Parts]
    pixels: int
    sizes: tuple[int, int, int]
    epochs: int
    seeds: int


TASKS = {
    "digits": Task(digits, 8, (900, 300, 597), 12, 5),
    "Fashion-MNIST": Task(clothes, 14, (1000, 300, 1000), 10, 5),
}


def initial(net: DeepHopfield, seed: int) -> Params:
    """Weights that feed back are smaller, those to the outputs most."""
    parts = {"w1": 0.6, "w2": 0.6, "w3": 0.3}
    return {name: parts.get(name, 1.0) * value for name, value in net.init_params(seed).items()}


def train(task: Task, rule: str, rate: float, seed: int, parts: Parts) -> qp.History | None:
    """One training with Adam; None where its states run away.

    Steps whose phases are not at rest, or crossed a barrier, are taken, and counted.
    """
    net, steps = network(task.pixels), task.epochs * -(-len(parts["train"][0]) // BATCH)
    try:
        return qp.fit(
            net, initial(net, seed), RULES[rule].nudge(net.outputs), parts["train"], solver=SOLVER,
            scheme=RULES[rule].scheme(BETA), optimizer=optax.adam(optax.cosine_decay_schedule(rate, steps)),
            epochs=task.epochs, batch_size=BATCH, seed=seed, tolerate=qp.Status.UNCONVERGED, progress=False,
        )  # fmt: skip
    except qp.EquilibriumError:
        return None


def error(task: Task, history: qp.History | None, data: Data) -> float:
    """Fraction of images in a wrong class, read where a relaxation as in training ends; 1 where the training failed."""
    if history is None:
        return 1.0
    net, wrong = network(task.pixels), 0
    for rows in np.split(np.arange(len(data[0])), range(BATCH, len(data[0]), BATCH)):
        state = qp.equilibrate(net, history.params, inputs=data[0][rows], solver=SOLVER, throw=False).state
        wrong += np.count_nonzero(state.layers[-1].argmax(axis=1) != data[1][rows].argmax(axis=1))
    return wrong / len(data[0])


def compared(task: Task, rule: str, rates: tuple[float, ...]) -> dict[str, Any]:
    """Test errors of all seeds, at the learning rate that the validation images choose."""
    begin, parts = time.process_time(), [task.load(seed, task.sizes) for seed in range(task.seeds)]
    known = {rate: train(task, rule, rate, 0, parts[0]) for rate in rates}
    held_out = {rate: error(task, history, parts[0]["validation"]) for rate, history in known.items()}
    rate = min(held_out, key=held_out.__getitem__)
    runs = [known[rate], *(train(task, rule, rate, seed, parts[seed]) for seed in range(1, task.seeds))]
    counts: Counter[str] = sum((Counter(run.status_counts) for run in runs if run is not None), Counter())
    found = {
        "rate": rate,
        "validation errors": list(held_out.values()),
        "test errors": [error(task, run, part["test"]) for run, part in zip(runs, parts, strict=True)],
        "last losses": [np.inf if run is None else float(run.loss[-20:].mean()) for run in runs],
        "steps by status": dict(counts),
        "cpu seconds": round(time.process_time() - begin, 1),
    }
    if rule == "C-EP" and runs[0] is not None:
        found["bounds"] = bounds(task, runs[0].params, parts[0]["test"], 200 if task.seeds > 1 else BATCH)
    return found


def bounds(task: Task, params: Params, data: Data, n_images: int) -> dict[str, float]:
    """What the losses that P-EP and N-EP descend leave to the squared error of every image, in units of its mean."""
    net, images = network(task.pixels), slice(0, n_images)
    given = {"inputs": data[0][images], "scheme": qp.centered(BETA), "throw": False}
    out = qp.ep_gradient(net, params, RULES["C-EP"].nudge(net.outputs), data[1][images], **given)
    (upper, pushed), (lower, pulled) = sorted(
        ((b.real, phase.energy.mean) for b, phase in out.nudged), key=lambda x: x[0]
    )
    assert (upper, lower) == (-BETA, BETA)
    scale = out.losses.mean()
    return {
        "least of loss - positive": float(np.min(out.losses - (pulled - out.free.energy.mean) / BETA) / scale),
        "least of negative - loss": float(np.min((out.free.energy.mean - pushed) / BETA - out.losses) / scale),
        "mean of positive / loss": float(np.mean((pulled - out.free.energy.mean) / BETA) / scale),
        "mean of negative / loss": float(np.mean((out.free.energy.mean - pushed) / BETA) / scale),
        "mean of centered / loss": float(np.mean((pulled - pushed) / (2 * BETA)) / scale),
    }


def biases(n_images: int) -> dict[str, list[float]]:
    """Distance of every rule from its limit of weak nudges, relative, on smooth units: for EP the limit is the gradient."""
    net, found = network(8, "tanh"), {}
    params, (inputs, targets) = initial(net, 0), digits(0, (n_images, 1, 1))["train"]
    for name, rule in RULES.items():
        if name == "CL":
            continue  # it has no strength
        problem = (net, params, rule.nudge(net.outputs), targets)
        limit = qp.linear_response(*problem, inputs=inputs).grad
        grads = [qp.ep_gradient(*problem, inputs=inputs, scheme=rule.scheme(beta)).grad for beta in BETAS]
        found[name] = [norm({n: g[n] - limit[n] for n in limit}) / norm(limit) for g in grads]
    return found


def norm(tree: Params) -> float:
    return float(np.sqrt(sum(np.sum(value**2) for value in tree.values())))


def orders(found: dict[str, list[float]]) -> dict[str, float]:
    """Slopes at the smallest nudges."""
    return {name: float(np.log2(errors[-2] / errors[-1])) for name, errors in found.items()}


def study(tasks: dict[str, Task], n_images: int, rates: tuple[float, ...] = RATES) -> dict[str, Any]:
    """All results."""
    found = biases(n_images)
    return {
        "betas": list(BETAS),
        "bias": found,
        "order": orders(found),
        "tasks": {name: {rule: compared(task, rule, rates) for rule in RULES} for name, task in tasks.items()},
    }


def check(results: dict[str, Any], worst: float) -> None:
    """What must hold: orders of the biases, bounds for every image, and which rules learn."""
    for name, order in results["order"].items():
        assert abs(order - (2 if name[0] == "C" else 1)) < 0.15, (name, order)
    for task, found in results["tasks"].items():
        gap = found["C-EP"]["bounds"]
        assert gap["least of loss - positive"] > -1e-9, (task, gap)
        assert gap["least of negative - loss"] > -1e-9, (task, gap)
        for rule in ("C-EP", "C-CpL"):
            assert np.mean(found[rule]["test errors"]) < worst, (task, rule, found[rule])


RANKINGS = {
    "C-EP better than P-EP": ("C-EP", "P-EP"),
    "C-EP better than N-EP": ("C-EP", "N-EP"),
    "N-EP better than P-EP": ("N-EP", "P-EP"),
    "N-CpL better than P-CpL": ("N-CpL", "P-CpL"),
    "C-CpL better than P-CpL": ("C-CpL", "P-CpL"),
    "C-EP better than C-CpL": ("C-EP", "C-CpL"),
    "C-EP better than CL": ("C-EP", "CL"),
}
"""What the paper finds on its harder tasks; on MNIST all rules are alike there."""


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    """Mean difference of the test errors on the same split, with its standard error over the seeds."""
    told = {}
    for claim, (better, worse) in RANKINGS.items():
        gap = 100 * (np.array(found[worse]["test errors"]) - np.array(found[better]["test errors"]))
        mean, stderr = gap.mean(), gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else np.inf
        told[claim] = f"{mean:+.1f} +- {stderr:.1f} points: " + (
            "seen" if mean > 2 * stderr else "the opposite" if mean < -2 * stderr else "not resolved"
        )
    return told


def table(results: dict[str, Any]) -> str:
    """Results as text."""
    lines = ["order of the bias: " + ", ".join(f"{name} {order:.2f}" for name, order in results["order"].items())]
    for task, found in results["tasks"].items():
        lines.append(f"{task}: rule, test errors (%), mean, rate, steps by status, CPU seconds")
        for rule in RULES:
            run = found[rule]
            errors = 100 * np.array(run["test errors"])
            lines.append(
                f"  {rule:<6} {' '.join(f'{e:5.1f}' for e in errors)}  {errors.mean():5.2f}  {run['rate']}  "
                f"{run['steps by status']}  {run['cpu seconds']}"
            )
        lines += [f"  {claim}: {verdict}" for claim, verdict in verdicts(found).items()]
        lines.append("  " + ", ".join(f"{name} {value:.3g}" for name, value in found["C-EP"]["bounds"].items()))
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """The figure: biases, and test errors of both tasks."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, *others) = plt.subplots(1, 1 + len(results["tasks"]), figsize=(17, 4.2), layout="constrained")
    for k, (name, errors) in enumerate(results["bias"].items(), 1):
        left.loglog(results["betas"], errors, "o-" if "EP" in name else "s--", color=f"C{k}", ms=4, label=name)
    left.set(xlabel="nudge beta", ylabel="relative distance from the limit", title="bias: slopes 1 and 2")
    left.set_xticks(results["betas"], [f"{beta:g}" for beta in results["betas"]])
    left.minorticks_off()
    left.legend(frameon=False, ncols=2)
    for axes, (task, found) in zip(others, results["tasks"].items(), strict=True):
        for k, rule in enumerate(RULES):
            errors = 100 * np.array(found[rule]["test errors"])
            axes.plot(np.full(len(errors), k), errors, "o", color=f"C{k}", ms=4, alpha=0.6)
            axes.plot([k - 0.3, k + 0.3], [errors.mean()] * 2, color=f"C{k}", lw=2)
        axes.set_xticks(range(len(RULES)), list(RULES), rotation=30)
        axes.set(ylim=(0, None), ylabel="test error (%)", title=f"{task}: seeds and their mean")
    figure.savefig(HERE / "seven_algorithms.png", dpi=120)


def rounded(tree: Any) -> Any:
    """Numbers of four digits."""
    if isinstance(tree, dict):
        return {name: rounded(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [rounded(value) for value in tree]
    return tree if isinstance(tree, str | int) else float(f"{tree:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the claims")
    if parser.parse_args().quick:
        check(
            study({"digits": TASKS["digits"]._replace(sizes=(250, 50, 200), epochs=4, seeds=1)}, 3, (0.003,)), worst=0.6
        )
        print("The quick form agrees with the claims.")
        return
    tasks = dict(TASKS)
    if not qp.data.FASHION_MNIST.is_dir():
        print(f"Without Fashion-MNIST: it is not in {qp.data.FASHION_MNIST}.")
        del tasks["Fashion-MNIST"]
    results = study(tasks, 20)
    print(table(results))
    check(results, worst=0.4)
    results["rankings"] = {task: verdicts(found) for task, found in results["tasks"].items()}
    draw(results)
    (HERE / "seven_algorithms.json").write_text(json.dumps(rounded(results)) + "\n")


if __name__ == "__main__":
    main()

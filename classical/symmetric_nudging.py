"""A convolutional Hopfield network, nudged to one side or to both, its relaxations cut off or carried to rest.

python classical/symmetric_nudging.py            # four schemes, two relaxations, five seeds, 15 minutes of CPU time
python classical/symmetric_nudging.py --quick    # few images, one seed, compared with the claims

After Laborieux et al., arXiv:2006.03824 (2020) and Front. Neurosci. 15, 633674 (2021), at a small size: three convolutions and
a dense layer on 8 x 8 digits, units between -1 and 1, squared error. As there, relaxations are cut off after a fixed number of
sweeps, and what the free phase has not yet done the nudged one goes on with: divided by beta, that drift is an error of
nudges to one side, and cancels between two sides. The same trainings with all relaxations carried to rest show what is left
of it. Along two trainings every estimate is compared with the gradient (implicit differentiation at rest) layer by layer.

Of three learning rates every scheme takes the one with the fewest errors on validation images, with the first seed; test
images are looked at once, at the end.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optax
from sklearn.datasets import load_digits

import qeqprop as qp
from qeqprop.classical import RULES, BlockDescent, Convolution, DeepHopfield, Dense

HERE = Path(__file__).parent
BETA, BATCH, SEEDS, EPOCHS = 0.8, 25, 5, 12
RATES = (0.001, 0.003, 0.01)
SIZES = (900, 300, 597)
LOOKED_AT = (0, 1, 2, 4, 8, 12)
RELAXATIONS = {
    "cut off": BlockDescent(tolerance=1e-3, max_sweeps=15, over_relaxed=False, dtype="float32"),
    "at rest": BlockDescent(tolerance=1e-3, max_sweeps=3000, dtype="float32"),
}
LINKS = [Convolution(0, 1, pooling="average"), Convolution(1, 2), Convolution(2, 3, pooling="average"), Dense(3, 4)]
NET = DeepHopfield([(1, 8, 8), (8, 4, 4), (16, 4, 4), (16, 2, 2), 10], interactions=LINKS, activation="hard_tanh")
COST = RULES["C-EP"].nudge(NET.outputs)
Params = dict[str, np.ndarray]
Data = tuple[np.ndarray, np.ndarray]

SCHEMES: dict[str, Callable[[np.random.Generator], qp.Stencil]] = {
    "positive": lambda rng: qp.one_sided(BETA),
    "negative": lambda rng: qp.one_sided(-BETA),
    "random sign": lambda rng: qp.one_sided(rng.choice((-BETA, BETA))),
    "symmetric": lambda rng: qp.centered(BETA),
}
"""Name -> the scheme of one step."""
MEASURED = ("positive", "negative", "symmetric")
COLOURS = {"positive": "C1", "negative": "C2", "random sign": "C3", "symmetric": "C0"}


def digits(seed: int, sizes: tuple[int, int, int]) -> tuple[Data, Data, Data]:
    """Images to train, to validate and to test, about the mean of the first."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    inputs, targets = images[order].reshape(-1, 1, 8, 8) / 4, np.eye(10)[labels[order]]
    inputs, (a, b, c) = inputs - inputs[: sizes[0]].mean(axis=0), np.cumsum(sizes)
    return (inputs[:a], targets[:a]), (inputs[a:b], targets[a:b]), (inputs[b:c], targets[b:c])


def initial(seed: int) -> Params:
    """Weights that feed back are smaller, those to the outputs most."""
    parts = {"w1": 0.6, "w2": 0.6, "w3": 0.3}
    return {name: parts.get(name, 1.0) * value for name, value in NET.init_params(seed).items()}


def train(
    scheme: str, solver: BlockDescent, rate: float, seed: int, data: Data, epochs: int
) -> tuple[list[Params], list[float], Counter[str]]:
    """Parameters before, and after every epoch of, Adam; mean losses of the epochs; steps by status: all are taken."""
    params, rng, optimizer = initial(seed), np.random.default_rng(seed), optax.adam(rate)
    moments, known, losses, counts = optimizer.init(params), [params], [], Counter[str]()
    for _ in range(epochs):
        order, found = rng.permutation(len(data[0])), []
        for rows in np.split(order, range(BATCH, len(order), BATCH)):
            out = qp.ep_gradient(
                NET,
                params,
                COST,
                data[1][rows],
                inputs=data[0][rows],
                scheme=SCHEMES[scheme](rng),
                solver=solver,
                throw=False,
            )
            counts[str(out.status)] += 1
            found.append(float(out.loss))
            updates, moments = optimizer.update(out.grad, moments)
            params = {name: params[name] + np.asarray(updates[name]) for name in params}
        known.append(params)
        losses.append(float(np.mean(found)))
    return known, losses, counts


def error(params: Params, solver: BlockDescent, data: Data) -> float:
    """Fraction of images in a wrong class, read where a relaxation as in training ends, at rest or not."""
    wrong = 0
    for rows in np.split(np.arange(len(data[0])), range(BATCH, len(data[0]), BATCH)):
        state = qp.equilibrate(NET, params, inputs=data[0][rows], solver=solver, throw=False).state
        wrong += np.count_nonzero(state.layers[-1].argmax(axis=1) != data[1][rows].argmax(axis=1))
    return wrong / len(data[0])


def run(
    scheme: str, relaxation: str, seeds: int, sizes: tuple[int, int, int], epochs: int, rates: tuple[float, ...]
) -> tuple[dict[str, Any], list[Params]]:
    """The rate by the validation images of seed 0, then test errors of all seeds; and the parameters along the first run."""
    begin, solver = time.process_time(), RELAXATIONS[relaxation]
    parts = [digits(seed, sizes) for seed in range(seeds)]
    known = {rate: train(scheme, solver, rate, 0, parts[0][0], epochs) for rate in rates}
    held_out = {rate: error(found[0][-1], solver, parts[0][1]) for rate, found in known.items()}
    rate = min(held_out, key=held_out.__getitem__)
    runs = [known[rate], *(train(scheme, solver, rate, seed, parts[seed][0], epochs) for seed in range(1, seeds))]
    return {
        "rate": rate,
        "validation errors": list(held_out.values()),
        "test errors": [error(path[-1], solver, part[2]) for (path, _, _), part in zip(runs, parts, strict=True)],
        "losses of epochs": [losses for _, losses, _ in runs],
        "steps by status": dict(sum((counts for *_, counts in runs), Counter[str]())),
        "cpu seconds": round(time.process_time() - begin, 1),
    }, runs[0][0]


def biases(path: list[Params], data: Data, looked_at: tuple[int, ...]) -> dict[str, Any]:
    """Cosine with, and distance from, the gradient at rest, of every layer's weights along a training."""
    found: dict[str, Any] = {"epochs": list(looked_at)}
    for epoch in looked_at:
        problem = NET, path[epoch], COST, data[1]
        exact = qp.linear_response(*problem, inputs=data[0], throw=False)
        assert exact.status is not qp.Status.UNCONVERGED, (epoch, exact.status)
        for relaxation, solver in RELAXATIONS.items():
            for scheme in MEASURED:
                given = {"scheme": SCHEMES[scheme](np.random.default_rng(0)), "solver": solver, "throw": False}
                grad = qp.ep_gradient(*problem, inputs=data[0], **given).grad
                rows = found.setdefault(relaxation, {}).setdefault(scheme, {"cosine": [], "distance": []})
                pairs = [(grad[name], exact.grad[name]) for name in path[0] if name[0] == "w"]
                rows["cosine"].append([float((g * e).sum() / (norm(g) * norm(e))) for g, e in pairs])
                rows["distance"].append([norm(g - e) / norm(e) for g, e in pairs])
    return found


def norm(value: np.ndarray) -> float:
    return float(np.sqrt(np.sum(value**2)))


def study(
    seeds: int, sizes: tuple[int, int, int], epochs: int, n_images: int, rates: tuple[float, ...] = RATES
) -> dict[str, Any]:
    """All results."""
    trainings: dict[str, Any] = {}
    bias: dict[str, Any] = {}
    train_images = tuple(part[:n_images] for part in digits(0, sizes)[0])
    for relaxation in RELAXATIONS:
        trainings[relaxation] = {}
        for scheme in SCHEMES:
            trainings[relaxation][scheme], path = run(scheme, relaxation, seeds, sizes, epochs, rates)
            if relaxation == "cut off" and scheme in ("symmetric", "positive"):
                bias[scheme] = biases(path, train_images, tuple(e for e in LOOKED_AT if e <= epochs))
    return {"trainings": trainings, "bias": bias}


def check(results: dict[str, Any], worst: float) -> None:
    """What must hold: symmetric nudges train, positive ones do not where relaxations are cut off, and are biased there."""
    cut, rest = (results["trainings"][relaxation] for relaxation in RELAXATIONS)
    assert np.mean(cut["symmetric"]["test errors"]) < worst, cut["symmetric"]
    assert np.mean(rest["symmetric"]["test errors"]) < worst, rest["symmetric"]
    assert np.mean(cut["positive"]["test errors"]) > 2 * np.mean(cut["symmetric"]["test errors"]), cut["positive"]
    for schemes in (cut, rest):
        assert all(np.isfinite(run["losses of epochs"]).all() for run in schemes.values())
    assert "unconverged" not in set().union(*(run["steps by status"] for run in rest.values())), rest
    cosines = {scheme: np.mean(found["cosine"]) for scheme, found in results["bias"]["symmetric"]["cut off"].items()}
    assert cosines["symmetric"] > cosines["positive"] + 0.25, cosines


def table(results: dict[str, Any]) -> str:
    """Results as text."""
    lines = []
    for relaxation, schemes in results["trainings"].items():
        lines.append(f"{relaxation}: test errors (%), mean, last training loss, rate, steps by status, CPU seconds")
        for scheme, found in schemes.items():
            errors, last = 100 * np.array(found["test errors"]), np.mean([run[-1] for run in found["losses of epochs"]])
            lines.append(
                f"  {scheme:<12} {' '.join(f'{e:5.1f}' for e in errors)}  {errors.mean():5.1f}  {last:.3f}  {found['rate']}  "
                f"{found['steps by status']}  {found['cpu seconds']}"
            )
    for trained, found in results["bias"].items():
        for relaxation in RELAXATIONS:
            for scheme in MEASURED:
                lines.append(f"cosine with the gradient along {trained} training, {scheme}, {relaxation}: w0 w1 w2 w3")
                for epoch, row in zip(found["epochs"], found[relaxation][scheme]["cosine"], strict=True):
                    lines.append(f"  epoch {epoch:2d}: {' '.join(f'{c:6.3f}' for c in row)}")
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """The figure: test errors of all seeds, training losses, and how far the estimates are from the gradient."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(13, 7.4), layout="constrained")
    for (relaxation, schemes), (left, middle, right) in zip(results["trainings"].items(), panels, strict=True):
        for k, (scheme, found) in enumerate(schemes.items()):
            colour, tested = COLOURS[scheme], 100 * np.array(found["test errors"])
            left.plot(np.full(len(tested), k), tested, "o", color=colour, alpha=0.6)
            left.plot([k - 0.3, k + 0.3], [tested.mean()] * 2, color=colour, lw=2)
            for row, losses in enumerate(found["losses of epochs"]):
                label = scheme if row == 0 else None
                middle.plot(np.arange(1, len(losses) + 1), losses, color=colour, lw=1, label=label)
        left.set_xticks(range(len(schemes)), list(schemes))
        left.set(
            ylabel="test error (%)", title=f"relaxations {relaxation}, beta = {BETA:g}: seeds, mean", ylim=(0, 100)
        )
        middle.set(xlabel="epoch", ylabel="mean loss", title=f"{relaxation}: loss of every seed", ylim=(0, None))
        middle.legend(frameon=False)
        along = results["bias"]["symmetric"]
        for scheme in MEASURED:
            for layer, style in ((0, "o-"), (3, "s--")):
                cosines = np.array(along[relaxation][scheme]["cosine"])[:, layer]
                label = f"{scheme}, {'first' if layer == 0 else 'last'} weights"
                right.plot(along["epochs"], cosines, style, color=COLOURS[scheme], ms=4, label=label)
        right.axhline(0, color="grey", lw=0.8)
        right.set(
            xlabel="epochs of the symmetric training",
            ylabel="cosine with the gradient",
            title=f"{relaxation}: estimates of one step",
            ylim=(-1, 1.05),
        )
        right.legend(frameon=False, fontsize="x-small")
    figure.savefig(HERE / "symmetric_nudging.png", dpi=110)


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
        check(study(1, (300, 50, 200), 4, 20, (0.003,)), worst=0.5)
        print("The quick form agrees with the claims.")
        return
    results = study(SEEDS, SIZES, EPOCHS, 100)
    print(table(results))
    check(results, worst=0.15)
    draw(results)
    (HERE / "symmetric_nudging.json").write_text(json.dumps(rounded(results)) + "\n")


if __name__ == "__main__":
    main()

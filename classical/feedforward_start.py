"""How near to rest a forward pass ends, and what that has to do with good autoencoders.

python classical/feedforward_start.py            # chains from autoencoders to random weights, and trained networks, a minute
python classical/feedforward_start.py --quick    # fewer networks, compared with the claims

Bengio, Scellier, Bilaniuk, Sacramento and Senn, arXiv:1606.01651 (2016): a unit of a hidden layer receives b from below and t
from above, and is at rest at rho(b + t). Where each layer and the next are a good autoencoder, b = t, so that a forward pass
which counts b twice ends at rest. The condition is measured as the mismatch |b - t| / |b + t| of the hidden layers at rest: 0
where it holds, 1 where the two have nothing to do with each other.

Weights of the chains are mixtures of orthogonal matrices, of a length that makes b = t, with random ones, of one spectral norm.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import optax
from sklearn.datasets import load_digits

import qeqprop as qp
from qeqprop.classical import RULES, BlockDescent, DeepHopfield, LayeredState

HERE = Path(__file__).parent
UNITS, HIDDEN = 64, 3
MIXTURES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
TOLERANCE = 1e-3
SOLVER = BlockDescent(tolerance=TOLERANCE, over_relaxed=False)  # what is counted are plain updates, as in the paper
CHAIN = DeepHopfield((UNITS,) * (HIDDEN + 2), activation="hard_tanh", outputs="hard_tanh")
CLASSIFIER = DeepHopfield((UNITS, 48, 32, 10))
Params = dict[str, np.ndarray]


def digits(n_images: int) -> np.ndarray:
    """Images about their mean, of unit root mean square, small enough that few units saturate."""
    images, _ = load_digits(return_X_y=True)
    images = images[:n_images] - images.mean(axis=0)
    return 0.3 * images / images.std()


def chain(mixture: float, rng: np.random.Generator) -> Params:
    """Weights of a chain. With mixture 0, b = t at rest: w^T w is 1/2 before the last layer, and 1/4 before."""
    params = CHAIN.init_params(rng)
    for k in range(HIDDEN + 1):
        orthogonal = np.linalg.qr(rng.normal(size=(UNITS, UNITS)))[0]
        random = rng.normal(size=(UNITS, UNITS)) / np.sqrt(UNITS)
        length = np.sqrt(0.5) if k == HIDDEN else 0.5
        mixed = (1 - mixture) * orthogonal + mixture * random
        params[f"w{k}"] = length * mixed / np.linalg.norm(mixed, 2)  # stronger ones would have several states
    return params


def sends(
    net: DeepHopfield, params: Params, layers: tuple[np.ndarray, ...], layer: int
) -> tuple[np.ndarray, np.ndarray]:
    """What a hidden layer receives from below and from above."""
    below = layers[layer - 1] @ params[f"w{layer - 1}"]
    return below, layers[layer + 1] @ params[f"w{layer}"].T


def mismatch(net: DeepHopfield, params: Params, layers: tuple[np.ndarray, ...]) -> float:
    """|b - t| / |b + t| over all hidden layers."""
    pairs = [sends(net, params, layers, layer) for layer in range(1, len(layers) - 1)]
    different, total = (sum(np.sum((b + sign * t) ** 2) for b, t in pairs) for sign in (-1, 1))
    return float(np.sqrt(different / total))


def forward(net: DeepHopfield, params: Params, inputs: np.ndarray, count: float) -> tuple[np.ndarray, ...]:
    """A forward pass in which hidden layers count what comes from below so many times, and the last one once."""
    layers, activations = [inputs], net.architecture.activations
    for k, activation in enumerate(activations):
        times = count if k < len(activations) - 1 else 1.0
        field = times * (layers[-1] @ params[f"w{k}"]) + params[f"b{k}"]
        layers.append(np.asarray(activation.settle(field, 0.0, field)))
    return tuple(layers)


def starts(net: DeepHopfield, params: Params, inputs: np.ndarray) -> dict[str, tuple[np.ndarray, ...]]:
    """Zero and two forward passes."""
    passes = {"forward": forward(net, params, inputs, 1.0), "forward, twice": forward(net, params, inputs, 2.0)}
    return {"zero": (inputs, *(np.zeros_like(layer) for layer in passes["forward"][1:])), **passes}


def measured(net: DeepHopfield, params: Params, inputs: np.ndarray) -> dict[str, float]:
    """Means over images: the mismatch at rest; sweeps to the tolerance, and the distance from rest, from every start."""
    rest = qp.equilibrate(net, params, inputs=inputs)
    found, size = {"mismatch": mismatch(net, params, rest.state.layers)}, np.linalg.norm(rest.state.position)
    for name, layers in starts(net, params, inputs).items():
        batch = LayeredState(layers, batched=True)
        found[f"distance, {name}"] = float(np.linalg.norm(batch.position - rest.state.position) / size)
        sweeps = []
        for k, image in enumerate(inputs):
            state = LayeredState(tuple(layer[k] for layer in layers), batched=False)
            begin = qp.Equilibrium(state, rest.energy, rest.residual, None, rest.status, {})
            sweeps.append(qp.equilibrate(net, params, inputs=image, init=begin, solver=SOLVER).stats["sweeps"])
        found[f"sweeps, {name}"] = float(np.mean(sweeps))
    return found


def trained(seed: int, epochs: int) -> Params:
    """A network with two hidden layers that has learnt to read digits."""
    images, labels = load_digits(return_X_y=True)
    images, params = images - images.mean(axis=0), CLASSIFIER.init_params(seed)
    params = {name: value / 2 if name in ("w1", "w2") else value for name, value in params.items()}
    history = qp.fit(
        CLASSIFIER, params, RULES["C-EP"].nudge(CLASSIFIER.outputs), (images[:1400] / 4, np.eye(10)[labels[:1400]]),
        solver=SOLVER, scheme=qp.centered(0.5), optimizer=optax.adam(5e-3), epochs=epochs, batch_size=25, seed=seed,
        tolerate=qp.Status.UNCONVERGED, progress=False,
    )  # fmt: skip
    return history.params


def study(networks: int, n_images: int, epochs: int, seeds: int) -> dict[str, Any]:
    """Means over networks for every mixture, and the trained classifiers one by one."""
    inputs = digits(n_images)
    chains = []
    for mixture in MIXTURES:
        runs = [measured(CHAIN, chain(mixture, np.random.default_rng(seed)), inputs) for seed in range(networks)]
        chains.append({name: float(np.mean([run[name] for run in runs])) for name in runs[0]})
    images = load_digits(return_X_y=True)[0]
    unseen = (images[1400 : 1400 + n_images] - images.mean(axis=0)) / 4
    return {
        "mixtures": list(MIXTURES),
        "chains": chains,
        "classifiers": [measured(CLASSIFIER, trained(seed, epochs), unseen) for seed in range(seeds)],
    }


def check(results: dict[str, Any]) -> None:
    """What must hold: at rest after the pass of a good autoencoder; in fewer sweeps than from zero in any case."""
    best = results["chains"][0]
    assert best["mismatch"] < 0.1, best
    assert best["distance, forward, twice"] < 0.1 * best["distance, forward"], best
    misfits = [found["mismatch"] for found in results["chains"]]
    assert np.all(np.diff(misfits[:5]) > 0), misfits
    distances = [found["distance, forward, twice"] for found in results["chains"][:3]]
    assert np.all(np.diff(distances) > 0), distances
    for found in (*results["chains"], *results["classifiers"]):
        assert found["sweeps, forward"] < found["sweeps, zero"], found
        assert found["distance, forward"] < found["distance, zero"], found


def table(results: dict[str, Any]) -> str:
    """Results as text."""
    names = [name for name in results["chains"][0] if name != "mismatch"]
    lines = ["mixture mismatch " + " | ".join(names)]
    rows = [*zip(results["mixtures"], results["chains"], strict=True), *(("digits", c) for c in results["classifiers"])]
    for mixture, found in rows:
        lines.append(
            f"{mixture!s:<7} {found['mismatch']:.3f}    " + " | ".join(f"{found[n]:{len(n)}.3g}" for n in names)
        )
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """The figure: sweeps and distances against the mismatch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    misfits = [found["mismatch"] for found in results["chains"]]
    for k, start in enumerate(("zero", "forward", "forward, twice")):
        for panel, kind in zip(axes, ("sweeps", "distance"), strict=True):
            panel.plot(
                misfits, [found[f"{kind}, {start}"] for found in results["chains"]], "o-", color=f"C{k}", label=start
            )
            for found in results["classifiers"]:
                panel.plot(found["mismatch"], found[f"{kind}, {start}"], "x", color=f"C{k}")
    axes[0].set(ylabel=f"sweeps until a layer moves by less than {TOLERANCE:g}", ylim=(0, None))
    axes[1].set(ylabel="distance of the start from rest, relative", ylim=(0, None))
    for panel in axes:
        panel.set(xlabel="mismatch |b - t| / |b + t| (crosses: trained on digits)")
    axes[0].legend(frameon=False, title="start")
    figure.savefig(HERE / "feedforward_start.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the claims")
    if parser.parse_args().quick:
        check(study(2, 10, 1, 1))
        print("The quick form agrees with the claims.")
        return
    results = study(5, 30, 4, 3)
    print(table(results))
    check(results)
    draw(results)
    (HERE / "feedforward_start.json").write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()

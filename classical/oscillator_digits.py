"""Digits on layers of phase oscillators: an XY network, set block by block along its fields, trained by centered nudges.

python classical/oscillator_digits.py            # 64-256-10 phases, settings by a validation part, three seeds
python classical/oscillator_digits.py --quick    # 64-64-10 phases on few images, compared with the claims

Q. Wang, C. C. Wanjura and F. Marquardt, arXiv:2402.08579 (2024), trained networks of coupled phase oscillators by equilibrium
propagation. Here a pixel is a phase, and an output is to be at 0 for its digit and at pi/2 for the others: targets that are
opposite would put the point where the cost 1 - cos has no slope between them. Each step differences two nudged states.

The images are cut once: 1,100 to train on, 337 to choose the rate and the range of the pixels' phases by, 360 to test on.
Initial couplings and shuffling are what the seeds change.
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optax
from sklearn.datasets import load_digits

import qeqprop as qp
from qeqprop.classical import BlockDescent, LayeredPhaseOscillators, LayeredState, StateCost, aligned_misalignment
from qeqprop.classical.unit_vectors import unit_vectors

HERE = Path(__file__).parent
BATCH, BETA, OTHERS = 20, 0.05, np.pi / 2
RATES, RANGES = (0.006, 0.012), (np.pi / 2, np.pi)
BETAS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
Data = tuple[np.ndarray, np.ndarray]
Params = dict[str, np.ndarray]


def images(width: float, *sizes: int) -> list[Data]:
    """Disjoint parts of scikit-learn's digits in an order that never changes: phases of the pixels, and of the outputs."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pixels = width * (digits.data[order] / 16 - 0.5)
    phases = OTHERS * (digits.target[order][:, None] != np.arange(10))
    return [(pixels[a:b], phases[a:b]) for a, b in pairwise(np.cumsum([0, *sizes]))]


def share_wrong(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Fraction of images whose output nearest to phase 0, which has the largest cosine, is not their digit."""
    return float(np.mean(outputs[:, :10].argmax(axis=1) != targets.argmin(axis=1)))


def trained(net: LayeredPhaseOscillators, parts: list[Data], rate: float, seed: int, epochs: int) -> dict[str, Any]:
    """A training by centered nudges with Adam, its rate falling to zero; errors on the second part after every epoch."""
    train, held_out = parts[:2]
    steps = epochs * -(-len(train[0]) // BATCH)
    began = time.process_time()
    history = qp.fit(
        net, net.init_params(seed), cost_of(net), train, scheme=qp.centered(BETA), epochs=epochs, batch_size=BATCH,
        optimizer=optax.adam(optax.cosine_decay_schedule(rate, steps)), validation=held_out, metric=share_wrong, seed=seed,
        tolerate=qp.Status.BRANCH_JUMP, progress=False,
    )  # fmt: skip
    seconds = time.process_time() - began
    jumps = history.status_counts.get(str(qp.Status.BRANCH_JUMP), 0)
    return {
        "params": history.params,
        "errors": np.asarray(history.metric),
        "steps with jumps": jumps,
        "seconds": seconds,
    }


def cost_of(net: LayeredPhaseOscillators) -> StateCost:
    """The sum over the outputs of 1 - cos(phi - target): linear in the unit vectors, so that nudged blocks are exact."""
    return StateCost(aligned_misalignment, net.outputs)


def error(net: LayeredPhaseOscillators, params: Params, data: Data) -> float:
    """Share of images in a wrong class."""
    return share_wrong(qp.predict(net, params, cost_of(net), data[0]), data[1])


def from_random_phases(net: LayeredPhaseOscillators, params: Params, data: Data, starts: int) -> dict[str, float]:
    """What the answers depend on: errors from random initial phases, and the share of images with more than one answer."""
    rng, driven, answers = np.random.default_rng(1), net.with_inputs(data[0]), []
    for _ in range(starts):
        layers = [unit_vectors(rng.uniform(-np.pi, np.pi, (len(data[0]), n))) for _, n in net.architecture.shapes[1:]]
        state = LayeredState((driven.sources(), *layers), batched=True)
        init = qp.Equilibrium(state, 0.0, 0.0, None, qp.Status.OK, {})
        answers.append(BlockDescent().solve(driven, params, init=init).state.layers[-1][:, 0].argmax(axis=1))
    right = data[1].argmin(axis=1)
    return {
        "error": float(np.mean(np.array(answers) != right)),
        "several answers": float(np.mean(np.ptp(answers, axis=0) > 0)),
    }


def distances(net: LayeredPhaseOscillators, params: Params, data: Data) -> list[float]:
    """Relative distance of the nudged gradient of one batch from implicit differentiation, for every nudge."""
    batch = (net, params, cost_of(net), data[1][:BATCH])
    exact = qp.linear_response(*batch, inputs=data[0][:BATCH]).grad
    return [relative(qp.ep_gradient(*batch, inputs=data[0][:BATCH], scheme=qp.centered(b), throw=False).grad, exact)
            for b in BETAS]  # fmt: skip


def relative(grad: Params, exact: Params) -> float:
    """|| grad - exact || / || exact ||."""
    off, size = (sum(np.sum(x**2) for x in tree.values()) for tree in ({n: grad[n] - exact[n] for n in grad}, exact))
    return float(np.sqrt(off / size))


def study(hidden: int, sizes: tuple[int, int, int], epochs: int, seeds: int, rates: Any, ranges: Any) -> dict[str, Any]:
    """Settings by the second part of the images with the first seed, then errors of all seeds on the third."""
    net, tried = LayeredPhaseOscillators((64, hidden, 10)), []
    for width in ranges:
        for rate in rates:
            run = trained(net, images(width, *sizes), rate, 0, epochs)
            tried.append({"range": width, "rate": rate, "validation error": float(run["errors"][-1])})
            print(tried[-1], f"{run['seconds']:.1f} s CPU", flush=True)
    best = min(tried, key=lambda known: known["validation error"])
    parts, runs = images(best["range"], *sizes), []
    for seed in range(seeds):
        run = trained(net, parts, best["rate"], seed, epochs)
        params = run.pop("params")
        run |= {"errors": run["errors"].tolist(), "test error": error(net, params, parts[2])}
        run["random starts"] = from_random_phases(net, params, parts[2], 8)
        runs.append(run)
        print(f"seed {seed}: test error {run['test error']:.3f}, from random phases {run['random starts']}", flush=True)
    slow = distances(net, net.init_params(0), parts[0])
    return {"tried": tried, "chosen": best, "runs": runs, "betas": list(BETAS), "distances": slow}


def check(results: dict[str, Any], bound: float) -> None:
    """The claims."""
    final = [run["test error"] for run in results["runs"]]
    assert np.mean(final) <= bound, final
    slope = np.log2(results["distances"][1] / results["distances"][0])
    assert 1.9 < slope < 2.1, slope


def draw(results: dict[str, Any]) -> None:
    """Errors against epochs, and what nudges of finite size cost."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
    for seed, run in enumerate(results["runs"]):
        left.plot(1 + np.arange(len(run["errors"])), 100 * np.array(run["errors"]), label=f"seed {seed}")
    left.axhline(5, color="0.6", lw=0.8)
    left.set(xlabel="epoch", ylabel="validation error (%)", ylim=(0, 20), title="64-256-10 phases")
    left.legend(frameon=False)
    betas = np.array(results["betas"])
    right.loglog(betas, results["distances"], "o-", ms=4)
    right.loglog(betas[:7], results["distances"][0] * (betas[:7] / betas[0]) ** 2, "k:", lw=0.8, label="slope 2")
    right.set(xlabel="nudge beta", title="relative distance from implicit differentiation")
    right.legend(frameon=False)
    figure.savefig(HERE / "oscillator_digits.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the claims")
    if parser.parse_args().quick:
        check(study(64, (600, 100, 200), 8, 1, (0.02,), (np.pi,)), bound=0.45)
        print("The quick form agrees with the claims.")
        return
    results = study(256, (1100, 337, 360), 20, 3, RATES, RANGES)
    check(results, bound=0.05)
    draw(results)
    (HERE / "oscillator_digits.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

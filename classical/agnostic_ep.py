"""Networks whose parameters relax like everything else: trainings that never take a derivative by a parameter.

python classical/agnostic_ep.py            # a Hopfield network and a circuit of resistors, a minute
python classical/agnostic_ep.py --quick    # few samples, compared with the claims

Agnostic equilibrium propagation (Scellier, Mishra, Bengio and Ollivier, arXiv:2205.15021, 2022): every parameter is held by a
spring of compliance eps. A homeostat turns its knob until the parameter rests where it was under a nudge of -beta/2; then the
knobs are frozen, the nudge becomes +beta/2, and the parameter moves by itself to where it rests: that is the step. It follows
the gradient of the two-sided loss [e(beta/2) - e(-beta/2)] / beta up to an error of first order in eps, and never raises it.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_iris

import qeqprop as qp
from qeqprop.classical import DeepHopfield, FlowNetwork, StateCost
from qeqprop.classical.rules import half_squared_error

HERE = Path(__file__).parent
COMPLIANCES = (0.04, 0.02, 0.01, 0.005)
Params = dict[str, np.ndarray]
Data = tuple[np.ndarray, np.ndarray]


class Machine(NamedTuple):
    """A network, its start, its task, and the settings of its training."""

    system: Any
    params: Params
    cost: StateCost
    train: Data
    test: Data
    beta: float
    eps: float
    epochs: int


def hopfield(n_samples: int, epochs: int) -> Machine:
    """4-8-3 units tell the three irises apart."""
    net, (train, test) = DeepHopfield((4, 8, 3), activation="tanh", outputs="linear"), irises(n_samples)
    params = {name: value / 2 for name, value in net.init_params(0).items()}
    return Machine(net, params, StateCost(half_squared_error, net.outputs), train, test, 1.0, 0.05, epochs)


def resistors(n_samples: int, epochs: int) -> Machine:
    """Two sources, ground and five inner nodes, joined all to all by conductances, learn what another such network does."""
    edges = [(i, j) for i in range(8) for j in range(i) if not {i, j} <= {0, 1, 2}]
    net, rng = FlowNetwork(8, edges, driven=[0, 1], grounded=[2]), np.random.default_rng(1)
    cost, inputs = StateCost(half_squared_error, [6, 7]), rng.uniform(-2, 2, (n_samples + 20, 2))
    teacher, params = ({"k": rng.uniform(0.3, 1.7, len(edges))} for _ in range(2))
    targets = qp.predict(net, teacher, cost, inputs)
    train, test = (inputs[:n_samples], targets[:n_samples]), (inputs[n_samples:], targets[n_samples:])
    return Machine(net, params, cost, train, test, 1.0, 0.3, epochs)


MACHINES = {"Hopfield, irises": hopfield, "resistors, a teacher": resistors}


def irises(n_samples: int) -> tuple[Data, Data]:
    """Flowers in an order of chance, lengths in units of twice their spread over those to train on."""
    lengths, species = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(species))
    inputs, targets = lengths[order], np.eye(3)[species[order]]
    inputs = (inputs - inputs[:n_samples].mean(axis=0)) / (2 * inputs[:n_samples].std(axis=0))
    return (inputs[:n_samples], targets[:n_samples]), (inputs[n_samples:], targets[n_samples:])


def step_errors(machine: Machine) -> list[float]:
    """Distance of a step from the exact gradient of the two-sided loss, relative, as the springs stiffen."""
    sample, goal = machine.train[0][0], machine.train[1][0]
    problem = (machine.system, machine.params, machine.cost, goal)
    exact = qp.ep_gradient(*problem, inputs=sample, scheme=qp.centered(machine.beta / 2)).grad
    steps = [qp.agnostic_step(*problem, inputs=sample, beta=machine.beta, eps=e, tolerance=1e-9) for e in COMPLIANCES]
    return [norm({n: step.grad_estimate[n] - exact[n] for n in exact}) / norm(exact) for step in steps]


def norm(tree: Params) -> float:
    return float(np.sqrt(sum(np.sum(value**2) for value in tree.values())))


def two_sided_loss(machine: Machine, params: Params, sample: np.ndarray, goal: np.ndarray) -> float:
    """[e(beta/2) - e(-beta/2)] / beta from two energies."""
    driven = machine.system.with_inputs(sample)
    free = qp.equilibrate(driven, params)
    term = machine.cost.term(free.state, goal)
    high, low = (
        float(qp.equilibrate(driven.nudged(term, b), params, init=free).energy)
        for b in (machine.beta / 2, -machine.beta / 2)
    )
    return (high - low) / machine.beta


def training(machine: Machine) -> dict[str, Any]:
    """Losses before and after, and the largest rise of the two-sided loss of a sample in its own step."""
    rises: list[float] = []
    begin, (inputs, targets) = time.process_time(), machine.train
    before = qp.evaluate(machine.system, machine.params, machine.cost, machine.test)

    def watch(number: int, step: qp.AgnosticStep, params: Params) -> None:
        if number % 10 == 1:  # the sample is that of the state
            sample, goal = samples[number]
            rises.append(two_sided_loss(machine, params, sample, goal) - step.two_sided_loss)

    samples = presented(machine)
    history = qp.fit_agnostic(
        machine.system, machine.params, machine.cost, (inputs, targets), beta=machine.beta, eps=machine.eps,
        epochs=machine.epochs, tolerance=1e-5, seed=0, progress=False, callback=watch,
    )  # fmt: skip
    after = qp.evaluate(machine.system, history.params, machine.cost, machine.test)
    outputs = qp.predict(machine.system, history.params, machine.cost, machine.test[0])
    per_epoch = history.loss.reshape(machine.epochs, -1).mean(axis=1)
    return {
        "test loss before": before.loss,
        "test loss after": after.loss,
        "test outputs off by": float(np.sqrt(np.mean((outputs - machine.test[1]) ** 2))),
        "test accuracy": qp.accuracy(outputs, machine.test[1]) if np.isin(machine.test[1], (0, 1)).all() else None,
        "loss by epoch": per_epoch.tolist(),
        "largest rise of the two-sided loss": max(rises),
        "steps by status": history.status_counts,
        "cpu seconds": round(time.process_time() - begin, 1),
    }


def presented(machine: Machine) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Number of the step -> its sample and target: the shuffling of `fit_agnostic` with seed 0."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(machine.epochs):
        rows += list(rng.permutation(len(machine.train[0])))
    return {k: (machine.train[0][row], machine.train[1][row]) for k, row in enumerate(rows, 1)}


def study(n_samples: int, epochs: int) -> dict[str, Any]:
    """All results."""
    results = {}
    for name, make in MACHINES.items():
        machine = make(n_samples, epochs)
        errors = step_errors(machine)
        slope = float(np.polyfit(np.log(COMPLIANCES), np.log(errors), 1)[0])
        results[name] = {"step errors": errors, "slope": slope} | training(machine)
    return {"compliances": list(COMPLIANCES), "machines": results}


def check(results: dict[str, Any], shrink: float) -> None:
    """What must hold: slope 1 in the compliance, no rise of the two-sided loss in any step looked at, and learning."""
    for name, found in results["machines"].items():
        assert abs(found["slope"] - 1) < 0.1, (name, found["slope"])
        assert found["largest rise of the two-sided loss"] < 1e-9, (name, found["largest rise of the two-sided loss"])
        assert found["test loss after"] < shrink * found["test loss before"], (name, found)


def table(results: dict[str, Any]) -> str:
    """Results as text."""
    lines = []
    for name, found in results["machines"].items():
        losses = f"{found['test loss before']:.4f} -> {found['test loss after']:.2g}"
        rise = f"{found['largest rise of the two-sided loss']:.1e}"
        lines.append(
            f"{name}: slope {found['slope']:.3f}, test loss {losses}, off by {found['test outputs off by']:.3f}, accuracy "
            f"{found['test accuracy']}, largest rise {rise}, {found['steps by status']}, {found['cpu seconds']} s CPU"
        )
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """The figure: errors of one step against the compliance, and losses of the trainings."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, found in results["machines"].items():
        left.loglog(results["compliances"], found["step errors"], "o-", label=name)
        epochs = 1 + np.arange(len(found["loss by epoch"]))
        right.semilogy(epochs, found["loss by epoch"], label=name)
    left.set_xticks(results["compliances"], [f"{eps:g}" for eps in results["compliances"]])
    left.minorticks_off()
    left.set(xlabel="compliance eps", ylabel="distance of a step from the gradient", title="one step: slope 1")
    right.set(xlabel="epoch", ylabel="mean loss of the samples", title="training")
    left.legend(frameon=False)
    figure.savefig(HERE / "agnostic_ep.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the claims")
    if parser.parse_args().quick:
        check(study(20, 3), shrink=0.7)
        print("The quick form agrees with the claims.")
        return
    results = study(60, 15)
    print(table(results))
    check(results, shrink=0.3)
    draw(results)
    (HERE / "agnostic_ep.json").write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()

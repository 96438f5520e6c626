"""The updates of equilibrium propagation are the gradients of backpropagation through time, step by step.

python classical/gdu_equals_bptt.py            # a Hopfield network of 64-100-10 units, and 36 phase oscillators
python classical/gdu_equals_bptt.py --quick    # smaller ones, compared with the claims

In discrete time (Ernoult, Grollier, Querlioz, Bengio and Scellier, arXiv:1905.13633, Theorem 1) every nudged update of
state and forces is compared with the gradient that JAX computes backwards through the same step; in continuous time
(Scellier and Bengio, arXiv:1711.08416) the velocity of the nudged state with the error of recurrent backpropagation.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import qeqprop as qp
from qeqprop.classical import (
    EnergySystem,
    ErrorProcess,
    StateCost,
    backpropagation_through_time,
    nudged_updates,
    nudged_velocities,
    recurrent_backpropagation,
)

HERE = Path(__file__).parent
BETAS = np.logspace(-5, -1, 9)
SCHEMES = {"one-sided": qp.one_sided, "centered": qp.centered, "Richardson": qp.richardson}


class Problem(NamedTuple):
    """What is solved, in how many steps, and what of it is drawn."""

    system: EnergySystem
    params: dict[str, np.ndarray]
    cost: StateCost
    target: np.ndarray
    inputs: np.ndarray
    dt: float
    steps: int
    units: list[int]
    name: str

    @property
    def given(self) -> tuple[Any, ...]:
        """The positional arguments of the package's functions."""
        return self.system, self.params, self.cost, self.target

    @property
    def time(self) -> dict[str, Any]:
        """Their named ones."""
        return {"dt": self.dt, "steps": self.steps, "inputs": self.inputs}


def half_squared_error(outputs: Any, target: Any) -> Any:
    """sum (s - y)^2 / 2."""
    return ((outputs - target) ** 2).sum() / 2


def hopfield(hidden: int) -> Problem:
    """A digit of scikit-learn's, 64 pixels - hidden units with tanh - 10 linear outputs."""

    def energy(p: Any, s: Any, x: Any) -> Any:
        rho, outputs = jnp.tanh(s[:hidden]), s[hidden:]
        return s @ s / 2 - (x @ p["w0"] + p["b0"]) @ rho - (rho @ p["w1"] + p["b1"]) @ outputs

    shapes = {"w0": (64, hidden), "b0": (hidden,), "w1": (hidden, 10), "b1": (10,)}
    system = EnergySystem(energy, (hidden + 10,), shapes, inputs=(64,))
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=shape) / np.sqrt(shape[0]) for name, shape in shapes.items()}
    images, labels = load_digits(return_X_y=True)
    cost = StateCost(half_squared_error, range(hidden, hidden + 10))
    units = [hidden, hidden + 1, 0, 1, 2]
    return Problem(system, params, cost, np.eye(10)[labels[0]], images[0] / 8 - 0.6, 0.4, 60, units, "w1")


def oscillators(size: int) -> Problem:
    """A square lattice of phases with reference phases: two corners shall point elsewhere."""
    n = size**2
    sites = np.arange(n).reshape(size, size)
    ends = np.concatenate([np.stack([sites[:-1], sites[1:]], -1).reshape(-1, 2),
                           np.stack([sites[:, :-1], sites[:, 1:]], -1).reshape(-1, 2)])  # fmt: skip
    i, j = ends.T

    def energy(p: Any, s: Any, x: Any) -> Any:
        return -(p["k"] * jnp.cos(s[i] - s[j])).sum() - (p["h"] * jnp.cos(s - x)).sum()

    rng = np.random.default_rng(1)
    params = {"k": rng.uniform(0.5, 1.5, len(ends)), "h": rng.uniform(0.1, 0.5, n)}
    system = EnergySystem(energy, (n,), {"k": (len(ends),), "h": (n,)}, inputs=(n,))
    cost = StateCost(lambda s, y: (1 - jnp.cos(s - y)).sum(), [0, n - 1])
    return Problem(system, params, cost, np.array([0.8, -0.5]), rng.normal(size=n), 0.1, 150, [0, 1, 2, n - 1], "k")


def processes(problem: Problem) -> tuple[ErrorProcess, ...]:
    """Discrete time: what EP shows, what backpropagation through time computes; the same in continuous time."""
    back = backpropagation_through_time(*problem.given, **problem.time, free_steps=20 * problem.steps)
    updates = nudged_updates(*problem.given, **problem.time, scheme=qp.centered(1e-5))
    flow = recurrent_backpropagation(*problem.given, **problem.time)
    return updates, back, nudged_velocities(*problem.given, **problem.time, scheme=qp.centered(1e-5)), flow


def study(problems: dict[str, Problem]) -> dict[str, Any]:
    """The largest deviations at any step, and how they depend on beta and scheme."""
    results = {}
    for name, problem in problems.items():
        updates, back, velocities, flow = processes(problem)
        results[name] = {
            "discrete": updates.deviation(back),
            "continuous": velocities.deviation(flow),
            "betas": BETAS.tolist(),
            "by scheme": {
                kind: [nudged_updates(*problem.given, **problem.time, scheme=make(b)).deviation(back) for b in BETAS]
                for kind, make in SCHEMES.items()
            },
        }
    return results


def check(results: dict[str, Any]) -> None:
    """What must hold: equal at every step, and the orders of the schemes."""
    for name, found in results.items():
        assert found["discrete"] < 1e-8, (name, found["discrete"])
        assert found["continuous"] < 1e-6, (name, found["continuous"])
        for kind, order in (("one-sided", 1), ("centered", 2)):
            slope = np.polyfit(np.log(BETAS[2:7]), np.log(found["by scheme"][kind][2:7]), 1)[0]
            assert abs(slope - order) < 0.1, (name, kind, slope)


def table(results: dict[str, Any]) -> str:
    """Results as text."""
    lines = []
    for name, found in results.items():
        lines.append(
            f"{name}: largest deviation at any step {found['discrete']:.1e} from backpropagation through time,"
        )
        lines.append(f"  {found['continuous']:.1e} from recurrent backpropagation in continuous time")
        lines += [f"  {kind:<10}" + " ".join(f"{x:.0e}" for x in row) for kind, row in found["by scheme"].items()]
    return "\n".join(lines)


def draw(results: dict[str, Any], problems: dict[str, Problem]) -> None:
    """The figure: a row a system."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, rows = plt.subplots(len(problems), 4, figsize=(17, 4 * len(problems)), layout="constrained")
    for (name, problem), row in zip(problems.items(), rows, strict=True):
        updates, back, velocities, flow = processes(problem)
        strongest = np.argsort(np.abs(back.rates[problem.name]).max(axis=0).ravel())[-4:]
        picked = [process.rates[problem.name].reshape(problem.steps, -1)[:, strongest] for process in (updates, back)]
        both(row[0], back.times, updates.errors[:, problem.units], back.errors[:, problem.units])
        both(row[1], back.times, *picked)
        both(row[2], flow.times, velocities.errors[:, problem.units], flow.errors[:, problem.units])
        titles = (
            "updates of the state",
            f"updates of the forces of four {problem.name}",
            "velocities, continuous time",
        )
        for axes, title in zip(row, titles, strict=False):
            axes.set(xlabel="time since the nudge (before the end)", title=f"{name}: {title}")
        row[0].legend(["EP", "backpropagation through time"], frameon=False)
        row[2].legend(["EP", "recurrent backpropagation"], frameon=False)
        for kind, errors in results[name]["by scheme"].items():
            row[3].loglog(BETAS, errors, "o-", ms=4, label=kind)
        row[3].set(xlabel="nudge beta", title="largest deviation at any step")
        row[3].legend(frameon=False)
    figure.savefig(HERE / "gdu_equals_bptt.png", dpi=110)


def both(axes: Any, times: np.ndarray, seen: np.ndarray, computed: np.ndarray) -> None:
    """Dots of EP on lines of what is computed backwards."""
    for k, (dots, line) in enumerate(zip(seen.T, computed.T, strict=True)):
        axes.plot(times[::4], dots[::4], "o", ms=4, color=f"C{k}")
        axes.plot(times, line, "-", lw=1, color=f"C{k}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the claims")
    if parser.parse_args().quick:
        check(study({"oscillators": oscillators(3)}))
        print("The quick form agrees with the claims.")
        return
    problems = {"Hopfield": hopfield(100), "oscillators": oscillators(6)}
    results = study(problems)
    print(table(results))
    check(results)
    draw(results, problems)
    for found in results.values():
        for kind, errors in found["by scheme"].items():
            found["by scheme"][kind] = [float(f"{x:.3g}") for x in errors]
    (HERE / "gdu_equals_bptt.json").write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()

"""Equilibrium propagation with states as an experiment prepares them: what ramps do to the gradient. See the README.

python studies/adiabatic_preparation/adiabatic_preparation.py            # about a minute
python studies/adiabatic_preparation/adiabatic_preparation.py --quick    # short ramps, compared with the stored results
"""

import argparse
import json
from pathlib import Path

import numpy as np

import qeqprop as qp
from qeqprop.quantum import evolve

HERE = Path(__file__).parent
N_SITES, BETA = 10, 1e-3
RAMPS = ("linear", "smooth", "quintic")
TIMES = (5, 7, 10, 14, 20, 28, 40, 56, 80, 113, 160, 226, 320)
WINDOWS = TIMES[:-2]
QUICK = (5, 10, 20)
PREPARATION = 200.0  # quintic: long enough that the free state counts as exact where the nudge's ramp is studied

Results = dict[str, dict[str, list[float]]]


def problem() -> tuple[qp.TransverseFieldIsing, dict[str, np.ndarray], qp.ObservableCost]:
    """A ring of ten spins, all couplings and fields different."""
    rng = np.random.default_rng(3)
    net = qp.TransverseFieldIsing(N_SITES, [(i, (i + 1) % N_SITES) for i in range(N_SITES)])
    ranges = {"J": (0.4, 0.8), "h": (0.1, 0.4), "g": (0.8, 1.2)}
    params = {name: rng.uniform(*ends, N_SITES) for name, ends in ranges.items()}
    return net, params, qp.ObservableCost(qp.Z(0) * qp.Z(4) + qp.X(2))


def flat(forces: dict[str, np.ndarray]) -> np.ndarray:
    """All parameters in one vector (behind a time axis, where there is one)."""
    return np.concatenate(list(forces.values()), axis=-1)


class Laboratory:
    """The problem, its exact gradient, and what the ramps give instead."""

    def __init__(self) -> None:
        self.net, self.params, self.cost = problem()
        self.exact = flat(qp.linear_response(self.net, self.params, self.cost).grad)
        solver = qp.AdiabaticPreparation(PREPARATION, "quintic", nudge_time=1.0)
        self.free = qp.equilibrate(self.net, self.params, solver=solver)
        self.term = self.cost.term(self.free.state, None)

    def bias(self, grad: np.ndarray) -> float:
        """||grad - exact|| / ||exact||."""
        return float(np.linalg.norm(grad - self.exact) / np.linalg.norm(self.exact))

    def infidelity(self, ramp: str, time: float) -> float:
        """Of the free state after a ramp."""
        solver = qp.AdiabaticPreparation(time, ramp, nudge_time=0.01, accuracy=1e-12)
        return qp.equilibrate(self.net, self.params, solver=solver, throw=False).stats["infidelity"]

    def nudged(self, ramp: str, time: float) -> tuple[float, float]:
        """Bias by the nudge's ramp, from the well prepared free state; and the violation that its phases report."""
        solver = qp.AdiabaticPreparation(PREPARATION, "quintic", nudge_time=time, nudge_ramp=ramp)
        start = qp.Equilibrium(**(vars(self.free) | {"state": self.waited(time)}))
        phases = [solver.solve(self.net.nudged(self.term, b), self.params, init=start) for b in (BETA, -BETA)]
        plus, minus = (flat(self.net.param_grad(self.params, phase.state).mean) for phase in phases)
        return self.bias((plus - minus) / (2 * BETA)), phases[0].stats["nudge_violation"]

    def waited(self, time: float) -> qp.PureState:
        """The free state at the time when the nudged phases are measured."""
        return evolve(self.net, self.params, self.free.stats["prepared"], [0.0, time]).final

    def averaged(self, windows: tuple[float, ...]) -> list[float]:
        """Bias of a sudden nudge that is measured at random times of a window, ten to a unit of time."""
        times = np.arange(10 * max(windows) + 1) / 10
        runs = [
            evolve(self.net.nudged(self.term, b), self.params, self.free.stats["prepared"], times).states
            for b in (BETA, -BETA)
        ]
        plus, minus = (flat(self.net.param_grad(self.params, states).mean) for states in runs)
        signal = (plus - minus) / (2 * BETA)
        return [self.bias(signal[: int(10 * window) + 1].mean(axis=0)) for window in windows]

    def protocol(self, ramp: str, time: float) -> float:
        """Bias of a whole run: `time` for the first ramp, a quarter of it for the nudge's."""
        solver = qp.AdiabaticPreparation(time, ramp)
        scheme = qp.centered(BETA)
        out = qp.ep_gradient(self.net, self.params, self.cost, solver=solver, scheme=scheme, throw=False)
        return self.bias(flat(out.grad))


def run(times: tuple[float, ...], windows: tuple[float, ...]) -> Results:
    """All curves, as {panel: {curve: values}}; `times` and `windows` belong to the values."""
    lab = Laboratory()
    nudges = {ramp: [lab.nudged(ramp, time) for time in windows] for ramp in ("sudden", *RAMPS)}
    return {
        "axes": {"times": list(times), "windows": list(windows)},
        "infidelity": {ramp: [lab.infidelity(ramp, time) for time in times] for ramp in RAMPS},
        "nudge bias": {ramp: [bias for bias, _ in pairs] for ramp, pairs in nudges.items()}
        | {"sudden, averaged": lab.averaged(windows)},
        "nudge violation": {ramp: [violation for _, violation in pairs] for ramp, pairs in nudges.items()},
        "protocol bias": {ramp: [lab.protocol(ramp, time) for time in times] for ramp in RAMPS},
    }


def slope(axis: list[float], values: list[float]) -> float:
    """Of the second half of a curve, in logarithms."""
    half = len(axis) // 2
    return float(np.polyfit(np.log(axis[half:]), np.log(values[half:]), 1)[0])


def draw(results: Results, path: Path) -> None:
    """Infidelity, bias by the nudge's ramp, bias of the whole protocol."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    styles = {
        "sudden": ("#D55E00", "o"), "linear": ("#E69F00", "s"), "smooth": ("#0072B2", "D"), "quintic": ("#009E73", "^"),
        "sudden, averaged": ("#CC79A7", "v"),
    }  # fmt: skip
    axes = results["axes"]
    panels = (
        ("infidelity", axes["times"], "time of the first ramp", "infidelity of the free state"),
        ("nudge bias", axes["windows"], "time of the nudge", "bias of the gradient"),
        ("protocol bias", axes["times"], "time of the first ramp; nudge: 1/4 of it", "bias of the gradient"),
    )
    fig, columns = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    for ax, (panel, axis, x_label, y_label) in zip(columns, panels, strict=True):
        for name, values in results[panel].items():
            color, marker = styles[name]
            ax.loglog(axis, values, marker=marker, color=color, ms=4, lw=1.2, label=name)
        ax.set(xlabel=x_label, ylabel=y_label)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    fig.savefig(path, dpi=110)


def deviation(results: Results, stored: Results) -> float:
    """Largest difference of two results at the times that they share."""
    worst = 0.0
    for panel, axis in (("infidelity", "times"), ("nudge bias", "windows"), ("protocol bias", "times")):
        where = [stored["axes"][axis].index(time) for time in results["axes"][axis]]
        for name, values in results[panel].items():
            known = np.array(stored[panel][name])[where]
            worst = max(worst, float(np.abs(np.array(values) - known).max()))
    return worst


def main(arguments: list[str] | None = None) -> None:
    """Run, compare with the stored results or store them, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short ramps, compared with the stored results")
    quick = parser.parse_args(arguments).quick
    results = run(QUICK, QUICK) if quick else run(TIMES, WINDOWS)
    stored = HERE / "results.json"
    for panel, axis in (("infidelity", "times"), ("nudge bias", "windows"), ("protocol bias", "times")):
        for name, values in results[panel].items():
            last, steepness = values[-1], slope(results["axes"][axis], values)
            print(f"{panel:<15} {name:<17} {values[0]:.1e} -> {last:.1e}   slope {steepness:+.1f}")
    if not quick:
        stored.write_text(json.dumps(results, indent=1) + "\n")
        draw(results, HERE / "adiabatic_preparation.png")
        return
    print(
        f"largest difference from the stored results: {(worst := deviation(results, json.loads(stored.read_text()))):.1e}"
    )
    if worst > 1e-6:
        raise SystemExit("The curves differ from results.json.")


if __name__ == "__main__":
    main()

"""Gradients from shots: how the error falls, and what it costs beside finite differences and SPSA: see the README.

python studies/shots/shots.py            # a few minutes
python studies/shots/shots.py --quick    # fewer shots and spins, compared with the stored results
"""

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

import qeqprop as qp
from qeqprop.core.estimate import combine
from qeqprop.core.nudge import WeightedObservables

HERE = Path(__file__).parent
EXACT = qp.ExactDiagonalization()
FORMULAS = {"one-sided": (qp.one_sided, 1), "centered": (qp.centered, 2)}
SHOTS, REPETITIONS = (4000, 16000, 64000, 256000), (1600, 1200, 800, 400)
SIZES, TARGET = (4, 6, 8, 10), 0.05  # numbers of spins, and the relative error of the whole gradient
DIRECTIONS, INSTANCES = 150, 3
METHODS = ("EP", "finite differences", "SPSA")
Problem = tuple[qp.TransverseFieldIsing, dict[str, np.ndarray], qp.ObservableCost]


def problem(n: int, instance: int = 0) -> Problem:
    """A random all-to-all transverse-field Ising network; the cost is Z of the last spin."""
    net = qp.TransverseFieldIsing(n, list(combinations(range(n), 2)), input_sites=[0])
    rng = np.random.default_rng([n, instance])
    params = {
        "J": rng.normal(size=n * (n - 1) // 2) / np.sqrt(n),
        "h": rng.normal(0.0, 0.3, n) + 0.2,
        "g": rng.uniform(0.8, 1.2, n),
    }
    return net, params, qp.ObservableCost(qp.Z(n - 1))


def flat(tree: dict[str, np.ndarray]) -> np.ndarray:
    """All components on the last axis."""
    return np.concatenate([tree[name] for name in sorted(tree)], axis=-1)


def forces(task: Problem, beta: float) -> np.ndarray:
    """Exact forces at a nudge."""
    net, params, cost = task
    nudged = net.nudged(WeightedObservables(cost.observables, np.ones(1)), beta)
    return flat(net.param_grad(params, EXACT.solve(nudged, params).state).mean)


# --- how the error falls ----------------------------------------------------------------------------------------------


def best_nudge(task: Problem, order: int, shots: int) -> tuple[float, float]:
    """beta and the predicted rms error, from exact variances and derivatives (what `qp.optimal_nudge` measures)."""
    step = 1e-2
    f = {k: forces(task, k * step) for k in (-2, -1, 0, 1, 2)}
    cubic = (f[2] - 2 * f[1] + 2 * f[-1] - f[-2]) / (12 * step**3)
    square = (f[1] - 2 * f[0] + f[-1]) / (2 * step**2)
    a = np.mean(1 - f[0] ** 2) * (0.5 if order == 2 else 2) / shots
    beta = (a / (order * np.mean((cubic if order == 2 else square) ** 2))) ** (1 / (2 * order + 2))
    return float(beta), float(np.sqrt((1 + 1 / order) * a) / beta)


def measured_error(task: Problem, formula: str, shots: int, repetitions: int) -> dict[str, float]:
    """Root mean square error of a component over independent repetitions, beside its prediction.

    The repetitions are one batch of equal samples: each is prepared and read on its own.
    """
    net, params, cost = task
    order = FORMULAS[formula][1]
    beta, predicted = best_nudge(task, order, shots)
    many, solver = net.with_inputs(np.zeros((repetitions, 1))), qp.Measured(EXACT, shots=shots)
    term = WeightedObservables(cost.observables, np.ones((repetitions, 1)))
    ends, weights = ((beta, -beta), (0.5, -0.5)) if order == 2 else ((beta, 0.0), (1.0, -1.0))
    found = []
    for k, end in enumerate(ends):
        seed = np.random.SeedSequence([shots, order, k])
        state = solver.solve(many.nudged(term, end), params, key=seed).state
        found.append(many.param_grad(params, state))
    out = combine([w / beta for w in weights], found)
    error = flat(out.mean) - flat(qp.linear_response(net, params, cost).grad)
    z = (flat(out.mean) - np.dot(np.array(weights) / beta, [forces(task, end) for end in ends])) / flat(out.stderr)
    return {
        "shots": shots,
        "beta": beta,
        "rms": float(np.sqrt(np.mean(error**2))),
        "predicted": predicted,
        "z mean": float(z.mean()),
        "z std": float(z.std()),
    }


def scaling(shots: tuple[int, ...], repetitions: tuple[int, ...]) -> dict[str, Any]:
    """Errors of both formulas and the slopes of their logarithms."""
    task, out = problem(4), {}
    for formula in FORMULAS:
        rows = [measured_error(task, formula, m, r) for m, r in zip(shots, repetitions, strict=True)]
        slope = np.polyfit(np.log([row["shots"] for row in rows]), np.log([row["rms"] for row in rows]), 1)[0]
        out[formula] = {"slope": float(slope), "rows": rows}
    return out


# --- what it costs ----------------------------------------------------------------------------------------------------


def least(cost: np.ndarray) -> int:
    """Index of the least finite cost."""
    return int(np.nanargmin(np.where(np.isfinite(cost), cost, np.nan)))


def ep_cost(task: Problem, grad: np.ndarray, allowed: float) -> dict[str, float]:
    """Centered EP: two phases, two settings. beta is the best of a grid, with the exact truncation error."""
    gap = float(EXACT.solve(*task[:2]).gap)
    betas = gap * np.geomspace(0.03, 0.5, 25)
    ends = np.array([[forces(task, b), forces(task, -b)] for b in betas])
    bias = np.sum(((ends[:, 0] - ends[:, 1]) / (2 * betas[:, None]) - grad) ** 2, axis=1)
    variance = np.sum(2 - ends[:, 0] ** 2 - ends[:, 1] ** 2, axis=1) / (4 * betas**2)
    shots = np.where(bias < allowed, variance / np.maximum(allowed - bias, 1e-300), np.inf)
    best = least(shots)
    return {"beta": float(betas[best]), "shots": float(shots[best]), "preparations": float(4 * shots[best])}


def loss(task: Problem, params: dict[str, np.ndarray]) -> float:
    """The exact cost."""
    return float(EXACT.solve(task[0], params).state.expect(task[2].observables[0]))


def moved(params: dict[str, np.ndarray], change: np.ndarray) -> dict[str, np.ndarray]:
    """Parameters plus a change in the order of `flat`."""
    names = sorted(params)
    parts = np.split(change, np.cumsum([params[name].size for name in names])[:-1])
    return {name: params[name] + part for name, part in zip(names, parts, strict=True)}


def difference_cost(task: Problem, grad: np.ndarray, allowed: float) -> dict[str, float]:
    """Central differences of the loss, every parameter at the best step of a grid for it; one setting."""
    steps = np.geomspace(0.05, 0.8, 8)
    variance = 1 - loss(task, task[1]) ** 2
    bias = np.empty((len(steps), len(grad)))
    for j, step in enumerate(steps):
        for k, unit in enumerate(np.eye(len(grad))):
            ends = [loss(task, moved(task[1], sign * step * unit)) for sign in (1, -1)]
            bias[j, k] = (ends[0] - ends[1]) / (2 * step) - grad[k]
    low, high = 1.0, 1e12
    while high / low > 1.001:  # shots of one loss at which the whole gradient has the allowed error
        shots = np.sqrt(low * high)
        error = np.sum(np.min(variance / (2 * shots * steps[:, None] ** 2) + bias**2, axis=0))
        low, high = (shots, high) if error > allowed else (low, shots)
    return {"shots": float(high), "preparations": float(2 * len(grad) * high)}


def spsa_cost(task: Problem, grad: np.ndarray, allowed: float, directions: int) -> dict[str, float]:
    """SPSA with one shot a loss (more shots a direction are never better); the best step of a grid.

    The bias is the mean over directions of (difference - g.Delta) Delta: what is linear in Delta is left out exactly.
    """
    rng, count = np.random.default_rng(0), len(grad)
    signs = rng.choice((-1.0, 1.0), size=(directions, count))
    variance = 1 - loss(task, task[1]) ** 2
    rows = []
    for step in np.geomspace(0.02, 0.3, 6):
        slopes = np.array(
            [loss(task, moved(task[1], step * d)) - loss(task, moved(task[1], -step * d)) for d in signs]
        ) / (2 * step)
        excess = (slopes - signs @ grad)[:, None] * signs
        bias = max(np.sum(excess.mean(axis=0) ** 2) - np.sum(excess.var(axis=0)) / directions, 0.0)
        spread = count * (np.sum(grad**2) + np.mean(slopes**2 - (signs @ grad) ** 2) + variance / (2 * step**2))
        number = (spread - np.sum(grad**2)) / (allowed - bias) if bias < allowed else np.inf
        rows.append((number, float(step)))
    number, step = rows[least(np.array([row[0] for row in rows]))]
    return {"step": step, "directions": float(number), "preparations": float(2 * number)}


def verified(task: Problem, ep: dict[str, float], repetitions: int) -> float:
    """The relative error that EP really has with these shots and this nudge, root mean square over repetitions."""
    net, params, cost = task
    exact = flat(qp.linear_response(net, params, cost).grad)
    solver, scheme = qp.Measured(EXACT, shots=round(ep["shots"])), qp.centered(ep["beta"])
    outs = [
        qp.ep_gradient(net, params, cost, solver=solver, scheme=scheme, key=k, throw=False) for k in range(repetitions)
    ]
    return float(np.sqrt(np.mean([np.sum((flat(o.grad) - exact) ** 2) for o in outs])) / np.linalg.norm(exact))


def compare(n: int, instance: int, *, directions: int = DIRECTIONS, repetitions: int = 20) -> dict[str, Any]:
    """State preparations of the whole gradient at a relative error of TARGET, three ways."""
    task = problem(n, instance)
    grad = flat(qp.linear_response(*task).grad)
    allowed = TARGET**2 * float(np.sum(grad**2))
    ep = ep_cost(task, grad, allowed)
    return {
        "spins": n,
        "parameters": len(grad),
        "EP": ep,
        "finite differences": difference_cost(task, grad, allowed),
        "SPSA": spsa_cost(task, grad, allowed, directions),
        "measured error of EP": verified(task, ep, repetitions),
    }


def averages(rows: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Geometric means of the preparations over the instances of every size."""
    out = []
    for n in sorted({row["spins"] for row in rows}):
        same = [row for row in rows if row["spins"] == n]
        means = {name: float(np.exp(np.mean([np.log(row[name]["preparations"]) for row in same]))) for name in METHODS}
        out.append({"spins": n, "parameters": same[0]["parameters"], **means})
    return out


# --- results ----------------------------------------------------------------------------------------------------------


def table(results: dict[str, Any]) -> str:
    """Both results as text."""
    lines = []
    for formula, out in results["scaling"].items():
        lines.append(f"{formula}: slope {out['slope']:.3f}")
        lines += [
            f"  {row['shots']:>8} shots  beta {row['beta']:.3f}  rms {row['rms']:.5f}  predicted {row['predicted']:.5f}"
            f"  z {row['z mean']:+.3f} +- {row['z std']:.3f}"
            for row in out["rows"]
        ]
    lines.append(f"preparations for {100 * TARGET:g} % of |gradient|, geometric mean of {INSTANCES} networks")
    for row in averages(results["cost"]):
        ep, fd, spsa = (row[name] for name in METHODS)
        lines.append(
            f"  n = {row['spins']:>2}, {row['parameters']:>2} parameters: EP {ep:.3g}  finite differences {fd:.3g} "
            f"({fd / ep:.1f} x)  SPSA {spsa:.3g} ({spsa / ep:.1f} x)"
        )
    met = [100 * row["measured error of EP"] for row in results["cost"]]
    lines.append(f"  EP run with these shots: errors of {min(met):.1f} to {max(met):.1f} %")
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """The figure beside the README."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for (formula, out), colour in zip(results["scaling"].items(), ("C1", "C0"), strict=True):
        shots, rms = (np.array([row[key] for row in out["rows"]]) for key in ("shots", "rms"))
        left.loglog(shots, rms, "o", color=colour, label=f"{formula}: slope {out['slope']:.3f}")
        left.loglog(shots, [row["predicted"] for row in out["rows"]], "-", color=colour, lw=1)
    left.set(xlabel="shots a setting and phase", ylabel="rms error of a component", title="at the best nudge")
    left.legend(title="lines: prediction")
    means = averages(results["cost"])
    parameters = [row["parameters"] for row in means]
    for k, (name, mark) in enumerate(zip(METHODS, "o^s", strict=True)):
        label = "centered EP, two settings" if name == "EP" else name
        right.loglog(parameters, [row[name] for row in means], f"{mark}-", color=f"C{k}", label=label)
        single = [(row["parameters"], row[name]["preparations"]) for row in results["cost"]]
        right.loglog(*zip(*single, strict=True), mark, color=f"C{k}", ms=3, alpha=0.5)
    right.set_xticks(parameters, [str(count) for count in parameters])
    right.minorticks_off()
    right.set(xlabel="parameters", ylabel="state preparations", title=f"whole gradient to {100 * TARGET:g} %")
    right.set_ylim(bottom=1e4)
    right.legend(loc="lower right")
    figure.savefig(HERE / "shots.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the stored results")
    if parser.parse_args().quick:
        stored = json.loads((HERE / "results.json").read_text())
        quick = scaling(SHOTS[:2], REPETITIONS[:2])
        for formula, out in quick.items():
            for row, known in zip(out["rows"], stored["scaling"][formula]["rows"], strict=False):
                assert np.allclose(list(row.values()), list(known.values()), rtol=1e-9), (row, known)
        task, known = problem(4), stored["cost"][0]
        grad = flat(qp.linear_response(*task).grad)
        ep = ep_cost(task, grad, TARGET**2 * float(np.sum(grad**2)))
        assert np.allclose(list(ep.values()), list(known["EP"].values()), rtol=1e-6), (ep, known)
        print("The quick form agrees with the stored results.")
        return
    results = {"scaling": scaling(SHOTS, REPETITIONS), "cost": [compare(n, k) for n in SIZES for k in range(INSTANCES)]}
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results)
    print(table(results))


if __name__ == "__main__":
    main()

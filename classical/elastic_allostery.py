"""Allostery in elastic networks: a distant pair of nodes learns to follow when another pair is pulled apart.

python classical/elastic_allostery.py            # ten networks of 64 nodes, a few minutes
python classical/elastic_allostery.py --quick    # one small network, checked against the claims

The task is that of Rocks et al., PNAS 114, 2520 (2017), with stiffnesses that learn instead of springs that are cut: a pair
at the left end is strained by 5 %, and the ends of a random spring far away shall be strained by a fifth of that, many times
more than by themselves. The network floats freely, its springs are at rest when nothing is driven, and the rest lengths are
kept. All stiffnesses learn by centered equilibrium propagation, between 0.02 and 10 (they start around 1). Beside it coupled
learning, of Stern et al., Phys. Rev. X 11, 021045 (2021), on the positions of the two answering nodes, which it clamps.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import qeqprop as qp
from qeqprop.classical import RULES, Allostery, AllosteryResult, elastic_allostery, rigidity_report

HERE = Path(__file__).parent
SEEDS, COUPLED_SEEDS = range(100, 110), range(100, 103)  # settings were chosen on the seeds 0 to 9
STRAIN = 0.05
COUPLED_RULES = {"C-EP": 1e-5, "P-CpL": 0.1, "C-CpL": 0.1}
Params = dict[str, np.ndarray]


def trained(seeds: range, n_nodes: int, steps: int | None) -> tuple[list[AllosteryResult], float]:
    """Every network trained by EP, and the CPU seconds of one."""
    started = time.process_time()
    results = [elastic_allostery(n_nodes, strain=STRAIN, seed=seed).train(steps=steps) for seed in seeds]
    return results, (time.process_time() - started) / len(results)


def summary(result: AllosteryResult, seed: int) -> dict[str, Any]:
    """What one network learnt, and how soft it became."""
    task, params = result.task, result.history.params
    states = [qp.equilibrate(task.network, p, inputs=task.inputs).state for p in (task.params, params)]
    softest = [
        float(rigidity_report(task.network, p, inputs=task.inputs, state=state).curvatures[0])
        for p, state in zip((task.params, params), states, strict=True)
    ]
    return {
        "seed": seed,
        "before": float(result.before[0]),
        "after": float(result.after[0]),
        "reduction": result.reduction,
        "softest mode": softest,
        "at the least stiffness": int(np.sum(params["k"] <= 0.0201)),
        "curve": [float(f"{x:.3g}") for x in result.history.loss / result.history.loss[0]],
    }


def by_rule(task: Allostery, rule: str, steps: int) -> list[float]:
    """The loss |r - y|^2 of the free state, relative to the first one, during a training by one rule.

    The answering nodes shall move apart (or together) about their middle until their pair has a twentieth of the source's
    strain.
    """
    i, j = (int(node) for node in task.pairs[0])
    r = qp.equilibrate(task.network, task.params, inputs=task.inputs).state.position
    between, rest = r[i] - r[j], np.linalg.norm(task.network.reference[i] - task.network.reference[j])
    length = rest * (1 + np.sign(task.wanted[0]) * 0.05 * STRAIN)
    middle, half = (r[i] + r[j]) / 2, between / np.linalg.norm(between) * length / 2
    wanted = np.array([middle + half, middle - half])
    history = qp.fit(
        task.network, task.params, RULES[rule].nudge([i, j]), (task.inputs[None], wanted[None]), frozen=("l",),
        scheme=RULES[rule].scheme(COUPLED_RULES[rule]), optimizer=task.optimizer(steps), epochs=steps, progress=False,
    )  # fmt: skip
    return [float(f"{x:.3g}") for x in history.loss / history.loss[0]]


def study(
    seeds: range, coupled: range, n_nodes: int, steps: int, rule_steps: int
) -> tuple[dict[str, Any], AllosteryResult]:
    """All results, and the first network."""
    found, seconds = trained(seeds, n_nodes, steps)
    tasks = [elastic_allostery(n_nodes, strain=STRAIN, seed=seed) for seed in coupled]
    curves = {rule: [by_rule(task, rule, rule_steps) for task in tasks] for rule in COUPLED_RULES}
    results = {
        "nodes": n_nodes,
        "steps": steps,
        "CPU seconds": seconds,
        "allostery": [summary(result, seed) for result, seed in zip(found, seeds, strict=True)],
        "rules": {"seeds": list(coupled), "curves": curves},
    }
    return results, found[0]


def check(results: dict[str, Any], bound: float, share: float, rule_bound: float) -> None:
    """What must hold: the loss falls below `bound` in that share of the networks, none of which is floppy."""
    reductions = np.array([row["reduction"] for row in results["allostery"]])
    assert np.mean(reductions < bound) >= share, reductions
    assert all(row["softest mode"][1] > 0 for row in results["allostery"])
    for rule, curves in results["rules"]["curves"].items():
        assert max(curve[-1] for curve in curves) < rule_bound, (rule, [curve[-1] for curve in curves])


def table(results: dict[str, Any]) -> str:
    """Results as text."""
    lines = [
        f"{results['nodes']} nodes, {results['steps']} steps of EP, {results['CPU seconds']:.1f} CPU seconds a network"
    ]
    lines += [
        f"  seed {row['seed']:<5}response {row['before']:+.4f} -> {row['after']:+.6f}   loss x {row['reduction']:.1e}   "
        f"softest mode {row['softest mode'][0]:.1e} -> {row['softest mode'][1]:.1e}"
        for row in results["allostery"]
    ]
    reached = sum(row["reduction"] < 1e-8 for row in results["allostery"])
    lines.append(f"  below 1e-8 in {reached} of {len(results['allostery'])}")
    lines.append("node positions, loss after the training over that before:")
    lines += [f"  {rule:<8}{', '.join(f'{c[-1]:.1e}' for c in cs)}" for rule, cs in results["rules"]["curves"].items()]
    return "\n".join(lines)


def draw(results: dict[str, Any], first: AllosteryResult) -> None:
    """The figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    draw_network(figure, left, first)
    for row in results["allostery"]:
        middle.semilogy(row["curve"], lw=1, color="C0", alpha=0.7)
    middle.axhline(1e-8, color="k", lw=0.8, ls=":")
    middle.set(xlabel="step", ylabel="loss / first loss", title="strain of a distant pair, ten networks")
    for number, (rule, curves) in enumerate(results["rules"]["curves"].items()):
        for k, curve in enumerate(curves):
            right.semilogy(curve, lw=1, color=f"C{number}", alpha=0.8, label=rule if k == 0 else None)
    right.set(xlabel="step", ylabel="loss / first loss", title="positions of two nodes")
    right.legend(frameon=False)
    figure.savefig(HERE / "elastic_allostery.png", dpi=120)


def draw_network(figure: Any, axes: Any, result: AllosteryResult) -> None:
    """Stiffnesses of the trained network, and how its nodes move (40-fold) when the source is pulled, turns left out."""
    from matplotlib.collections import LineCollection

    task, params = result.task, result.history.params
    r = without_turn(qp.equilibrate(task.network, params, inputs=task.inputs).state.position, task.points)
    edges = np.array(task.network.edges)
    lines = LineCollection(list(task.points[edges]), array=np.log10(params["k"]), cmap="viridis", lw=1.6)
    axes.add_collection(lines)
    axes.quiver(*task.points.T, *(40 * (r - task.points)).T, angles="xy", scale_units="xy", scale=1, width=0.005)
    for pair, style, name in ((task.source, "C3*", "source"), (task.pairs[0], "C1o", "answering pair")):
        axes.plot(*task.points[list(pair)].T, style, ms=10, ls="none", label=name)
    axes.set(aspect="equal", xticks=[], yticks=[], title="trained network, displacements x 40")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2)
    figure.colorbar(lines, ax=axes, label="log10 of the stiffness", shrink=0.8)


def without_turn(r: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`r` moved rigidly as close to the reference as it goes."""
    center, origin = r.mean(axis=0), reference.mean(axis=0)
    left, _, right = np.linalg.svd((r - center).T @ (reference - origin))
    return (r - center) @ left @ right + origin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the claims")
    if parser.parse_args().quick:
        check(study(range(1), range(1), 36, 100, 20)[0], bound=1e-2, share=1.0, rule_bound=0.9)
        print("The quick form agrees with the claims.")
        return
    results, first = study(SEEDS, COUPLED_SEEDS, 64, 300, 300)
    print(table(results))
    check(results, bound=1e-8, share=0.8, rule_bound=0.1)
    draw(results, first)
    for curves in (*([row["curve"]] for row in results["allostery"]), *results["rules"]["curves"].values()):
        for curve in curves:  # every fifth step is kept
            curve[:] = curve[::5]
    (HERE / "elastic_allostery.json").write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()

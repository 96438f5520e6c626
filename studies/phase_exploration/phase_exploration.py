"""Two unsupervised tasks of Wanjura & Marquardt on an open cluster-Ising chain: see the README beside this file.

python studies/phase_exploration/phase_exploration.py            # 100 steps of each run, a few seconds
python studies/phase_exploration/phase_exploration.py --quick    # 10 steps, compared with the stored trajectories
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import qeqprop as qp

HERE = Path(__file__).parent
N_SITES, G_ZXZ, BETA, STEP = 10, 0.5, 0.1, 0.1
OUTPUT = qp.X(0) * qp.X(4)
STARTS = {"exploration 1": (-0.1, 0.4), "exploration 2": (0.2, 0.9)}  # (theta_X, theta_ZZ)
SENSOR_START = (-0.2, -1.5, -1.5)  # (field 1, field 2, theta_ZZ)
PUBLISHED = {  # step: position, from the data files of the authors' repository, https://github.com/ClaraWanjura/QuantumEP
    "exploration 1": {1: (-0.1983594104852208, 0.3819604221501763), 10: (-1.028837283648389, 0.0459797723827263)},
    "exploration 2": {1: (0.2943397969362134, 0.8668337111808688), 10: (0.9731177589178960, 0.2909069591384492)},
    "sensitivity": {
        1: (-0.2767359727212816, -1.484254918033414, -1.437841469737580),
        10: (-0.6772370795064611, -0.9566291259815581, -1.182358484793631),
        100: (-0.4497505008294971, -0.5090975247182223, -0.8348203773534376),
    },
}


def chain() -> qp.SpinNetwork:
    """H = -[theta_X sum_j X_j + theta_ZZ sum_j Z_j Z_(j+1) + 0.5 sum_(j=1..7) Z_j X_(j+1) Z_(j+2)], open."""
    cluster = sum((qp.Z(j) * qp.X(j + 1) * qp.Z(j + 2) for j in range(1, N_SITES - 2)), 0 * qp.identity())
    field = sum((qp.X(j) for j in range(N_SITES)), 0 * qp.identity())
    bonds = sum((qp.Z(j) * qp.Z(j + 1) for j in range(N_SITES - 1)), 0 * qp.identity())
    return qp.SpinNetwork(N_SITES, {"X": [-field], "ZZ": [-bonds]}, fixed=-G_ZXZ * cluster)


def output_and_slopes(net: qp.SpinNetwork, x: float, zz: float) -> tuple[float, np.ndarray]:
    """<X_0 X_4> and its derivatives by (theta_X, theta_ZZ), by one-sided EP towards larger <X_0 X_4>.

    As published, the nudged state is the *lowest level* of the nudged chain, found from scratch. `qp.ep_gradient` would
    stay on the branch of the free state, and report a nudge that is too large where two levels cross.
    """
    params = {"X": np.array([x]), "ZZ": np.array([zz])}
    cost = qp.ObservableCost(-OUTPUT)
    free = qp.equilibrate(net, params, throw=False).state
    nudged = qp.equilibrate(net.nudged(cost.term(free, None), BETA), params, throw=False).state
    forces = [net.param_grad(params, state).mean for state in (free, nudged)]
    slopes = [(forces[1][name][0] - forces[0][name][0]) / BETA for name in params]
    return float(free.expect(OUTPUT)), -np.array(slopes)


def explore(net: qp.SpinNetwork, at: np.ndarray) -> tuple[float, np.ndarray]:
    """L = -|<X_0 X_4>| and its gradient by (theta_X, theta_ZZ)."""
    value, slopes = output_and_slopes(net, *at)
    return -abs(value), -np.sign(value) * slopes


def sense(net: qp.SpinNetwork, at: np.ndarray) -> tuple[float, np.ndarray]:
    """L = -|<X_0 X_4>(g_1) - <X_0 X_4>(g_2)| / |g_1 - g_2| and its gradient by (g_1, g_2, theta_ZZ)."""
    field_1, field_2, zz = at
    (value_1, slopes_1), (value_2, slopes_2) = (output_and_slopes(net, g, zz) for g in (field_1, field_2))
    distance, order = abs(field_1 - field_2), np.sign(value_1 - value_2)
    loss = -abs(value_1 - value_2) / distance
    widen = np.sign(field_1 - field_2) * loss / distance
    by_fields = (-order * slopes_1[0] / distance - widen, order * slopes_2[0] / distance + widen)
    return loss, np.array([*by_fields, -order * (slopes_1[1] - slopes_2[1]) / distance])


def descend(
    task: Callable[[qp.SpinNetwork, np.ndarray], tuple[float, np.ndarray]], start: tuple[float, ...], steps: int
) -> dict[str, Any]:
    """Steps of fixed length against the gradient."""
    net, at, path, losses = chain(), np.array(start), [], []
    for _ in range(steps):
        loss, grad = task(net, at)
        path.append(at.tolist())
        losses.append(loss)
        at = at - STEP * grad / np.linalg.norm(grad)
    return {"path": [*path, at.tolist()], "loss": losses}


def run(steps: int) -> dict[str, Any]:
    """All trajectories."""
    runs = {name: descend(explore, start, steps) for name, start in STARTS.items()}
    return runs | {"sensitivity": descend(sense, SENSOR_START, steps)}


def draw(results: dict[str, Any], path: Path) -> None:
    """Map of <X_0 X_4> with the trajectories, and the losses."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    net, solver = chain(), qp.ExactDiagonalization()
    xs, zzs = np.linspace(-3, 3, 49), np.linspace(-2, 1.2, 33)
    values = [
        [float(solver.solve(net, {"X": np.array([x]), "ZZ": np.array([zz])}).state.expect(OUTPUT)) for x in xs]
        for zz in zzs
    ]
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    image = left.pcolormesh(xs, zzs, values, cmap="RdBu_r", vmin=-1, vmax=1, shading="nearest", rasterized=True)
    fig.colorbar(image, ax=left, label=r"$\langle X_0 X_4\rangle$")
    for (name, result), color in zip(results.items(), ("black", "tab:green", "tab:purple"), strict=True):
        points = np.array(result["path"])
        if points.shape[1] == 2:
            left.plot(*points.T, ".-", color=color, label=name, lw=1, ms=3)
            left.plot(*points[0], "o", color=color)
        else:
            for column, marker in ((0, ".-"), (1, ".--")):
                left.plot(points[:, column], points[:, 2], marker, color=color, lw=1, ms=3)
                left.plot(points[0, column], points[0, 2], "o", color=color)
            left.plot([], [], ".-", color=color, label=name)
        right.plot(result["loss"], color=color, label=name)
    left.set(xlabel=r"$\theta_X$", ylabel=r"$\theta_{ZZ}$", xlim=(xs[0], xs[-1]), ylim=(zzs[0], zzs[-1]))
    left.legend(fontsize=8)
    right.set(xlabel="step", ylabel="loss")
    right.legend(fontsize=8)
    fig.savefig(path, dpi=120)


def deviation(results: dict[str, Any], known: dict[str, dict[int, Any]]) -> float:
    """Largest difference from known positions, at the steps that were run."""
    return max(
        float(np.abs(np.subtract(results[name]["path"][step], position)).max())
        for name, positions in known.items()
        for step, position in positions.items()
        if step < len(results[name]["path"])
    )


def main(arguments: list[str] | None = None) -> None:
    """Run, compare with the published and the stored trajectories or store them, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10 steps, compared with the stored trajectories")
    quick = parser.parse_args(arguments).quick
    results = run(10 if quick else 100)
    for name, result in results.items():
        end = ", ".join(f"{x:.6f}" for x in result["path"][-1])
        print(f"{name:<15} loss {result['loss'][0]:.6f} -> {result['loss'][-1]:.6f}, ends at ({end})")
    print(f"largest difference from the published positions: {deviation(results, PUBLISHED):.1e}")
    stored = HERE / "results.json"
    if not quick:
        stored.write_text(json.dumps(results, indent=1) + "\n")
        draw(results, HERE / "phase_exploration.png")
        return
    known = {name: dict(enumerate(result["path"])) for name, result in json.loads(stored.read_text()).items()}
    print(f"largest difference from the stored positions: {(worst := deviation(results, known)):.1e}")
    if worst > 1e-8:
        raise SystemExit("The trajectories differ from results.json.")


if __name__ == "__main__":
    main()

"""Networks of driven oscillators learn motions: by the action of periodic ones, and by echoes of those from rest.

python classical/lagrangian_ep.py            # five oscillators
python classical/lagrangian_ep.py --quick    # three, compared with the claims

Periodic: the oscillators of a chain are driven at one end by three harmonics of equal strength, and the other end shall move
in a triangular wave, as the Fourier series of a triangle has it up to the fifth harmonic. The state is the whole period,
and the energy the action (Scellier, arXiv:2103.09985; Massar, arXiv:2505.07363). From rest: a pulse is sent into the chain,
and the other end shall answer with a short sequence, up, down, up; the gradient comes from nudged echoes (Lopez-Pastor
and Marquardt, Phys. Rev. X 13, 031020; Pourcel and Ernoult, arXiv:2506.05259). Learnt are the stiffnesses, the
anharmonicities and the couplings of all pairs.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax

import qeqprop as qp
from qeqprop.classical import HamiltonianSystem, LagrangianSystem, StateCost

HERE = Path(__file__).parent
PERIOD = 8.0
STEPS = 48
Params = dict[str, np.ndarray]


class Problem(NamedTuple):
    """What learns, from what drive, to move how."""

    system: Any
    params: Params
    cost: StateCost
    target: np.ndarray
    inputs: np.ndarray

    @property
    def given(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of `ep_gradient` behind the parameters, and the named ones."""
        return (self.cost, self.target), {"inputs": self.inputs}


def last_oscillator(q: Any, target: Any) -> Any:
    """Mean squared error of the last oscillator's trajectory, halved."""
    return ((q[:, -1] - target) ** 2).mean() / 2


def potential(p: Any, q: Any, x: Any) -> Any:
    """Anharmonic wells, springs between all pairs, and a drive of the first oscillator."""
    i, j = np.triu_indices(len(q), 1)
    wells = (p["k"] * q**2).sum() / 2 + (p["a"] ** 2 * q**4).sum() / 4
    return wells + (p["c"] * (q[i] - q[j]) ** 2).sum() / 2 - x * q[0]


def lagrangian(p: Any, q: Any, v: Any, x: Any) -> Any:
    """Unit masses in that potential."""
    return v @ v / 2 - potential(p, q, x)


def initial(size: int, seed: int) -> Params:
    """A chain: neighbours are coupled, the other pairs hardly."""
    rng = np.random.default_rng(seed)
    i, j = np.triu_indices(size, 1)
    return {
        "k": rng.uniform(1.5, 2.5, size),
        "a": rng.uniform(0.2, 0.4, size),
        "c": np.where(j == i + 1, 0.5, 0.0) + 0.05 * rng.normal(size=len(i)),
    }


def shapes(params: Params) -> dict[str, tuple[int, ...]]:
    """Of every parameter."""
    return {name: value.shape for name, value in params.items()}


def periodic(size: int) -> Problem:
    """Three harmonics come in, a triangular wave shall come out."""
    params = initial(size, 0)
    net = LagrangianSystem(lagrangian, size, shapes(params), dt=PERIOD / STEPS, steps=STEPS, inputs=())
    phase = 2 * np.pi * net.times / PERIOD
    triangle = 0.6 * (np.sin(phase) - np.sin(3 * phase) / 9 + np.sin(5 * phase) / 25)
    drive = sum(np.sin(n * 2 * np.pi * net.midpoints / PERIOD) for n in (1, 3, 5))
    return Problem(net, params, StateCost(last_oscillator), triangle, drive)


def from_rest(size: int) -> Problem:
    """A pulse comes in, a sequence shall come out in the second half of the time."""
    params, steps = initial(size, 1), 2 * STEPS
    net = HamiltonianSystem(potential, size, shapes(params), dt=2 * PERIOD / steps, steps=steps, inputs=())
    pulse = 2.0 * np.exp(-((net.times - 1.5) ** 2))
    late = np.arange(steps // 2, steps + 1)
    sequence = 0.5 * np.sin(2 * np.pi * 1.5 * (net.times[late] - PERIOD) / PERIOD)
    return Problem(net, params, StateCost(last_oscillator, late), sequence, pulse)


def deviations(problem: Problem) -> dict[str, float]:
    """Relative distances of linear response and of centered(1e-4) from finite differences, before learning."""
    (cost, target), named = problem.given
    known = qp.finite_difference(problem.system, problem.params, cost, target, **named, step=1e-3).grad
    found = {}
    for name, scheme in (("linear response", None), ("centered", qp.centered(1e-4))):
        grad = qp.ep_gradient(problem.system, problem.params, cost, target, **named, scheme=scheme).grad
        missed = sum(np.sum((grad[n] - known[n]) ** 2) for n in known) / sum(np.sum(known[n] ** 2) for n in known)
        found[name] = float(f"{np.sqrt(missed):.2g}")
    return found


def learn(problem: Problem, steps: int) -> tuple[Params, list[float]]:
    """Adam on centered EP; every motion is looked for from the one before."""
    (cost, target), named = problem.given
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, steps))
    params, losses = problem.params, []
    state, free = optimizer.init(params), None
    for _ in range(steps):
        out = qp.ep_gradient(problem.system, params, cost, target, **named, init=free, scheme=qp.centered(1e-3))
        free = out.free
        losses.append(float(out.loss))
        updates, state = optimizer.update(out.grad, state, params)
        params = {name: np.asarray(value) for name, value in optax.apply_updates(params, updates).items()}
    return params, losses


def motion(problem: Problem, params: Params) -> np.ndarray:
    """The trajectory of the last oscillator."""
    return np.asarray(qp.equilibrate(problem.system, params, inputs=problem.inputs).state.position[:, -1])


def study(problems: dict[str, Problem], steps: int) -> dict[str, Any]:
    """Gradients before, and losses while learning."""
    results = {}
    for name, problem in problems.items():
        begin = time.process_time()
        params, losses = learn(problem, steps)
        free = qp.equilibrate(problem.system, params, inputs=problem.inputs)
        results[name] = {
            "deviation from finite differences": deviations(problem),
            "losses": [float(f"{x:.4g}") for x in losses],
            "relative error": float(f"{np.sqrt(losses[-1] / np.mean(problem.target**2 / 2)):.3g}"),
            "negative directions": free.stats.get("negative_directions"),
            "cpu seconds": round(time.process_time() - begin, 1),
            "params": {n: np.round(value, 6).tolist() for n, value in params.items()},
        }
    return results


def check(results: dict[str, Any], reduction: float) -> None:
    """What must hold: the gradient is the gradient, and the motions are learnt."""
    for name, found in results.items():
        deviation = found["deviation from finite differences"]
        assert deviation["linear response"] < 1e-8, (name, deviation)
        assert deviation["centered"] < 1e-6, (name, deviation)
        assert found["losses"][-1] < reduction * found["losses"][0], (name, found["losses"][-1] / found["losses"][0])


def table(results: dict[str, Any]) -> str:
    """Results as text."""
    return "\n".join(
        f"{name}: loss {found['losses'][0]:.3g} -> {found['losses'][-1]:.3g} (error {100 * found['relative error']:.1f} % of "
        f"the target), gradient {found['deviation from finite differences']}, negative directions "
        f"{found['negative directions']}, {found['cpu seconds']} s CPU"
        for name, found in results.items()
    )


def draw(results: dict[str, Any], problems: dict[str, Problem]) -> None:
    """The figure: motions before and after, and the losses."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    for place, (name, problem) in zip(axes, problems.items(), strict=False):
        times = problem.system.times
        learnt = {n: np.asarray(value) for n, value in results[name]["params"].items()}
        read = problem.cost.observables[0].of(times)
        place.plot(times, motion(problem, problem.params), ":", color="0.5", label="before")
        place.plot(times, motion(problem, learnt), "-", label="after")
        place.plot(read, problem.target, "k.", ms=4, label="target")
        place.set(xlabel="time", ylabel="last oscillator", title=name)
        axes[2].semilogy(results[name]["losses"], label=name)
    axes[0].legend(frameon=False)
    axes[2].set(xlabel="step", ylabel="loss")
    axes[2].legend(frameon=False)
    figure.savefig(HERE / "lagrangian_ep.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the claims")
    if parser.parse_args().quick:
        check(study({"periodic": periodic(3), "from rest": from_rest(3)}, 30), 0.8)
        print("The quick form agrees with the claims.")
        return
    problems = {"periodic": periodic(5), "from rest": from_rest(5)}
    results = study(problems, 300)
    print(table(results))
    check(results, 0.01)
    draw(results, problems)
    (HERE / "lagrangian_ep.json").write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()

"""How many experiments does a gradient take, and how wrong is it? Physical training methods on three networks.

python classical/training_methods.py            # ten networks of each kind, half a minute
python classical/training_methods.py --quick    # two of each, compared with the claims

After Momeni et al., arXiv:2406.03372 (2024). A device has couplings that are off from what it is told by a few per cent,
unknown to all. An experiment is one equilibrium at which all forces or outputs are read, without noise. What runs on the
device alone (equilibrium propagation, coupled learning, finite differences, simultaneous perturbation) does not care;
physics-aware training (Wright et al., Nature 601, 549, 2022) takes the outputs from the device and derivatives from the model
that is off; the model alone takes both from it. Errors are relative to the device's exact gradient, of the squared error of
its outputs.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import qeqprop as qp
from qeqprop.classical import Clamp, ElasticNetwork, ExactEnumeration, Ising, StateCost

HERE = Path(__file__).parent
MISMATCH, NUDGE, STEP, DIRECTIONS = 0.05, 0.02, 0.02, 8
Params = dict[str, np.ndarray]


def squared_distance(outputs: Any, target: Any) -> Any:
    """sum (s - y)^2."""
    return ((outputs - target) ** 2).sum()


class Lab(NamedTuple):
    """A network with a cost of its outputs; the device's parameters, and what the model takes them for.

    `clamp` holds the outputs, where the states can be held.
    """

    system: Any
    cost: Any
    target: np.ndarray
    device: Params
    model: Params
    solver: Any
    clamp: Any = None

    def outputs(self, params: Params) -> np.ndarray:
        """What is read at the equilibrium."""
        state = qp.equilibrate(self.system, params, solver=self.solver).state
        return np.asarray(state.expect_all(self.cost.observables).mean)

    def exact(self, params: Params, target: np.ndarray) -> Params:
        """The exact gradient, of the device or of the model."""
        return qp.linear_response(self.system, params, self.cost, target, solver=self.solver).grad

    @property
    def on_device(self) -> dict[str, Any]:
        """The arguments of the estimators."""
        return {
            "system": self.system,
            "params": self.device,
            "nudge": self.cost,
            "target": self.target,
            "solver": self.solver,
        }

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(value.size for value in self.device.values())


def elastic(seed: int) -> Lab:
    """Sixteen nodes on a lattice out of order; stiffnesses and rest lengths bring two of them to where they are wanted."""
    rng = np.random.default_rng(seed)
    sites = np.stack(np.meshgrid(np.arange(4.0), np.arange(4.0), indexing="ij"), axis=-1).reshape(-1, 2)
    sites += 0.1 * rng.normal(size=sites.shape)
    edges = [(i, j) for i in range(16) for j in range(i) if np.linalg.norm(sites[i] - sites[j]) < 1.7]
    net = ElasticNetwork(edges, sites, pinned=[0, 3, 12, 15], stiffness=0.3)
    outputs = [5, 10]
    cost, clamp = StateCost(squared_distance, outputs), Clamp(outputs)
    return lab(net, net.init_params(rng), cost, sites[outputs] + 0.1 * rng.normal(size=(2, 2)), rng, None, clamp)


def ising(seed: int) -> Lab:
    """Nine classical spins on a lattice at temperature 1; mean values of three of them are wanted."""
    rng = np.random.default_rng(seed)
    net = Ising(9, lattice(3))
    params = {"J": 0.5 * rng.normal(size=12), "h": 0.5 * rng.normal(size=9)}
    cost = qp.ExpectationCost([qp.Z(k) for k in (0, 4, 8)])
    return lab(net, params, cost, rng.uniform(-0.5, 0.5, 3), rng, ExactEnumeration(1.0))


def quantum(seed: int) -> Lab:
    """Nine quantum spins on the same lattice in transverse fields; the same of their ground state."""
    rng = np.random.default_rng(seed)
    net = qp.TransverseFieldIsing(9, lattice(3))
    params = {"J": 0.5 * rng.normal(size=12), "h": 0.5 * rng.normal(size=9), "g": rng.uniform(0.8, 1.2, 9)}
    cost = qp.ExpectationCost([qp.Z(k) for k in (0, 4, 8)])
    return lab(net, params, cost, rng.uniform(-0.5, 0.5, 3), rng, qp.ExactDiagonalization())


def lattice(n: int) -> list[tuple[int, int]]:
    """Edges of an n x n square lattice."""
    return [(i * n + j, i * n + j + 1) for i in range(n) for j in range(n - 1)] + [(k, k + n) for k in range(n * n - n)]


def lab(
    system: Any, told: Params, cost: Any, target: np.ndarray, rng: np.random.Generator, solver: Any, clamp: Any = None
) -> Lab:
    """The device is off by a few per cent of the mean size of what it is told."""
    device = {name: v + MISMATCH * np.abs(v).mean() * rng.normal(size=v.shape) for name, v in told.items()}
    return Lab(system, cost, target, device, told, solver, clamp)


NETWORKS: dict[str, Callable[[int], Lab]] = {"elastic": elastic, "Ising": ising, "quantum": quantum}


def one_sided(at: Lab, seed: int) -> tuple[int, Params]:
    """EP from the free state and one nudged one. (The package solves another, at half the nudge, for its error estimate.)"""
    return 2, qp.ep_gradient(**at.on_device, scheme=qp.one_sided(NUDGE)).grad


def centered(at: Lab, seed: int) -> tuple[int, Params]:
    """EP from two nudged states, and the free one, which tells the error signal."""
    return 3, qp.ep_gradient(**at.on_device, scheme=qp.centered(NUDGE)).grad


def coupled(at: Lab, seed: int) -> tuple[int, Params] | None:
    """Coupled learning: outputs held a part of the way. No gradient of this loss: of its direction only the angle counts."""
    if at.clamp is None:
        return None
    return 2, qp.ep_gradient(**{**at.on_device, "nudge": at.clamp}, scheme=qp.one_sided(NUDGE)).grad


def differences(at: Lab, seed: int) -> tuple[int, Params]:
    """Central differences of the loss in every parameter."""
    return 2 * at.size, qp.finite_difference(**at.on_device, stencil=qp.centered(STEP)).grad


def simultaneous(at: Lab, seed: int) -> tuple[int, Params]:
    """SPSA: all parameters at once, in random directions."""
    return 2 * DIRECTIONS, qp.spsa_gradient(**at.on_device, step=STEP, directions=DIRECTIONS, key=seed).grad


def physics_aware(at: Lab, seed: int) -> tuple[int, Params]:
    """Outputs y of the device, derivatives of the model: J_model^T (y - target), by a target that makes this error."""
    shift = (at.outputs(at.model) - at.outputs(at.device)).reshape(at.target.shape)
    return 1, at.exact(at.model, at.target + shift)


def model_alone(at: Lab, seed: int) -> tuple[int, Params]:
    """Backpropagation without the device."""
    return 0, at.exact(at.model, at.target)


METHODS: dict[str, Callable[[Lab, int], tuple[int, Params] | None]] = {
    "model alone": model_alone,
    "physics-aware": physics_aware,
    "one-sided EP": one_sided,
    "coupled learning": coupled,
    "centered EP": centered,
    "SPSA": simultaneous,
    "finite differences": differences,
}


def compared(at: Lab, seed: int) -> dict[str, dict[str, float]]:
    """Experiments, relative error and cosine of every method on one network."""
    exact, found = flat(at.exact(at.device, at.target)), {}
    for name, method in METHODS.items():
        if (out := method(at, seed)) is None:
            continue
        grad = flat(out[1])
        cosine = grad @ exact / np.linalg.norm(grad) / np.linalg.norm(exact)
        error = np.linalg.norm(grad - exact) / np.linalg.norm(exact)
        found[name] = {"experiments": out[0], "error": float(error), "1 - cosine": float(1 - cosine)}
    return found


def flat(tree: Params) -> np.ndarray:
    return np.concatenate([np.ravel(tree[name]) for name in sorted(tree)])


def study(networks: int) -> dict[str, Any]:
    """Medians over networks of each kind."""
    results = {}
    for kind, make in NETWORKS.items():
        runs = [compared(make(seed), seed) for seed in range(networks)]
        results[kind] = {
            name: {key: float(np.median([run[name][key] for run in runs])) for key in runs[0][name]} for name in runs[0]
        }
    return results


def check(results: dict[str, Any]) -> None:
    """What must hold: EP is as good as finite differences with a part of their experiments, and sees no mismatch."""
    for kind, found in results.items():
        assert found["centered EP"]["error"] < 0.02, (kind, found)
        assert found["centered EP"]["error"] < 0.5 * found["one-sided EP"]["error"], (kind, found)
        assert found["finite differences"]["error"] < 0.02, (kind, found)
        assert found["finite differences"]["experiments"] > 10 * found["centered EP"]["experiments"], (kind, found)
        assert found["SPSA"]["error"] > 0.3, (kind, found)
        assert 0.01 < found["physics-aware"]["error"] < 0.5, (kind, found)


def table(results: dict[str, Any]) -> str:
    """Results as text."""
    lines = [
        f"{'':<20}" + "".join(f"{kind:>34}" for kind in results),
        f"{'':<20}" + f"{'experiments, error, 1 - cosine':>34}" * 3,
    ]
    for name in METHODS:
        cells = []
        for found in results.values():
            at = found.get(name)
            cells.append(
                "none" if at is None else f"{at['experiments']:.0f}   {at['error']:.1e}   {at['1 - cosine']:.1e}"
            )
        lines.append(f"{name:<20}" + "".join(f"{cell:>34}" for cell in cells))
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """The figure: errors against experiments."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(results), figsize=(14, 4.2), sharey=True, layout="constrained")
    for panel, (kind, found) in zip(panels, results.items(), strict=True):
        for k, name in enumerate(METHODS):
            if name in found:
                panel.loglog(max(found[name]["experiments"], 0.5), found[name]["error"], "o", color=f"C{k}", label=name)
        panel.set(xlabel="experiments a gradient (model alone: none)", title=kind)
    panels[0].set(ylabel="relative error of the gradient, median")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(HERE / "training_methods.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the claims")
    if parser.parse_args().quick:
        check(study(2))
        print("The quick form agrees with the claims.")
        return
    results = study(10)
    print(table(results))
    check(results)
    draw(results)
    (HERE / "training_methods.json").write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()

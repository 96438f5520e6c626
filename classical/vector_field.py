"""Dynamics without an energy: what equilibrium propagation computes as weights lose their symmetry, and how that is mended.

python classical/vector_field.py            # networks of 30 units, ten of each asymmetry
python classical/vector_field.py --quick    # 8 units, compared with the claims

A network ds/dt = -s + rho'(s) (W rho(s) + b + x) with rho = tanh has weights W = cos(a) S + sin(a) A of one spectral norm,
symmetric at a = 0 and antisymmetric at a = pi/2. The learning rule for vector fields (Scellier, Goyal, Binas, Mesnard and
Bengio, arXiv:1808.04873, `FixedPoint`) and the nudge corrected by the antisymmetric part of the Jacobian (`AsymEP`; Scurria,
Vanden Abeele, Mognetti and Massar, arXiv:2602.03670) are compared with the gradient by the implicit function theorem.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import qeqprop as qp
from qeqprop.classical import AsymEP, FixedPoint, StateCost, VectorField

HERE = Path(__file__).parent
ASYMMETRIES = np.linspace(0.0, np.pi / 2, 9)
SOLVERS = {"vector field": FixedPoint(), "AsymEP": AsymEP()}
BETA = 1e-4
N_OUTPUTS = 3


def velocity(p: Any, s: Any, x: Any) -> Any:
    """Every unit leaks, and is driven by all others and an input: minus the slope of Hopfield's energy where W is symmetric."""
    rho = jnp.tanh(s)
    return (1 - rho**2) * (p["W"] @ rho + p["b"] + x) - s


def half_squared_error(outputs: Any, target: Any) -> Any:
    """sum (s - y)^2 / 2."""
    return ((outputs - target) ** 2).sum() / 2


def weights(size: int, asymmetry: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of one spectral norm, whatever their symmetry."""
    a = rng.normal(size=(size, size))
    even, odd = (a + a.T) / 2, (a - a.T) / 2
    mixed = np.cos(asymmetry) * even / np.linalg.norm(even) + np.sin(asymmetry) * odd / np.linalg.norm(odd)
    return {"W": 1.3 * mixed / np.linalg.norm(mixed, 2), "b": 0.3 * rng.normal(size=size)}


def gradient_by_definition(
    params: dict[str, np.ndarray], state: np.ndarray, target: np.ndarray, inputs: np.ndarray
) -> dict[str, np.ndarray]:
    """-dC/ds J^-1 dF/dtheta at the state of rest."""
    jacobian = np.asarray(jax.jacobian(velocity, argnums=1)(params, state, inputs))
    slope = np.concatenate([np.zeros(len(state) - N_OUTPUTS), state[-N_OUTPUTS:] - target])
    adjoint = np.linalg.solve(jacobian.T, -slope)
    by_params = jax.vjp(lambda p: velocity(p, state, inputs), params)[1]
    return {name: np.asarray(value) for name, value in by_params(adjoint)[0].items()}


def flat(tree: dict[str, np.ndarray]) -> np.ndarray:
    """All entries in one row."""
    return np.concatenate([np.ravel(tree[name]) for name in sorted(tree)])


def study(size: int, seeds: int) -> dict[str, Any]:
    """Cosine with the gradient, and relative distance from it, of both rules."""
    net = VectorField(velocity, size, {"W": (size, size), "b": (size,)}, inputs=(size,))
    cost = StateCost(half_squared_error, range(size - N_OUTPUTS, size))
    cosines = {name: np.empty((len(ASYMMETRIES), seeds)) for name in SOLVERS}
    errors = {name: np.empty((len(ASYMMETRIES), seeds)) for name in SOLVERS}
    for i, asymmetry in enumerate(ASYMMETRIES):
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            params = weights(size, asymmetry, rng)
            inputs, target = rng.normal(size=size), rng.normal(size=N_OUTPUTS)
            for name, solver in SOLVERS.items():
                out = qp.ep_gradient(net, params, cost, target, inputs=inputs, solver=solver, scheme=qp.centered(BETA))
                found = flat(out.grad)
                exact = flat(gradient_by_definition(params, out.free.state.position, target, inputs))
                cosines[name][i, seed] = found @ exact / np.linalg.norm(found) / np.linalg.norm(exact)
                errors[name][i, seed] = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    return {
        "size": size,
        "asymmetries": [round(float(a), 4) for a in ASYMMETRIES],
        "cosine": {name: np.round(value, 6).tolist() for name, value in cosines.items()},
        "error": {name: [[float(f"{x:.3g}") for x in row] for row in value] for name, value in errors.items()},
    }


def check(results: dict[str, Any]) -> None:
    """What must hold: the cosine falls with asymmetry, and the corrected nudge gives the gradient at any."""
    means = np.mean(results["cosine"]["vector field"], axis=1)
    assert all(later < earlier for earlier, later in pairwise(means)), means
    assert np.max(results["error"]["vector field"][0]) < 1e-6
    assert means[-1] < 0.85, means
    assert np.max(results["error"]["AsymEP"]) < 1e-7


def table(results: dict[str, Any]) -> str:
    """Results as text."""
    lines = ["asymmetry   cosine (vector field)   error (vector field)   error (AsymEP, largest)"]
    for i, asymmetry in enumerate(results["asymmetries"]):
        cosine, error = (np.mean(results[kind]["vector field"][i]) for kind in ("cosine", "error"))
        lines.append(f"{asymmetry:9.3f} {cosine:23.3f} {error:22.3f} {np.max(results['error']['AsymEP'][i]):25.1e}")
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """The figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    angles = np.array(results["asymmetries"]) / (np.pi / 2)
    for k, name in enumerate(SOLVERS):
        for axes, kind in ((left, "cosine"), (right, "error")):
            values = np.array(results[kind][name])
            axes.plot(angles, values, ".", color=f"C{k}", ms=4, alpha=0.6)
            axes.plot(angles, values.mean(axis=1), "-", color=f"C{k}", label=name)
    left.set(xlabel="asymmetry (0: symmetric, 1: antisymmetric)", ylabel="cosine with the gradient")
    right.set(xlabel="asymmetry", ylabel="distance from the gradient", yscale="log")
    left.legend(frameon=False)
    figure.savefig(HERE / "vector_field.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small form, compared with the claims")
    if parser.parse_args().quick:
        check(study(8, 4))
        print("The quick form agrees with the claims.")
        return
    results = study(30, 10)
    print(table(results))
    check(results)
    draw(results)
    (HERE / "vector_field.json").write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()

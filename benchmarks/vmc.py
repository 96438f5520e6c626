"""Variational Monte Carlo: errors of whole gradients by the zero-variance response, against exact diagonalisation.

    OPENBLAS_NUM_THREADS=1 python benchmarks/vmc.py            # 16 and 10 spins, a markdown table
    OPENBLAS_NUM_THREADS=1 python benchmarks/vmc.py --quick    # 8 spins, one row

Random all-to-all networks with fields; the cost is <Z> of the last spin. The state is relaxed once by
`VariationalMonteCarlo`; every repetition draws fresh samples. `two-phase` is the ideal one: independent samples of exactly
nudged states at beta = 0.1. Variances are those of the whole gradient, at equal numbers of samples.
"""

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import qeqprop as qp
from qeqprop.quantum import vmc_response

COLUMNS = (
    "spins", "samples", "V-score", "relative error, mean", "worst", "95 % intervals cover", "two-phase variance / ours",
    "R^2 cost", "R^2 forces", "warm wall s",
)  # fmt: skip


class Case(NamedTuple):
    """A row of the table."""

    n_sites: int
    n_samples: int
    v_score: float
    repetitions: int


FULL = (Case(16, 2048, 1e-4, 10), Case(10, 2048, 5e-5, 10))
QUICK = (Case(8, 2048, 1e-4, 3),)


def network(n: int) -> tuple[qp.TransverseFieldIsing, dict[str, np.ndarray]]:
    """All-to-all couplings of width 1/sqrt(n), longitudinal and transverse fields."""
    rng = np.random.default_rng(1)
    net = qp.TransverseFieldIsing(n, [(i, j) for i in range(n) for j in range(i)])
    couplings = rng.normal(size=len(net.edges)) / np.sqrt(n)
    return net, {"J": couplings, "h": rng.normal(size=n) / 2, "g": rng.uniform(0.7, 1.3, n)}


def row(case: Case) -> list[str]:
    """Relax, then estimate the gradient from fresh samples again and again."""
    net, params = network(case.n_sites)
    cost = qp.ObservableCost(qp.Z(case.n_sites - 1))
    ground = qp.equilibrate(net, params)
    exact = flat(qp.ep_gradient(net, params, cost, scheme=qp.LinearResponse()).grad)
    forces = ground.state.expect_all(net.operators()[:-1]).mean
    solver = qp.VariationalMonteCarlo(n_samples=case.n_samples, n_chains=128, v_score=case.v_score, progress=False)
    free = qp.equilibrate(net, params, solver=solver, key=0, throw=False)
    term, outs, seconds = cost.term(free.state), [], []
    for seed in range(case.repetitions):
        state = solver.solve(net, params, init=free, key=np.random.SeedSequence(seed)).state
        started = time.perf_counter()
        outs.append(vmc_response.respond(state, net, params, term, 1e-10))
        seconds.append(time.perf_counter() - started)
    values, errors = (np.array([flat(tree) for tree in trees]) for trees in (
        [out.grad.mean for out in outs], [out.grad.stderr for out in outs]
    ))  # fmt: skip
    relative = np.linalg.norm(values - exact, axis=1) / np.linalg.norm(exact)
    two_phase = np.sum(1 - forces**2) / (2 * 0.1**2 * case.n_samples / 2)  # (a - b)/(2 beta), half the samples each
    median = {name: np.median([out.stats[name] for out in outs]) for name in ("v_score", "r2_cost", "r2_forces")}
    return [
        str(case.n_sites), str(case.n_samples), f"{median['v_score']:.1e}", f"{100 * relative.mean():.2f} %",
        f"{100 * relative.max():.2f} %", f"{100 * np.mean(np.abs(values - exact) < 1.96 * errors):.1f} %",
        f"{two_phase / np.mean(np.sum(errors**2, axis=1)):.0f}", f"{median['r2_cost']:.4f}", f"{median['r2_forces']:.4f}",
        f"{np.median(seconds):.2f}",
    ]  # fmt: skip


def flat(tree: dict[str, np.ndarray]) -> np.ndarray:
    """All components of a gradient."""
    return np.concatenate(list(tree.values()))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 spins only")
    args = parser.parse_args(argv)
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    for case in QUICK if args.quick else FULL:
        print("| " + " | ".join(row(case)) + " |", flush=True)


if __name__ == "__main__":
    main()

"""Variational Monte Carlo: errors of whole gradients by the zero-variance response, against exact diagonalisation.

    OPENBLAS_NUM_THREADS=1 python benchmarks/vmc.py            # 16 and 10 spins, a markdown table
    OPENBLAS_NUM_THREADS=1 python benchmarks/vmc.py --quick    # 8 spins, one row
    OPENBLAS_NUM_THREADS=1 python benchmarks/vmc.py --full-sums    # restricted Boltzmann machines without samples

Random all-to-all networks with fields; the cost is <Z> of the last spin. The state is relaxed once by
`VariationalMonteCarlo`; every repetition draws fresh samples. `two-phase` is the ideal one: independent samples of exactly
nudged states at beta = 0.1. Variances are those of the whole gradient, at equal numbers of samples.

Without samples the error is that of the ansatz, and the gradient that of its own relaxed loss: the last column compares one
component (of the largest h gradient) with a five-point difference quotient of losses relaxed anew.
"""

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import qeqprop as qp
from qeqprop.quantum import vmc_response

COLUMNS = (
    "spins", "network", "samples", "V-score", "relative error, mean", "worst", "95 % intervals cover",
    "two-phase variance / ours", "plain response / ours", "raw / zero-variance error of <Z>, <X>", "relax CPU s", "warm CPU s",
)  # fmt: skip

FULL_SUM_COLUMNS = (
    "spins", "alpha", "parameters", "V-score", "energy gradient", "Newton steps", "relative error", "CPU s",
    "from own difference quotient",
)  # fmt: skip
FULL_SUMS = ((6, 1), (6, 2), (10, 1), (10, 2))


class Case(NamedTuple):
    """A row of the table."""

    n_sites: int
    n_samples: int
    network: int
    repetitions: int


FULL = tuple(Case(n, 2048, seed, 6) for n in (16, 12, 10) for seed in (1, 2, 3))
QUICK = (Case(8, 2048, 1, 3),)


def network(n: int, seed: int = 1) -> tuple[qp.TransverseFieldIsing, dict[str, np.ndarray]]:
    """All-to-all couplings of width 1/sqrt(n), longitudinal and transverse fields."""
    rng = np.random.default_rng(seed)
    net = qp.TransverseFieldIsing(n, [(i, j) for i in range(n) for j in range(i)])
    couplings = rng.normal(size=len(net.edges)) / np.sqrt(n)
    return net, {"J": couplings, "h": rng.normal(size=n) / 2, "g": rng.uniform(0.7, 1.3, n)}


def row(case: Case) -> list[str]:
    """Relax, then estimate the gradient from fresh samples again and again."""
    net, params = network(case.n_sites, case.network)
    cost = qp.ObservableCost(qp.Z(case.n_sites - 1))
    ground = qp.equilibrate(net, params)
    exact = flat(qp.ep_gradient(net, params, cost, scheme=qp.LinearResponse()).grad)
    forces = ground.state.expect_all(net.operators()[:-1]).mean
    solver = qp.VariationalMonteCarlo(n_samples=case.n_samples, progress=False)
    started = time.process_time()
    free = qp.equilibrate(net, params, solver=solver, key=0, throw=False)
    relaxed = time.process_time() - started
    term, outs, seconds, reductions = cost.term(free.state), [], [], []
    singles = [*map(qp.Z, range(case.n_sites)), *map(qp.X, range(case.n_sites))]
    for seed in range(case.repetitions):
        state = solver.solve(net, params, init=free, key=np.random.SeedSequence(seed)).state
        started = time.process_time()
        outs.append(vmc_response.respond(state, net, params, term, 1e-10))
        seconds.append(time.process_time() - started)
        raw = [float(state.statistics(observable).error_of_mean) for observable in singles]
        reductions.append(np.median(raw / state.expect_all(singles).stderr))
    values, errors, ansatz = (np.array([flat(tree) for tree in trees]) for trees in (
        [out.grad.mean for out in outs], [out.grad.stderr for out in outs], [out.truncation for out in outs]
    ))  # fmt: skip
    relative = np.linalg.norm(values - exact, axis=1) / np.linalg.norm(exact)
    two_phase = np.sum(1 - forces**2) / (2 * 0.1**2 * case.n_samples / 2)  # (a - b)/(2 beta), half the samples each
    median = {name: np.median([out.stats[name] for out in outs]) for name in ("v_score", "plain_variance_ratio")}
    covered = np.abs(values - exact) < 1.96 * np.hypot(errors, ansatz)
    return [
        str(case.n_sites), str(case.network), str(case.n_samples), f"{median['v_score']:.1e}",
        f"{100 * relative.mean():.2f} %", f"{100 * relative.max():.2f} %", f"{100 * np.mean(covered):.1f} %",
        f"{two_phase / np.mean(np.sum(errors**2, axis=1)):.0f}", f"{median['plain_variance_ratio']:.0f}",
        f"{np.median(reductions):.1f}", f"{relaxed:.0f}", f"{np.median(seconds):.2f}",
    ]  # fmt: skip


def full_sum_row(n_sites: int, alpha: int) -> list[str]:
    """The response of a fully relaxed RBM, against exact diagonalisation and against its own loss."""
    import netket

    net, params = network(n_sites)
    cost = qp.ObservableCost(qp.Z(n_sites - 1))
    exact = flat(qp.ep_gradient(net, params, cost, scheme=qp.LinearResponse()).grad)
    model = netket.models.RBM(alpha=alpha, param_dtype=float)
    solver = qp.VariationalMonteCarlo(full_sum=True, model=model, progress=False)
    started = time.process_time()
    out = qp.ep_gradient(net, params, cost, solver=solver, key=0, throw=False)
    seconds = time.process_time() - started
    site, step = int(np.argmax(np.abs(out.grad["h"]))), 1e-3

    def loss(shift: float) -> float:
        moved = {**params, "h": params["h"] + shift * (np.arange(n_sites) == site)}
        return float(cost.cost(solver.solve(net, moved, init=out.free).state))

    by = [loss(k * step) for k in (-2, -1, 1, 2)]
    quotient = (by[0] - 8 * by[1] + 8 * by[2] - by[3]) / (12 * step)
    stats = out.free.stats
    return [
        str(n_sites), str(alpha), str(stats["parameters"]), f"{stats['v_score']:.1e}", f"{stats['energy_gradient']:.0e}",
        str(stats["newton_steps"]), f"{np.linalg.norm(flat(out.grad) - exact) / np.linalg.norm(exact):.1e}",
        f"{seconds:.0f}", f"{abs(out.grad['h'][site] - quotient):.0e}",
    ]  # fmt: skip


def flat(tree: dict[str, np.ndarray]) -> np.ndarray:
    """All components of a gradient."""
    return np.concatenate(list(tree.values()))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 spins only")
    parser.add_argument("--full-sums", action="store_true", help="restricted Boltzmann machines, 6 and 10 spins")
    args = parser.parse_args(argv)
    columns = FULL_SUM_COLUMNS if args.full_sums else COLUMNS
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)
    rows = (full_sum_row(*case) for case in FULL_SUMS) if args.full_sums else map(row, QUICK if args.quick else FULL)
    for cells in rows:
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

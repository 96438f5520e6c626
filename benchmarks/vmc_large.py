"""Variational Monte Carlo where no exact vector fits: 40 to 100 spins, with the defaults.

OPENBLAS_NUM_THREADS=1 python benchmarks/vmc_large.py chains     # from scratch, against free fermions: a markdown table
OPENBLAS_NUM_THREADS=1 python benchmarks/vmc_large.py lattice    # 8 x 8 near criticality: wave functions and schemes agree
OPENBLAS_NUM_THREADS=1 python benchmarks/vmc_large.py training   # 40 spins, beside the training by exact gradients
"""

import argparse
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

import qeqprop as qp
from qeqprop.core.solver import AbstractSolver

CHAIN_COLUMNS = (
    "spins", "parameters", "seed", "V-score", "relative error", "reported", "cosine", "95 % intervals cover", "relax CPU s",
    "gradient CPU s", "peak GiB", "status",
)  # fmt: skip
CHAINS = ((40, 1), (40, 2), (40, 3), (100, 1), (100, 2))


TARGETS = (0.7, 0.3), (0.9, 0.2)
"""Of the training: the second makes two thirds of the chain ferromagnetic."""
SAMPLED = qp.VariationalMonteCarlo(n_samples=2048, v_score=2e-5, progress=False)


def chain(n: int, seed: int) -> tuple[qp.TransverseFieldIsing, dict[str, np.ndarray]]:
    """An open chain with random couplings and transverse fields, on the paramagnetic side."""
    rng = np.random.default_rng(seed)
    net = qp.TransverseFieldIsing(n, [(i, i + 1) for i in range(n - 1)])
    return net, {"J": rng.uniform(0.6, 1.4, n - 1), "h": np.zeros(n), "g": 1.2 * rng.uniform(0.6, 1.4, n)}


def chain_row(n: int, seed: int) -> list[str]:
    """One gradient with the defaults, from scratch, in a process that has compiled nothing."""
    net, params = chain(n, seed)
    cost = qp.ObservableCost(qp.Z(n // 2) * qp.Z(n // 2 + 1))
    exact = flat(qp.linear_response(net, params, cost, solver=qp.FreeFermions()).grad)
    solver = qp.VariationalMonteCarlo(progress=False)
    started = time.process_time()
    free = qp.equilibrate(net, params, solver=solver, key=seed, throw=False)
    relaxed = time.process_time()
    out = qp.ep_gradient(net, params, cost, solver=solver, init=free, key=seed + 1, throw=False)
    done = time.process_time()
    grad, error = flat(out.grad), np.hypot(flat(out.stderr), flat(out.truncation))
    norm, known = np.linalg.norm(exact), error > 0
    covered = np.abs(grad - exact)[known] < 1.96 * error[known]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [
        str(n), str(int(known.sum())), str(seed), f"{out.stats['v_score']:.1e}",
        f"{100 * np.linalg.norm(grad - exact) / norm:.2f} %", f"{100 * np.linalg.norm(error) / norm:.2f} %",
        f"{grad @ exact / norm / np.linalg.norm(grad):.5f}", f"{100 * np.mean(covered):.0f} %",
        f"{relaxed - started:.0f}", f"{done - relaxed:.0f}", f"{peak:.1f}", str(out.status),
    ]  # fmt: skip


def lattice() -> None:
    """8 x 8 spins near the critical field, with longitudinal fields: two wave functions and two schemes."""
    from qeqprop.quantum.vmc_models import LocalNetwork, default_model

    side, n = 8, 64
    edges = [
        (8 * r + c, 8 * s + d)
        for r in range(side)
        for c in range(side)
        for s, d in ((r, c + 1), (r + 1, c))
        if s < side and d < side
    ]
    rng = np.random.default_rng(1)
    net = qp.TransverseFieldIsing(n, edges)
    params = {"J": np.ones(len(edges)), "h": rng.uniform(0.05, 0.15, n), "g": rng.uniform(2.9, 3.1, n)}
    cost = qp.ObservableCost(qp.Z(27) * qp.Z(28))
    usual = default_model(n, edges)
    flat_model = LocalNetwork(usual.neighbourhoods, usual.pairs, alpha=2, width=usual.width, order=True)
    cases = {
        "response": (usual, qp.LinearResponse()),
        "centered(0.05)": (usual, qp.centered(0.05)),
        "response, one layer of two units a site": (flat_model, qp.LinearResponse()),
    }
    found: dict[str, qp.EPGradient] = {}
    for name, (model, scheme) in cases.items():
        solver = qp.VariationalMonteCarlo(model=model, progress=False)
        free = found["response"].free if model is usual and found else None
        started = time.process_time()
        out = found[name] = qp.ep_gradient(
            net, params, cost, solver=solver, scheme=scheme, init=free, key=0, throw=False
        )
        seconds = time.process_time() - started
        print(f"{name}: {seconds:.0f} CPU s, {out.free.energy}, {out.status}, {brief(out.stats)}", flush=True)
    first = found["response"]
    for name, other in found.items():
        if other is not first:
            off = flat(other.grad) - flat(first.grad)
            errors = [flat(tree) for tree in (first.stderr, first.truncation, other.stderr, other.truncation)]
            z = off / np.sqrt(np.sum(np.square(errors), axis=0))
            share = np.linalg.norm(off) / np.linalg.norm(flat(first.grad))
            print(f"{name}: differs by {share:.1%}, z rms {np.sqrt(np.mean(z**2)):.2f}", flush=True)


def brief(stats: dict[str, object]) -> str:
    return ", ".join(
        f"{name} {stats[name]:.2g}"
        for name in ("v_score", "r2_cost", "r2_forces", "relative_error", "systematic_ratio")
        if name in stats
    )


def training() -> None:
    """40 spins learn two correlations: losses of the training by Monte Carlo beside those by exact gradients."""
    for target in TARGETS:
        exact, sampled = (trained(solver, np.array(target)) for solver in (qp.FreeFermions(), SAMPLED))
        off = np.abs(sampled - exact)
        print(
            f"curves differ by at most {np.max(off) / exact[0]:.2%} of the first loss, "
            f"and by {np.median(off / exact):.2%} of the loss in the median",
            flush=True,
        )


def trained(solver: AbstractSolver, target: np.ndarray, steps: int = 50) -> np.ndarray:
    """Exact losses along a training with Adam; prints what its gradients cost."""
    import optax

    net, now = chain(40, 1)
    cost = qp.ExpectationCost([qp.Z(10) * qp.Z(11), qp.Z(30) * qp.Z(31)], qp.squared_error)
    optimizer, limit, free = optax.adam(0.01), qp.LinearResponse(), None
    memory, losses, seconds, scores = optimizer.init(now), [], [], []
    for step in range(steps):
        key = step if solver.stochastic else None
        started = time.process_time()
        out = qp.ep_gradient(net, now, cost, target, solver=solver, scheme=limit, init=free, key=key, throw=False)
        seconds.append(time.process_time() - started)
        free = out.free if solver.stochastic else None
        scores.append(out.stats.get("v_score", 0.0))
        losses.append(float(qp.ep_gradient(net, now, cost, target, solver=qp.FreeFermions(), scheme=limit).loss))
        change, memory = optimizer.update(out.grad, memory, now)
        now = {k: np.asarray(now[k] + change[k]) for k in now}
    print(
        f"{solver.name}, target {target}: {np.mean(seconds):.2f} CPU s a step, the first {seconds[0]:.0f}; V-score "
        f"{scores[0]:.1e}, at most {max(scores):.1e}; loss {losses[0]:.4f} -> {losses[-1]:.2e}",
        flush=True,
    )
    return np.array(losses)


def flat(tree: dict[str, np.ndarray]) -> np.ndarray:
    """All components of a gradient."""
    return np.concatenate(list(tree.values()))


def chains() -> None:
    """Print a row for each of `CHAINS`, every one from a process of its own."""
    print("| " + " | ".join(CHAIN_COLUMNS) + " |\n|" + "---|" * len(CHAIN_COLUMNS), flush=True)
    for case in CHAINS:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            print("| " + " | ".join(pool.submit(chain_row, *case).result()) + " |", flush=True)


PARTS = {"chains": chains, "lattice": lattice, "training": training}


def main(argv: Sequence[str] | None = None) -> None:
    """Print one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    PARTS[parser.parse_args(argv).part]()


if __name__ == "__main__":
    main()

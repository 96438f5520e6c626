"""Speed and memory of exact diagonalisation beside SciPy, QuSpin, NetKet and QuTiP. CPU time, all in one run.

    python benchmarks/spins.py                  # everything, about 15 minutes on 2 cores
    python benchmarks/spins.py kernel ground gradient large batch scaling     # some of it
    python benchmarks/spins.py ground --n 16    # a quick look

Every measurement runs in a process of its own, with one BLAS thread, after a warm-up on a small model (compilation
and imports are not counted; assembly of the Hamiltonian is). Memory is the growth of the peak resident set.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tables import print_header, print_row

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
SINGLE = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1")


def measured(work: Callable[[], Any], least: float = 0.0) -> tuple[Any, dict[str, float]]:
    """Result, CPU and wall seconds, and growth of the peak memory in MiB; repeated until `least` CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall, count = time.process_time(), time.perf_counter(), 0
    while True:
        result = work()
        count += 1
        if time.process_time() - cpu >= least:
            break
    seconds = {"cpu": (time.process_time() - cpu) / count, "wall": (time.perf_counter() - wall) / count}
    return result, {**seconds, "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def in_subprocess(task: str, **options: Any) -> dict[str, Any]:
    """Run one task of `TASKS` in a fresh interpreter."""
    command = [sys.executable, str(HERE / "spins.py"), "--task", task, "--options", json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **SINGLE})
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def our_network(model: Any) -> Any:
    import qeqprop as qp

    return qp.TransverseFieldIsing(model.n, model.edges)


# ---- tasks: each runs in its own process and returns numbers -----------------------------------------------------


def task_peer(name: str, n: int) -> dict[str, Any]:
    import peers

    solve = getattr(peers, f"{name}_ground_state")
    solve(peers.random_model(6))
    model = peers.random_model(n)
    (energy, residual), numbers = measured(lambda: solve(model))
    return {"energy": energy, "residual": residual, **numbers}


def task_ours(n: int, work: str = "ground", threads: int | None = None) -> dict[str, Any]:
    import peers

    import qeqprop as qp

    solver = qp.ExactDiagonalization(threads=threads)
    jobs: dict[str, Callable[[Any], Any]] = {
        "ground": lambda m: qp.equilibrate(our_network(m), m.params, solver=solver),
        "response": lambda m: qp.linear_response(
            our_network(m), m.params, qp.ObservableCost(qp.Z(m.n - 1)), solver=solver
        ),
        "centered": lambda m: qp.ep_gradient(
            our_network(m), m.params, qp.ObservableCost(qp.Z(m.n - 1)), solver=solver, scheme=qp.centered(1e-3)
        ),
    }
    jobs[work](peers.random_model(15 if n > 14 else n))
    model = peers.random_model(n)
    out, numbers = measured(lambda: jobs[work](model), least=0.0 if n >= 20 else 0.2)
    free = out if work == "ground" else out.free
    grad = [] if work == "ground" else np.concatenate([out.grad[k] for k in ("J", "h", "g")]).tolist()
    extra = {} if n > 20 else {"grad": grad}
    return {
        "energy": float(free.energy),
        "residual": float(free.residual),
        "gap": float(free.gap),
        "matvecs": free.stats["matvecs"],
        **extra,
        **numbers,
    }


def task_scipy_gradient(n: int, work: str) -> dict[str, Any]:
    import peers

    solve = {"response": peers.scipy_linear_response, "centered": lambda m: peers.scipy_centered(m, 1e-3)}[work]
    solve(peers.random_model(6))
    model = peers.random_model(n)
    (energy, grad), numbers = measured(lambda: solve(model))
    return {"energy": energy, "grad": grad.tolist(), **numbers}


def task_kernel(n: int, threads: int | None = 1) -> dict[str, Any]:
    import peers

    from qeqprop.quantum.kernels import PauliKernel

    model = peers.random_model(n)
    h = our_network(model).hamiltonian(model.params)
    kernel = PauliKernel(h.n_bits, h.x, h.z, h.coefficients, threads=threads)
    x = np.random.default_rng(0).normal(size=1 << n)
    y = np.zeros_like(x)
    kernel.apply(x, y)
    _, apply = measured(lambda: kernel.apply(x, y), least=1.0)
    _, copy = measured(lambda: np.copyto(y, x), least=1.0)
    csr = {}
    if n <= 22:
        matrix = peers.scipy_matrix(model)
        _, product = measured(lambda: matrix @ x, least=1.0)
        csr = {"csr": product["cpu"]}
    return {"apply": apply["cpu"], "copy": copy["cpu"], **csr}


def task_batch(n: int, library: str, samples: int) -> dict[str, Any]:
    import batched

    numbers = batched.LIBRARIES[library](n, samples)
    return {"per_second": numbers}


TASKS = {
    "peer": task_peer,
    "ours": task_ours,
    "scipy_gradient": task_scipy_gradient,
    "kernel": task_kernel,
    "batch": task_batch,
}


# ---- tables ---------------------------------------------------------------------------------------------------------


def table(title: str, header: list[str], rows: list[list[str]]) -> None:
    print(f"\n### {title}\n")
    print_header(*header)
    for row in rows:
        print_row(*row)


def show_kernel(n: int) -> None:
    rows = []
    for size in (18, 20, 22, 24):
        out = in_subprocess("kernel", n=size)
        csr = f"{out['csr'] / out['apply']:.1f}" if "csr" in out else "-"
        rows.append([str(size), f"{1e3 * out['apply']:.1f}", f"{out['apply'] / out['copy']:.1f}", csr])
    table("H|psi>, one thread", ["n", "ms CPU", "in vector copies", "SciPy CSR / ours"], rows)


def show_ground(n: int) -> None:
    ours = in_subprocess("ours", n=n)
    single = in_subprocess("ours", n=n, threads=1)
    rows = []
    for name, out in (("qeqprop", ours), ("qeqprop, 1 thread", single)):
        rows.append(_ground_row(name, out, ours))
    for name in ("scipy", "quspin", "netket", "qutip"):
        rows.append(_ground_row(name, in_subprocess("peer", name=name, n=n), ours))
    header = ["", "CPU s", "CPU / ours", "wall s", "MiB", "MiB / ours", "energy", "residual"]
    table(f"Ground state, n = {n}, all-to-all, assembly and certified gap included", header, rows)


def _ground_row(name: str, out: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    if "failed" in out:
        return [name, out["failed"], *[""] * 6]
    memory = [f"{out['mib']:.0f}", f"{out['mib'] / max(ours['mib'], 1):.1f}"]
    times = [f"{out['cpu']:.2f}", f"{out['cpu'] / ours['cpu']:.1f}", f"{out['wall']:.2f}"]
    return [name, *times, *memory, f"{out['energy']:.9f}", f"{out['residual']:.1e}"]


def show_gradient(n: int) -> None:
    ground = in_subprocess("ours", n=n)
    rows = []
    for work in ("response", "centered"):
        ours, peer = in_subprocess("ours", n=n, work=work), in_subprocess("scipy_gradient", n=n, work=work)
        difference = np.linalg.norm(np.subtract(ours["grad"], peer["grad"])) / np.linalg.norm(peer["grad"])
        solves = ours["cpu"] / ground["cpu"]
        numbers = [f"{ours['cpu']:.2f}", f"{solves:.2f}", f"{peer['cpu']:.2f}", f"{peer['cpu'] / ours['cpu']:.1f}"]
        rows.append([work, *numbers, f"{difference:.1e}"])
    header = ["scheme", "ours, CPU s", "ground-state solves", "SciPy, CPU s", "SciPy / ours", "relative difference"]
    table(
        f"Whole gradient, n = {n}, {n * (n + 3) // 2} parameters (finite differences: {n * (n + 3)} solves)",
        header,
        rows,
    )


def show_large(n: int) -> None:
    rows = []
    for size in (22, 24, 26):
        out = in_subprocess("ours", n=size, work="response")
        rows.append(
            [str(size), f"{out['cpu']:.1f}", f"{out['wall']:.1f}", f"{out['mib'] / 1024:.2f}", f"{out['residual']:.1e}"]
        )
    table("Whole gradient of large networks, float64", ["n", "CPU s", "wall s", "GiB", "residual"], rows)


def show_batch(n: int) -> None:
    rows = []
    for size, samples in ((6, 20000), (8, 5000), (10, 1500), (12, 300)):
        ours = in_subprocess("batch", n=size, library="qeqprop", samples=samples)["per_second"]
        row = [str(size), f"{ours:.0f}"]
        for library in ("scipy_operators", "scipy", "qutip"):
            peer = in_subprocess("batch", n=size, library=library, samples=60)["per_second"]
            row += [f"{peer:.0f}", f"{ours / peer:.0f}"]
        rows.append(row)
    header = ["n", "ours", "SciPy EP loop", "ratio", "SciPy response loop", "ratio", "QuTiP EP loop", "ratio"]
    table("Full gradients per CPU second, a batch of random fields", header, rows)


def show_scaling(n: int) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = list(range(10, 25, 2))
    ours = [in_subprocess("ours", n=size, work="response")["cpu"] for size in sizes]
    peers = [in_subprocess("scipy_gradient", n=size, work="response")["cpu"] for size in sizes if size <= 20]
    figure, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
    ax.semilogy(sizes, ours, "o-", label="qeqprop")
    ax.semilogy(sizes[: len(peers)], peers, "s--", label="SciPy eigsh + cg on CSR")
    ax.set(xlabel="spins n", ylabel="whole gradient, CPU s", title="all-to-all TFIM, n(n+3)/2 parameters")
    ax.legend()
    figure.savefig(HERE / "scaling.png", dpi=120)
    rows = [[str(size), f"{t:.4f}"] for size, t in zip(sizes, ours, strict=True)]
    table("Scaling of the whole gradient (figure: scaling.png)", ["n", "CPU s"], rows)


TABLES = {
    "kernel": show_kernel,
    "ground": show_ground,
    "gradient": show_gradient,
    "large": show_large,
    "batch": show_batch,
    "scaling": show_scaling,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="which tables; all by default")
    parser.add_argument("--n", type=int, default=20, help="size of the ground-state and gradient tables")
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--options", default="{}", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        print(json.dumps(TASKS[arguments.task](**json.loads(arguments.options))))
        return
    for name in arguments.tables or TABLES:
        TABLES[name](arguments.n)


if __name__ == "__main__":
    main()

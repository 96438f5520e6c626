"""Real-time evolution: CPU seconds of `evolve` and of QuTiP's `sesolve`, at the same error.

    OPENBLAS_NUM_THREADS=1 python benchmarks/adiabatic.py

prints a markdown table. A transverse-field Ising network with all pairs coupled is ramped smoothly from no coupling to
full coupling in ten units of time. `difference` is that of the two last states.
"""

import time

import numpy as np
import qutip
from tables import print_header, print_row

import qeqprop as qp
from qeqprop.quantum import evolve

TIME = 10.0
OPTIONS = {
    "method": "vern9",
    "atol": 1e-11,
    "rtol": 1e-11,
    "nsteps": 10**7,
    "progress_bar": "",
    "normalize_output": False,
}


def problem(n: int) -> tuple[qp.TransverseFieldIsing, dict[str, np.ndarray], dict[str, np.ndarray], qp.PureState]:
    """Network, parameters before and after the ramp, first state."""
    rng = np.random.default_rng(0)
    net = qp.TransverseFieldIsing(n, [(i, j) for i in range(n) for j in range(i)])
    last = {"J": rng.normal(size=n * (n - 1) // 2) / np.sqrt(n), "h": rng.uniform(0.1, 0.4, n), "g": np.ones(n)}
    return net, last | {"J": 0 * last["J"]}, last, qp.PureState(n, np.full(2**n, 2 ** (-n / 2)))


def ours(n: int) -> tuple[float, np.ndarray, float]:
    """CPU seconds, last state, bound on its error."""
    net, first, last, state = problem(n)
    started = time.process_time()
    run = evolve(net, first, state, [0.0, TIME], final=last, ramp="smooth")
    return time.process_time() - started, run.final.amplitudes, run.error


def theirs(n: int) -> tuple[float, np.ndarray]:
    """CPU seconds (operators not included), last state."""
    net, first, last, state = problem(n)
    before, after = (
        sum(c * op.to_qutip(n) for c, op in zip(net.strengths(p), net.operators(), strict=True)) for p in (first, last)
    )
    h = qutip.QobjEvo([before, [after - before, lambda t: np.sin(np.pi * t / (2 * TIME)) ** 2]])
    started = time.process_time()
    result = qutip.sesolve(h, state.to_qutip(), [0.0, TIME], options=OPTIONS)
    return time.process_time() - started, result.states[-1].full().ravel()


def main() -> None:
    """Print the table."""
    ours(4)
    theirs(4)
    print_header("spins", "evolve, CPU s", "sesolve, CPU s", "ratio", "error bound", "difference")
    for n in (4, 8, 10, 12, 14):
        seconds, psi, bound = ours(n)
        peer, reference = theirs(n)
        difference = np.linalg.norm(psi - reference)
        print_row(n, f"{seconds:.3f}", f"{peer:.3f}", f"{peer / seconds:.1f}", f"{bound:.1e}", f"{difference:.1e}")
    for n in (16, 18):
        seconds, _, bound = ours(n)
        print_row(n, f"{seconds:.3f}", "", "", f"{bound:.1e}", "")


if __name__ == "__main__":
    main()

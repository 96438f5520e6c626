"""Spin updates per CPU second: the compiled heat bath beside dwave-samplers, on the same networks in the same run.

python benchmarks/ising.py      # a minute

The grid has 128 x 128 spins with periodic borders, the layered network 120 - 40 spins, both with random couplings. An update
is one spin visited once at one temperature, with a fresh random number; setting up a call is counted.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from dwave.samplers import SimulatedAnnealingSampler

import qeqprop as qp
from qeqprop.classical import HeatBath, Ising, to_bqm
from qeqprop.classical.spin_chains import Chains


def grid(side: int) -> Ising:
    """A periodic square lattice."""
    sites = np.arange(side * side).reshape(side, side)
    pairs = [np.stack([sites, np.roll(sites, -1, axis)], axis=-1).reshape(-1, 2) for axis in (0, 1)]
    return Ising(side * side, np.concatenate(pairs).tolist())


def layered(*sizes: int) -> Ising:
    """All-to-all between neighbouring layers."""
    ends = [0, *np.cumsum(sizes).tolist()]
    layers = [range(a, b) for a, b in itertools.pairwise(ends)]
    return Ising(ends[-1], [pair for a, b in itertools.pairwise(layers) for pair in itertools.product(a, b)])


def rate(work: Callable[[], Any], updates: int) -> float:
    """Updates per CPU second, the better of three runs after a warm-up."""
    seconds = []
    work()
    for _ in range(3):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return updates / min(seconds)


def row(name: str, net: Ising, sweeps: int, reads: int) -> str:
    """One network: the kernel alone, a whole equilibrium with its records and free energy, and the peer."""
    params = net.init_params(0)
    chains = Chains(net.model(params), 64, (0, 1, 2, 3))
    inverse = np.ones(sweeps)
    kernel = rate(lambda: chains.sweep(inverse), 64 * sweeps * net.n_sites)
    solver = HeatBath(1.0, burn_in=sweeps // 4, records=2, thin=sweeps // 2)
    whole = rate(
        lambda: qp.equilibrate(net, params, solver=solver, key=0),
        64 * (solver.burn_in + solver.records * solver.thin) * net.n_sites,
    )
    bqm, sampler = to_bqm(net, params), SimulatedAnnealingSampler()
    options = {"beta_range": [0.999, 1.0], "num_sweeps": sweeps, "num_reads": reads, "seed": 1}
    peers = [
        rate(
            lambda c=criteria: sampler.sample(bqm, proposal_acceptance_criteria=c, **options),
            reads * sweeps * net.n_sites,
        )
        for criteria in ("Gibbs", "Metropolis")
    ]
    return " | ".join(
        ["", name, *(f"{x:.2g}" for x in (kernel, whole, *peers)), f"{kernel / max(peers):.1f}", ""]
    ).strip()


def main() -> None:
    print("| network | kernel | `HeatBath` | dwave-samplers, Gibbs | Metropolis | kernel / best peer |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(row("grid 128 x 128", grid(128), 40, 4))
    print(row("layered 120 - 40", layered(120, 40), 1000, 64))


if __name__ == "__main__":
    main()

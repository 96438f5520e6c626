"""Spin updates per CPU second: the compiled heat bath beside THRML and dwave-samplers, on the same networks in the same run.

python benchmarks/ising.py      # two minutes

The grid has 128 x 128 spins with periodic borders, the layered network 120 - 40 spins, both with random couplings. An update
is one spin visited once at one temperature, with a fresh random number; setting up a call is counted, compiling is not. THRML
updates the two colours of these bipartite networks in turn, as many chains at once as do it best, in float32.

Then the errors of thermal gradients at equal numbers of sweeps, by the covariance and by two nudged phases, against the
enumeration of all states; and the cost of that enumeration.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import thrml
from dwave.samplers import SimulatedAnnealingSampler
from tables import print_header, print_row
from thrml.models import IsingEBM, IsingSamplingProgram, hinton_init

import qeqprop as qp
from qeqprop.classical import ExactEnumeration, HeatBath, Ising, to_bqm
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


def thrml_rate(net: Ising, params: Any, sweeps: int, chains: int) -> float:
    """THRML's block Gibbs sampling at T = 1: both colours, all chains, one compiled call."""
    nodes = [thrml.SpinNode() for _ in range(net.n_sites)]
    colours = nx.bipartite.color(nx.Graph(list(net.edges)))
    blocks = [thrml.Block([node for k, node in enumerate(nodes) if colours[k] == colour]) for colour in (0, 1)]
    fields, couplings = (jnp.asarray(params[name], jnp.float32) for name in ("h", "J"))
    model = IsingEBM(
        nodes, [(nodes[i], nodes[j]) for i, j in net.edges], fields, couplings, jnp.asarray(1, jnp.float32)
    )
    program = IsingSamplingProgram(model, blocks, [])
    schedule = thrml.SamplingSchedule(n_warmup=sweeps // 2, n_samples=2, steps_per_sample=sweeps - sweeps // 2)
    start = hinton_init(jax.random.key(0), model, blocks, (chains,))
    keys = jax.random.split(jax.random.key(1), chains)

    def chain(key: Any, state: Any) -> Any:
        return thrml.sample_states(key, program, schedule, state, [], [thrml.Block(nodes)])

    sample = jax.jit(jax.vmap(chain))
    return rate(lambda: jax.block_until_ready(sample(keys, start)), chains * sweeps * net.n_sites)


def row(name: str, net: Ising, sweeps: int, reads: int) -> tuple[str, ...]:
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
    peers = [max(thrml_rate(net, params, sweeps, chains) for chains in (1, 16, 64)), *peers]
    figures = (f"{x:.2g}" for x in (kernel, whole, *peers))
    return name, *figures, f"{whole / max(peers):.1f}"


def gradient_errors(betas: tuple[float, ...] = (0.1, 0.3, 1.0), seeds: int = 20) -> tuple[str, ...]:
    """Root-mean-square errors of a gradient, relative to its norm, at equal numbers of sweeps: the covariance rule beside
    two nudged phases at the best of some strengths."""
    net = Ising(14, [(i, j) for i in range(14) for j in range(i)])
    params, cost = net.init_params(3), qp.ExpectationCost([qp.Z(0), qp.Z(5)])
    problem: tuple[Any, ...] = (net, params, cost, np.array([0.8, -0.8]))
    exact = np.concatenate(list(qp.linear_response(*problem, solver=ExactEnumeration(1.0)).grad.values()))

    def error(scheme: Any, sweeps: int) -> float:
        solver = HeatBath(1.0, records=sweeps)
        grads = [qp.ep_gradient(*problem, solver=solver, scheme=scheme, key=seed).grad for seed in range(seeds)]
        apart = [np.concatenate(list(grad.values())) - exact for grad in grads]
        return float(np.sqrt(np.mean(np.sum(np.square(apart), axis=1))) / np.linalg.norm(exact))

    covariance = error(qp.LinearResponse(), 300)
    two_phase = {beta: error(qp.centered(beta), 100) for beta in betas}  # three phases of a third of the sweeps
    best = min(two_phase, key=two_phase.__getitem__)
    two_phases, ratio = f"{two_phase[best]:.3f} (beta = {best:g})", f"{two_phase[best] / covariance:.1f}"
    return f"{covariance:.3f}", two_phases, ratio


def enumeration(n_sites: int) -> tuple[str, ...]:
    """CPU seconds of a distribution over all states, and of a gradient."""
    net = Ising(n_sites, [(i, j) for i in range(n_sites) for j in range(i)])
    params, solver, cost = net.init_params(0), ExactEnumeration(1.0), qp.ObservableCost(qp.Z(0) * qp.Z(1))
    works = (
        lambda: qp.equilibrate(net, params, solver=solver),
        lambda: qp.linear_response(net, params, cost, solver=solver),
    )
    return str(n_sites), *(f"{1 / rate(work, 1):.3f}" for work in works)


def main() -> None:
    peers = ("THRML", "dwave-samplers, Gibbs", "Metropolis")
    print_header("network", "kernel", "`HeatBath`", *peers, "`HeatBath` / best peer")
    print_row(*row("grid 128 x 128", grid(128), 40, 4))
    print_row(*row("layered 120 - 40", layered(120, 40), 1000, 64))
    print()
    print_header("error by the covariance", "by two phases", "ratio")
    print_row(*gradient_errors())
    print()
    print_header("spins, all-to-all", "distribution (s)", "gradient (s)")
    for n_sites in (16, 20, 24):
        print_row(*enumeration(n_sites))


if __name__ == "__main__":
    main()

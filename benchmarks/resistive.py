"""Deep resistive networks: a training on MNIST, gradients, and the speed beside ngspice, in CPU seconds.

python benchmarks/resistive.py [train] [gradients] [spice]      # spice with the whole netlist: a minute
"""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tables import print_header, print_row

import qeqprop as qp
from qeqprop.classical import StateCost

sys.path.append(str(Path(__file__).parent.parent / "classical"))
import resistive_vs_spice as study

NUDGES = qp.centered(1e-5)


def seconds(work: Callable[[], Any], repetitions: int = 10) -> float:
    """CPU seconds of one run: the best of three means, after a first run."""
    work()
    found = []
    for _ in range(3):
        started = time.process_time()
        for _ in range(repetitions):
            work()
        found.append((time.process_time() - started) / repetitions)
    return min(found)


def train(epochs: int = 20) -> None:
    """The training of the study: test error and CPU time an epoch."""
    _, _, result = study.trained(epochs, *study.images())
    print_row("1568-100-10", epochs, f"{100 * result['error']:.1f} %", f"{result['CPU seconds an epoch']:.2f}")


def gradients() -> None:
    """Mean gradients of 157,800 conductances over batches: linear response and centered EP."""
    net = study.DeepResistiveNetwork(study.SIZES, voltage_gain=study.VOLTAGE_GAIN, input_gain=study.INPUT_GAIN)
    params, cost = net.init_params(0), StateCost(study.squared_error, net.outputs)
    inputs, targets = study.images()[0]
    for batch in (1, 50, 500):
        problem: tuple[Any, ...] = (net, params, cost, targets[:batch])
        x = inputs[:batch]
        free = seconds(lambda x=x: qp.equilibrate(net, params, inputs=x))
        exact = seconds(lambda task=problem, x=x: qp.linear_response(*task, inputs=x))
        ep = seconds(lambda task=problem, x=x: qp.ep_gradient(*task, inputs=x, scheme=NUDGES))
        known = qp.linear_response(*problem, inputs=x).grad["w0"]
        found = qp.ep_gradient(*problem, inputs=x, scheme=NUDGES).grad["w0"]
        error = np.linalg.norm(found - known) / np.linalg.norm(known)
        figures = (f"{1e3 * free:.2f}", f"{1e3 * exact:.2f}", f"{1e3 * ep:.2f}", f"{error:.1e}")
        print_row(batch, *figures)


def spice() -> None:
    """Seconds an image here and in ngspice, on the whole and on the Norton-reduced netlist."""
    if shutil.which("ngspice") is None:
        print("ngspice is not installed: nothing to compare with.")
        return
    train, test = study.images()
    net, params, _ = study.trained(1, train, test)
    found = study.times(net, params, test[0][:256], whole=True)
    for name, value in found.items():
        print_row(name, *(f"{value / unit:.3g}" for unit in (1.0, found["single"], found["batched"])))


PARTS = {
    "train": (("network", "epochs", "test error", "CPU s an epoch"), train),
    "gradients": (("batch", "free (ms)", "linear response (ms)", "centered EP (ms)", "their difference"), gradients),
    "spice": (("solver", "CPU s an image", "times single", "times batched"), spice),
}


def main(names: list[str]) -> None:
    for name in names or list(PARTS):
        head, part = PARTS[name]
        print_header(*head)
        part()


if __name__ == "__main__":
    main(sys.argv[1:])

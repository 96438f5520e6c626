"""The picture of the README: a trained network, errors that are known, a training. `python docs/overview.py`"""

from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

import qeqprop as qp

OUT = Path(__file__).parent / "overview.png"


def train() -> tuple[qp.TransverseFieldIsing, qp.History]:
    """Nine spins tell the digits 0, 1 and 2: six inputs, three outputs, all pairs coupled."""
    digits = qp.data.digits(classes=(0, 1, 2))
    net = qp.TransverseFieldIsing(9, [(i, j) for i in range(9) for j in range(i)], input_sites=range(6))
    cost = qp.ExpectationCost([qp.Z(6), qp.Z(7), qp.Z(8)], qp.squared_error)
    options = {"scheme": qp.centered(1e-3), "epochs": 12, "validation": digits.test, "metric": qp.accuracy}
    return net, qp.fit(net, net.init_params(0), cost, digits.train, **options)


def errors(betas: np.ndarray) -> dict[str, np.ndarray]:
    """Error of the gradient of a chain against linear response, by scheme."""
    chain = qp.TransverseFieldIsing(8, [(i, i + 1) for i in range(7)])
    params = {"J": np.ones(7), "h": 0.2 * np.ones(8), "g": 1.3 * np.ones(8)}
    cost = qp.ObservableCost(qp.Z(7))
    exact = qp.linear_response(chain, params, cost).grad
    norm = np.sqrt(sum(np.sum(value**2) for value in exact.values()))

    def error(scheme: qp.Stencil) -> float:
        grad = qp.ep_gradient(chain, params, cost, scheme=scheme, throw=False).grad
        return float(np.sqrt(sum(np.sum((grad[name] - exact[name]) ** 2) for name in exact)) / norm)

    schemes = (qp.one_sided, qp.centered, qp.richardson)
    return {make.__name__: np.array([error(make(float(beta))) for beta in betas]) for make in schemes}


def main() -> None:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    net, history = train()
    qp.plot.network(net, history.params, left, outputs=(6, 7, 8))
    left.set_title("a trained quantum network")
    betas = np.geomspace(1e-3, 0.2, 9)
    qp.plot.error_vs_beta(betas, errors(betas), middle)
    middle.set_title("error of the gradient against the nudge")
    qp.plot.training_curves(history, right, held_out="test")
    right.set_title("training by equilibrium propagation")
    figure.savefig(OUT, dpi=110)


if __name__ == "__main__":
    main()

"""No window is opened, no figure is left, and one gradient is checked for all pictures of it."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

import qeqprop as qp
from qeqprop.core.reference import GradientCheck

mpl.use("Agg")


@pytest.fixture(autouse=True)
def no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def check() -> GradientCheck:
    net = qp.TransverseFieldIsing(n_sites=4, edges=[(0, 1), (1, 2), (2, 3)])
    params = {"J": np.ones(3), "h": 0.2 * np.ones(4), "g": np.ones(4)}
    return qp.check_gradient(net, params, qp.ObservableCost(qp.Z(3)), scheme=qp.centered(0.02))

"""The exponential exp(-tH) on vectors, its derivative, and the interval that encloses the spectrum."""

from typing import Any

import numpy as np
import pytest
import scipy.linalg

import qeqprop as qp
from qeqprop.quantum.imaginary_time import ImaginaryTime, exponential_coefficients, spectral_interval
from qeqprop.quantum.kernels import PauliKernel
from qeqprop.quantum.spins import SpinHamiltonian
from qeqprop.quantum.strings import string_table

from .typical_cases import matrix_of, network


def table(operator: Any, n: int) -> SpinHamiltonian:
    strings = string_table((operator,), n)
    return SpinHamiltonian(n, strings.n_bits, strings.x, strings.z, strings.coefficients.toarray()[0])


HAMILTONIANS = {
    "one spin": (qp.X(0) + 0.3 * qp.Z(0), qp.Z(0), 1),
    "commuting": (qp.Z(0) * qp.Z(1) - 0.2 * qp.Z(2) + 1.5, qp.Z(1), 3),
    "chain": (sum(qp.Z(i) * qp.Z(i + 1) + (0.5 + 0.1 * i) * qp.X(i) for i in range(6)), qp.Z(0) * qp.X(3), 7),
    "with Y": (qp.X(0) * qp.Y(1) + 0.4 * qp.Z(0) + 0.2 * qp.X(2) * qp.Z(1), qp.Y(2) + qp.Z(0), 3),
}


@pytest.mark.parametrize("name", HAMILTONIANS)
@pytest.mark.parametrize("accuracy", [1e-3, 1e-10])
@pytest.mark.parametrize("time", [0.05, 3.0])
def test_exponential_and_derivative_are_within_their_bound(name, accuracy, time):
    operator, cost, n = HAMILTONIANS[name]
    h, c = table(operator, n), table(cost, n)
    h = h._replace(n_bits=max(h.n_bits, c.n_bits))
    matrices = [matrix_of(t._replace(n_bits=h.n_bits)) for t in (h, c)]  # what vectors of h.n_bits are multiplied by
    exponential = ImaginaryTime(h, time, 5, accuracy)
    stack = np.random.default_rng(0).normal(size=(exponential.rows, 1 << h.n_bits))
    kets, (slopes,) = exponential.differentiate(stack, [exponential.perturbation(c, 0.0)])
    shifted = -time * (matrices[0] - exponential.floor * np.eye(1 << h.n_bits))
    expected, derivative = scipy.linalg.expm_frechet(shifted, -time * matrices[1])
    scale = 2.0 ** (-n / 2)
    rounding = 1e-12
    assert np.linalg.norm(expected, 2) > 0.1
    for got, wanted, unit in ((kets, expected, 1.0), (slopes, derivative, time * np.linalg.norm(matrices[1], 2))):
        error = np.linalg.norm(got - stack @ wanted.T, axis=1) / np.linalg.norm(stack, axis=1)
        assert error.max() <= 1.01 * exponential.error * scale * unit + rounding
    assert exponential.error <= accuracy
    assert np.array_equal(kets, exponential.evolve(stack))


def test_interval_encloses_the_spectrum():
    system, params = network(8)
    h = system.hamiltonian(params)
    levels = np.linalg.eigvalsh(matrix_of(h))
    for time in (0.1, 1e3):
        interval = spectral_interval(PauliKernel(8, h.x, h.z, h.coefficients), time)
        width = levels[-1] - levels[0]
        assert levels[0] - 1e-2 * width < interval.low <= levels[0] + 1e-12 * width
        assert levels[-1] - 1e-5 * width <= interval.high < levels[-1] + 1e-2 * width
        assert (interval.ground - interval.low) * time <= 1


def test_number_of_terms_grows_like_the_root_of_time():
    few, many = (len(exponential_coefficients(extent, 1e-10)[0]) for extent in (100.0, 10000.0))
    assert 8 < many / few < 11
    with pytest.raises(ValueError, match=r"temperature is too low: .* more than 6000 products"):
        exponential_coefficients(1e7, 1e-10)

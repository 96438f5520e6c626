"""Exact values cost nothing: their standard errors are zeros without memory, and records are made without checks."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.core.estimate import Estimate, batch_mean, combine, is_zero, zeros


def test_exact_estimates_stay_exact():
    rng = np.random.default_rng(0)
    values = [{"a": rng.normal(size=(1, 3, 4)), "b": rng.normal(size=(1,))} for _ in range(2)]
    out = batch_mean(combine((2.0, -0.5), [Estimate.exact(value) for value in values]))
    for name in ("a", "b"):
        np.testing.assert_array_equal(out.mean[name], 2 * values[0][name][0] - 0.5 * values[1][name][0])
        assert is_zero(out.stderr[name])
        assert out.stderr[name].shape == out.mean[name].shape
        assert out.stderr[name].strides == (0,) * out.mean[name].ndim


def test_one_uncertain_estimate_makes_the_sum_uncertain():
    exact, sampled = Estimate.exact(np.ones(3)), Estimate(np.ones(3), np.array([0.1, 0.0, 0.2]))
    np.testing.assert_allclose(combine((3.0, -2.0), (exact, sampled)).stderr, [0.2, 0.0, 0.4])
    np.testing.assert_array_equal(combine((3.0, -2.0), (exact, sampled)).mean, np.ones(3))
    assert not is_zero(np.zeros(3))


def test_a_mean_that_is_zero_needs_no_arithmetic_and_changes_no_sum():
    value = np.arange(3.0)
    np.testing.assert_array_equal(
        combine((2.0, 5.0), (Estimate.exact(value), Estimate.exact(zeros((3,))))).mean, 2 * value
    )
    assert is_zero(combine((2.0, 5.0), [Estimate.exact(zeros((3,)))] * 2).mean)
    np.testing.assert_array_equal(
        combine((2.0j, 1.0), (Estimate.exact(value), Estimate.exact(1j * value))).mean, 0 * value
    )


@pytest.mark.parametrize("value", [np.array([1.0, 2.0j]), zeros((2,), complex)])
def test_combinations_of_complex_values_are_real(value):
    total = combine((1.0, -1.0j), [Estimate.exact({"a": value})] * 2)
    assert total.mean["a"].dtype == total.stderr["a"].dtype == np.float64
    assert is_zero(total.stderr["a"])
    np.testing.assert_array_equal(total.mean["a"], (value * (1 - 1j)).real)


@pytest.mark.parametrize("arguments", [(1,), (1, 2, 3, 4)])
def test_records_refuse_wrong_numbers_of_fields(arguments):
    with pytest.raises(TypeError, match=r"argument"):
        Estimate(*arguments)
    with pytest.raises(TypeError, match="multiple values"):
        Estimate(1, mean=2)
    with pytest.raises(TypeError, match="unexpected keyword"):
        Estimate(1, 2, mode=2)


def test_records_are_immutable_and_classes_with_checks_are_checked():
    with pytest.raises(AttributeError, match="mean"):
        Estimate(1.0, 0.0).mean = 2.0
    with pytest.raises(ValueError, match="must satisfy"):
        qp.Stencil("wrong", strengths=(0.0, 0.1), weights=(1.0, 1.0), order=1)


def test_scalars_may_turn_complex_on_the_way():
    values = [Estimate.exact(np.asarray(v)) for v in (1.0, 2.0 + 1.0j, 3.0 - 2.0j)]
    out = combine((2.0, 1.0j, 0.5), values)
    np.testing.assert_array_equal(out.mean, (2.0 + 1.0j * (2 + 1j) + 0.5 * (3 - 2j)).real)

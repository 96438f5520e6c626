"""Read-out errors and their mitigation."""

import numpy as np
import pytest

import qeqprop as qp

from .measured import EXACT, NET, PARAMS, copies


@pytest.mark.parametrize(
    "rates", [0.08, (0.02, 0.12), np.array([[0.1, 0.0], [0.03, 0.2], [0.0, 0.05]])], ids=["p", "pair", "sites"]
)
def test_mitigated_readings_are_unbiased_and_their_errors_true(rates):
    observables = (qp.Z(0) * qp.Z(1), qp.Z(2), qp.X(0) * qp.X(1) * qp.X(2), qp.Z(0) * qp.Z(1) * qp.Z(2))
    many, exact = copies(2000), qp.equilibrate(NET, PARAMS).state.expect_all(observables).mean
    found = {}
    for mitigate in (True, False):
        solver = qp.Measured(EXACT, shots=200, readout_error=rates, mitigate=mitigate)
        found[mitigate] = solver.solve(many, PARAMS, key=1).state.expect_all(observables)
    out = found[True]
    spread = out.mean.std(axis=0)
    assert np.all(np.abs(out.mean.mean(axis=0) - exact) < 4 * spread / np.sqrt(2000))
    assert np.allclose(np.sqrt(np.mean(out.stderr**2, axis=0)) / spread, 1, atol=4 / np.sqrt(2 * 2000))
    raw = found[False]
    assert np.max(np.abs(raw.mean.mean(axis=0) - exact) / (raw.mean.std(axis=0) / np.sqrt(2000))) > 20
    assert np.all(spread > raw.mean.std(axis=0))


def test_mitigation_of_symmetric_flips_divides_by_the_contrast():
    """A string of w sites has the mean (1 - 2p)^w <O> as read, and the variance (1 - 2p)^(-2w) - <O>^2 a shot."""
    p, many = 0.1, copies(3000)
    exact = float(qp.equilibrate(NET, PARAMS).state.expect(qp.Z(0) * qp.Z(1)))
    raw, out = (
        qp.Measured(EXACT, shots=200, readout_error=p, mitigate=m)
        .solve(many, PARAMS, key=0)
        .state.expect(qp.Z(0) * qp.Z(1))
        for m in (False, True)
    )
    assert np.isclose(raw.mean.mean(), 0.64 * exact, atol=4 * raw.mean.std() / np.sqrt(3000))
    assert np.isclose(out.mean.var(), (0.8**-4 - exact**2) / 200, rtol=4 * np.sqrt(2 / 3000))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (0.5, r"p01 \+ p10 < 1 to be mitigated, but is 0.5.*mitigate=False"),
        (-0.1, "probabilities between 0 and 1"),
        (np.nan, "must be finite"),
        ([0.1, 0.1, 0.1], r"a pair \(p01, p10\) or an array of shape \(n_sites, 2\), but has shape \(3,\)"),
        (np.full((2, 2), 0.1), "one pair .* for each of the 3 sites, but has 2"),
    ],
)
def test_bad_readout_errors_are_refused(error, message):
    with pytest.raises(ValueError, match=message):
        qp.equilibrate(NET, PARAMS, solver=qp.Measured(EXACT, readout_error=error), key=0)

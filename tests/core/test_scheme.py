"""Schemes: tables whose algebra is checked at construction, and derivatives of functions that are known."""

import cmath
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qeqprop as qp
from qeqprop.core.truncation import geometric_error, shrinkage

FORMULAS = {
    "one_sided": (qp.one_sided, 1),
    "centered": (qp.centered, 2),
    "richardson": (qp.richardson, 4),
    "holomorphic4": (lambda r: qp.holomorphic(r, n_points=4), 4),
    "holomorphic8": (qp.holomorphic, 8),
    "holomorphic12": (lambda r: qp.holomorphic(r, n_points=12), 12),
}
strengths = st.floats(1e-6, 1e3)


def apply(stencil: qp.Stencil, function, weights=None) -> float:
    """sum_j w_j F(b_j), real part."""
    pairs = zip(stencil.strengths, weights or stencil.weights, strict=True)
    return sum(w * function(b) for b, w in pairs if w != 0).real


@given(beta=strengths, name=st.sampled_from(sorted(FORMULAS)))
def test_moments(beta, name):
    """Exact for every polynomial up to the order, and not for the next one; the embedded formula as well."""
    make, order = FORMULAS[name]
    stencil = make(beta)
    assert stencil.order == order
    for weights, p in ((stencil.weights, order), (stencil.embedded, stencil.embedded_order)):
        for m in range(p + 2):
            moment = apply(stencil, lambda b, m=m: b**m, weights) * beta ** (1 - m)  # in units of the nudge
            if m <= p:
                assert moment == pytest.approx(float(m == 1), abs=1e-12), f"moment {m} of {stencil}"
            else:
                assert abs(moment) > 1e-3, f"{stencil} is of higher order than {p}"


@given(
    nodes=st.lists(st.floats(-2, 2), min_size=3, max_size=5, unique_by=lambda b: round(b, 1)),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
)
def test_own_stencil_from_interpolation_is_accepted(nodes, scale):
    """The derivative at 0 of the polynomial through any nodes satisfies the moment conditions of order n - 1."""
    b = np.array(nodes)
    powers = np.vander(b, increasing=True).T
    weights = np.linalg.solve(powers, np.eye(len(b))[1])
    next_moment = weights @ b ** len(b)
    if abs(next_moment) < 1e-6 or np.linalg.cond(powers) > 1e4:
        return  # of higher order by symmetry, or ill-conditioned
    qp.Stencil("own", b * scale, weights / scale, order=len(b) - 1)
    with pytest.raises(ValueError, match=f"m = {len(b)}"):
        qp.Stencil("own", b * scale, weights / scale, order=len(b))


@pytest.mark.parametrize("name", FORMULAS)
def test_embedded_formula_estimates_the_error(name):
    """For a geometric series, F(b) = b / (1 - b), the estimate d * shrinkage is the error to 30 %."""
    make, _ = FORMULAS[name]
    stencil = make(0.05 if "holomorphic" not in name else 0.3)
    value, embedded = (apply(stencil, lambda b: b / (1 - b), w) for w in (stencil.weights, stencil.embedded))
    estimate = abs(value - embedded) * shrinkage(stencil, abs(value - embedded) / abs(value))
    assert estimate == pytest.approx(abs(value - 1.0), rel=0.3)
    if stencil.embedded_order < stencil.order:  # from the derivative alone, where the difference happens to vanish
        straight = abs(value) * geometric_error(stencil, abs(value - embedded) / abs(value))
        assert straight == pytest.approx(abs(value - 1.0), rel=0.3)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("function", [cmath.exp, cmath.sin, lambda b: b / (1 - 0.3 * b)], ids=["exp", "sin", "pole"])
def test_derivative_at_zero(name, function):
    make, order = FORMULAS[name]
    for beta in (0.1, -0.1):
        assert apply(make(beta), function) == pytest.approx(1.0, abs=0.6 * 0.1**order + 1e-12)


def test_holomorphic_solves_half_of_the_circle():
    stencil = qp.holomorphic(0.3, n_points=8)
    assert len(stencil.strengths) == 5
    assert stencil.is_complex
    assert stencil.max_strength == pytest.approx(0.3)
    assert not qp.richardson(0.3).is_complex


def test_negative_strengths():
    assert qp.one_sided(-0.1).strengths == (0.0, -0.05, -0.1)
    assert qp.centered(-0.1) == qp.centered(0.1)
    assert qp.one_sided(0.1) != qp.one_sided(-0.1)


@pytest.mark.parametrize("make", [qp.one_sided, qp.centered, qp.richardson, qp.holomorphic])
@pytest.mark.parametrize(
    ("beta", "error", "message"),
    [
        (0.0, ValueError, "must be finite and not 0"),
        (math.nan, ValueError, "must be finite and not 0"),
        (math.inf, ValueError, "must be finite and not 0"),
        (1j, TypeError, "must be a real number"),
        ("0.1", TypeError, "must be a real number"),
        (True, TypeError, "must be a real number"),
        (None, TypeError, "must be a real number"),
    ],
    ids=["zero", "nan", "inf", "complex", "text", "bool", "none"],
)
def test_bad_strength_is_refused(make, beta, error, message):
    with pytest.raises(error, match=message):
        make(beta)


@pytest.mark.parametrize("n_points", [0, 2, 6, -4, 8.0, True])
def test_bad_number_of_points_is_refused(n_points):
    with pytest.raises(ValueError, match="positive multiple of 4"):
        qp.holomorphic(0.1, n_points=n_points)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"strengths": (0.0, 0.1), "weights": (-20.0, 20.0), "order": 1}, "m = 1 to be of order 1, but the sum is 2"),
        ({"strengths": (0.0, 0.1), "weights": (-9.0, 10.0), "order": 1}, "= 0 for m = 0"),
        ({"strengths": (0.0, 0.1), "weights": (-10.0, 10.0), "order": 2}, "= 0 for m = 2"),
        ({"strengths": (0.1, -0.1), "weights": (5.0, -5.0), "order": 1}, "of higher order than the declared 1"),
        ({"strengths": (0.0, 0.1), "weights": (-20.0, 20.0), "order": 0}, "`order` must be at least 1"),
        ({"strengths": (0.0,), "weights": (1.0,), "order": 1}, "a strength must differ from 0"),
        ({"strengths": (), "weights": (), "order": 1}, "a strength must differ from 0"),
        ({"strengths": (0.0, 0.1), "weights": (10.0,), "order": 1}, "as many as `weights`"),
        ({"strengths": (0.1, 0.1), "weights": (5.0, 5.0), "order": 1}, "must be distinct"),
        ({"strengths": (0.0, math.nan), "weights": (-10.0, 10.0), "order": 1}, "must be finite"),
        ({"strengths": (0.0, 0.1), "weights": (-math.inf, 10.0), "order": 1}, "must be finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_tables_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        qp.Stencil("wrong", **table)


@pytest.mark.parametrize(
    ("embedded", "order", "message"),
    [
        ((-10.0, 10.0, 0.0), None, "`embedded_order` must lie between 1 and the order 2"),
        ((-10.0, 10.0, 0.0), 3, "`embedded_order` must lie between 1 and the order 2"),
        ((-10.0, 10.0), 1, "as many as `strengths`"),
        ((-10.0, 11.0, 0.0), 1, "= 0 for m = 0"),
        ((0.0, 5.0, -5.0), 2, "another formula"),
    ],
)
def test_wrong_embedded_formulas_are_refused(embedded, order, message):
    with pytest.raises(ValueError, match=message):
        qp.Stencil("wrong", (0.0, 0.1, -0.1), (0.0, 5.0, -5.0), 2, embedded, order)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, -1e-3, math.nan])
def test_bad_tolerance_is_refused(tolerance):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        qp.LinearResponse(tolerance)


@pytest.mark.parametrize(
    ("scheme", "text"),
    [
        (qp.one_sided(0.1), "one_sided(0.1)"),
        (qp.centered(1e-3), "centered(0.001)"),
        (qp.richardson(0.25), "richardson(0.25)"),
        (qp.holomorphic(0.5), "holomorphic(0.5, n_points=8)"),
        (qp.LinearResponse(), "LinearResponse(tolerance=1e-10)"),
    ],
    ids=str,
)
def test_prints(scheme, text):
    assert repr(scheme) == text

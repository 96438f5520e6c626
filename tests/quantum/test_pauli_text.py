"""Pauli sums as text and as LaTeX, there and back."""

import pytest
from hypothesis import given

from qeqprop.quantum.pauli import PauliSum, X, Y, Z, identity

from .pauli_sums import wild_sums

# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "text"),
    [
        (-1.0 * Z(0) * Z(1) + 0.5 * X(2), "-1.0 * Z0 Z1 + 0.5 * X2"),
        (identity() - 0.1 * Y(12), "1.0 * I - 0.1 * Y12"),
        (-1e-20j * Z(0), "-1e-20j * Z0"),
        ((0.5 - 2j) * Z(0) + X(0), "(0.5-2j) * Z0 + 1.0 * X0"),
        (PauliSum(), "0"),
    ],
)
def test_text(operator, text):
    assert str(operator) == repr(operator) == text
    assert PauliSum.from_string(text) == operator


@given(wild_sums)
def test_text_round_trip_is_exact(a):
    assert PauliSum.from_string(str(a)) == a


def test_text_by_hand():
    by_hand = PauliSum.from_string(" - Z0Z1+ .5X2 -1 + 2j Y3 - (1 + 2j)*I")
    assert by_hand == -Z(0) * Z(1) + 0.5 * X(2) - 1 + 2j * Y(3) - (1 + 2j)
    assert PauliSum.from_labels({"Z0 Z1": -1.0, "Y2": 0.5, "I": 2}) == -Z(0) * Z(1) + 0.5 * Y(2) + 2


def test_long_sums_are_shown_short():
    chain = sum((Z(i) * Z(i + 1) for i in range(230)), PauliSum())
    assert repr(chain).endswith("... (230 strings)")
    assert len(repr(chain)) < 250
    assert PauliSum.from_string(str(chain)) == chain
    assert r"\dots \text{ (230 strings)}" in chain._repr_latex_()


def test_latex():
    operator = -1e-5 * Z(0) * Z(12) + 0.5j * X(2)
    assert operator._repr_latex_() == r"$-1 \times 10^{-5}\,Z_{0} Z_{12} + 0.5\mathrm{i}\,X_{2}$"
    assert PauliSum()._repr_latex_() == "$0$"


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "Z0 +", "1.0 *", "* Z0", "Q0", "Z", "Z0 X", "1.0 Z0 2.0 Z1", "(1+) * Z0", "1 ** X0", "--X0", "X0 # comment"],
)
def test_unreadable_text(text):
    with pytest.raises(ValueError, match="Argument `text` must be a sum such as"):
        PauliSum.from_string(text)


def test_labels_that_cannot_be_read():
    for label in ("Z0 X0", "z0", "", "Z0 I", "X-1"):
        with pytest.raises(ValueError, match="A label must name different sites"):
            PauliSum.from_labels({label: 1.0})
    with pytest.raises(ValueError, match="A label must name different sites"):
        PauliSum.from_string("Z0 Z0")

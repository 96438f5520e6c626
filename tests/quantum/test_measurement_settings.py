"""The settings in which strings are read: as few as can be, and those that are refused."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.quantum import commuting_bases
from qeqprop.quantum.commuting import covers, read_table, single_bases

from .measured import COST, EXACT, NET, PARAMS, flat


@pytest.mark.parametrize("n", [2, 5, 10])
def test_ising_needs_two_settings_whatever_its_size(n):
    net = qp.TransverseFieldIsing(n, [(i, j) for i in range(n) for j in range(i)])
    out = qp.equilibrate(net, net.init_params(0), solver=qp.Measured(EXACT, shots=10), key=0)
    assert set(out.state.bases) == {"Z" * n, "X" * n}
    assert out.stats["settings"] == 2
    assert out.stats["preparations"] == 20


@pytest.mark.parametrize(
    ("net", "most"), [(qp.quantum.heisenberg(5, [(i, i + 1) for i in range(4)]), 3), (qp.quantum.phase_sensor(4), 18)]
)
def test_grouped_settings_read_every_string_once_opened(net, most):
    operators = tuple(op for _, ops in net.terms for op in ops)
    strings = [s for s in read_table(operators).strings if s != (0, 0)]
    grouped, single = commuting_bases(operators, net.n_sites), single_bases(operators, net.n_sites)
    assert all(any(covers(basis, string) for basis in grouped) for string in strings)
    assert len(grouped) <= most < len(single) == len(strings)
    assert all(any(covers(basis, string) for basis in single) for string in strings)
    assert max(len(basis.replace("I", "")) for basis in single) == max(op.weight for op in operators)


def test_single_settings_cost_more_and_agree():
    solver = qp.Measured(EXACT, shots=2000, bases="single")
    out = qp.ep_gradient(NET, PARAMS, COST, solver=solver, scheme=qp.centered(0.1), key=0)
    assert out.free.stats["settings"] == 8
    assert out.free.state.bases[0].count("I") >= 1
    exact = qp.ep_gradient(NET, PARAMS, COST, scheme=qp.centered(0.1))
    assert np.all(np.abs(flat(out.grad) - flat(exact.grad)) < 4.5 * flat(out.stderr))


@pytest.mark.parametrize(
    ("bases", "error", "message"),
    [
        (["ZZZ"], ValueError, r"must read all forces and costs, but none of \['ZZZ'\] reads X0. 'commuting' would"),
        (["ZZZ", "XXXX"], ValueError, "one letter X, Y, Z or I for each of the 3 sites, but has 'XXXX'"),
        (["ZZZ", "AXX"], ValueError, r"bases\[1\]` must have the letters X, Y, Z and I, but is 'AXX'"),
        (["ZZZ", "ZZZ"], ValueError, "every setting once"),
        ("greedy", TypeError, "must be 'commuting', 'single' or a list"),
        ([3], TypeError, "must be letters such as 'ZZX' or a list of Pauli sums"),
        ([[qp.X(0), qp.Z(0)]], ValueError, r"bases\[0\]`: X0 and Z0 do not commute \(site 0\)"),
        ([[qp.X(0) * qp.X(1), qp.Z(0) * qp.Z(1)]], ValueError, "commute, but not site by site .* entangling gates"),
        (["R"], ValueError, "one letter X, Y, Z or I"),
    ],
)
def test_bad_settings_are_refused(bases, error, message):
    with pytest.raises(error, match=message):
        qp.equilibrate(NET, PARAMS, solver=qp.Measured(EXACT, bases=bases), key=0)


def test_groups_of_operators_are_settings_and_strings_not_read_are_refused():
    solver = qp.Measured(EXACT, shots=50, bases=[[qp.Z(0) * qp.Z(1), qp.Z(2)], [qp.X(i) for i in range(3)], "YIZ"])
    state = qp.equilibrate(NET, PARAMS, solver=solver, key=0).state
    assert state.bases == ("ZZZ", "XXX", "YIZ")
    assert state.readings("YIZ").shape == (50, 3)
    assert np.array_equal(np.unique(state.readings("YIZ")[:, 1]), [0])
    assert state.expect(qp.Y(0) * qp.Z(2)).stderr > 0
    with pytest.raises(ValueError, match=r"X0 Z1 is read in none of .*bases=\['ZZZ', 'XXX', 'YIZ', 'XZZ'\]"):
        state.expect(qp.X(0) * qp.Z(1))
    with pytest.raises(ValueError, match="must be one of the settings"):
        state.readings("ZZX")
    with pytest.raises(TypeError, match="Shots of spins show Pauli sums, not a Quadratic"):
        state.expect(qp.R(0))

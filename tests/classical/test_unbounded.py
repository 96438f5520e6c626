"""Energies without a minimum: the status says so, and negative stiffnesses are named where a search fails."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import (
    ElasticNetwork,
    EnergySystem,
    Fire,
    GradientFlow,
    HarmonicOscillators,
    Minimizer,
    RandomStarts,
    StateCost,
)

CORNERS = [[0.0, 0.0], [2.0, 0.0], [1.0, 1.5]]
WEAK = {"k": np.array([1.0, -2.0]), "l": np.array([1.5, 1.5])}
HILLS = {
    "parabola": lambda p, s, x: s.sum() - (p["a"] * s**2).sum(),
    "line": lambda p, s, x: -p["a"] @ s,
}


@pytest.mark.parametrize("hill", HILLS.values(), ids=HILLS)
@pytest.mark.parametrize("solver", [Minimizer(), Minimizer(fire=Fire()), GradientFlow(), RandomStarts(3)], ids=repr)
def test_an_energy_that_falls_for_ever_is_unbounded(hill, solver):
    system = EnergySystem(hill, (2,), {"a": (2,)})
    key = 0 if isinstance(solver, RandomStarts) else None
    with pytest.raises(qp.EquilibriumError, match=r"unbounded: .*it has no minimum to come to rest in"):
        qp.equilibrate(system, {"a": [1.0, 2.0]}, solver=solver, key=key)


def test_one_sample_that_falls_for_ever_is_enough():
    system = EnergySystem(lambda p, s, x: (x * s**2).sum() - p["a"] @ s, (1,), {"a": (1,)}, inputs=(1,))
    good, bad = (
        qp.equilibrate(system, {"a": [1.0]}, inputs=inputs, throw=False) for inputs in ([[1.0], [2.0]], [[1.0], [-2.0]])
    )
    assert good.status is qp.Status.OK
    assert bad.status is qp.Status.UNBOUNDED


def test_soft_springs_move_far_and_come_to_rest():
    oscillator = HarmonicOscillators(1, [])
    params = {"k": [], "l": [], "kappa": [1e-9], "f": [1.0]}
    assert qp.equilibrate(oscillator, params).state.position == pytest.approx([1e9])


def test_negative_stiffnesses_are_named_where_nothing_holds_them():
    arch = ElasticNetwork([(0, 2), (1, 2)], CORNERS, pinned=[0, 1])
    with pytest.raises(qp.EquilibriumError, match=r"unbounded: .* the most negative k\[1\] = -2: only where"):
        qp.equilibrate(arch, WEAK)
    pair = HarmonicOscillators(2, [(0, 1)], components=2, input_sites=[0])
    params = pair.init_params(0) | {"kappa": np.array([1.0, -3.0])}
    for inputs in (np.full((1, 2), 0.1), np.full((3, 1, 2), 0.1)):
        found = qp.equilibrate(pair, params, inputs=inputs, throw=False)
        assert found.status is qp.Status.UNBOUNDED
        assert "kappa[1] = -3" in found.stats["advice"]


def test_a_negative_spring_that_the_others_outweigh_is_as_good_as_any():
    arch = ElasticNetwork([(0, 2), (1, 2)], CORNERS, pinned=[0, 1], stiffness=5.0)
    cost = StateCost(lambda r, y: ((r[0, 1] - y) ** 2).sum(), nodes=[2])
    out = qp.ep_gradient(arch, WEAK, cost, 1.0)
    exact = qp.finite_difference(arch, WEAK, cost, 1.0)
    assert "advice" not in out.free.stats
    for name in WEAK:
        np.testing.assert_allclose(out.grad[name], exact.grad[name], rtol=1e-6)
        assert np.abs(out.grad[name]).min() > 1e-4

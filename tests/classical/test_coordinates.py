"""What classical states show: all of them read `Coordinates` alike, and refuse what is none."""

import numpy as np
import pytest

import qeqprop as qp
from qeqprop.classical import (
    CircuitState,
    Coordinates,
    EchoState,
    FieldState,
    LayeredActivities,
    LayeredState,
    PointEnsemble,
    PointState,
    SpinDistribution,
)

LINE = np.array([0.5, -1.0, 2.0])
POINTS = np.arange(24.0).reshape(2, 4, 3)
LAYERS = (np.zeros((2, 3)), np.arange(16.0).reshape(2, 2, 2, 2))

CASES = {  # a state, and what it shows of nodes 1 and 2, of node 1 again, in one row
    "point": (PointState(LINE), [-1.0, 2.0, -1.0]),
    "points of a plane": (PointState(POINTS[0, :, :2]), [3.0, 4.0, 6.0, 7.0, 3.0, 4.0]),
    "batch": (PointState(POINTS[..., 0], batched=True), [[3.0, 6.0, 3.0], [15.0, 18.0, 15.0]]),
    "circuit": (CircuitState(LINE), [-1.0, 2.0, -1.0]),
    "field": (FieldState(LINE, LINE), [-1.0, 2.0, -1.0]),
    "trajectory": (EchoState(POINTS[0, :, :1], POINTS[0, :3, :1], POINTS[0, :, :1], np.zeros((2, 1))), [3.0, 6.0, 3.0]),
    "starts": (PointEnsemble(POINTS[..., 0], 2, False), [9.0, 12.0, 9.0]),
    "spins": (SpinDistribution(np.array([0.5, 0.0, 0.25, 0.25]), np.ones(3), np.array([0, 2])), [1.0, 0.0, 1.0]),
    "layers": (LayeredState(tuple(layer[0] for layer in LAYERS), False), [0.0, 0.0, 0.0]),
    "batch of layers": (LayeredState(LAYERS, True), [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    "predictions": (LayeredActivities(LAYERS, True), [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
}


@pytest.mark.parametrize(("state", "shown"), CASES.values(), ids=CASES)
def test_coordinates_stand_in_one_row(state, shown):
    np.testing.assert_array_equal(state.expect_all([Coordinates((1, 2)), Coordinates((1,))]).mean, shown)
    np.testing.assert_array_equal(state.expect(Coordinates((2,))).mean, state.expect_all([Coordinates((2,))]).mean)


@pytest.mark.parametrize("state", [LayeredState(LAYERS, True), LayeredActivities(LAYERS, True)])
def test_units_of_the_last_layer_are_read_there(state):
    np.testing.assert_array_equal(state.read(Coordinates((4, 9))), [[1.0, 6.0], [9.0, 14.0]])
    np.testing.assert_array_equal(state.read(Coordinates((0, 9))), [[0.0, 6.0], [0.0, 14.0]])
    assert repr(state) == f"{type(state).__name__}(3-2x2x2)"


@pytest.mark.parametrize(("state", "shown"), CASES.values(), ids=CASES)
def test_other_observables_and_nodes_are_refused(state, shown):
    with pytest.raises(TypeError, match="shows `Coordinates`, but not a PauliSum: use a StateCost"):
        state.expect(qp.Z(0))
    with pytest.raises(ValueError, match="has node 99, but the system has"):
        state.expect(Coordinates((99,)))

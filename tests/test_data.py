"""Data sets: fitted on the training part alone, balanced, reproducible, and refused with advice."""

import sys

import numpy as np
import pytest

from qeqprop import data


@pytest.fixture
def raw_digits() -> tuple[np.ndarray, np.ndarray]:
    datasets = pytest.importorskip("sklearn.datasets")
    return datasets.load_digits(return_X_y=True)


@pytest.mark.parametrize(("load", "n_samples", "n_features"), [(data.digits, 537, 6), (data.iris, 150, 4)])
def test_shapes_and_targets(load, n_samples: int, n_features: int):
    pytest.importorskip("sklearn")
    samples = load()
    assert len(samples.train_inputs) + len(samples.test_inputs) == n_samples
    for inputs, targets in (samples.train, samples.test):
        assert inputs.shape == (len(targets), n_features)
        assert targets.shape == (len(inputs), len(samples.labels))
        np.testing.assert_array_equal(np.sort(targets, axis=1), np.tile([-1.0, -1.0, 1.0], (len(targets), 1)))
    assert load(off=0.0).test_targets.min() == 0.0


def test_every_class_is_split_alike():
    pytest.importorskip("sklearn")
    samples = data.digits(tuple(range(10)), test_fraction=0.25)
    held_out, kept = ((targets > 0).sum(axis=0) for targets in (samples.test_targets, samples.train_targets))
    np.testing.assert_allclose(held_out / (held_out + kept), 0.25, atol=0.005)


def test_columns_follow_the_order_of_the_classes(raw_digits):
    straight, turned = data.digits((3, 8)), data.digits((8, 3))
    assert turned.labels == ("8", "3")
    n_threes = int(np.sum(raw_digits[1] == 3))
    for samples, column in ((straight, 0), (turned, 1)):
        total = sum((targets[:, column] > 0).sum() for targets in (samples.train_targets, samples.test_targets))
        assert total == n_threes


def test_centre_and_scale_belong_to_the_training_part():
    pytest.importorskip("sklearn")
    samples = data.digits(rms=0.7)
    np.testing.assert_allclose(samples.train_inputs.mean(axis=0), 0, atol=1e-12)
    assert np.sqrt(np.mean(samples.train_inputs**2)) == pytest.approx(0.7, rel=1e-12)
    covariance = samples.train_inputs.T @ samples.train_inputs
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-9)
    assert np.abs(samples.test_inputs.mean(axis=0)).max() > 1e-3  # a fit to all of the data would centre both together


def test_the_reduction_never_sees_the_test_part(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("sklearn")
    datasets = pytest.importorskip("sklearn.datasets")
    before = data.digits()
    images, numbers = datasets.load_digits(return_X_y=True)
    kept = np.flatnonzero(numbers <= 2)
    held_out = kept[data._stratified(numbers[kept], 0.25, np.random.default_rng(0))]
    images[held_out] = 16 * np.random.default_rng(1).random((len(held_out), 64))
    monkeypatch.setattr(datasets, "load_digits", lambda return_X_y: (images, numbers))
    after = data.digits()
    np.testing.assert_array_equal(after.train_inputs, before.train_inputs)
    assert not np.allclose(after.test_inputs, before.test_inputs)


@pytest.mark.parametrize("load", [data.digits, data.iris, lambda seed: data.phases(60, n_test=30, seed=seed)])
def test_a_seed_gives_the_same_numbers(load):
    pytest.importorskip("sklearn")
    first, again, other = load(seed=3), load(seed=3), load(seed=4)
    for one, two in zip(first[2:], again[2:], strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first.train_inputs, other.train_inputs)


def test_principal_axes_have_a_fixed_sign():
    samples = np.random.default_rng(0).normal(size=(50, 4)) @ np.random.default_rng(1).normal(size=(4, 4))
    reduction = data.Reduction.fit(samples, 3, rms=1.0)
    standard = reduction.components * samples.std(axis=0)[:, None]
    largest = standard[np.argmax(np.abs(standard), axis=0), range(3)]
    assert np.all(largest > 0)


# phases


@pytest.mark.parametrize("n_samples", [300, 301, 302])
def test_phases_are_balanced_and_on_the_simplex(n_samples: int):
    samples = data.phases(n_samples, n_test=31, seed=1)
    for inputs, targets in (samples.train, samples.test):
        assert inputs.min() >= 0
        np.testing.assert_allclose(inputs.sum(axis=1), 4.0)
        counts = targets.sum(axis=0)
        assert counts.max() - counts.min() <= 1
        np.testing.assert_array_equal(np.argmax(targets, axis=1), data.phase_of(inputs))
    assert len(np.unique(np.argmax(samples.train_targets[:30], axis=1))) == 3  # in random order


def test_phases_are_uniform_within_a_phase():
    couplings, targets = data.phases(6000, seed=0).train
    cluster = couplings[targets[:, data.PHASES.index("cluster")] == 1]
    # Vertices (g_ZXZ, g_ZZ, g_X) = (4,0,0), (2,2,0), (1,2,1), (2,0,2): split along the diagonal into two triangles.
    vertices = np.array([[4, 0, 0], [2, 2, 0], [1, 2, 1], [2, 0, 2]], dtype=float)
    triangles = vertices[[0, 1, 2]], vertices[[0, 2, 3]]
    areas = np.array([np.linalg.norm(np.cross(t[1] - t[0], t[2] - t[0])) for t in triangles])
    centroid = areas @ np.array([t.mean(axis=0) for t in triangles]) / areas.sum()
    spread = cluster.std(axis=0) / np.sqrt(len(cluster))
    assert np.all(np.abs(cluster.mean(axis=0) - centroid) < 4 * spread)


@pytest.mark.parametrize(
    ("couplings", "phase"),
    [
        ((4, 0, 0), "cluster"),
        ((0, 4, 0), "ferromagnet"),
        ((0, 0, 4), "paramagnet"),
        ((2, 2, 0), "ferromagnet"),  # on the boundary g_ZZ = 2
        ((0, 2, 2), "ferromagnet"),
        ((2 + 1e-9, 2 - 1e-9, 0), "cluster"),
        ((1e-9, 2 - 1e-9, 2), "paramagnet"),
        ((2, 0, 2), "paramagnet"),  # on the boundary 2 g_X = 4 - g_ZZ
        ((2 + 1e-9, 0, 2 - 1e-9), "cluster"),
        ((1.4, 1.3, 1.3), "cluster"),
        ((1.3, 1.3, 1.4), "paramagnet"),
    ],
)
def test_labels_at_known_points(couplings: tuple[float, float, float], phase: str):
    assert data.PHASES[int(data.phase_of(np.array(couplings, dtype=float)))] == phase


# errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": (0,)}, "`classes` must be two or more different digits"),
        ({"classes": (0, 0)}, "two or more different digits"),
        ({"classes": (0, 10)}, r"but is \(0, 10\)"),
        ({"n_features": 0}, "`n_features` must be at least 1"),
        ({"n_features": 64}, "`n_features` must be at most"),
        ({"test_fraction": 1.0}, "`test_fraction` must lie between 0 and 1"),
        ({"rms": 0.0}, "`rms` must be positive"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str):
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match=message):
        data.digits(**arguments)


def test_phases_refuse_an_empty_part():
    with pytest.raises(ValueError, match="`n_test` must be at least 1"):
        data.phases(30, n_test=0)


@pytest.mark.parametrize("load", [data.digits, data.iris])
def test_missing_scikit_learn_is_told(load, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r'needs scikit-learn: pip install "qeqprop\[data\]"'):
        load()

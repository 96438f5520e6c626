"""Data sets: fitted on the training part alone, balanced, reproducible, and refused with advice."""

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qeqprop import data
from qeqprop.idx import read_idx


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


# Fashion-MNIST: on tiny files made here, and on the real ones where they are installed


def idx(array: np.ndarray) -> bytes:
    """An array of unsigned bytes as an IDX file: header by hand, numbers in C order."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def pictures(n_each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """As many of each class, whose number is their top left pixel; the bottom right one counts them."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(np.repeat(np.arange(10), n_each))
    images = rng.integers(0, 256, (len(numbers), 28, 28))
    images[:, 0, 0], images[:, -1, -1] = numbers, np.arange(len(numbers))
    return images, numbers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures of every class to train and four to test; the test part is not packed."""
    for part, n_each, pack, end in (("train", 10, gzip.compress, ".gz"), ("t10k", 4, bytes, "")):
        for kind, array in zip(("images-idx3", "labels-idx1"), pictures(n_each, n_each), strict=True):
            (tmp_path / f"{part}-{kind}-ubyte{end}").write_bytes(pack(idx(array)))
    return tmp_path


def test_fashion_keeps_the_published_parts_and_the_labels(folder: Path):
    samples = data.fashion_mnist(folder=folder, off=0.0)
    assert samples.labels == data.CLOTHES
    for (inputs, targets), n_each in ((samples.train, 10), (samples.test, 4)):
        images, numbers = pictures(n_each, n_each)
        rows = np.rint(255 * inputs[:, -1]).astype(int)
        assert sorted(rows) == list(range(10 * n_each)) != list(rows)
        np.testing.assert_array_equal(inputs, images.reshape(-1, 784)[rows] / 255)
        np.testing.assert_array_equal(targets, np.eye(10)[numbers[rows]])


def test_fashion_draws_balanced_parts_in_the_order_of_the_classes(folder: Path):
    samples = data.fashion_mnist((7, 2, 5), n_train=11, n_test=6, folder=folder)
    assert samples.labels == ("sneaker", "pullover", "sandal")
    for (inputs, targets), counts in ((samples.train, [4, 4, 3]), (samples.test, [2, 2, 2])):
        assert targets.min() == -1
        assert (targets > 0).sum(axis=0).tolist() == counts
        np.testing.assert_array_equal(np.rint(255 * inputs[:, 0]), np.array([7, 2, 5])[targets.argmax(axis=1)])
    again, other = (data.fashion_mnist((7, 2, 5), n_train=11, seed=seed, folder=folder) for seed in (0, 1))
    np.testing.assert_array_equal(again.train_inputs, samples.train_inputs)
    assert not np.array_equal(other.train_inputs, samples.train_inputs)


def test_fashion_components_are_fitted_to_the_training_part(folder: Path):
    samples = data.fashion_mnist(n_features=5, rms=0.7, folder=folder)
    assert samples.train_inputs.shape == (100, 5)
    assert samples.test_inputs.shape == (40, 5)
    np.testing.assert_allclose(samples.train_inputs.mean(axis=0), 0, atol=1e-12)
    assert np.sqrt(np.mean(samples.train_inputs**2)) == pytest.approx(0.7, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": (3,)}, "`classes` must be two or more different"),
        ({"classes": (0, 10)}, "of 0 to 9"),
        ({"n_train": 0}, "`n_train` must be at least 1"),
        ({"n_train": 101}, "`n_train` asks for 11 pictures of class 0, but there are 10"),
        ({"n_test": 41}, "`n_test` asks for 5 pictures of class 0, but there are 4"),
        ({"n_features": 0}, "`n_features` must be at least 1"),
        ({"n_features": 101}, "`n_features` must be at most"),
        ({"n_features": 3, "rms": -1.0}, "`rms` must be positive"),
    ],
)
def test_fashion_names_bad_arguments(arguments: dict, message: str, folder: Path):
    with pytest.raises(ValueError, match=message):
        data.fashion_mnist(**arguments, folder=folder)


@pytest.mark.parametrize("missing", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"])
def test_fashion_says_how_to_install_it(missing: str, folder: Path):
    (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*ubyte.gz in .*apt-get install dataset-fashion-mnist"):
        data.fashion_mnist(folder=folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-7], "is damaged"),
        (lambda content: b"no gzip", "is damaged"),
        (lambda content: content[:40] + bytes(9) + content[49:], "is damaged"),
        (lambda content: gzip.compress(b"\0\0"), "must be an IDX file of unsigned bytes with 3 axes"),
        (lambda content: gzip.compress(idx(np.zeros((2, 3)))), "with 3 axes"),
        (lambda content: gzip.compress(bytes([0, 0, 8, 3]) + b"\xff" * 12), "announces 4294967295 x .* but holds 0"),
        (lambda content: gzip.compress(idx(np.zeros((2, 3, 3)))), "belong to 2 and 100 pictures"),
    ],
)
def test_fashion_refuses_damaged_files(damage: Callable[[bytes], bytes], message: str, folder: Path):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        data.fashion_mnist(folder=folder)


def test_idx_reads_axes_in_their_order(tmp_path: Path):
    array = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "images").write_bytes(idx(array))
    np.testing.assert_array_equal(read_idx(tmp_path / "images", 3), array)


@pytest.mark.skipif(not data.FASHION_MNIST.is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_fashion_mnist_as_installed():
    samples = data.fashion_mnist((0, 9), n_train=1000)
    assert len(samples.test_inputs) == 2000
    # Ankle boots fill the lower half, T-shirts the upper: a classifier that knows only this tells them apart.
    pixels = samples.test_inputs.reshape(-1, 28, 28)
    lower = pixels[:, 14:].sum(axis=(1, 2)) > pixels[:, :14].sum(axis=(1, 2))
    assert np.mean(lower == samples.test_targets.argmax(axis=1)) > 0.85


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
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'needs scikit-learn: pip install "qeqprop\[data\]"'):
        load()

"""Real data that ships with packages, reduced to the few numbers that a small network can take.

Nothing is downloaded. The test part is split off first: centre, principal components and scale are fitted on the
training part alone.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .core.extras import extra_module
from .core.graph import check_count
from .idx import read_idx

PHASES = ("ferromagnet", "cluster", "paramagnet")
"""Phases of the cluster-Ising ring, in the order of the targets' columns."""
CLOTHES = (
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
"""Classes of `fashion_mnist`, in the order of their numbers."""
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""
TOTAL_COUPLING = 4.0
"""g_ZXZ + g_ZZ + g_X of every sample of `phases`."""


class Dataset(NamedTuple):
    """Inputs and targets, split into a training and a test part.

    Attributes:
        name: of the data.
        labels: names of the classes, in the order of the targets' columns.
        train_inputs, test_inputs: shape (n_samples, n_features).
        train_targets, test_targets: shape (n_samples, n_classes): 1 in the column of the sample's class and `off` elsewhere.
    """

    name: str
    labels: tuple[str, ...]
    train_inputs: np.ndarray
    train_targets: np.ndarray
    test_inputs: np.ndarray
    test_targets: np.ndarray

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets), as `qp.fit` takes them."""
        return self.train_inputs, self.train_targets

    @property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets), as `qp.evaluate` takes them."""
        return self.test_inputs, self.test_targets

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name}: {len(self.train_inputs)} training and {len(self.test_inputs)} test samples, "
            f"{self.train_inputs.shape[1]} features, classes {', '.join(self.labels)})"
        )


class Reduction(NamedTuple):
    """Affine map from raw features to network inputs, x -> (x - mean) @ components.

    The columns of `components` are principal axes of the standardised features, times one factor for all of them: on the
    data that the map was fitted to, the inputs have the chosen root mean square. Their relative widths are kept: whitened
    components (all of one width) would blow up the noise of the weak ones, and train worse on the iris data.
    """

    mean: np.ndarray
    components: np.ndarray

    @classmethod
    def fit(cls, samples: np.ndarray, n_features: int, rms: float) -> "Reduction":
        """Principal components of `samples` (n_samples, n_raw), by singular value decomposition.

        Example:
            >>> samples = np.array([[0.0, 0.0, 7.0], [2.0, 20.0, 7.0], [4.0, 40.0, 7.0]])
            >>> print(Reduction.fit(samples, 1, rms=np.sqrt(1.5))(samples).round(9).ravel() + 0.0)
            [-1.5  0.   1.5]
        """
        mean, spread = samples.mean(axis=0), samples.std(axis=0)
        # A pixel that is always dark carries nothing, and has no scale to be divided by.
        scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-12)
        _, singular, axes = np.linalg.svd((samples - mean) * scale, full_matrices=False)
        rank = int(np.sum(singular > 1e-9 * singular[0]))
        if n_features > rank:
            raise ValueError(
                f"Argument `n_features` must be at most {rank}, the rank of the data, but is {n_features}."
            )
        # The sign of a principal axis is free: fix it, or inputs would depend on the linear algebra library.
        axes = axes[:n_features]
        axes = axes * np.sign(axes[np.arange(n_features), np.argmax(np.abs(axes), axis=1)])[:, None]
        width = singular[:n_features] / np.sqrt(len(samples))
        return cls(mean, scale[:, None] * axes.T * (rms / np.sqrt(np.mean(width**2))))

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Network inputs (n_samples, n_features) of raw samples (n_samples, n_raw)."""
        return (samples - self.mean) @ self.components


def digits(
    classes: tuple[int, ...] = (0, 1, 2),
    *,
    n_features: int = 6,
    test_fraction: float = 0.25,
    rms: float = 1.0,
    off: float = -1.0,
    seed: int = 0,
) -> Dataset:
    """Handwritten digits of 8 x 8 pixels (1797 samples of ten classes; UCI, in scikit-learn).

    Args:
        classes: the digits to tell apart, two or more of 0 .. 9.
        n_features: principal components kept of the 64 pixels.
        test_fraction: part of every class that is held out.
        rms: root mean square of the inputs over the training part; 1 makes fields of the order of the couplings.
        off: target of the classes that a sample does not belong to: -1 for spins, 0 for probabilities.
        seed: of the split.

    Raises:
        ImportError: scikit-learn is missing. ValueError: an argument is out of range.

    Example:
        >>> digits()
        Dataset(digits: 402 training and 135 test samples, 6 features, classes 0, 1, 2)
    """
    images, numbers = _scikit_learn("digits").load_digits(return_X_y=True)
    chosen = _check_classes(classes, 10)
    kept = np.isin(numbers, chosen)
    place = np.searchsorted(np.sort(chosen), numbers[kept])
    column = np.argsort(chosen)[place]
    labels = tuple(str(number) for number in chosen)
    return _reduced("digits", labels, images[kept], column, n_features, test_fraction, rms, off, seed)


def iris(
    *, n_features: int = 4, test_fraction: float = 0.25, rms: float = 1.0, off: float = -1.0, seed: int = 0
) -> Dataset:
    """Fisher's iris flowers (150 samples of three species, four lengths; in scikit-learn). Arguments as in `digits`.

    Example:
        >>> iris()
        Dataset(iris: 111 training and 39 test samples, 4 features, classes setosa, versicolor, virginica)
    """
    bunch = _scikit_learn("iris").load_iris()
    labels = tuple(str(name) for name in bunch.target_names)
    return _reduced("iris", labels, bunch.data, bunch.target, n_features, test_fraction, rms, off, seed)


def fashion_mnist(
    classes: tuple[int, ...] = tuple(range(10)),
    *,
    n_train: int | None = None,
    n_test: int | None = None,
    n_features: int | None = None,
    rms: float = 1.0,
    off: float = -1.0,
    seed: int = 0,
    folder: str | Path = FASHION_MNIST,
) -> Dataset:
    """Pictures of clothes of 28 x 28 pixels (60,000 to train and 10,000 to test, ten classes), where they are installed.

    The published parts are kept apart. Nothing is downloaded: on Debian and Ubuntu the package dataset-fashion-mnist has the
    files; elsewhere name a `folder` with the four IDX files, packed by gzip or not.

    Args:
        classes: two or more of 0 .. 9, in the order of `CLOTHES`.
        n_train, n_test: sizes of the parts, drawn at random with as many of every class (the numbers differ by one at most);
            None takes all.
        n_features: principal components kept; None keeps the 784 pixels, row by row, from 0 (dark) to 1.
        rms: root mean square of the principal components over the training part.
        off: target of the classes that a sample does not belong to: -1 for spins, 0 for probabilities.
        seed: of the draws.
        folder: where the files are.

    Raises:
        FileNotFoundError: the data are not installed. ValueError: a damaged file, an argument out of range.

    Source: H. Xiao, K. Rasul and R. Vollgraf, arXiv:1708.07747 (2017).

    Example:
        `fashion_mnist((0, 1), n_train=100, n_test=20)` holds 100 and 20 pictures of T-shirts and trousers. Without the files:

        >>> fashion_mnist(folder="elsewhere")
        Traceback (most recent call last):
            ...
        FileNotFoundError: Fashion-MNIST is not installed: ... apt-get install dataset-fashion-mnist. ...
    """
    chosen = _check_classes(classes, len(CLOTHES))
    sizes = [
        size if size is None else check_count(size, name) for size, name in ((n_train, "n_train"), (n_test, "n_test"))
    ]
    if n_features is not None:
        check_count(n_features, "n_features")
    _check_rms(rms)
    streams = np.random.default_rng(seed).spawn(2)
    parts = [
        _pictures(Path(folder), part, chosen, size, name, rng)
        for part, size, name, rng in zip(("train", "t10k"), sizes, ("n_train", "n_test"), streams, strict=True)
    ]
    (train, train_column), (test, test_column) = parts
    if n_features is not None:
        reduction = Reduction.fit(train, n_features, rms)
        train, test = reduction(train), reduction(test)
    labels = tuple(CLOTHES[number] for number in chosen)
    targets = np.where(np.eye(len(chosen), dtype=bool), 1.0, off)
    return Dataset("fashion_mnist", labels, train, targets[train_column], test, targets[test_column])


def phases(n_samples: int = 1000, *, n_test: int = 200, seed: int = 0) -> Dataset:
    """Cluster-Ising rings and their phases: inputs (g_ZXZ, g_ZZ, g_X), one-hot targets in the order of `PHASES`.

    The couplings are uniform on the simplex g >= 0, g_ZXZ + g_ZZ + g_X = 4, within every phase: as many samples of each
    (the numbers differ by one at most).

    Args:
        n_samples: size of the training part.
        n_test: size of the test part; drawn independently of `n_samples`, so that both can be changed alone.
        seed: of the draw.

    Example:
        >>> data = phases(300, n_test=30)
        >>> print(data.train_targets.sum(axis=0), data.train_inputs.sum(axis=1).std() < 1e-12)
        [100. 100. 100.] True
    """
    sizes = {"n_samples": check_count(n_samples, "n_samples"), "n_test": check_count(n_test, "n_test")}
    streams = np.random.default_rng(seed).spawn(len(sizes))
    parts = [_balanced_couplings(size, rng) for size, rng in zip(sizes.values(), streams, strict=True)]
    (train, train_phase), (test, test_phase) = parts
    eye = np.eye(len(PHASES))
    return Dataset("phases", PHASES, train, eye[train_phase], test, eye[test_phase])


def phase_of(couplings: np.ndarray) -> np.ndarray:
    """Index into `PHASES` of rings with couplings (..., 3) = (g_ZXZ, g_ZZ, g_X).

    Ferromagnet where g_ZZ >= 2; else cluster where 2 g_X < 4 - g_ZZ, that is g_X < g_ZXZ; else paramagnet.

    Example:
        >>> [PHASES[k] for k in phase_of(np.array([[0, 4, 0], [4, 0, 0], [0, 0, 4], [1, 2, 1], [2, 0, 2]]))]
        ['ferromagnet', 'cluster', 'paramagnet', 'ferromagnet', 'paramagnet']
    """
    g_zz, g_x = couplings[..., 1], couplings[..., 2]
    return np.where(g_zz >= TOTAL_COUPLING / 2, 0, np.where(2 * g_x < TOTAL_COUPLING - g_zz, 1, 2))


def _pictures(
    folder: Path, part: str, chosen: np.ndarray, size: int | None, name: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 784) in 0 .. 1 and the columns of the classes, of one part of Fashion-MNIST, in random order."""
    paths = [_installed(folder, f"{part}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    images, numbers = (read_idx(path, n_axes) for path, n_axes in zip(paths, (3, 1), strict=True))
    if len(images) != len(numbers):
        raise ValueError(f"Files {paths[0]} and {paths[1]} belong to {len(images)} and {len(numbers)} pictures.")
    members = [rng.permutation(np.flatnonzero(numbers == number)) for number in chosen]
    if size is not None:
        shares = [len(share) for share in np.array_split(np.arange(size), len(chosen))]
        for number, found, share in zip(chosen, members, shares, strict=True):
            if share > len(found):
                raise ValueError(
                    f"Argument `{name}` asks for {share} pictures of class {number}, but there are {len(found)}."
                )
        members = [found[:share] for found, share in zip(members, shares, strict=True)]
    column = np.repeat(np.arange(len(chosen)), [len(found) for found in members])
    order = rng.permutation(len(column))
    # Pick the bytes first: all of them as float64 would take half a gigabyte.
    picked = images[np.concatenate(members)[order]]
    return picked.reshape(len(picked), -1) / 255.0, column[order]


def _installed(folder: Path, stem: str) -> Path:
    for path in (folder / f"{stem}.gz", folder / stem):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"Fashion-MNIST is not installed: there is no file {stem}.gz in {folder}. On Debian and Ubuntu: "
        "apt-get install dataset-fashion-mnist. Elsewhere give the argument `folder`."
    )


def _balanced_couplings(n_samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Uniform points of the simplex, by rejection, until every phase has its share; in random order."""
    share = [len(part) for part in np.array_split(np.arange(n_samples), len(PHASES))]
    found: list[np.ndarray] = []
    for phase, wanted in enumerate(share):
        points = np.empty((0, 3))
        while len(points) < wanted:
            drawn = TOTAL_COUPLING * rng.dirichlet(np.ones(3), size=4 * wanted)
            points = np.concatenate([points, drawn[phase_of(drawn) == phase]])
        found.append(points[:wanted])
    order = rng.permutation(n_samples)
    return np.concatenate(found)[order], np.repeat(np.arange(len(PHASES)), share)[order]


def _reduced(
    name: str,
    labels: tuple[str, ...],
    samples: np.ndarray,
    column: np.ndarray,
    n_features: int,
    test_fraction: float,
    rms: float,
    off: float,
    seed: int,
) -> Dataset:
    """Split first, then fit the reduction on the training part."""
    check_count(n_features, "n_features")
    if not 0 < test_fraction < 1:
        raise ValueError(f"Argument `test_fraction` must lie between 0 and 1, but is {test_fraction}.")
    _check_rms(rms)
    held_out = _stratified(column, test_fraction, np.random.default_rng(seed))
    reduction = Reduction.fit(samples[~held_out], n_features, rms)
    targets = np.where(np.eye(len(labels), dtype=bool)[column], 1.0, off)
    inputs = reduction(samples)
    return Dataset(name, labels, inputs[~held_out], targets[~held_out], inputs[held_out], targets[held_out])


def _stratified(column: np.ndarray, test_fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Mask of the test part: the same fraction of every class, at least one sample of each."""
    held_out = np.zeros(len(column), dtype=bool)
    for value in np.unique(column):
        members = np.flatnonzero(column == value)
        size = min(max(1, _round(test_fraction * len(members))), len(members) - 1)
        held_out[rng.permutation(members)[:size]] = True
    return held_out


def _check_rms(rms: float) -> None:
    if not 0 < rms < np.inf:
        raise ValueError(f"Argument `rms` must be positive and finite, but is {rms}.")


def _round(value: float) -> int:
    """Half up, where Python rounds half to even."""
    return int(np.floor(value + 0.5))


def _check_classes(classes: tuple[int, ...], n_classes: int) -> np.ndarray:
    if not isinstance(classes, Iterable):
        raise TypeError(f"Argument `classes` must be a tuple of digits such as (0, 1, 2), but is {classes!r}.")
    chosen = [check_count(value, "classes", 0) for value in classes]
    if len(chosen) < 2 or len(set(chosen)) != len(chosen) or max(chosen) >= n_classes:
        raise ValueError(
            f"Argument `classes` must be two or more different digits of 0 to {n_classes - 1}, but is {tuple(chosen)}."
        )
    return np.array(chosen)


def _scikit_learn(name: str) -> Any:
    return extra_module("sklearn.datasets", f"Data set {name!r}", "scikit-learn", "data")

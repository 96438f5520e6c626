"""Saved results come back bit for bit; damaged, foreign and newer files are refused; a failing write harms nothing."""

import contextlib
import dataclasses
import io
import json
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qeqprop as qp
from qeqprop import storage
from qeqprop.core.history import History
from qeqprop.storage import StorageError, write_atomically


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """One of everything that can be saved."""
    net = qp.TransverseFieldIsing(n_sites=3, edges=[(0, 1), (1, 2)])
    params = {"J": np.array([1.0, 0.7]), "h": np.array([0.1, 0.2, 0.3]), "g": np.ones(3)}
    cost = qp.ObservableCost(qp.Z(2))
    return {
        "params": params,
        "gradient": qp.ep_gradient(net, params, cost, scheme=qp.centered(0.01)),
        "holomorphic": qp.ep_gradient(net, params, cost, scheme=qp.holomorphic(0.05)),
        "response": qp.linear_response(net, params, cost),
        "check": qp.check_gradient(net, params, cost),
        "equilibrium": qp.equilibrate(net, params),
        "history": qp.fit(net, params, cost, epochs=2, progress=False),
        "nested": {"a": [1, 2.5, None, True, "text"], ("tuple", 3): (1 + 2j, float("inf"), {"x": np.arange(3)})},
        "status": qp.Status.DEGENERATE,
    }


NAMES = ["params", "gradient", "holomorphic", "response", "check", "equilibrium", "history", "nested", "status"]


def identical(a: Any, b: Any) -> bool:
    """Equal to the bit, with equal types."""
    if hasattr(a, "__array__") and not dataclasses.is_dataclass(a):
        a, b = np.asarray(a), np.asarray(b)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if type(a) is not type(b):
        return False
    if dataclasses.is_dataclass(a):
        return all(identical(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, dict):
        return list(a) == list(b) and all(identical(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    return a == b


def test_identical_can_fail():
    assert not identical({"a": np.zeros(2)}, {"a": np.array([0.0, -0.0])})
    assert not identical((1,), [1])


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_is_bit_equal(name: str, results: dict[str, Any], tmp_path: Path):
    path = qp.save(tmp_path / name, results[name])
    assert path.name == f"{name}.npz"
    assert identical(qp.load(path), results[name])


def test_loaded_results_work(results: dict[str, Any], tmp_path: Path):
    gradient = qp.load(qp.save(tmp_path / "gradient", results["gradient"]))
    assert repr(gradient) == repr(results["gradient"])
    assert gradient.free.state.expect(qp.X(0)).mean == results["gradient"].free.state.expect(qp.X(0)).mean
    assert isinstance(qp.load(qp.save(tmp_path / "history", results["history"])), History)


@pytest.mark.parametrize("value", [{"f": len}, np.array([object()]), {1, 2}], ids=["function", "objects", "set"])
def test_what_cannot_be_saved_is_refused_and_leaves_no_file(value: Any, tmp_path: Path):
    with pytest.raises(TypeError, match="cannot be saved"):
        qp.save(tmp_path / "bad", value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_failing_write_keeps_the_old_file(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = qp.save(tmp_path / "file", {"x": np.ones(3)})
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if broken == "write":
            patch.setattr(storage.os, "fdopen", _full_disk)
        else:
            patch.setattr(storage.os, broken, fail)
        with pytest.raises(OSError, match="No space left"):
            qp.save(path, {"x": np.zeros(3)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "a temporary file is left behind"
    qp.save(path, {"x": np.zeros(3)})
    assert path.read_bytes() != before


def _full_disk(handle: int, mode: str) -> Any:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(bytes(data)[:10])
            raise OSError(28, "No space left on device")

    return Full(handle, mode)


def test_write_makes_the_folder_and_replaces(tmp_path: Path):
    path = tmp_path / "a" / "b.txt"
    assert write_atomically(path, b"one") == path
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["b.txt"]


def test_truncated_files_are_refused(results: dict[str, Any], tmp_path: Path):
    data = qp.save(tmp_path / "whole", results["equilibrium"]).read_bytes()
    path = tmp_path / "cut.npz"
    for size in (0, 1, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(StorageError, match=r"cut\.npz"):
            qp.load(path)


def test_flipped_bytes_never_give_other_numbers(tmp_path: Path):
    """Every member of the file carries a checksum: a flip is refused, or it hit a byte without meaning."""
    value = {"x": np.arange(5.0)}
    data = qp.save(tmp_path / "whole", value).read_bytes()
    path, refused = tmp_path / "flipped.npz", 0
    for position, byte in enumerate(data):
        flipped = byte ^ (1 << position % 8)
        path.write_bytes(data[:position] + bytes([flipped]) + data[position + 1 :])
        try:
            assert identical(qp.load(path), value), f"byte {position}"
        except StorageError:
            refused += 1
    assert refused > len(data) / 2


def forged(path: Path, document: Any, **arrays: np.ndarray) -> Path:
    """A file of the right shape with another document inside."""
    np.savez(path, json=np.frombuffer(json.dumps(document).encode(), dtype=np.uint8), **arrays)
    return path


def document(content: Any, **changes: Any) -> dict[str, Any]:
    return {"format": "qeqprop", "schema": storage.SCHEMA, "content": content, **changes}


@pytest.mark.parametrize(
    "bad",
    [
        {"format": "other", "schema": 1, "content": None},
        {"schema": 1, "content": None},
        document(None, schema=storage.SCHEMA + 1),
        document({"array": "array7"}),
        document({"class": "Popen", "fields": {}}),
        document({"class": "Estimate", "fields": {"mean": 1.0}}),
        document({"class": "Estimate", "fields": {"mean": 1.0, "stderr": 0.0, "extra": 0.0}}),
        document({"status": "FINE"}),
        document({"unheard-of": 1}),
        document({"two": 1, "keys": 2}),
    ],
    ids=lambda bad: str(bad.get("content"))[:40],
)
def test_mutated_documents_are_refused(bad: dict[str, Any], tmp_path: Path):
    with pytest.raises(StorageError):
        qp.load(forged(tmp_path / "forged.npz", bad))


def test_newer_schema_says_so(tmp_path: Path):
    with pytest.raises(StorageError, match="newer qeqprop"):
        qp.load(forged(tmp_path / "new.npz", document(None, schema=storage.SCHEMA + 1)))


def test_foreign_files_are_refused(tmp_path: Path):
    np.savez(tmp_path / "arrays.npz", x=np.ones(2))
    np.save(tmp_path / "array.npy", np.ones(2))
    (tmp_path / "text.npz").write_text("not an archive")
    for name in ("arrays.npz", "array.npy", "text.npz"):
        with pytest.raises(StorageError, match="not a file that"):
            qp.load(tmp_path / name)


def test_names_may_lack_their_ending_and_come_first(tmp_path: Path):
    qp.save(tmp_path / "params", {"J": np.ones(3)})
    np.testing.assert_array_equal(qp.load(tmp_path / "params")["J"], np.ones(3))
    with pytest.raises(TypeError, match="`path` must be the name of a file, but is dict: it comes first"):
        qp.save({"J": np.ones(3)}, tmp_path / "params")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(StorageError, match=r"or damaged \(it is no archive of arrays\)"):
        qp.load(tmp_path / "text.npz")


def test_missing_file_is_a_missing_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        qp.load(tmp_path / "nothing.npz")


class _Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (os.environ["QEQPROP_TEST_BOMB"],)


@pytest.mark.parametrize("kind", ["pickle", "object array", "object member"])
def test_nothing_is_unpickled(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    crater = tmp_path / "crater"
    monkeypatch.setenv("QEQPROP_TEST_BOMB", str(crater))
    path = tmp_path / "bomb.npz"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(_Bomb()))
    elif kind == "object array":
        np.savez(path, json=np.array([_Bomb()], dtype=object))
    else:
        forged(path, document({"array": "array0"}), array0=np.array([_Bomb()], dtype=object))
    with pytest.raises(StorageError):
        qp.load(path)
    assert not crater.exists()


def announcing(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    """An array file whose header promises more than there is."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(64)


def array_file(content: bytes) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.frombuffer(content, dtype=np.uint8))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["zip bomb", "huge array", "huge document", "overflowing shape", "deep document"])
def test_hostile_files_take_no_memory(kind: str, tmp_path: Path):
    path, text = tmp_path / "hostile.npz", json.dumps(document({"array": "array0"})).encode()
    members = {"json.npy": array_file(text), "array0.npy": announcing((10**12,))}
    if kind == "zip bomb":
        members["array0.npy"] = announcing((10**8,), "|u1") + bytes(10**8)
    elif kind == "huge document":
        members["json.npy"] = announcing((10**12,), "|u1")
    elif kind == "overflowing shape":
        members["array0.npy"] = announcing((2**40, 2**40))
    elif kind == "deep document":
        nested = b'{"list": [' * 10**5 + b"]}" * 10**5
        text = b'{"format": "qeqprop", "schema": 1, "content": ' + nested + b"}"
        members = {"json.npy": array_file(text)}
    compression = zipfile.ZIP_DEFLATED if kind == "zip bomb" else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    tracemalloc.start()
    try:
        with pytest.raises(StorageError):
            qp.load(path)
        assert tracemalloc.get_traced_memory()[1] < 3e7
    finally:
        tracemalloc.stop()


def test_ten_thousand_damaged_files_are_refused_or_harmless(results: dict[str, Any], tmp_path: Path):
    """Random bytes overwritten, cut out, doubled or swapped: an error of ours, or the numbers that were saved."""
    rng, path = np.random.default_rng(0), tmp_path / "damaged.npz"
    values = [{"x": np.arange(5.0)}, results["params"], results["equilibrium"]]
    files = [np.frombuffer(qp.save(tmp_path / f"{k}", value).read_bytes(), np.uint8) for k, value in enumerate(values)]
    for _ in range(10_000):
        which = rng.integers(len(files))
        data = files[which].copy()
        start, stop = np.sort(rng.integers(len(data), size=2))
        match rng.integers(4):
            case 0:
                places = rng.integers(len(data), size=rng.integers(1, 20))
                data[places] = rng.integers(256, size=len(places))
            case 1:
                data = np.delete(data, slice(start, stop))
            case 2:
                data = np.insert(data, start, data[start:stop])
            case 3:
                data[start:stop] = data[start:stop][::-1]
        path.write_bytes(data.tobytes())
        with contextlib.suppress(StorageError):
            assert identical(qp.load(path), values[which])

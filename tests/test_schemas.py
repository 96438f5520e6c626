"""Files of every schema so far still load: `stored/schemaN` was written by a version whose schema was N, and stays as it is.

Who raises a schema number adds a folder, written by `python tests/test_schemas.py tests/stored/schemaN`.
"""

import io
import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import qeqprop as qp

STORED = Path(__file__).parent / "stored"
FOLDERS = sorted(STORED.iterdir()) if STORED.exists() else []
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)

NET = qp.TransverseFieldIsing(3, [(0, 1), (1, 2)])
PARAMS = {"J": np.array([1.0, 0.75]), "h": np.array([0.125, 0.25, 0.5]), "g": np.array([1.0, 1.25, 0.75])}
COST = qp.ObservableCost(qp.Z(2))


def gradient():
    return qp.ep_gradient(NET, PARAMS, COST, scheme=qp.centered(0.01))


def train(folder, epochs, **options):
    return qp.fit(NET, PARAMS, COST, epochs=epochs, checkpoint=folder, progress=False, **options)


def scanned(g, J):
    if g == J:
        raise ValueError("equal")
    return {"sum": g + J, "m": qp.Estimate(np.array([g, J]), 0.5 * np.ones(2))}


def write(folder: Path) -> None:
    """One of each kind of file."""
    qp.save(
        folder / "gradient.npz", {"gradient": gradient(), "seed": np.random.SeedSequence(3), "nested": [(1 + 2j, None)]}
    )
    train(folder / "training", 3)
    qp.scan(scanned, {"g": [1.0, 2.0], "J": [1.0, 3.0]}, out=folder / "scan", workers=0)


def test_there_is_a_folder_for_every_schema():
    from qeqprop.scans import ledger
    from qeqprop.storage import SCHEMA

    newest = max(SCHEMA, ledger.SCHEMA)
    assert [folder.name for folder in FOLDERS] == [f"schema{n}" for n in range(1, newest + 1)]


@each_folder
def test_a_stored_gradient(folder):
    content = qp.load(folder / "gradient.npz")
    out, now = content["gradient"], gradient()
    for name in PARAMS:
        np.testing.assert_allclose(out.grad[name], now.grad[name], rtol=1e-7)
    assert repr(out).splitlines()[0] == repr(now).splitlines()[0]
    assert float(out.free.state.expect(qp.Z(2))) == pytest.approx(float(out.loss), rel=1e-12)
    assert (content["seed"].entropy, content["nested"]) == (3, [(1 + 2j, None)])


@each_folder
def test_a_stored_training_goes_on(folder, tmp_path):
    shutil.copytree(folder / "training", tmp_path / "training")
    resumed, whole = train(tmp_path / "training", 6, resume=True), train(None, 6)
    assert len(resumed.loss) == 6
    np.testing.assert_allclose(resumed.loss, whole.loss, rtol=1e-9)
    np.testing.assert_allclose(resumed.params["J"], whole.params["J"], rtol=1e-9)


@each_folder
def test_a_stored_scan(folder, tmp_path):
    shutil.copytree(folder / "scan", tmp_path / "scan")
    (tmp_path / "scan" / "collected.npz").unlink(missing_ok=True)
    table = qp.open_scan(tmp_path / "scan")
    assert table.status.values.tolist() == [[2, 1], [1, 1]]
    assert table["sum"].values[1].tolist() == [3.0, 5.0]
    assert table.m.values[0, 1].tolist() == [1.0, 3.0]
    assert np.all(table.m_stderr.values[1] == 0.5)
    assert "equal" in str(table.error.values[0, 0])


def without(path: Path, field: str, target: Path) -> Path:
    """The file, as a version would have written it whose gradients had no such field."""
    with np.load(path) as file:
        arrays = dict(file)
    document = json.loads(arrays["json"].tobytes())
    ((_, content),) = [pair for pair in document["content"]["dict"] if pair[0] == "gradient"]
    del content["fields"][field]
    arrays["json"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    assert zipfile.is_zipfile(buffer)
    target.write_bytes(buffer.getvalue())
    return target


@each_folder
def test_fields_that_came_later_have_their_defaults_and_others_are_missed(folder, tmp_path):
    assert qp.load(without(folder / "gradient.npz", "stats", tmp_path / "old.npz"))["gradient"].stats == {}
    with pytest.raises(ValueError, match="must have the fields"):
        qp.load(without(folder / "gradient.npz", "grad", tmp_path / "old.npz"))


if __name__ == "__main__":
    write(Path(sys.argv[1]))

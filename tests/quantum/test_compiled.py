"""Machine code goes when a source changes, and stays otherwise."""

from qeqprop.quantum.compiled import drop_stale_code


def test_machine_code_is_dropped_exactly_when_a_kernel_source_changes(tmp_path):
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "kernel.py").write_text("import numba\n")
    (tmp_path / "other.py").write_text("x = 1\n")
    code = tmp_path / "__pycache__" / "kernel.f-1.py311.nbi"
    code.write_bytes(b"old")
    assert drop_stale_code(tmp_path)
    assert not code.exists()
    code.write_bytes(b"new")
    (tmp_path / "other.py").write_text("x = 2\n")  # nothing compiled here
    assert not drop_stale_code(tmp_path)
    assert code.exists()
    (tmp_path / "kernel.py").write_text("import numba  # changed\n")
    assert drop_stale_code(tmp_path)
    assert not code.exists()

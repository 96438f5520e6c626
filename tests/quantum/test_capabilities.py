"""What a solver cannot do is refused at the entry; a minimal solver of one's own does all the rest; single precision."""

import os
import subprocess
import sys

import numpy as np
import pytest

import qeqprop as qp

from ..measures import deviation
from ..one_by_one import OneByOne
from ..registry import BY_NAME
from .chains import QUBIT

# --- solvers that cannot ----------------------------------------------------------------------------------------------


def test_capabilities_are_checked_before_any_work():
    case = BY_NAME["two-spin TFIM"]
    with pytest.raises(
        ValueError, match=r"OneByOne cannot follow complex nudges, which holomorphic\(0.1, n_points=8\)"
    ):
        qp.ep_gradient(*case.problem, solver=OneByOne(), scheme=qp.holomorphic(0.1))
    with pytest.raises(ValueError, match="OneByOne has no linear response"):
        qp.linear_response(*case.problem, solver=OneByOne())
    cost = qp.ObservableCost(qp.MatrixOperator(np.diag([1.0, -1.0])))
    with pytest.raises(ValueError, match="cannot be nudged by a complex strength"):
        qp.ep_gradient(QUBIT, {"a": [1.0, 1.0]}, cost, scheme=qp.holomorphic(0.1))


def test_minimal_solver_works_with_everything_else():
    case = BY_NAME["input sites, batch"]
    out = qp.ep_gradient(*case.problem, inputs=case.inputs, solver=OneByOne())
    assert deviation(out.grad, case.exact.grad) < 1e-5
    assert out.losses.shape == (4,)
    check = qp.check_gradient(*case.problem, inputs=case.inputs, solver=OneByOne())
    assert check.agrees
    assert set(check.references) == {"finite differences"}
    with pytest.raises(ValueError, match="one sample at a time"):
        qp.equilibrate(case.system, case.params, inputs=case.inputs, solver=OneByOne())


@pytest.mark.parametrize("operator", ["X0", qp.X(0), np.eye(4)], ids=["text", "Pauli", "matrix"])
def test_exact_diagonalization_refuses_other_systems(operator):
    with pytest.raises((TypeError, ValueError)):
        qp.ExactDiagonalization().solve(operator, {})


# --- precision --------------------------------------------------------------------------------------------------------


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join(p for p in [os.getcwd(), os.environ.get("PYTHONPATH", "")] if p)
    env = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


def test_single_precision_is_refused():
    code = """
import qeqprop as qp
net = qp.TransverseFieldIsing(1, [])
params = {"J": [], "h": [0.6], "g": [0.8]}
qp.ep_gradient(net, params, qp.ExpectationCost([qp.Z(0)]), [0.0])
"""
    refused = run(code, JAX_ENABLE_X64="0")
    assert refused.returncode != 0
    assert "JAX_ENABLE_X64=0 forbids it" in refused.stderr
    assert run(code, JAX_ENABLE_X64="1").returncode == 0

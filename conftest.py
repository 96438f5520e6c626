"""Settings of all tests: repeatable examples, one BLAS thread a process, and compiled code shared by all processes."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Few and always the same examples: a test run is to be repeatable, and a ground state costs more than an integer.
settings.register_profile("default", deadline=None, derandomize=True, database=None, max_examples=15)
settings.load_profile("default")

MEMORY_OF_A_WORKER = 2 * 1024**3
"""JAX, NetKet, QuTiP and what they compile take 1 to 1.5 GB after all tests."""

# Set before any worker starts, hence before NumPy is loaded there: the processes share the cores, not each all of them.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many processes as this one may use cores, and as fit into the memory; 0, this one, for named files alone.

    To start a process takes longer than most files of tests. `-n` and PYTEST_XDIST_AUTO_NUM_WORKERS have the last word.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return int(os.environ["PYTEST_XDIST_AUTO_NUM_WORKERS"])
    if all(Path(argument.partition("::")[0]).is_file() for argument in config.args):
        return 0
    try:
        cores = len(os.sched_getaffinity(0))
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this operating system
        cores, memory = os.cpu_count() or 1, 8 * 1024**3
    return max(1, min(cores, memory // MEMORY_OF_A_WORKER))


def pytest_configure(config: pytest.Config) -> None:
    """One directory of machine code for the workers and for the processes that tests start; it goes with the session.

    A user's own directory is left alone. Hits are the same machine code, so numbers do not depend on them.
    """
    if "PYTEST_XDIST_WORKER" in os.environ or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="qeqprop-tests-jax-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))

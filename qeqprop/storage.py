"""Saving and loading of results: one `.npz` file of plain arrays, with the structure as JSON inside. Never pickle.

Every write goes to a temporary file in the same directory, is flushed to the disk and then put in place by one rename:
a reader sees the old file or the new one, never half of one. Loading builds objects of the classes listed here and
runs no code from the file.
"""

import contextlib
import dataclasses
import importlib
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .core.status import Status

SCHEMA = 1
_CLASSES = {
    "Annealer": "classical.annealer",
    "EnumeratedState": "classical.enumeration",
    "ExactEnumeration": "classical.enumeration",
    "HeatBath": "classical.heat_bath",
    "ParallelTempering": "classical.tempering",
    "SimulatedAnnealing": "classical.annealing",
    "SpinDistribution": "classical.spin_distribution",
    "SpinEnsemble": "classical.spin_ensemble",
    "AdiabaticPreparation": "quantum.adiabatic",
    "Estimate": "core.estimate",
    "DiodeModel": "classical.diode_model",
    "SpiceCheck": "classical.spice",
    "LayeredState": "classical.layered",
    "CircuitState": "classical.resistive",
    "BlockDescent": "classical.block_descent",
    "ContinualStep": "classical.continual",
    "DiscreteTime": "classical.discrete_time",
    "ErrorProcess": "classical.trajectories",
    "ActiveSet": "classical.active_set",
    "AsymEP": "classical.asymmetric",
    "FieldState": "classical.vector_field",
    "FixedPoint": "classical.asymmetric",
    "EchoState": "classical.hamiltonian",
    "HamiltonianEcho": "classical.hamiltonian_echo",
    "PointState": "classical.energy",
    "PointEnsemble": "classical.point_ensemble",
    "ClampedState": "classical.clamped_systems",
    "Minimizer": "classical.minimize",
    "Fire": "classical.fire",
    "RandomStarts": "classical.random_starts",
    "GradientFlow": "classical.gradient_flow",
    "HolomorphicMinimizer": "classical.holomorphic",
    "StationaryAction": "classical.stationary_action",
    "LayeredActivities": "classical.predictive_coding",
    "PredictionSweeps": "classical.prediction_sweeps",
    "RigidityReport": "classical.rigidity",
    "Equilibrium": "core.solver",
    "EPGradient": "core.gradient",
    "AgnosticStep": "core.agnostic",
    "ResponseMatrix": "core.response",
    "GradientCheck": "core.reference",
    "History": "core.history",
    "LinearResponse": "core.scheme",
    "StaticResponse": "quantum.zero_variance_static",
    "Stencil": "core.scheme",
    "Evolution": "quantum.evolution",
    "ExactDiagonalization": "quantum.exact",
    "FreeFermions": "quantum.free_fermion",
    "FockBasis": "quantum.fock_basis",
    "FockSolver": "quantum.fock_solver",
    "FockState": "quantum.fock_solver",
    "GibbsState": "quantum.thermal",
    "GaussianGroundState": "quantum.gaussian",
    "GaussianState": "quantum.gaussian_state",
    "SparseGaussianState": "quantum.gaussian_state",
    "Measured": "quantum.measurement",
    "MeasuredState": "quantum.measured_state",
    "MeasuredOscillators": "quantum.measured_oscillators",
    "NudgeChoice": "core.budget",
    "MatrixProductGroundState": "quantum.mps",
    "MatrixProductState": "quantum.mps_state",
    "PureState": "quantum.states",
    "BilinearState": "quantum.states",
    "FermionState": "quantum.fermion_states",
    "OpenChainState": "quantum.fermion_states",
    "ThermalState": "quantum.thermal",
    "RelaxationOptions": "quantum.vmc_relax",
    "VariationalMonteCarlo": "quantum.vmc",
    "VariationalState": "quantum.vmc_state",
    "SampledThermalState": "quantum.sampled_state",
    "ThermalPureStates": "quantum.typicality",
}


class StorageError(ValueError):
    """A file is not one of ours, is damaged, or comes from a newer version."""


def write_atomically(path: str | os.PathLike[str], data: bytes, *, sync: bool = True) -> Path:
    """Put `data` at `path` so that no crash leaves a torn file.

    Without `sync` that holds for the crash of any process; a power failure may lose or tear the file until `sync_files`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    if sync:
        sync_files([target.parent])
    return target


def sync_files(paths: Iterable[Path]) -> None:
    """Have files and folders on the disk itself; those that are gone, or that a file system cannot open, are left out."""
    for path in paths:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def save(path: str | os.PathLike[str], result: Any) -> Path:
    """Save a result (gradient, check, equilibrium, history, parameters, or dicts and lists of these) to `path`.

    A checkpoint of a training is a dict of what it needs: parameters, the state of the optax optimizer, the last
    equilibrium, the seed. NetKet's `MCState` and `FullSumState` may be among them, with chains and random keys.

    Args:
        path: file name; `.npz` is appended where it is missing.
        result: what to save.

    Returns:
        The path written.

    Raises:
        TypeError: the result holds something that cannot be saved; nothing is written.

    Example:
        >>> import tempfile, numpy as np, qeqprop as qp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = qp.save(f"{folder}/params", {"J": np.ones(3)})
        ...     qp.load(path)
        {'J': array([1., 1., 1.])}
    """
    return write_atomically(_named(path), pack(result))


def _named(path: Any) -> Path:
    """The path of a file with the ending that they all have."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"Argument `path` must be the name of a file, but is {type(path).__name__}: it comes first.")
    target = Path(path)
    return target if target.suffix == ".npz" else target.with_name(target.name + ".npz")


def pack(result: Any) -> bytes:
    """The content of the file that `save` writes."""
    import io

    arrays: dict[str, np.ndarray] = {}
    document = {"format": "qeqprop", "schema": SCHEMA, "content": _encode(result, arrays)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, json=np.frombuffer(json.dumps(document).encode(), dtype=np.uint8), **arrays)
    return buffer.getvalue()


def load(path: str | os.PathLike[str]) -> Any:
    """Load what `save` wrote, to a path with or without `.npz`.

    Raises:
        FileNotFoundError: no such file. StorageError: not such a file, damaged, or of a newer schema.
    """
    path = path if os.path.exists(path) else _named(path)
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:  # NumPy leaves a damaged file open
            _check_sizes(file.zip)
            document = json.loads(file["json"].tobytes())
            if document["format"] != "qeqprop":
                raise KeyError("format")
            if document["schema"] > SCHEMA:
                raise StorageError(f"{path}: written by a newer qeqprop (schema {document['schema']} > {SCHEMA}).")
            return _decode(document["content"], file)
    except FileNotFoundError:
        raise
    except StorageError:
        raise
    except (
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        OSError,
        RuntimeError,
        OverflowError,
        zipfile.BadZipFile,
    ) as error:
        reason = (
            "it is no archive of arrays" if "pickle" in str(error) else error
        )  # NumPy tells how to load it unsafely
        raise StorageError(f"{path}: not a file that qeqprop.save wrote, or damaged ({reason}).") from error


def _check_sizes(archive: zipfile.ZipFile) -> None:
    """Refuse members that would unpack to more than the file holds, before any memory is taken for them."""
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{member.filename} is compressed")
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
            if dtype.hasobject or math.prod(shape) * dtype.itemsize > member.file_size:
                raise ValueError(f"{member.filename} announces {shape} numbers of {dtype}, which it does not hold")


def _encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Status):
        return {"status": value.name}
    if isinstance(value, complex) and not isinstance(value, np.generic):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, int | float) and not isinstance(value, np.generic):
        return value if isinstance(value, int) or np.isfinite(value) else {"float": repr(value)}
    if hasattr(value, "__array__") and not dataclasses.is_dataclass(value):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError(f"An array of dtype {array.dtype} cannot be saved.")
        name = f"array{len(arrays)}"
        arrays[name] = array
        return {"array": name}
    if isinstance(value, dict):
        return {"dict": [[_encode(key, arrays), _encode(item, arrays)] for key, item in value.items()]}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"optax": [_optax_name(type(value)), [_encode(item, arrays) for item in value]]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_encode(item, arrays) for item in value]}
    if isinstance(value, np.random.SeedSequence):
        return {"seed": [_encode(value.entropy, arrays), list(value.spawn_key), value.n_children_spawned]}
    if type(value).__name__ == "PauliSum":
        return {"pauli": str(value)}
    if type(value).__name__ in ("MCState", "FullSumState"):
        return {"netket": _encode(_saved_states().plain_state(value), arrays)}
    if type(value).__name__ in _CLASSES and dataclasses.is_dataclass(value):
        own = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        plain = value.to_storage() if hasattr(value, "to_storage") else own  # what is not plain data describes itself
        fields = {name: _encode(content, arrays) for name, content in plain.items()}
        return {"class": type(value).__name__, "fields": fields}
    raise TypeError(f"A {type(value).__name__} cannot be saved: {value!r}.")


def _decode(value: Any, arrays: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "class" in value:
        return _decode_module(value, arrays)
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "dict":
        return {_decode(key, arrays): _decode(item, arrays) for key, item in content}
    if kind in ("list", "tuple"):
        items = [_decode(item, arrays) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "pauli":
        return importlib.import_module(f"{__package__}.quantum.pauli").PauliSum.from_string(content)
    if kind == "netket":
        return _saved_states().restored_state(_decode(content, arrays))
    if kind == "optax":
        name, items = content
        return _optax_state(name)(*(_decode(item, arrays) for item in items))
    if kind == "seed":
        entropy, spawn_key, spawned = content
        return np.random.SeedSequence(entropy, spawn_key=tuple(spawn_key), n_children_spawned=spawned)
    simple = {"status": lambda name: Status[name], "complex": lambda pair: complex(*pair), "float": float}
    return simple[kind](content)


def _saved_states() -> Any:
    return importlib.import_module(f"{__package__}.quantum.vmc_saved")


def _optax_name(cls: type) -> str:
    """The name of a state of an optax optimizer; other named tuples would not be found again."""
    import optax

    if getattr(optax, cls.__name__, None) is not cls:
        raise TypeError(f"A {cls.__name__} cannot be saved: of named tuples only the states of optax are known.")
    return cls.__name__


def _optax_state(name: str) -> Any:
    import optax

    cls = getattr(optax, name, None)
    if not (isinstance(cls, type) and issubclass(cls, tuple)):
        raise StorageError(f"The optimizer state {name} is not known to the installed optax.")
    return cls


def _decode_module(value: dict[str, Any], arrays: Any) -> Any:
    name = value["class"]
    cls = getattr(importlib.import_module(f"{__package__}.{_CLASSES[name]}"), name)
    if hasattr(cls, "from_storage"):
        return cls.from_storage({field: _decode(content, arrays) for field, content in value["fields"].items()})
    made = object.__new__(cls)
    fields, found = {field.name: field for field in dataclasses.fields(cls)}, set(value["fields"])
    later = {name for name in set(fields) - found if _has_default(fields[name])}  # came after the file was written
    if set(fields) - later != found:
        raise StorageError(f"A saved {name} must have the fields {sorted(fields)}, but has {sorted(found)}.")
    for field, content in value["fields"].items():
        object.__setattr__(made, field, _decode(content, arrays))
    for field in later:
        make, default = fields[field].default_factory, fields[field].default
        object.__setattr__(made, field, default if make is dataclasses.MISSING else make())
    return made


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING

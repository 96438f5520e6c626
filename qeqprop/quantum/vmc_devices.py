"""Samples in chunks that fit into the memory, shared out over the devices of NetKet's mesh."""

from collections.abc import Callable
from typing import Any

from ..core.memory import available_memory
from ..core.precision import jax_float64

AXIS = "S"
"""The axis of NetKet's mesh along which samples lie."""
SHARE = 0.1
"""Of the free memory that one chunk may take."""


def chunk_size(numbers: int, most: int, budget: int | None = None) -> int:
    """Samples to be treated at a time: a power of two, so that the size seldom changes and with it compiled code.

    Args:
        numbers: float64 numbers that the work holds for one sample.
        most: numbers that are worth being held for a chunk, however much memory there is.
        budget: bytes; None: a tenth of what is free.

    Example:
        >>> chunk_size(1000, 1 << 20), chunk_size(1000, 1 << 20, budget=100_000)
        (1024, 8)
    """
    budget = int(SHARE * available_memory()) if budget is None else budget
    held = min(most, budget // 8)
    return 1 << max(held // max(numbers, 1), 1).bit_length() - 1


def on_every_process(array: Any) -> Any:
    """Samples that processes joined by `jax.distributed` share out, all of them on every one; others as they are."""
    jax = jax_float64()
    if jax.process_count() == 1:
        return array
    from jax.experimental.multihost_utils import process_allgather

    return process_allgather(array, tiled=True)


def sample_map(function: Callable[[Any], Any], sigma: Any, chunk: int) -> Any:
    """`function` of every sample (the leading axis), `chunk` at a time on every device; for use within `jax.jit`.

    On several devices every one maps its share of the samples; the results stay where they were made, and a product over
    samples (a Gram matrix) is reduced by the compiler.
    """
    jax = jax_float64()
    jnp = jax.numpy
    mesh = jax.sharding.get_abstract_mesh()
    devices = dict(mesh.shape).get(AXIS, 1)

    def over_chunks(part: Any) -> Any:
        return jax.lax.map(function, part, batch_size=min(chunk, len(part)))

    if devices == 1:
        return over_chunks(sigma)
    count = len(sigma)
    filled = jnp.concatenate([sigma, jnp.broadcast_to(sigma[-1:], (-count % devices, *sigma.shape[1:]))])
    along = jax.sharding.PartitionSpec(AXIS)
    mapped = jax.shard_map(over_chunks, mesh=mesh, in_specs=along, out_specs=along, check_vma=False)(filled)
    if jax.process_count() > 1:  # a process can read no others' share
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        mapped = jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, everywhere), mapped)
    return jax.tree.map(lambda leaf: leaf[:count], mapped)

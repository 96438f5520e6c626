"""How much memory is there, and does a piece of work fit? Asked before anything is allocated."""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_CGROUP_USAGE = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")

_budget: ContextVar[int | None] = ContextVar("budget", default=None)


def available_memory() -> int:
    """Bytes that can be allocated now: free RAM, what the container's limit leaves, or the budget, whichever is least."""
    budget, free = _budget.get(), _free_ram()
    free = free if budget is None else min(free, budget)
    for limit_file, usage_file in zip(_CGROUP_LIMITS, _CGROUP_USAGE, strict=True):
        limit, usage = _read_number(limit_file), _read_number(usage_file)
        if limit is not None and usage is not None:
            free = min(free, max(limit - usage, 0))
    return free


@contextlib.contextmanager
def memory_budget(count: int | None) -> Iterator[None]:
    """`available_memory` is no more than `count` bytes within the block; None: no budget.

    Example:
        >>> with memory_budget(1000):
        ...     available_memory()
        1000
    """
    token = _budget.set(count)
    try:
        yield
    finally:
        _budget.reset(token)


def container_limit() -> int | None:
    """The memory limit of the container in bytes; None where there is none."""
    limits = [limit for path in _CGROUP_LIMITS if (limit := _read_number(path)) is not None]
    # control groups of version 1 write "no limit" as a number near 2^63
    return min(limits) if limits and min(limits) < 1 << 60 else None


def _free_ram() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 4 * 1024**3  # a system that tells nothing: assume a small laptop


def _read_number(path: str) -> int | None:
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def format_bytes(count: float) -> str:
    """`1536` -> `'1.5 KiB'`.

    Example:
        >>> format_bytes(8 * 2**20)
        '8.0 MiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def check_memory(needed: int, what: str, advice: str, limit: int | None = None) -> None:
    """Refuse work that does not fit.

    Raises:
        MemoryError: `needed` bytes are more than `limit`, or than 90 % of what is available.
    """
    most = int(0.9 * available_memory()) if limit is None else limit
    if needed > most:
        raise MemoryError(f"{what} needs {format_bytes(needed)}, but only {format_bytes(most)} may be used. {advice}")

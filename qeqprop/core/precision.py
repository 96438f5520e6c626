"""Double precision for JAX, switched on at first use and never at import.

In single precision the equilibrium-propagation gradient gets *worse* as the nudge falls: the difference of two forces
loses log10(1/beta) of its seven digits. So every code path of qeqprop that calls JAX goes through `jax_float64`.
"""

import os
from types import ModuleType

_OFF = {"0", "f", "false", "n", "no", "off"}


class PrecisionError(RuntimeError):
    """JAX's 64-bit mode was forbidden, and an equilibrium-propagation gradient needs it."""


def jax_float64() -> ModuleType:
    """Return the module `jax` with 64-bit mode on.

    Raises:
        PrecisionError: if the environment says `JAX_ENABLE_X64=0`.
    """
    import jax

    if not jax.config.read("jax_enable_x64"):
        if os.environ.get("JAX_ENABLE_X64", "").strip().lower() in _OFF:
            raise PrecisionError(
                "qeqprop needs JAX's 64-bit mode, but JAX_ENABLE_X64=0 forbids it. In float32 the difference of nudged "
                "forces loses all its digits as beta falls. Unset JAX_ENABLE_X64 or set it to 1."
            )
        jax.config.update("jax_enable_x64", True)
    return jax

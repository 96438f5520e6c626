r"""Eight-wide float64 vectors for Numba kernels over the amplitudes of a spin state.

Amplitudes are handled in *tiles* of 32 contiguous numbers, i.e. four vectors in registers. For an index
``s = 32 k + 8 r + l`` (tile k, register r = 0..3, lane l = 0..7) flipping a spin is

- bits 0, 1, 2 of s: a constant permutation of the lanes (`flip_lanes`);
- bits 3, 4: an exchange of registers (written out by the caller, it costs nothing);
- bits 5 and above: the same register of another tile (a load at ``s ^ (1 << b)``).

Numba's own vectoriser cannot be relied on for these patterns, so the few primitives needed are written as LLVM
instructions on ``<8 x double>``. LLVM splits them into whatever the processor has (8, 4 or 2 lanes): nothing here
depends on the instruction set. Loads and stores need only the alignment of a float64.

A `Float64x8` lives inside compiled code; it cannot be passed to or from Python.
"""

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue, TypingError
from numba.extending import intrinsic, models, register_model

from .compiled import drop_stale_code

drop_stale_code()  # every kernel imports this file first

LANES = 8
TILE = 32
TILE_BITS = 5

FASTMATH = {"reassoc", "contract", "nsz"}
"""Allowed rewrites: sums may be reordered and fused, but NaN and infinity keep their meaning."""


class Float64x8(types.Type):
    """Numba type of eight float64 in one register."""

    def __init__(self) -> None:
        super().__init__(name="Float64x8")


float64x8 = Float64x8()
_INT32 = ir.IntType(32)
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_UNDEFINED = ir.Constant(_VECTOR, ir.Undefined)
_FUSE = ("contract", "reassoc", "nsz")


@register_model(Float64x8)
class _Float64x8Model(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _VECTOR)


def _lanes(order: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_INT32, LANES), order)


def _permute(builder: Any, vector: Any, mask: int) -> Any:
    return builder.shuffle_vector(vector, _UNDEFINED, _lanes([lane ^ mask for lane in range(LANES)]))


def _require_vector_storage(array: Any) -> None:
    """Addresses are computed from the data pointer alone: refuse every array for which that would be wrong."""
    if not (
        isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C" and array.dtype == types.float64
    ):
        raise TypingError(f"Argument `array` must be a contiguous 1-D float64 array, but is {array}.")


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic
def load(typing_context, array, index):  # type: ignore[no-untyped-def]
    """The vector array[index : index + 8]; no bounds check."""
    _require_vector_storage(array)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *args), align=8)

    return float64x8(array, types.intp), generate


@intrinsic
def store(typing_context, array, index, vector):  # type: ignore[no-untyped-def]
    """array[index : index + 8] = vector; no bounds check."""
    _require_vector_storage(array)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, signature.args[0], args[0], args[1]), align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, float64x8), generate


@intrinsic
def prefetch(typing_context, array, index):  # type: ignore[no-untyped-def]
    """Ask for the cache line of array[index]; harmless outside the array. Hardware does not foresee high-bit flips."""
    _require_vector_storage(array)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte_pointer = ir.IntType(8).as_pointer()
        function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        pointer = builder.bitcast(_address(context, builder, signature.args[0], *args), byte_pointer)
        read, keep, data = _INT32(0), _INT32(3), _INT32(1)
        builder.call(function, [pointer, read, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def splat(typing_context, scalar):  # type: ignore[no-untyped-def]
    """The vector with all eight lanes equal to scalar."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = builder.insert_element(_UNDEFINED, args[0], _INT32(0))
        return builder.shuffle_vector(first, _UNDEFINED, _lanes([0] * LANES))

    return float64x8(types.float64), generate


@intrinsic
def add(typing_context, a, b):  # type: ignore[no-untyped-def]
    """a + b."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args, flags=_FUSE)

    return float64x8(float64x8, float64x8), generate


@intrinsic
def mul(typing_context, a, b):  # type: ignore[no-untyped-def]
    """a * b."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(*args, flags=_FUSE)

    return float64x8(float64x8, float64x8), generate


@intrinsic
def fma(typing_context, a, b, c):  # type: ignore[no-untyped-def]
    """a * b + c, fused where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(builder.fmul(args[0], args[1], flags=_FUSE), args[2], flags=_FUSE)

    return float64x8(float64x8, float64x8, float64x8), generate


@intrinsic(prefer_literal=True)
def flip_lanes(typing_context, vector, mask):  # type: ignore[no-untyped-def]
    """Lane l of the result is lane l ^ mask of the vector; mask is a literal 0..7."""
    if not isinstance(mask, types.IntegerLiteral):
        raise RequireLiteralValue("Argument `mask` must be a literal integer.")
    constant = mask.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _permute(builder, args[0], constant)

    return float64x8(float64x8, mask), generate


@intrinsic
def total(typing_context, vector):  # type: ignore[no-untyped-def]
    """The sum of the eight lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = args[0]
        for mask in (4, 2, 1):
            vector = builder.fadd(vector, _permute(builder, vector, mask), flags=_FUSE)
        return builder.extract_element(vector, _INT32(0))

    return types.float64(float64x8), generate


@intrinsic
def with_parity_sign(typing_context, value, word):  # type: ignore[no-untyped-def]
    """value * (-1)^popcount(word): the sign of a Z string, without a branch or a multiplication."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = ir.IntType(64)
        sign = builder.shl(builder.ctpop(args[1]), bits(63))
        return builder.bitcast(builder.xor(builder.bitcast(args[0], bits), sign), ir.DoubleType())

    return types.float64(types.float64, types.int64), generate


@numba.njit(forceinline=True, fastmath=FASTMATH)
def permute_tile(a, b, c, d, mask):  # type: ignore[no-untyped-def]
    """The tile (a, b, c, d) with amplitude u moved to u ^ mask, 0 <= mask < 32 known only at run time."""
    if mask & 1:
        a, b, c, d = flip_lanes(a, 1), flip_lanes(b, 1), flip_lanes(c, 1), flip_lanes(d, 1)
    if mask & 2:
        a, b, c, d = flip_lanes(a, 2), flip_lanes(b, 2), flip_lanes(c, 2), flip_lanes(d, 2)
    if mask & 4:
        a, b, c, d = flip_lanes(a, 4), flip_lanes(b, 4), flip_lanes(c, 4), flip_lanes(d, 4)
    if mask & 8:
        a, b, c, d = b, a, d, c
    if mask & 16:
        a, b, c, d = c, d, a, b
    return a, b, c, d

"""Vectors of 16 floats for compiled functions: load, compute, store. Knows no model.

LLVM lowers them to what the machine has: one AVX-512 register, two of AVX2, four of SSE or NEON.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from agentkit.inference.quantized import GROUP

LANES = 16

inner = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Compiles a function that compiled functions alone call: what others would need takes time to compile."""

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_BFLOAT16 = types.int16  # numba knows no bfloat16: its bits come as an int16

PREFETCHED_BYTES = 4096
"""How far ahead of the weights in use memory is asked for: without it, int8 takes twice the time."""

_CACHE_LINE = 64

# exp(x) = 2**n * exp(r) with |r| <= ln(2) / 2; a Taylor series of exp(r) is exact to a float's last bits there.
_EXPONENTS = (-87.0, 88.0)
_EXP_SERIES = [1 / math.factorial(power) for power in range(7, -1, -1)]
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # their sum is ln(2), the first has few bits


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name="Vector16")


VECTOR = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


@intrinsic
def zeros(typing: Any) -> Any:
    """Return a vector of zeros."""
    return VECTOR(), lambda context, builder, signature, arguments: _all(0.0)


@intrinsic
def splat(typing: Any, value: Any) -> Any:
    """Return a vector of equal values."""
    return VECTOR(types.float32), lambda context, builder, signature, arguments: _splat(builder, *arguments)


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Read 16 floats or bfloat16 of a row, from an index tuple on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _widen(builder, _pointer(context, builder, signature.args, arguments), array.dtype)

    return VECTOR(array, index), generate


@intrinsic
def add_products(typing: Any, sums: Any, array: Any, scales: Any, index: Any, low: Any, high: Any) -> Any:
    """Add to `sums` the products of 32 weights, from an index tuple on, with the vectors `low` and `high`.

    int8 weights are a group: they are multiplied by its scale. The others have none.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, values, scale_values, position, low, high = arguments
        pointer = _pointer(context, builder, (array, index), (values, position))
        first = _widen(builder, pointer, array.dtype)
        second = _widen(builder, builder.gep(pointer, [_INT(LANES)]), array.dtype)
        if array.dtype != types.int8:
            sums = _call(builder, "llvm.fmuladd", first, low, sums)
            return _call(builder, "llvm.fmuladd", second, high, sums)
        products = _call(builder, "llvm.fmuladd", second, high, builder.fmul(first, low))
        last = len(index) - 1
        column = builder.extract_value(position, last)
        group = builder.lshr(column, ir.Constant(column.type, GROUP.bit_length() - 1))
        position = builder.insert_value(position, group, last)
        scale = builder.load(_pointer(context, builder, (scales, index), (scale_values, position)))
        return _call(builder, "llvm.fmuladd", _splat(builder, scale), products, sums)

    return VECTOR(sums, array, scales, index, low, high), generate


@intrinsic
def prefetch(typing: Any, array: Any, index: Any, ahead: Any) -> Any:
    """Have the memory read that comes so many bytes behind 32 numbers, as far as it holds as many."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        start = builder.bitcast(_pointer(context, builder, signature.args, arguments), byte)
        start = builder.gep(start, [context.cast(builder, arguments[2], ahead, types.int64)])
        kind = ir.FunctionType(ir.VoidType(), [byte, _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        for offset in range(0, 2 * LANES * array.dtype.bitwidth // 8, _CACHE_LINE):
            address = builder.gep(start, [_INT(offset)])
            builder.call(function, [address, _INT(0), _INT(3), _INT(1)])  # to read, into all caches, data
        return context.get_dummy_value()

    return types.void(array, index, types.int64), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write 16 floats into a row from an index tuple on, rounded where it holds bfloat16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args, arguments)
        content = _rounded(builder, arguments[2]) if array.dtype == _BFLOAT16 else arguments[2]
        builder.store(content, builder.bitcast(pointer, content.type.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(array, index, VECTOR), generate


@intrinsic
def add(typing: Any, left: Any, right: Any) -> Any:
    """Return left + right."""
    return VECTOR(left, right), lambda context, builder, signature, arguments: builder.fadd(*arguments)


@intrinsic
def multiply(typing: Any, left: Any, right: Any) -> Any:
    """Return left * right."""
    return VECTOR(left, right), lambda context, builder, signature, arguments: builder.fmul(*arguments)


@intrinsic
def divide(typing: Any, left: Any, right: Any) -> Any:
    """Return left / right."""
    return VECTOR(left, right), lambda context, builder, signature, arguments: builder.fdiv(*arguments)


@intrinsic
def fma(typing: Any, left: Any, right: Any, addend: Any) -> Any:
    """Return left * right + addend, in one instruction where the machine has it."""
    return VECTOR(left, right, addend), (
        lambda context, builder, signature, arguments: _call(builder, "llvm.fmuladd", *arguments)
    )


@intrinsic
def exp(typing: Any, exponent: Any) -> Any:
    """Return e to the exponent; what is below -87 or above 88 counts as that."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = _call(builder, "llvm.maxnum", arguments[0], _all(_EXPONENTS[0]))
        value = _call(builder, "llvm.minnum", value, _all(_EXPONENTS[1]))
        twos = _call(builder, "llvm.rint", builder.fmul(value, _all(1 / math.log(2))))
        rest = _call(builder, "llvm.fmuladd", twos, _all(-_LN2_HIGH), value)
        rest = _call(builder, "llvm.fmuladd", twos, _all(-_LN2_LOW), rest)
        series: Any = _all(_EXP_SERIES[0])
        for coefficient in _EXP_SERIES[1:]:
            series = _call(builder, "llvm.fmuladd", series, rest, _all(coefficient))
        exponent_bits = builder.shl(builder.fptosi(twos, _INTS), _all_int(23))
        return builder.bitcast(builder.add(builder.bitcast(series, _INTS), exponent_bits), _FLOATS)

    return VECTOR(exponent), generate


@intrinsic
def total(typing: Any, vector: Any) -> Any:
    """Return the sum of the 16, added by halves."""
    return types.float32(vector), (
        lambda context, builder, signature, arguments: _fold(builder, arguments[0], builder.fadd)
    )


@intrinsic
def totals(typing: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return the sums of four vectors, each added by halves, for little more than one."""
    result = types.UniTuple(types.float32, 4)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vectors = list(arguments)
        width = LANES // 2
        while len(vectors) > 1:
            vectors = [
                _folded_together(builder, one, other, width)
                for one, other in zip(vectors[::2], vectors[1::2], strict=True)
            ]
            width //= 2
        quarters = vectors[0]
        while width:
            swapped = [lane ^ width for lane in range(LANES)]
            quarters = builder.fadd(quarters, _shuffled(builder, quarters, quarters, swapped))
            width //= 2
        sums = [builder.extract_element(quarters, _INT(lane)) for lane in (0, 8, 4, 12)]
        return context.make_tuple(builder, result, sums)

    return result(a, b, c, d), generate


@intrinsic
def larger(typing: Any, left: Any, right: Any) -> Any:
    """Return the larger one of left and right, each lane for itself."""
    return VECTOR(left, right), (
        lambda context, builder, signature, arguments: _call(builder, "llvm.maxnum", *arguments)
    )


@intrinsic
def largest(typing: Any, vector: Any) -> Any:
    """Return the largest of the 16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _fold(builder, arguments[0], lambda left, right: _call(builder, "llvm.maxnum", left, right))

    return types.float32(vector), generate


@intrinsic
def count_up(typing: Any, counters: Any, index: Any) -> Any:
    """Add one to a number of an int64 array, seen by all threads, and return what it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args, arguments)
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(counters, index), generate


@intrinsic
def count(typing: Any, counters: Any, index: Any) -> Any:
    """Return a number of an int64 array as all threads have left it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_pointer(context, builder, signature.args, arguments), "seq_cst", 8)

    return types.int64(counters, index), generate


def _pointer(context: Any, builder: Any, kinds: Sequence[Any], values: Sequence[Any]) -> Any:
    """Return the address of array[index], where the first two kinds and values are those of array and index."""
    (array_kind, index_kind), (value, index) = kinds[:2], values[:2]
    array = context.make_array(array_kind)(context, builder, value)
    positions = [
        context.cast(builder, position, kind, types.intp)
        for position, kind in zip(cgutils.unpack_tuple(builder, index), index_kind, strict=True)
    ]
    return cgutils.get_item_pointer(context, builder, array_kind, array, positions)


def _widen(builder: Any, pointer: Any, dtype: Any) -> Any:
    element = {types.float32: _FLOAT, types.int8: ir.IntType(8), _BFLOAT16: ir.IntType(16)}[dtype]
    content = builder.load(builder.bitcast(pointer, ir.VectorType(element, LANES).as_pointer()), align=1)
    if dtype == types.int8:
        return builder.sitofp(content, _FLOATS)
    if dtype == _BFLOAT16:
        return builder.bitcast(builder.shl(builder.zext(content, _INTS), _all_int(16)), _FLOATS)
    return content


def _rounded(builder: Any, floats: Any) -> Any:
    """Return the nearest bfloat16, the even one of two."""
    bits = builder.bitcast(floats, _INTS)
    odd = builder.and_(builder.lshr(bits, _all_int(16)), _all_int(1))
    rounded = builder.add(bits, builder.add(odd, _all_int(0x7FFF)))
    return builder.trunc(builder.lshr(rounded, _all_int(16)), ir.VectorType(ir.IntType(16), LANES))


def _fold(builder: Any, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
    undefined = ir.Constant(_FLOATS, ir.Undefined)
    width = LANES
    while width > 1:
        width //= 2
        other = [*range(width, 2 * width), *[0] * (LANES - width)]
        vector = combine(vector, _shuffled(builder, vector, undefined, other))
    return builder.extract_element(vector, _INT(0))


def _folded_together(builder: Any, one: Any, other: Any, width: int) -> Any:
    """Return blocks of 2 * width: the sums of one's two halves, then those of the other's."""
    blocks = range(0, LANES, 2 * width)
    lower = [lane + lanes for start in blocks for lanes in (0, LANES) for lane in range(start, start + width)]
    upper = [lane + width for lane in lower]
    return builder.fadd(_shuffled(builder, one, other, lower), _shuffled(builder, one, other, upper))


def _shuffled(builder: Any, one: Any, other: Any, lanes: Sequence[int]) -> Any:
    """Return so many lanes of two vectors; those of the other one count from 16 on."""
    return builder.shuffle_vector(one, other, ir.Constant(_INTS, list(lanes)))


def _splat(builder: Any, value: Any) -> Any:
    undefined = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(undefined, value, _INT(0))
    return builder.shuffle_vector(first, undefined, _all_int(0))


def _call(builder: Any, name: str, *vectors: Any) -> Any:
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * len(vectors))
    function = cgutils.get_or_insert_function(builder.module, kind, f"{name}.v{LANES}f32")
    return builder.call(function, vectors)


def _all(value: float) -> Any:
    return ir.Constant(_FLOATS, [value] * LANES)


def _all_int(value: int) -> Any:
    return ir.Constant(_INTS, [value] * LANES)

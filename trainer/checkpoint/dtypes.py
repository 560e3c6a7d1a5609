"""Element types: their name here, their size, and what a safetensors header calls them."""

from __future__ import annotations

from typing import NamedTuple


class ElementType(NamedTuple):
    """`size` in bytes; `tag` as in safetensors, or None where that format has no word for it."""

    size: int
    tag: str | None


ELEMENT_TYPES = {
    "bool": ElementType(1, "BOOL"),
    "uint8": ElementType(1, "U8"),
    "int8": ElementType(1, "I8"),
    "uint16": ElementType(2, "U16"),
    "int16": ElementType(2, "I16"),
    "uint32": ElementType(4, "U32"),
    "int32": ElementType(4, "I32"),
    "uint64": ElementType(8, "U64"),
    "int64": ElementType(8, "I64"),
    "float8_e4m3fn": ElementType(1, "F8_E4M3"),
    "float8_e5m2": ElementType(1, "F8_E5M2"),
    "float8_e8m0fnu": ElementType(1, "F8_E8M0"),
    "float8_e4m3fnuz": ElementType(1, None),
    "float8_e5m2fnuz": ElementType(1, None),
    "float4_e2m1fn_x2": ElementType(1, None),
    "float16": ElementType(2, "F16"),
    "bfloat16": ElementType(2, "BF16"),
    "float32": ElementType(4, "F32"),
    "float64": ElementType(8, "F64"),
    "complex32": ElementType(4, None),
    "complex64": ElementType(8, "C64"),
    "complex128": ElementType(16, None),
}
NAME_OF_TAG = {kind.tag: name for name, kind in ELEMENT_TYPES.items() if kind.tag is not None}

"""What an index is given: codes, ids, metadata, weights; checked once, the same for every backend."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..codes import check_packed, to_numpy

if TYPE_CHECKING:  # who has no tensors needs no torch
    import torch

ArrayLike: TypeAlias = Union[np.ndarray, "torch.Tensor", Sequence[Any]]
Metadata: TypeAlias = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]] | pa.Table
Weights: TypeAlias = Union[Sequence[float], Mapping[int, float], np.ndarray, "torch.Tensor"]

NAMES_IN_MESSAGE = 5


def as_codes(codes: ArrayLike, num_bits: int) -> np.ndarray:
    """Packed codes as contiguous uint8 `(n, ceil(num_bits / 8))`.

    Raises:
        ValueError: if they are of another type, shape or width, or unused bits of the last byte are set.
    """
    array = codes if isinstance(codes, np.ndarray) else to_numpy(codes)
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] * 8 - num_bits not in range(8):
        check_packed(array, num_bits)
        raise ValueError(
            f"codes must be of shape (n, {-(-num_bits // 8)}), got {array.shape}; for one code: code[None]"
        )
    unused = (1 << (-num_bits % 8)) - 1
    if unused and (array[:, -1] & unused).any():
        raise ValueError(
            f"codes of {num_bits} bits leave the last {-num_bits % 8} bits of the last byte unset, and here some are "
            "set: are these the codes of another model?"
        )
    return np.ascontiguousarray(array)


def as_ids(ids: ArrayLike | pa.Array | None, length: int | None = None) -> pa.Array | None:
    """Ids as an arrow array of int64 or large_string, without a repetition where they are new (`length` is given).

    Raises:
        ValueError: if they are neither integers nor strings, repeated, or not `length` many.
    """
    if ids is None:
        return None
    array = _to_arrow(ids)
    if length is None:
        return array
    if len(array) != length:
        raise ValueError(f"ids are one per code: {length} codes, got {len(array)} ids")
    if pa.types.is_integer(array.type) and bool((np.diff(array.to_numpy()) > 0).all()):
        return array  # the usual numbers, without the counting
    counts = pc.value_counts(array)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(repeated):
        raise ValueError(f"ids must be distinct, {name_some(repeated)} given more than once")
    return array


def as_table(metadata: Metadata | None, length: int) -> pa.Table | None:
    """Metadata as an arrow table of `length` rows.

    Raises:
        ValueError: if it has another length, values of one column do not go together, or a column is called "id".
    """
    if metadata is None:
        return None
    if not isinstance(metadata, pa.Table) and not len(metadata):
        metadata = []
    try:
        if isinstance(metadata, pa.Table):
            table = metadata
        elif isinstance(metadata, Mapping):
            table = pa.table({str(name): column for name, column in metadata.items()})
        else:
            rows = [{str(name): value for name, value in row.items()} for row in metadata]
            names = dict.fromkeys(name for row in rows for name in row)
            if not names and len(rows) in (0, length):
                return None
            table = pa.table({name: [row.get(name) for row in rows] for name in names})
    except (pa.ArrowException, AttributeError, TypeError, UnicodeEncodeError) as error:
        raise ValueError(f"metadata is a list of dicts, a dict of columns or a pyarrow Table: {error}") from None
    if (num_rows := table.num_rows if table.num_columns else len(metadata)) != length:
        raise ValueError(f"metadata has a row per code: {length} codes, got {num_rows} rows")
    if len(set(table.column_names)) < table.num_columns:
        raise ValueError(f"metadata has a column twice: {', '.join(table.column_names)}")
    if "id" in table.column_names:
        raise ValueError('metadata has a column "id": ids are given as `ids`, rename the column')
    return table


def as_concept_weights(weights: Weights, num_bits: int, num_concepts: int) -> np.ndarray:
    """Weights as float64 `(num_concepts,)`.

    Raises:
        ValueError: if a concept is unknown, or weights are negative, not finite, all zero, not one per concept, or so
            large that the distance of opposite codes is not finite.
    """
    if isinstance(weights, Mapping):
        unknown = [concept for concept in weights if concept not in range(num_concepts)]
        if unknown:
            raise ValueError(f"concepts are numbered 0 to {num_concepts - 1}, got {name_some(unknown)}")
        weights = [weights.get(concept, 0.0) for concept in range(num_concepts)]
    try:
        array = to_numpy(weights).astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"concept_weights are {num_concepts} numbers, got {weights!r}") from None
    if array.shape != (num_concepts,):
        raise ValueError(
            f"concept_weights are {num_concepts} numbers, one per concept, got shape {array.shape}; "
            "to name some concepts only, give a dict from concept to weight"
        )
    if not np.isfinite(array).all() or (array < 0).any() or not array.any():
        raise ValueError(f"concept_weights are finite, not negative and not all zero, got {array.tolist()}")
    if not math.isfinite(sum(array.tolist()) * (num_bits // num_concepts)):
        raise ValueError(
            f"concept_weights are so large that their sum over {num_bits} bits is not finite, got {array.tolist()}: "
            "only their ratios matter to the order, divide them by the largest"
        )
    return array


def as_logits(code_logits: ArrayLike, num_bits: int) -> np.ndarray:
    """Code logits as float64 `(n, num_bits)`.

    Raises:
        ValueError: if they are no finite numbers of that shape, or are bits.
    """
    if _is_tensor(code_logits) and code_logits.is_floating_point():  # type: ignore[union-attr]
        code_logits = code_logits.detach().cpu().double()  # type: ignore[union-attr]  # numpy knows no bfloat16
    array = to_numpy(code_logits)
    if array.dtype.kind != "f" or array.ndim != 2 or array.shape[1] != num_bits:
        raise ValueError(
            f"code logits are floating point of shape (n, {num_bits}), the `code_logits` of a model's output; got "
            f"{array.dtype} of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError("code logits must be finite, some are infinite or NaN")
    return array.astype(np.float64)


def check_k(k: int, length: int) -> None:
    """Refuse a number of neighbours that the index cannot give.

    Raises:
        ValueError: if the index is empty, or k is no integer from 1 to `length`.
    """
    if length == 0:
        raise ValueError("there is nothing to search among: the index is empty, or no item has what was asked for")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= length:
        raise ValueError(f"k is a number of items from 1 to the {length} of the index, got {k!r}")


def check_radius(radius: int) -> int:
    """Refuse what cannot be a Hamming radius.

    Raises:
        ValueError: if it is no integer from 0.
    """
    if isinstance(radius, bool) or not isinstance(radius, int | np.integer) or radius < 0:
        raise ValueError(f"a radius is a number of bits, an integer from 0; got {radius!r}")
    return int(radius)


def _is_tensor(values: Any) -> bool:
    return hasattr(values, "detach")


def name_some(values: Any) -> str:
    """The first few values, for a message."""
    listed = values.to_pylist() if isinstance(values, pa.Array) else list(values)
    more = len(listed) - NAMES_IN_MESSAGE
    return ", ".join(map(repr, listed[:NAMES_IN_MESSAGE])) + (f" and {more} more" if more > 0 else "")


def _to_arrow(ids: Any) -> pa.Array:
    values = to_numpy(ids) if _is_tensor(ids) else ids  # of a list, arrow tells the kind better
    if isinstance(values, str | bytes | Mapping):
        raise ValueError(f"ids are integers or strings, a list or an array of them; got {values!r}")
    try:
        if isinstance(values, np.ndarray) and values.dtype.kind in "UT":
            values = values.tolist()
        array = values if isinstance(values, pa.Array) else pa.array(values)
        if len(array) == 0:
            return array.cast(pa.int64()) if pa.types.is_integer(array.type) else pa.array([], pa.int64())
        if pa.types.is_integer(array.type):
            array = array.cast(pa.int64())
        elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            array = array.cast(pa.large_string())
        else:
            raise ValueError(f"ids are integers (int64) or strings, got {array.type}")
    except (pa.ArrowException, TypeError, UnicodeEncodeError, OverflowError) as error:
        raise ValueError(f"ids are integers (int64) or strings, all of one kind: {error}") from None
    if array.null_count:
        raise ValueError(f"every item needs an id, {array.null_count} of {len(array)} are None")
    return array

"""The ids and the metadata of the items, by position."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .inputs import as_ids, name_some

FEW = 1000  # ids that are found faster one by one


def _no_rows() -> pa.Table:
    return pa.table({"id": pa.array([], pa.int64())})


@dataclass(frozen=True)
class Rows:
    """An arrow table that is never changed: adding and removing give a new one, sharing memory.

    Attributes:
        table: the column `id` (int64 or large_string), then the metadata.
    """

    table: pa.Table = field(default_factory=_no_rows)

    @classmethod
    def checked(cls, table: pa.Table) -> "Rows":
        """Take over a table that a stranger may have written.

        Raises:
            ValueError: if its ids are not those of an index, or columns have the same name.
        """
        names = table.column_names
        if names.count("id") != 1 or len(set(names)) < len(names):
            raise ValueError(f"its rows have the columns {name_some(names)}, expected one 'id' and distinct others")
        ids = as_ids(table["id"].combine_chunks(), len(table))
        return cls(pa.table({"id": ids, **{name: table[name] for name in names if name != "id"}}))

    @classmethod
    def together(cls, parts: Sequence["Rows"]) -> "Rows":
        """The rows of several, one after the other, with the columns that all of them have."""
        tables = [part.table for part in parts if len(part)]
        if not tables:
            return cls()
        names = [column.name for column in tables[0].schema if all(column in [*table.schema] for table in tables)]
        return cls(pa.concat_tables([table.select(names) for table in tables]))

    def __len__(self) -> int:
        return self.table.num_rows

    @cached_property
    def ids(self) -> np.ndarray:
        """int64 or strings (object) `(n,)`."""
        return self._id_array.to_numpy(zero_copy_only=False)

    @cached_property
    def _id_array(self) -> pa.Array:
        column = self.table["id"]
        if column.num_chunks == 1:
            return column.chunk(0)
        combined = column.combine_chunks()
        # in the place of its chunks, so as not to keep both
        object.__setattr__(self, "table", self.table.set_column(0, "id", combined))
        return combined

    def ids_at(self, positions: np.ndarray) -> np.ndarray:
        """The ids of items, in the shape of `positions`."""
        if self.ids.dtype != object:
            return self.ids[positions]
        taken = self._id_array.take(pa.array(positions.ravel()))
        return taken.to_numpy(zero_copy_only=False).reshape(positions.shape)

    def metadata_at(self, positions: np.ndarray) -> list[dict[str, Any]]:
        """The metadata rows of items, `positions` of shape `(n,)`."""
        if self.table.num_columns == 1:
            return [{} for _ in positions]
        return self.table.drop_columns(["id"]).take(pa.array(positions)).to_pylist()

    def positions_of(self, ids: pa.Array) -> np.ndarray:
        """The positions of ids, int64 `(n,)`.

        Raises:
            ValueError: if one is not there, or they are of another kind.
        """
        if len(ids) == 0:
            return np.empty(0, dtype=np.int64)
        self._check_kind(ids)
        positions = self._find(ids)
        if (unknown := positions < 0).any():
            raise ValueError(f"not in the index: {name_some(ids.filter(pa.array(unknown)).unique())}")
        return positions

    def has(self, ids: pa.Array) -> np.ndarray:
        """Which of some ids are there, bool `(n,)`."""
        if ids.type != self.table["id"].type:
            return np.zeros(len(ids), dtype=bool)
        return self._find(ids) >= 0

    def _find(self, ids: pa.Array) -> np.ndarray:
        """The positions of ids of our kind, -1 where one is not there."""
        if "by_id" in self.__dict__ and len(ids) <= FEW:
            return np.array([self._find_one(id) for id in ids.to_pylist()], dtype=np.int64)
        wanted = ids.dictionary_encode()
        # looked up the other way round, which needs no table of all ids
        match = pc.index_in(self.table["id"], value_set=wanted.dictionary).fill_null(-1).to_numpy()
        found = np.flatnonzero(match >= 0)
        positions = np.full(len(wanted.dictionary), -1)
        positions[match[found]] = found
        return positions[wanted.indices.to_numpy()]

    def _find_one(self, id: int | str) -> int:
        place = bisect_left(self.by_id, id, key=lambda position: self._id_array[int(position)].as_py())
        position = int(self.by_id[place]) if place < len(self) else -1
        return position if position >= 0 and self._id_array[position].as_py() == id else -1

    @cached_property
    def by_id(self) -> np.ndarray:
        """The positions in order of their ids, int64 `(n,)`; once there, looking up a few ids takes no scan of all."""
        return pc.sort_indices(self._id_array).to_numpy().astype(np.int64)

    def positions_where(self, values: Mapping[str, Any]) -> np.ndarray:
        """The positions of the items whose metadata has these values, int64 `(n,)`; None is where there is none.

        Raises:
            ValueError: if there is no such column, or its values are of another kind.
        """
        found = np.ones(len(self), dtype=bool)
        for name, value in values.items():
            column = self._column(name)
            if value is None:
                found &= column.is_null().to_numpy(zero_copy_only=False)
            elif isinstance(value, list) and not _is_list(column.type):
                raise ValueError(f"{name} is of {column.type}, one value for each item: give one, not {value}")
            else:
                for each in value if isinstance(value, list) else [value]:
                    found &= _has(column, each, name)
        return np.flatnonzero(found)

    def facets(self, most: int) -> dict[str, list[Any]]:
        """Columns with 2 to `most` distinct values, and these, sorted; None is left out."""
        found = {}
        for name in self.table.column_names[1:]:
            column = self._column(name)
            values = pc.list_flatten(column) if _is_list(column.type) else column
            if not pa.types.is_nested(values.type) and 2 <= len(distinct := pc.unique(values).drop_null()) <= most:
                ordered = sorted(distinct.to_pylist())
                found[name] = [[value] for value in ordered] if _is_list(column.type) else ordered
        return found

    def _column(self, name: str) -> pa.Array:
        if name not in self.table.column_names[1:]:
            there = name_some(self.table.column_names[1:]) or "none: the items have no metadata"
            raise ValueError(f"there is no column {name!r}; there are {there}")
        return self.table[name].combine_chunks()

    def at(self, positions: np.ndarray) -> "Rows":
        """The rows at these positions."""
        return Rows(self.table.take(pa.array(positions)).combine_chunks())

    def appended(self, length: int, ids: pa.Array | None, metadata: pa.Table | None) -> "Rows":
        """These rows and `length` more.

        Raises:
            ValueError: if an id is there already or of another kind, there is none for a string index, or a column's
                values do not go together.
        """
        if ids is None:
            ids = self._next_numbers(length)
        elif len(self) and len(ids):
            self._check_kind(ids)
            known = self.table["id"].filter(pc.is_in(self.table["id"], value_set=ids))
            if len(known):
                raise ValueError(f"already in the index: {name_some(known.combine_chunks())}; remove them first")
        columns = {} if metadata is None else {name: metadata[name] for name in metadata.column_names}
        new = pa.table({"id": ids, **columns})
        if len(self) == 0:
            return Rows(new)
        if length == 0:
            return self
        try:
            return Rows(_in_few_chunks(pa.concat_tables([self.table, new], promote_options="permissive")))
        except pa.ArrowException as error:
            raise ValueError(f"the metadata does not go with that of the index: {error}") from None

    def without(self, positions: np.ndarray) -> "Rows":
        """These rows, some left out."""
        kept = np.ones(len(self), dtype=bool)
        kept[positions] = False
        return Rows(self.table.filter(pa.array(kept)).combine_chunks())

    def _next_numbers(self, length: int) -> pa.Array:
        if len(self) == 0:
            return pa.array(np.arange(length))
        if not pa.types.is_integer(self.table["id"].type):
            raise ValueError("this index has strings as ids: give an id for every code")
        first = pc.max(self.table["id"]).as_py() + 1
        return pa.array(np.arange(first, first + length))

    def _check_kind(self, ids: pa.Array) -> None:
        own = self.table["id"].type
        if len(self) and ids.type != own:
            kinds = {True: "integers", False: "strings"}
            raise ValueError(
                f"the ids of this index are {kinds[pa.types.is_integer(own)]}, "
                f"got {kinds[pa.types.is_integer(ids.type)]}: {name_some(ids)}"
            )


def _in_few_chunks(table: pa.Table) -> pa.Table:
    """In chunks each more than twice as long as all after it: few, and a row is copied a few times, not every time."""
    # columns differ: the ids may have been combined alone, and a column may have come later
    lengths = [len(chunk) for chunk in max(table.columns, key=lambda column: column.num_chunks).chunks]
    tail = lengths.pop()
    while lengths and lengths[-1] <= 2 * tail:
        tail += lengths.pop()
    start = len(table) - tail
    combined = table.slice(start).combine_chunks()
    return pa.concat_tables([table.slice(0, start), combined]) if start else combined


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _has(column: pa.Array, value: Any, name: str) -> np.ndarray:
    """Which items have a value in a column, or in the list that stands there."""
    values = pc.list_flatten(column) if _is_list(column.type) else column
    try:
        # a scalar: arrow would compare a tuple or an array item by item
        equal = pc.equal(values, pa.scalar(value)).fill_null(False).to_numpy(zero_copy_only=False)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise ValueError(f"{name} is of {column.type} and cannot be {value!r} ({error})") from None
    if not _is_list(column.type):
        return equal
    has = np.zeros(len(column), dtype=bool)
    has[pc.list_parent_indices(column).to_numpy()[equal]] = True
    return has

"""Search in PostgreSQL with pgvector: a collection that grows, is filtered by metadata and shared by many machines."""

import copy
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

try:
    import psycopg
    from pgvector import Bit
    from psycopg import sql
    from psycopg.types.json import Jsonb
except ImportError as error:
    raise ImportError(
        f"PostgresIndex needs psycopg and pgvector ({error}): pip install 'concepthash_hf[pgvector]'"
    ) from error

from .base import CodeIndex, CodeSpec
from .distances import ConceptCounter
from .inputs import check_k, name_some
from .postgres_database import Database
from .postgres_table import Table, kind_of
from .results import RangeResult, SearchResult

LARGEST_EF_SEARCH = 1000  # pgvector's own limit
LARGEST_NUMBER = 2**63 - 1  # of PostgreSQL's rows

_NEAREST = """
    SELECT query.number - 1, hit.position, hit.id, bit_send(hit.code)
    FROM unnest(%(codes)s::bit({num_bits})[]) WITH ORDINALITY AS query (code, number)
    CROSS JOIN LATERAL (
        SELECT position, id, code FROM {table} AS item WHERE {condition} ORDER BY {order} LIMIT %(k)s
    ) AS hit"""
_WITHIN = """
    SELECT query.number - 1, item.position, item.id, bit_send(item.code)
    FROM unnest(%(codes)s::bit({num_bits})[]) WITH ORDINALITY AS query (code, number)
    JOIN {table} AS item ON item.code <~> query.code <= %(radius)s AND {condition}"""


class PostgresIndex(CodeIndex):
    """Codes in a table of a PostgreSQL database, a row per item: `id`, `code bit(K)`, `metadata jsonb`.

    Same methods and results as `HammingIndex`; the database keeps everything, so there is nothing to save. Searches
    read the whole table and are exact; `build_hnsw` makes those by whole codes fast and approximate. Other programs
    may read and change the table by SQL. What its codes are, and of which model, is in the table
    `concepthash_indexes`.

    Every change is one transaction. When the server goes away, the call at hand raises `ConnectionError`, and the next
    one connects anew. Several threads may share an index; they take turns.

    Args:
        conninfo: where the database is, such as `postgresql://user@host:5432/database`; PostgreSQL 14 and pgvector
            0.8 or newer.
        spec: what the codes are; needed to create the index, if the database has none of this name.
        table: its name, up to 48 bytes.

    Attributes:
        spec: what the codes are.
        ef_search: how thorough a search by HNSW is, up to 1,000.

    Raises:
        ValueError: if there is no such index and no spec, the spec is another one than that of the index, the server
            lacks pgvector, or `conninfo` is none.
        ConnectionError: if the server cannot be reached; this can be raised by every method.

    Example:
        >>> index = PostgresIndex("postgresql://localhost/photos", CodeSpec(64, 4))  # doctest: +SKIP
        >>> index.add(codes, ids=paths, metadata={"species": species})  # doctest: +SKIP
        >>> index.where({"species": "wren"}).search(queries, k=10, concept_weights={2: 1})  # doctest: +SKIP
    """

    def __init__(self, conninfo: str, spec: CodeSpec | None = None, *, table: str = "concepthash_codes") -> None:
        self.ef_search = 100
        self._table = Table(table)
        self._database = Database(conninfo)
        self._filters: tuple[dict[str, Any], ...] = ()
        self._empty: list[str] = []
        with self._database.transaction() as cursor:
            self.spec = self._table.open_or_create(cursor, spec)
        self._count_per_concept = ConceptCounter(self.num_bits, self.num_concepts)

    @property
    def table(self) -> str:
        """The name of the index."""
        return self._table.name

    def where(self, metadata: Mapping[str, Any]) -> Self:
        """The items whose metadata has these values: an index of them, to search but not to change.

        Args:
            metadata: values by column, None for the items that have none there; others match as in jsonb's `@>`, so a
                part of a list or of a nested dict is enough. Where no item has the column, or its values are of
                another kind, none matches.

        Example:
            >>> index.where({"species": "wren", "split": "train"}).search(codes, k=5)  # doctest: +SKIP
        """
        view = copy.copy(self)
        view._filters = (*self._filters, {name: value for name, value in metadata.items() if value is not None})
        view._empty = [*self._empty, *(name for name, value in metadata.items() if value is None)]
        return view

    def build_hnsw(self, m: int = 16, ef_construction: int = 64) -> None:
        """Make `search` by whole codes fast and approximate; best once the bulk of the codes is there.

        Items added later become part of it. Weighted and range searches stay exact. Built again if it is there.

        Args:
            m: links per item.
            ef_construction: how thorough it is built.
        """
        with self._database.transaction() as cursor:
            self._table.build_hnsw(cursor, m, ef_construction)

    def drop_hnsw(self) -> None:
        """Make `search` exact again."""
        with self._database.transaction() as cursor:
            self._table.drop_hnsw(cursor)

    def drop(self) -> None:
        """Delete the index and all that is in it."""
        self._refuse_view("dropped")
        with self._database.transaction() as cursor:
            self._table.drop(cursor)

    def close(self) -> None:
        """Close the connection; the next call makes a new one."""
        self._database.close()

    def __len__(self) -> int:
        with self._database.transaction() as cursor:
            return self._select(cursor, "SELECT count(*) FROM {table} AS item WHERE {condition}")[0][0]

    def _check_k(self, k: int) -> None:
        """Spare a large table from being counted at every search."""
        if isinstance(k, int | np.integer) and not isinstance(k, bool) and 1 <= k <= LARGEST_NUMBER:
            with self._database.transaction() as cursor:
                kth = "SELECT 1 FROM {table} AS item WHERE {condition} OFFSET %(before)s LIMIT 1"
                if self._select(cursor, kth, before=int(k) - 1):
                    return
        super()._check_k(k)

    def _add(self, codes: np.ndarray, ids: pa.Array | None, metadata: pa.Table | None) -> None:
        self._refuse_view("added to")
        if len(codes) == 0:
            return
        rows = [{}] * len(codes) if metadata is None else metadata.to_pylist()
        kind = kind_of(ids)
        try:
            with self._database.transaction() as cursor:
                self._table.settle_kind(cursor, kind)
                known = self._table.next_numbers(cursor, len(codes)) if ids is None else ids.to_pylist()
                with cursor.copy(
                    self._table.sql("COPY {table} (id, code, metadata) FROM STDIN (FORMAT BINARY)")
                ) as target:
                    target.set_types([kind, "bit", "jsonb"])
                    for row in zip(known, self._bits(codes), map(_as_json, rows), strict=True):
                        target.write_row(row)
        except psycopg.errors.UniqueViolation as error:
            raise ValueError(f"already in the index: {self._name_known(ids)}; remove them first") from error
        except (psycopg.DataError, psycopg.errors.ProgramLimitExceeded) as error:
            where = error.diag.context or ""
            raise ValueError(
                f"PostgreSQL cannot keep an id or its metadata: {error.diag.message_primary}; {where}"
            ) from error

    def _remove(self, ids: pa.Array) -> None:
        self._refuse_view("removed from")
        with self._database.transaction() as cursor:
            self._look_up(cursor, "id", ids)
            cursor.execute(self._table.sql("DELETE FROM {table} WHERE id = ANY(%s)"), [ids.to_pylist()])

    def _search(self, codes: np.ndarray, k: int) -> SearchResult:
        with self._database.transaction() as cursor:
            by_hnsw = self._table.has_hnsw(cursor)
            if by_hnsw and k <= LARGEST_EF_SEARCH:
                ef_search = min(max(k, self.ef_search), LARGEST_EF_SEARCH)
                _set(cursor, {"hnsw.ef_search": ef_search, "hnsw.iterative_scan": "strict_order"})
                hits = self._nearest(cursor, codes, k, sql.SQL("item.code <~> query.code"))
                if (hits.counts(len(codes)) == k).all():
                    return hits.as_search_result(len(codes), k)
            # also for those of which HNSW has not found enough
            _set(cursor, {"enable_indexscan": "off"} if by_hnsw else {})
            hits = self._nearest(cursor, codes, k, sql.SQL("item.code <~> query.code, item.position"))
        return hits.as_search_result(len(codes), k)

    def _search_weighted(self, codes: np.ndarray, k: int, weights: np.ndarray) -> SearchResult:
        length = self.num_bits // self.num_concepts
        differing = "{weight}::float8 * bit_count(substring(item.code # query.code FROM {first} FOR {length}))"
        terms = [
            sql.SQL(differing).format(
                weight=sql.Literal(weight), first=sql.Literal(1 + concept * length), length=sql.Literal(length)
            )
            for concept, weight in enumerate(weights.tolist())
            if weight
        ]
        with self._database.transaction() as cursor:
            order = sql.SQL("{}, item.position").format(sql.SQL(" + ").join(terms))
            return self._nearest(cursor, codes, k, order, weights).as_search_result(len(codes), k)

    def _range_search(self, codes: np.ndarray, radius: int) -> RangeResult:
        with self._database.transaction() as cursor:
            hits = self._hits(cursor, codes, _WITHIN, radius=radius)
        offsets = np.concatenate([[0], np.cumsum(hits.counts(len(codes)))])
        return RangeResult(offsets, hits.ids, hits.distances, hits.concept_distances)

    def _has(self, ids: pa.Array) -> np.ndarray:
        with self._database.transaction() as cursor:
            there: set[Any] = set()
            if self._table.has_integer_ids(cursor) == pa.types.is_integer(ids.type):
                query = "SELECT id FROM {table} AS item WHERE id = ANY(%(ids)s) AND {condition}"
                there = {id for (id,) in self._select(cursor, query, ids=ids.to_pylist())}
        return np.array([id in there for id in ids.to_pylist()], dtype=bool)

    def _get_metadata(self, ids: pa.Array) -> list[dict[str, Any]]:
        with self._database.transaction() as cursor:
            return self._look_up(cursor, "metadata", ids)

    def _get_codes(self, ids: pa.Array) -> np.ndarray:
        with self._database.transaction() as cursor:
            return self._from_bits(self._look_up(cursor, "bit_send(code)", ids))

    def _name_known(self, ids: pa.Array | None) -> str:
        """Those of some ids that are there."""
        return "" if ids is None else name_some(ids.filter(pa.array(self._has(ids))))

    def _look_up(self, cursor: psycopg.Cursor, column: str, ids: pa.Array) -> list[Any]:
        """One value for each id."""
        if len(ids) == 0:
            return []
        wanted, found = ids.to_pylist(), {}
        if self._table.check_kind(cursor, kind_of(ids)):
            query = f"SELECT id, {column} FROM {{table}} AS item WHERE id = ANY(%(ids)s) AND {{condition}}"
            found = dict(self._select(cursor, query, ids=wanted))
        if missing := [id for id in dict.fromkeys(wanted) if id not in found]:
            raise ValueError(f"not in the index: {name_some(missing)}")
        return [found[id] for id in wanted]

    def _nearest(
        self,
        cursor: psycopg.Cursor,
        codes: np.ndarray,
        k: int,
        order: sql.Composable,
        weights: np.ndarray | None = None,
    ) -> "_Hits":
        return self._hits(cursor, codes, _NEAREST, weights, {"order": order}, k=k)

    def _hits(
        self,
        cursor: psycopg.Cursor,
        codes: np.ndarray,
        query: str,
        weights: np.ndarray | None = None,
        parts: Mapping[str, sql.Composable] | None = None,
        **parameters: Any,
    ) -> "_Hits":
        """Ask for (number of the query, position, id, code), and measure."""
        parts = {"num_bits": sql.Literal(self.num_bits), **(parts or {})}
        rows = self._select(cursor, query, parts, codes=list(self._bits(codes)), **parameters)
        kind = np.int64 if self._table.has_integer_ids(cursor) else object
        numbers, positions, ids, sent = zip(*rows, strict=True) if rows else ((), (), (), ())
        queries = np.array(numbers, np.int64)
        per_concept = self._count_per_concept(codes[queries], self._from_bits(sent))
        distances = per_concept.sum(-1) if weights is None else np.einsum("hm,m->h", per_concept, weights)
        order = np.lexsort((np.array(positions, np.int64), distances, queries))
        return _Hits(queries[order], np.array(ids, kind)[order], distances[order], per_concept[order])

    def _select(
        self, cursor: psycopg.Cursor, query: str, parts: Mapping[str, sql.Composable] | None = None, **parameters: Any
    ) -> list[tuple]:
        """Run a query over `item`, the rows of the table that the view lets through."""
        names = [f"filter{number}" for number in range(len(self._filters))]
        conditions: list[sql.Composable] = [
            sql.SQL("item.metadata @> {}").format(sql.Placeholder(name)) for name in names
        ]
        if self._empty:  # a column that came with later items is not in those before
            conditions.append(sql.SQL("NOT jsonb_strip_nulls(item.metadata) ?| %(empty)s"))
        condition = sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("TRUE")
        filters = dict(zip(names, map(_as_json, self._filters), strict=True))
        return cursor.execute(
            self._table.sql(query, condition=condition, **(parts or {})),
            parameters | filters | {"empty": self._empty},
        ).fetchall()

    def _bits(self, codes: np.ndarray) -> Iterable[Bit]:
        """Packed codes as PostgreSQL's bits: their number, then the same bytes."""
        head = struct.pack(">i", self.num_bits)
        return (Bit.from_binary(head + code.tobytes()) for code in codes)

    def _from_bits(self, sent: Iterable[bytes]) -> np.ndarray:
        """The inverse of `_bits`, from what `bit_send` gives."""
        return np.frombuffer(b"".join(bits[4:] for bits in sent), np.uint8).reshape(-1, -(-self.num_bits // 8))

    def _refuse_view(self, what: str) -> None:
        if self._filters:
            raise ValueError(f"a part of an index, made by where(...), cannot be {what}: use the whole index")


@dataclass(frozen=True)
class _Hits:
    """Hits of several queries, in order of (query, distance, position)."""

    queries: np.ndarray
    ids: np.ndarray
    distances: np.ndarray
    concept_distances: np.ndarray

    def counts(self, num_queries: int) -> np.ndarray:
        return np.bincount(self.queries, minlength=num_queries)

    def as_search_result(self, num_queries: int, k: int) -> SearchResult:
        """As rectangles; if items have gone since k was checked, say so."""
        check_k(k, int(self.counts(num_queries).min(initial=k)))
        shape = (num_queries, k)
        return SearchResult(
            self.ids.reshape(shape),
            self.distances.reshape(shape),
            self.concept_distances.reshape(*shape, self.concept_distances.shape[-1]),
        )


def _set(cursor: psycopg.Cursor, settings: Mapping[str, Any]) -> None:
    """Change settings for the rest of the transaction."""
    for name, value in settings.items():
        cursor.execute("SELECT set_config(%s, %s, true)", [name, str(value)])


def _as_json(row: Mapping[str, Any]) -> Jsonb:
    try:
        text = json.dumps(row, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata in PostgreSQL is JSON, which this row is not: {row!r}: {error}") from error
    return Jsonb(row, dumps=lambda _: text)

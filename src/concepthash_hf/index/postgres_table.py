"""The table that holds an index in PostgreSQL: its columns, its indexes, and what its codes are."""

from dataclasses import asdict, dataclass
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from .base import CodeSpec

FORMAT_VERSION = 1
LONGEST_NAME = 48  # bytes; PostgreSQL cuts names at 63 without a word, and those of a table's indexes are longer
SPECS_TABLE = "concepthash_indexes"

_KINDS = {"bigint": "integers", "text": "strings"}  # of ids, by type of their column

_CREATE_SPECS_TABLE = """
    CREATE TABLE IF NOT EXISTS {specs} (
        name text PRIMARY KEY,
        format_version integer NOT NULL,
        num_bits integer NOT NULL,
        num_concepts integer NOT NULL,
        model_id text,
        revision text
    )"""
_CREATE_TABLE = """
    CREATE TABLE {table} (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id bigint NOT NULL UNIQUE,
        code bit({num_bits}) NOT NULL,
        metadata jsonb NOT NULL
    )"""
# kept up to date at once: a list of pending entries would be read through by every search
_CREATE_METADATA_INDEX = """
    CREATE INDEX {metadata_index} ON {table} USING gin (metadata jsonb_path_ops) WITH (fastupdate = off)"""
_CREATE_HNSW = """
    CREATE INDEX {hnsw} ON {table} USING hnsw (code bit_hamming_ops) WITH (m = {m}, ef_construction = {ef})"""
_INSERT_SPEC = """
    INSERT INTO {specs} VALUES (
        %(name)s, %(format_version)s, %(num_bits)s, %(num_concepts)s, %(model_id)s, %(revision)s
    )"""
_SELECT_SPEC = """
    SELECT format_version, num_bits, num_concepts, model_id, revision FROM {specs} WHERE name = %s"""
_SELECT_KIND = """
    SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'id'"""


@dataclass(frozen=True)
class Table:
    """A table of a given name; methods work in the transaction of a cursor.

    Args:
        name: 1 to 48 bytes.

    Raises:
        ValueError: if the name is none for a table.
    """

    name: str

    def __post_init__(self) -> None:
        if not 0 < len(self.name.encode()) <= LONGEST_NAME or not {"\0", "%"}.isdisjoint(self.name):
            raise ValueError(
                f"a table has a name of 1 to {LONGEST_NAME} bytes, none of them NUL or %, got {self.name!r}"
            )

    def sql(self, query: str, **parts: sql.Composable) -> sql.Composed:
        """A statement of ours, with the names put in where it says `{table}`, `{hnsw}`, `{specs}`."""
        return sql.SQL(query).format(
            table=sql.Identifier(self.name),
            hnsw=sql.Identifier(self._hnsw),
            metadata_index=sql.Identifier(f"{self.name}_metadata"),
            specs=sql.Identifier(SPECS_TABLE),
            **parts,
        )

    def open_or_create(self, cursor: psycopg.Cursor, spec: CodeSpec | None) -> CodeSpec:
        """What the codes of the index are; the index is created if it is not there.

        Raises:
            ValueError: if it is there with other codes, there is another table of this name, or it cannot be created
                for lack of a spec.
        """
        # one at a time, or two machines would both create it
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [SPECS_TABLE])
        stored = self._stored_spec(cursor)
        if stored is not None:
            if spec is not None:
                self._check_same(stored, spec)
            return stored
        if _exists(cursor, self.name):
            raise ValueError(f"the database has a table {self.name!r} that is no index: give another table")
        if spec is None:
            raise ValueError(f"the database has no index {self.name!r}: give a spec to create it")
        cursor.execute(self.sql(_CREATE_TABLE, num_bits=sql.Literal(spec.num_bits)))
        cursor.execute(self.sql(_CREATE_METADATA_INDEX))
        cursor.execute(self.sql(_CREATE_SPECS_TABLE))
        self._forget_spec(cursor)
        cursor.execute(self.sql(_INSERT_SPEC), {"name": self.name, "format_version": FORMAT_VERSION, **asdict(spec)})
        return spec

    def drop(self, cursor: psycopg.Cursor) -> None:
        """Delete it and what is known of it."""
        cursor.execute(self.sql("DROP TABLE IF EXISTS {table}"))
        self._forget_spec(cursor)

    def build_hnsw(self, cursor: psycopg.Cursor, m: int, ef_construction: int) -> None:
        """An HNSW index over the codes, in place of the one that may be there."""
        self.drop_hnsw(cursor)
        cursor.execute(self.sql(_CREATE_HNSW, m=sql.Literal(m), ef=sql.Literal(ef_construction)))

    def drop_hnsw(self, cursor: psycopg.Cursor) -> None:
        """Take the HNSW index away, if there is one."""
        cursor.execute(self.sql("DROP INDEX IF EXISTS {hnsw}"))

    def has_hnsw(self, cursor: psycopg.Cursor) -> bool:
        """Whether there is an HNSW index."""
        return _exists(cursor, self._hnsw)

    def has_integer_ids(self, cursor: psycopg.Cursor) -> bool:
        """Whether ids are integers, and not strings.

        Raises:
            ValueError: if the table has gone.
        """
        return self._kind(cursor) == "bigint"

    def settle_kind(self, cursor: psycopg.Cursor, kind: str) -> None:
        """Make room for ids of a kind ("bigint" or "text"): the first ones decide.

        Raises:
            ValueError: if there are ids of the other kind.
        """
        if self._kind(cursor) == kind:
            return
        cursor.execute(self.sql("LOCK TABLE {table}"))
        self.check_kind(cursor, kind)
        cursor.execute(self.sql("ALTER TABLE {table} ALTER COLUMN id TYPE {kind} USING NULL", kind=sql.SQL(kind)))

    def check_kind(self, cursor: psycopg.Cursor, kind: str) -> bool:
        """Whether the column holds ids of a kind; False for an empty one of the other kind.

        Raises:
            ValueError: if there are ids of the other kind.
        """
        own = self._kind(cursor)
        if kind != own and cursor.execute(self.sql("SELECT 1 FROM {table} LIMIT 1")).fetchone():
            raise ValueError(f"the ids of this index are {_KINDS[own]}, got {_KINDS[kind]}")
        return kind == own

    def next_numbers(self, cursor: psycopg.Cursor, number: int) -> range:
        """Ids after the largest, which nobody else takes before the transaction ends."""
        cursor.execute(self.sql("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"))
        (first,) = _row(cursor.execute(self.sql("SELECT coalesce(max(id) + 1, 0) FROM {table}")))
        return range(first, first + number)

    @property
    def _hnsw(self) -> str:
        return f"{self.name}_hnsw"

    def _kind(self, cursor: psycopg.Cursor) -> str:
        cursor.execute(_SELECT_KIND, [_quoted(self.name)])
        if (row := cursor.fetchone()) is None:
            raise ValueError(f"the index {self.name!r} is no longer in the database")
        return row[0]

    def _stored_spec(self, cursor: psycopg.Cursor) -> CodeSpec | None:
        """What the index was created with; a table dropped by hand leaves its entry behind, which means nothing."""
        if not _exists(cursor, SPECS_TABLE) or not _exists(cursor, self.name):
            return None
        if (row := cursor.execute(self.sql(_SELECT_SPEC), [self.name]).fetchone()) is None:
            return None
        version, *fields = row
        if version > FORMAT_VERSION:
            raise ValueError(
                f"the index {self.name!r} has format {version}, newer than this package knows: upgrade it"
            )
        return CodeSpec(*fields)

    def _check_same(self, stored: CodeSpec, spec: CodeSpec) -> None:
        if (stored.num_bits, stored.num_concepts) != (spec.num_bits, spec.num_concepts):
            raise ValueError(
                f"the index {self.name!r} has codes of {stored.num_bits} bits in {stored.num_concepts} concepts, not "
                f"of {spec.num_bits} in {spec.num_concepts}"
            )
        # one revision is one model, whatever it is called where
        same = spec.revision is not None and spec.revision == stored.revision
        stored.check_model(None if same else spec.model_id, spec.revision)

    def _forget_spec(self, cursor: psycopg.Cursor) -> None:
        cursor.execute(self.sql("DELETE FROM {specs} WHERE name = %s"), [self.name])


def kind_of(ids: pa.Array | None) -> str:
    """The type of a column for ids; those that are not given are numbers."""
    return "bigint" if ids is None or pa.types.is_integer(ids.type) else "text"


def _exists(cursor: psycopg.Cursor, name: str) -> bool:
    return _row(cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [_quoted(name)]))[0]


def _row(cursor: psycopg.Cursor) -> tuple[Any, ...]:
    """The one row of a query that always has one."""
    row = cursor.fetchone()
    assert row is not None
    return row


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)

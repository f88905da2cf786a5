"""A connection to a PostgreSQL database with pgvector that comes back after the server was away."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from pgvector.psycopg import register_vector
from psycopg.conninfo import conninfo_to_dict
from psycopg.types import TypeInfo

CONNECT_TIMEOUT = 10


class Database:
    """One connection, made when it is needed and made anew once it is broken; threads take turns.

    Args:
        conninfo: such as `postgresql://user@host:5432/database`.

    Raises:
        ValueError: if `conninfo` is none.
    """

    def __init__(self, conninfo: str) -> None:
        try:
            known = conninfo_to_dict(conninfo)
        except psycopg.ProgrammingError:  # its message may quote a password
            raise ValueError(
                "this is no address of a PostgreSQL database; expected such as postgresql://user@host:5432/database"
            ) from None
        self._conninfo = conninfo
        self._timeout = int(known.get("connect_timeout") or CONNECT_TIMEOUT)
        self._connection: psycopg.Connection | None = None
        self._lock = threading.RLock()
        self.description = ", ".join(f"{key} {known[key]}" for key in ("host", "port", "dbname") if known.get(key))

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Cursor]:
        """A cursor (binary results); what is done with it happens as a whole, or not at all if it raises.

        Raises:
            ConnectionError: if the server cannot be reached, or goes away.
            ValueError: if the server has no pgvector, or a table is no longer there.
        """
        with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = self._connect()
                with self._connection.transaction(), self._connection.cursor(binary=True) as cursor:
                    yield cursor
            except psycopg.errors.UndefinedTable as error:
                raise ValueError(f"the index is no longer in the database: {error.diag.message_primary}") from error
            except psycopg.OperationalError as error:
                if self._connection is not None and not self._connection.closed:
                    raise  # the server is there: a full disk, a timeout ...
                raise ConnectionError(
                    f"the PostgreSQL server ({self.description or 'of the environment'}) is not there or went away: "
                    f"{' '.join(str(error).split())}. Nothing is half done; see that it runs, and call again"
                ) from error

    def close(self) -> None:
        """Close the connection; the next transaction makes a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _connect(self) -> psycopg.Connection:
        connection = psycopg.connect(
            self._conninfo,
            autocommit=True,
            connect_timeout=self._timeout,
            client_encoding="utf8",
            prepare_threshold=None,  # connection poolers do not keep prepared statements
        )
        try:
            if TypeInfo.fetch(connection, "vector") is None:
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            register_vector(connection)
        except psycopg.OperationalError:
            connection.close()
            raise
        except psycopg.Error as error:
            connection.close()
            raise ValueError(
                f"the database ({self.description}) has no pgvector: {' '.join(str(error).split())}. Install it on "
                "the server, and have an administrator run CREATE EXTENSION vector"
            ) from error
        return connection

"""The backends that the contract is asked of."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from concepthash_hf.index import CodeIndex, CodeSpec, HammingIndex, ShardedIndex

from .postgres_server import make_postgres_index, postgres_server  # noqa: F401


@dataclass(frozen=True)
class Backend:
    """How to make an empty index.

    Attributes:
        make: from the pytest request (for fixtures of its own) and what the codes are.
        exact: whether whole-code search is.
    """

    make: Callable[[pytest.FixtureRequest, CodeSpec], CodeIndex]
    exact: bool = True


def new_table(request: pytest.FixtureRequest, spec: CodeSpec) -> CodeIndex:
    """An index in a real PostgreSQL server."""
    return request.getfixturevalue("make_postgres_index")(spec)


class Dealt(ShardedIndex):
    """A sharded index that changes: an index in memory, whose items are dealt out in runs to several shards."""

    def __init__(self, spec: CodeSpec) -> None:
        self._whole = HammingIndex(spec)
        super().__init__([self._whole])

    def _add(self, codes: np.ndarray, ids: pa.Array | None, metadata: pa.Table | None) -> None:
        self._whole._add(codes, ids, metadata)
        self._deal()

    def _remove(self, ids: pa.Array) -> None:
        self._whole._remove(ids)
        self._deal()

    def _deal(self) -> None:
        """Into shards of none, of one item, of a third, and of the others."""
        total, rows = len(self._whole), self._whole._rows.table
        codes = self._whole.get_codes(self._whole.ids)
        one = min(total, 1)
        ends = [0, 0, one, max(one, total // 3), total]
        shards = []
        for start, end in zip(ends, ends[1:], strict=False):
            part = rows.slice(start, end - start)
            shards.append(HammingIndex(self.spec))
            shards[-1].add(codes[start:end], part["id"].combine_chunks(), part.drop_columns("id"))
        super().__init__(shards)


BACKENDS = {
    "flat": Backend(lambda request, spec: HammingIndex(spec)),
    "hnsw": Backend(lambda request, spec: HammingIndex(spec, kind="hnsw"), exact=False),
    "ivf": Backend(lambda request, spec: HammingIndex(spec, kind="ivf"), exact=False),
    "sharded": Backend(lambda request, spec: Dealt(spec)),
    "postgres": Backend(new_table),
}


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    return request.param


@pytest.fixture
def make_index(request, backend) -> Callable[..., CodeIndex]:
    """`make_index(num_bits, num_concepts)`: an empty index of the backend."""
    return lambda *args, **kwargs: BACKENDS[backend].make(request, CodeSpec(*args, **kwargs))


@pytest.fixture
def exact(backend) -> bool:
    """Whether whole-code search of the backend is."""
    return BACKENDS[backend].exact

"""The backends that the contract is asked of."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from concepthash_hf.index import CodeIndex, CodeSpec, HammingIndex

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


BACKENDS = {
    "flat": Backend(lambda request, spec: HammingIndex(spec)),
    "hnsw": Backend(lambda request, spec: HammingIndex(spec, kind="hnsw"), exact=False),
    "ivf": Backend(lambda request, spec: HammingIndex(spec, kind="ivf"), exact=False),
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

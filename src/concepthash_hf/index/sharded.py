"""Several indexes searched as one: folders made apart, files that stay on disk, databases of several servers."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from .base import CodeIndex, CodeSpec
from .hamming import HammingIndex
from .inputs import as_ids, name_some
from .results import RangeResult, SearchResult
from .rows import Rows

Answer = TypeVar("Answer")


class ShardedIndex(CodeIndex):
    """Indexes of the same model, searched as one: what a single index of all their items would find.

    Every shard is asked, servers at the same time, and what they found is merged by distance; of equal distances those
    of the first shard come first. It is as exact as its shards are. Nothing is copied: shards may be in memory, mapped
    from their files, or in databases. Items are added to and removed from a shard, not from here.

    Args:
        shards: of codes of the same length, concepts and model, which share no ids. Those of databases are not
            compared beforehand: an id that is in two of them is found twice.

    Attributes:
        spec: what the codes are; of the model, all that the shards know.
        shards: as given.

    Raises:
        ValueError: if there are none, they are of different models, lengths or concepts, their ids are of two kinds,
            or an id is in two of them.

    Example:
        >>> import numpy as np
        >>> parts = [np.array([[0b11110000], [0b00001111]], np.uint8), np.array([[0b11110001]], np.uint8)]
        >>> shards = [
        ...     HammingIndex.from_codes(part, ids=ids, num_bits=8, num_concepts=2)
        ...     for part, ids in zip(parts, (["a", "b"], ["c"]))
        ... ]
        >>> found = ShardedIndex(shards).search(parts[0][:1], k=2)
        >>> found.ids, found.distances
        (array([['a', 'c']], dtype=object), array([[0, 1]]))
    """

    def __init__(self, shards: Sequence[CodeIndex]) -> None:
        if not shards:
            raise ValueError("a sharded index needs at least one index")
        self.shards = tuple(shards)
        self.spec = _joint_spec([shard.spec for shard in shards])
        for shard in shards:
            self._check_same(shard)
        self._check_ids()

    @property
    def ids(self) -> np.ndarray | None:
        """All ids, those of the first shard first; None if a shard is in a database."""
        ids = [shard.ids for shard in self.shards]
        at_hand = [each for each in ids if each is not None]
        if len(at_hand) < len(ids):
            return None
        return np.concatenate([each for each in at_hand if len(each)] or at_hand[:1])

    def facets(self, most: int = 200) -> dict[str, list[Any]]:
        """Of the columns that every shard has, see `CodeIndex.facets`."""
        rows = [shard._rows for shard in self.shards if isinstance(shard, HammingIndex)]
        return Rows.together(rows).facets(most) if len(rows) == len(self.shards) else {}

    def where(self, metadata: Mapping[str, Any]) -> "ShardedIndex":
        """The items whose metadata has these values, see `CodeIndex.where` of the shards.

        Raises:
            ValueError: as that of a shard.
        """
        # one without items has no columns to ask for
        return ShardedIndex([shard.where(metadata) for shard in self.shards if len(shard)] or self.shards[:1])

    def warm(self) -> None:
        """See `CodeIndex.warm`; of every shard."""
        for shard in self.shards:
            shard.warm()

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def _check_k(self, k: int) -> None:
        """Where a shard has as many items, no large table needs to be counted."""
        for shard in self.shards:
            with suppress(ValueError):
                return shard._check_k(k)
        super()._check_k(k)

    def _search(self, codes: np.ndarray, k: int) -> SearchResult:
        return self._merged(k, lambda shard, most: shard._search(codes, most))

    def _search_weighted(self, codes: np.ndarray, k: int, weights: np.ndarray) -> SearchResult:
        return self._merged(k, lambda shard, most: shard._search_weighted(codes, most, weights))

    def _search_by_logits(self, logits: np.ndarray, codes: np.ndarray, k: int) -> SearchResult:
        return self._merged(k, lambda shard, most: shard._search_by_logits(logits, codes, most))

    def _merged(self, k: int, ask: Callable[[CodeIndex, int], SearchResult]) -> SearchResult:
        """The k nearest of what the shards find; a shard gives at most all it has."""

        def ask_for_most(shard: CodeIndex) -> SearchResult | None:
            most = k
            try:
                shard._check_k(k)
            except ValueError:
                most = len(shard)
            return ask(shard, most) if most else None

        everything = SearchResult.side_by_side([part for part in self._each(ask_for_most) if part is not None])
        # stable: of equal distances, the first shard's first
        return everything.at(np.argsort(everything.distances, axis=1, kind="stable")[:, :k])

    def _range_search(self, codes: np.ndarray, radius: int) -> RangeResult:
        found = self._each(lambda shard: shard._range_search(codes, radius))
        found = [part for part in found if len(part.ids)] or found[:1]
        queries = np.concatenate([np.repeat(np.arange(len(codes)), np.diff(part.offsets)) for part in found])
        ids = np.concatenate([part.ids for part in found])
        distances = np.concatenate([part.distances for part in found])
        concept_distances = np.concatenate([part.concept_distances for part in found])
        order = np.lexsort((distances, queries))  # stable, as above
        offsets = np.sum([part.offsets for part in found], axis=0)
        return RangeResult(offsets, ids[order], distances[order], concept_distances[order])

    def _each(self, ask: Callable[[CodeIndex], Answer]) -> list[Answer]:
        """What every shard answers; servers are asked at the same time."""
        with ThreadPoolExecutor(len(self.shards)) as pool:
            asked = [None if isinstance(shard, HammingIndex) else pool.submit(ask, shard) for shard in self.shards]
            # faiss has threads of its own
            return [
                ask(shard) if answer is None else answer.result()
                for shard, answer in zip(self.shards, asked, strict=True)
            ]

    def _has(self, ids: pa.Array) -> np.ndarray:
        return np.any([shard.has(ids) for shard in self.shards], axis=0)

    def _get_metadata(self, ids: pa.Array) -> list[dict[str, Any]]:
        return self._gathered(ids, lambda shard, some: shard.get_metadata(some))

    def _get_codes(self, ids: pa.Array) -> np.ndarray:
        codes = self._gathered(ids, lambda shard, some: list(shard.get_codes(some)))
        return np.array(codes, dtype=np.uint8).reshape(len(ids), -(-self.num_bits // 8))

    def _gathered(self, ids: pa.Array, ask: Callable[[CodeIndex, pa.Array], list[Any]]) -> list[Any]:
        """What the shards know of items, in the order of `ids`."""
        known: list[Any] = [None] * len(ids)
        unknown = np.ones(len(ids), dtype=bool)
        for shard in self.shards:
            rows = np.flatnonzero(unknown & shard.has(ids))
            unknown[rows] = False
            for row, value in zip(rows, ask(shard, ids.take(pa.array(rows))), strict=True):
                known[row] = value
        if unknown.any():
            raise ValueError(f"not in the index: {name_some(ids.filter(pa.array(unknown)).unique())}")
        return known

    def _add(self, codes: np.ndarray, ids: pa.Array | None, metadata: pa.Table | None) -> None:
        raise ValueError("a sharded index is searched, not changed: add to one of its shards, and open it again")

    def _remove(self, ids: pa.Array) -> None:
        raise ValueError("a sharded index is searched, not changed: remove from its shards, and open it again")

    def _check_same(self, shard: CodeIndex) -> None:
        ours, theirs = (f"{spec.num_bits} bits in {spec.num_concepts} concepts" for spec in (self.spec, shard.spec))
        if ours != theirs:
            raise ValueError(f"shards have codes of the same kind; here some have {ours}, others {theirs}")
        # one revision is one model, whatever it is called where
        same = shard.spec.revision is not None and shard.spec.revision == self.spec.revision
        self.check_model(None if same else shard.spec.model_id, shard.spec.revision)

    def _check_ids(self) -> None:
        """Refuse ids that are in two shards, as far as their ids are at hand."""
        ids = [shard.ids for shard in self.shards if isinstance(shard, HammingIndex) and len(shard)]
        if len({each.dtype for each in ids}) > 1:
            raise ValueError("the ids of some shards are integers, those of others strings: they are all of one kind")
        try:
            as_ids(np.concatenate(ids) if ids else None, sum(map(len, ids)))
        except ValueError as error:
            raise ValueError(f"an item is in one shard only ({error}): give the shards ids of their own") from None


def _joint_spec(specs: Sequence[CodeSpec]) -> CodeSpec:
    """The first that tells most of its model, which the others have to go with."""
    most = max(specs, key=lambda spec: (spec.revision is not None, spec.model_id is not None))
    return replace(most, model_id=next((spec.model_id for spec in (most, *specs) if spec.model_id is not None), None))

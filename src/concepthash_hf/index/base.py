"""What every index of codes offers, whatever keeps the codes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ..codes import binarize, check_divisible, pack_bits
from .distances import asymmetric_distances
from .inputs import (
    ArrayLike,
    Metadata,
    Weights,
    as_codes,
    as_concept_weights,
    as_ids,
    as_logits,
    as_table,
    check_k,
    check_radius,
)
from .model_codes import ModelCodes
from .results import RangeResult, SearchResult

OVERSAMPLING = 10
MOST_BITS = 2**14  # of a code: a bound on what the spec of a stranger's index can make us allocate


@dataclass(frozen=True)
class CodeSpec:
    """What the codes of an index are, and which model made them.

    Attributes:
        num_bits: K, at most `MOST_BITS`.
        num_concepts: M; K divides by it.
        model_id: Hub id or name of the model; None binds the index to no model.
        revision: of the model.

    Raises:
        ValueError: if a field is of another type, K does not divide by M, or K is too large.
    """

    num_bits: int
    num_concepts: int
    model_id: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        for name in ("num_bits", "num_concepts"):
            if isinstance(number := getattr(self, name), bool) or not isinstance(number, int | np.integer):
                raise ValueError(f"{name} is a whole number, got {number!r}")
            object.__setattr__(self, name, int(number))  # neither faiss nor JSON takes those of numpy
        for name in ("model_id", "revision"):
            if not isinstance(text := getattr(self, name), str | None):
                raise ValueError(f"{name} is a text or None, got {text!r}")
        check_divisible(self.num_bits, self.num_concepts)
        if self.num_bits > MOST_BITS:
            raise ValueError(f"codes have at most {MOST_BITS} bits, got num_bits={self.num_bits}")

    def check_model(self, model_id: str | None, revision: str | None = None) -> None:
        """Refuse the codes of another model: distances between codes of two models mean nothing.

        Args:
            model_id: of the model that makes the queries; None is not compared, as is anything the spec leaves open.
            revision: of that model.

        Raises:
            ValueError: if both sides are known and differ.
        """
        for name, given in (("model_id", model_id), ("revision", revision)):
            own = getattr(self, name)
            if given is not None and own is not None and given != own:
                raise ValueError(
                    f"the codes of this index were made by {self.describe_model()}, these are of {name} {given!r}: "
                    "hash the queries with the model of the index, or hash the collection again"
                )

    def describe_model(self) -> str:
        """The model in words."""
        if self.model_id is None:
            return "a model that was not named"
        return self.model_id if self.revision is None else f"{self.model_id} at revision {self.revision}"


class CodeIndex(ABC):
    """A collection of binary codes with ids and metadata, searched by Hamming distance.

    Codes are packed, uint8 `(n, ceil(K / 8))`, arrays or tensors. Ids are integers or strings, one kind per index.
    Public methods check what they are given; a backend implements the methods with an underscore.

    Attributes:
        spec: what the codes are.
    """

    spec: CodeSpec

    @property
    def num_bits(self) -> int:
        """K."""
        return self.spec.num_bits

    @property
    def num_concepts(self) -> int:
        """M."""
        return self.spec.num_concepts

    def check_model(self, model_id: str | None, revision: str | None = None) -> None:
        """Refuse the codes of another model, see `CodeSpec.check_model`.

        Raises:
            ValueError: if the index is bound to another model.
        """
        self.spec.check_model(model_id, revision)

    def add(self, codes: ArrayLike, ids: ArrayLike | None = None, metadata: Metadata | None = None) -> None:
        """Add items after those that are there.

        Args:
            codes: uint8 `(n, ceil(K / 8))`.
            ids: integers or strings `(n,)`, none given before; without them the items are numbered on from the
                largest id.
            metadata: a row per item: a list of dicts, a dict of columns, or a pyarrow Table.

        Raises:
            ValueError: if the codes do not fit or are of another model, an id is there already or twice among the new
                ones, ids are of another kind than those of the index, or a length does not fit. The index is then as
                it was.
        """
        packed = self._as_codes(codes)
        self._add(packed, as_ids(ids, len(packed)), as_table(metadata, len(packed)))

    def remove(self, ids: ArrayLike) -> None:
        """Remove items; the others keep their order.

        Args:
            ids: integers or strings `(n,)`.

        Raises:
            ValueError: if an id is not there. The index is then as it was.
        """
        self._remove(as_ids(ids))

    def search(self, codes: ArrayLike, k: int, concept_weights: Weights | None = None) -> SearchResult:
        """Find the nearest items.

        Args:
            codes: uint8 `(Q, ceil(K / 8))`.
            k: items per query.
            concept_weights: what a differing bit of each concept counts: M numbers, or a dict from concept to number
                in which the concepts left out count nothing. `{2: 1}` searches by concept 2 alone.

        Returns:
            ids `(Q, k)`, distances `(Q, k)` and concept_distances `(Q, k, M)`, ordered by (distance, position of
            insertion). Which of the items tied at the k-th distance are returned is unspecified.

        Raises:
            ValueError: if the codes do not fit or are of another model, k is not between 1 and the number of items, a
                concept is unknown, or weights are negative, all zero, not finite, or not so in sum over the bits.
        """
        packed = self._as_codes(codes)
        self._check_k(k)
        k = int(k)  # faiss takes no number of numpy's
        if concept_weights is None:
            return self._search(packed, k)
        weights = as_concept_weights(concept_weights, self.num_bits, self.num_concepts)
        return self._search_weighted(packed, k, weights)

    def search_by_logits(self, code_logits: ArrayLike, k: int) -> SearchResult:
        """Find the nearest items by the code logits of the queries, which rank finer than their bits.

        A bit that differs counts as much as the query's logit is away from zero, its absolute value: the asymmetric
        distance of Gordo et al., "Asymmetric Distances for Binary Embeddings" (2014). Items need no logits.

        Args:
            code_logits: `(Q, K)`, floating point, of the model that made the codes.
            k: items per query.

        Returns:
            As `search`, with distances in float64. Exact in a `HammingIndex`; other backends put the nearest
            `OVERSAMPLING * k` by bits into the order of the logits, and of those at one distance the nearer by bits
            comes first.

        Raises:
            ValueError: if the logits are not finite or of another shape, or k is not between 1 and the number of
                items.
        """
        logits = as_logits(code_logits, self.num_bits)
        self._check_k(k)
        return self._search_by_logits(logits, pack_bits(binarize(logits)), int(k))

    def range_search(self, codes: ArrayLike, radius: int) -> RangeResult:
        """Find all items within a Hamming radius.

        Args:
            codes: uint8 `(Q, ceil(K / 8))`.
            radius: the greatest distance in bits, inclusive.

        Raises:
            ValueError: if the codes do not fit, or the radius is no integer from 0.
        """
        return self._range_search(self._as_codes(codes), check_radius(radius))

    def has(self, ids: ArrayLike) -> np.ndarray:
        """Which of these ids are there, bool `(n,)`; none of the other kind are.

        Args:
            ids: integers or strings `(n,)`.
        """
        return self._has(as_ids(ids))

    def get_metadata(self, ids: ArrayLike) -> list[dict[str, Any]]:
        """The metadata rows of items, in the order of `ids`; empty dicts where there is none.

        Args:
            ids: integers or strings `(n,)`.

        Raises:
            ValueError: if an id is not there.
        """
        return self._get_metadata(as_ids(ids))

    def get_codes(self, ids: ArrayLike) -> np.ndarray:
        """The codes of items, uint8 `(n, ceil(K / 8))`, in the order of `ids`.

        Args:
            ids: integers or strings `(n,)`.

        Raises:
            ValueError: if an id is not there.
        """
        return self._get_codes(as_ids(ids))

    @property
    def ids(self) -> np.ndarray | None:
        """All ids, int64 or strings (object) `(n,)`; None where they are not at hand, in a database."""
        return None

    def facets(self, most: int = 200) -> dict[str, list[Any]]:
        """The columns of the metadata that `where` may choose by, and what to give it for each, in order.

        Args:
            most: values of a column; with more, or only one, it is left out.

        Returns:
            Values by column; none where the metadata is not at hand, in a database.
        """
        return {}

    def warm(self) -> None:  # noqa: B027 - in a database there is nothing to build
        """Build now what first searches and look-ups build: several threads may then search at once, and all fast."""

    @abstractmethod
    def where(self, metadata: Mapping[str, Any]) -> "CodeIndex":
        """The items whose metadata has these values: an index of them, to search but not to change.

        Args:
            metadata: values by column, None for the items that have none there; of a column of lists, a list of
                values that are among those of the item.
        """

    def _as_codes(self, codes: ArrayLike) -> np.ndarray:
        if isinstance(codes, ModelCodes) and codes.spec is not None:
            self.check_model(None, codes.spec.revision)
        return as_codes(codes, self.num_bits)

    def _check_k(self, k: int) -> None:
        check_k(k, len(self))

    def _search_by_logits(self, logits: np.ndarray, codes: np.ndarray, k: int) -> SearchResult:
        near = self._search(codes, min(OVERSAMPLING * k, len(self)))
        items = self.get_codes(near.ids.ravel()).reshape(*near.ids.shape, codes.shape[1])
        distances = asymmetric_distances(logits, codes, items)
        first = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return replace(near, distances=distances).at(first)

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _add(self, codes: np.ndarray, ids: pa.Array | None, metadata: pa.Table | None) -> None: ...

    @abstractmethod
    def _remove(self, ids: pa.Array) -> None: ...

    @abstractmethod
    def _search(self, codes: np.ndarray, k: int) -> SearchResult: ...

    @abstractmethod
    def _search_weighted(self, codes: np.ndarray, k: int, weights: np.ndarray) -> SearchResult: ...

    @abstractmethod
    def _range_search(self, codes: np.ndarray, radius: int) -> RangeResult: ...

    @abstractmethod
    def _has(self, ids: pa.Array) -> np.ndarray: ...

    @abstractmethod
    def _get_metadata(self, ids: pa.Array) -> list[dict[str, Any]]: ...

    @abstractmethod
    def _get_codes(self, ids: pa.Array) -> np.ndarray: ...

    def __repr__(self) -> str:
        known = ", ".join(f"{name}={value!r}" for name, value in asdict(self.spec).items() if value is not None)
        return f"{type(self).__name__}({len(self)} codes, {known})"

"""Search in the process, over faiss's binary indexes."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
import pyarrow as pa
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from huggingface_hub.constants import CONFIG_NAME
from safetensors import SafetensorError

from ..quoting import markdown
from ..whole_files import one_writer
from .approximate import Approximate, HnswGraph, InvertedLists
from .base import CodeIndex, CodeSpec
from .distances import ConceptCounter, asymmetric_distances
from .files import DATA_PATTERNS, INDEX_NAME, codes_file, open_data, read_blocks, read_header, write_index
from .flat import codes_of, make_flat
from .inputs import ArrayLike, Metadata, as_codes
from .mapped import MappedFlat, map_codes
from .results import RangeResult, SearchResult
from .rows import Rows
from .scan import WeightedScan

KINDS: dict[str, type[Approximate] | None] = {"flat": None, "hnsw": HnswGraph, "ivf": InvertedLists}
PACKING = "most significant bit first, concept 0 first, unused bits of the last byte zero"

_CARD = """\
---
{{ card_data }}
---

# Codes of {{ model }}

An index of binary codes of {{ spec.num_bits }} bits, {{ spec.num_concepts }} concepts, with ids and metadata, for
[concepthash_hf](https://arxiv.org/abs/2406.08457). It holds no photos.

```python
from concepthash_hf.index import HammingIndex

index = HammingIndex.from_pretrained("<this repository>")
found = index.search(query_codes, k=10)  # codes of the same model
```
"""


class HammingIndex(
    CodeIndex, ModelHubMixin, library_name="concepthash_hf", tags=["image-hashing"], model_card_template=_CARD
):
    """Codes in memory: 8 bytes per code of 64 bits, and 8 per integer id.

    `search` by whole codes is exact for the kind `"flat"`. `"hnsw"` and `"ivf"` look at a part of the codes: faster
    from about a million codes on, and sometimes a hit is missed. They are built at the first search (or `save`) and
    again after a removal. Everything else is exact for every kind: `range_search`, searching with `concept_weights`,
    and `search_by_logits`. The first search with weights or logits makes one more copy of the codes.

    faiss searches on as many threads as `faiss.omp_set_num_threads` says, one or more queries on each. Several threads
    may search the same index at once, after a first search of the kind; changes are for one thread alone.

    Args:
        spec: what the codes are, and which model made them.
        kind: `"flat"`, `"hnsw"` or `"ivf"`.

    Raises:
        ValueError: if the kind is unknown.

    Example:
        >>> import numpy as np
        >>> codes = np.array([[0b11110000], [0b11110001], [0b00001111]], dtype=np.uint8)
        >>> index = HammingIndex.from_codes(codes, ids=["a", "b", "c"], num_bits=8, num_concepts=2)
        >>> found = index.search(codes[:1], k=2)
        >>> found.ids, found.distances
        (array([['a', 'b']], dtype=object), array([[0, 1]]))
        >>> found.concept_distances[0, 1]  # "b" differs in the second concept, by one bit
        array([0, 1])
        >>> index.search(codes[:1], k=2, concept_weights={0: 1}).distances  # by the first concept alone
        array([[0., 0.]])
    """

    def __init__(self, spec: CodeSpec, kind: str = "flat") -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}; got {kind!r}")
        self.spec = spec
        self.kind = kind
        self._rows = Rows()
        self._count_per_concept = ConceptCounter(spec.num_bits, spec.num_concepts)
        self._approximate: Approximate | None = None
        self._scan: WeightedScan | None = None
        self._keep(make_flat(-(-spec.num_bits // 8)))

    @classmethod
    def from_codes(
        cls,
        codes: ArrayLike,
        ids: ArrayLike | None = None,
        *,
        num_bits: int,
        num_concepts: int,
        metadata: Metadata | None = None,
        kind: str = "flat",
        model_id: str | None = None,
        revision: str | None = None,
    ) -> Self:
        """Make an index of codes.

        Args:
            codes: packed, uint8 `(n, ceil(num_bits / 8))`.
            ids: integers or strings `(n,)`; default 0, 1, ...
            num_bits: K.
            num_concepts: M; K divides by it.
            metadata: a row per item: a list of dicts, a dict of columns, or a pyarrow Table.
            kind: `"flat"`, `"hnsw"` or `"ivf"`.
            model_id: the model that made the codes.
            revision: of the model.

        Raises:
            ValueError: as `add`, or if K does not divide by M, or the kind is unknown.
        """
        index = cls(CodeSpec(num_bits, num_concepts, model_id, revision), kind)
        index.add(codes, ids, metadata)
        return index

    @classmethod
    def load(
        cls, folder: str | Path, *, mapped: bool = False, model_id: str | None = None, revision: str | None = None
    ) -> Self:
        """Load an index that `save` wrote.

        Args:
            folder: of the index.
            mapped: leave the codes in their file, which the system reads as needed and several processes share, in
                place of a copy in memory; a change makes the copy. Only of the kind `"flat"`.
            model_id: the model that will make the queries; refused if the index was made with another.
            revision: of that model.

        Raises:
            FileNotFoundError: if there is no index in the folder.
            ValueError: if a file is missing or damaged, in a newer format, or the codes are of another model.
        """
        folder = Path(folder)
        while True:
            header = read_header(folder)
            try:
                return cls._load(folder, header, mapped, model_id, revision)
            except (OSError, ValueError):
                # somebody may have saved another one, and removed these files, while they were read
                if read_header(folder) == header:
                    raise

    @classmethod
    def _load(
        cls, folder: Path, header: dict[str, Any], mapped: bool, model_id: str | None, revision: str | None
    ) -> Self:
        try:
            index = cls(CodeSpec(**header["spec"]), header["kind"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{folder / INDEX_NAME} is damaged ({error}): save the index again") from None
        index.check_model(model_id, revision)
        width, length = index._flat.code_size, header["num_codes"]
        tensors, table = open_data(folder, header, width)
        try:
            index._rows = Rows.checked(table)
            kind, codes = KINDS[index.kind], index._checked_codes(tensors)
            if mapped and kind is None:
                deque(codes, maxlen=0)  # checked, not kept
                index._keep(MappedFlat(map_codes(codes_file(folder, header))))
                return index
            index._keep(flat := make_flat(width, codes, length))
            if kind is not None and length:
                saved = set(kind.ARRAYS) & set(tensors.keys())
                index._approximate = kind.restore(flat, {name: tensors.get_tensor(name) for name in saved})
        except (ValueError, SafetensorError) as error:
            raise ValueError(f"the index in {folder} is damaged ({error}): save it again") from None
        return index

    def _checked_codes(self, tensors: Any) -> Iterator[np.ndarray]:
        """The codes of a file, some at a time: none with bits set that do not belong to it."""
        return (as_codes(block, self.num_bits) for block in read_blocks(tensors, "codes"))

    def save(self, folder: str | Path) -> None:
        """Write the index into a folder, in place of the one that may be there.

        Besides the card it consists of `index.json`, the codes as safetensors, and ids and metadata as parquet.
        Interrupted at any moment, the folder holds either the old index or the new one; of several that save at the
        same time, one after the other does.

        Args:
            folder: made if it is not there.

        Raises:
            ValueError: if the folder holds something else, such as a model.
            BlockingIOError: if another process does not finish writing there.
            OSError: if a file cannot be written.
        """
        self.save_pretrained(folder)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> str | None:
        """As `save`; takes what `huggingface_hub.ModelHubMixin.save_pretrained` takes."""
        folder = Path(save_directory)
        if (folder / CONFIG_NAME).exists() and not (folder / INDEX_NAME).exists():
            raise ValueError(f"{folder} holds a model or something else with a {CONFIG_NAME}: give another folder")
        with one_writer(folder):
            if self._is_of_another(folder):  # the mixin leaves a card as it is
                (folder / "README.md").unlink(missing_ok=True)
            return super().save_pretrained(folder, **kwargs)

    def _is_of_another(self, folder: Path) -> bool:
        """Whether a folder holds an index of other codes, or of another model, than this one."""
        try:
            return read_header(folder)["spec"] != asdict(self.spec)
        except (FileNotFoundError, ValueError):
            return False

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """Upload the index in one commit; data files of an earlier version go.

        Args:
            repo_id: `organisation/name`, made if it is not there.
            **kwargs: see `huggingface_hub.ModelHubMixin.push_to_hub`.

        Returns:
            The URL of the commit.
        """
        return super().push_to_hub(repo_id, **{"delete_patterns": list(DATA_PATTERNS), **kwargs})

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def ids(self) -> np.ndarray:
        """All ids in order of insertion, int64 or strings (object) `(n,)`."""
        return self._rows.ids

    def warm(self) -> None:
        """See `CodeIndex.warm`."""
        if len(self):
            self._ready(), self._scanned(), self._rows.by_id  # noqa: B018

    def where(self, metadata: Mapping[str, Any]) -> "HammingIndex":
        """The items whose metadata has these values: an exact index of them, with codes of its own.

        Args:
            metadata: values by column, None for the items that have none there; of a column of lists, a list of
                values that are among those of the item.

        Raises:
            ValueError: if there is no such column, its values are of another kind, or a list is given for single ones.

        Example:
            >>> index.where({"species": "wren", "split": "train"}).search(codes, k=5)  # doctest: +SKIP
        """
        positions = self._rows.positions_where(metadata)
        chosen = HammingIndex(self.spec)
        chosen._rows = self._rows.at(positions)
        chosen._keep(make_flat(self._flat.code_size, [self._codes[positions]], len(positions)))
        return chosen

    def facets(self, most: int = 200) -> dict[str, list[Any]]:
        """See `CodeIndex.facets`."""
        return self._rows.facets(most)

    def _add(self, codes: np.ndarray, ids: pa.Array | None, metadata: pa.Table | None) -> None:
        rows = self._rows.appended(len(codes), ids, metadata)
        own = self._own()
        if self._approximate is None:
            own.add(codes)
        else:
            self._approximate.add(codes)
            if self._approximate.outgrown():
                self._approximate = None
        self._rows, self._scan = rows, None
        self._keep(self._flat)

    def _remove(self, ids: pa.Array) -> None:
        positions = self._rows.positions_of(ids)
        self._own().remove_ids(positions)
        self._rows = self._rows.without(positions)
        self._approximate = self._scan = None
        self._keep(self._flat)

    def _search(self, codes: np.ndarray, k: int) -> SearchResult:
        distances, positions = self._ready().search(codes, k)
        if self.kind != "flat":
            incomplete = (positions < 0).any(axis=1)
            if incomplete.any():
                distances[incomplete], positions[incomplete] = self._flat.search(codes[incomplete], k)
        # faiss sorts by distance only; as one number each, equal distances are sorted by position the fastest
        distances = distances.astype(np.int64)
        blocks = distances * len(self)
        positions = positions + blocks
        positions.sort(axis=1)
        positions -= blocks
        return SearchResult(self._rows.ids_at(positions), distances, self._concept_distances(codes, positions))

    def _search_weighted(self, codes: np.ndarray, k: int, weights: np.ndarray) -> SearchResult:
        def distances_to(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
            # not a matrix product, whose last digit may depend on where a row stands
            return np.einsum("qcm,m->qc", self._concept_distances(codes[queries], items), weights)

        bit_weights = np.tile(np.repeat(weights, self.num_bits // self.num_concepts), (len(codes), 1))
        distances, positions = self._scanned().nearest(codes, bit_weights, k, distances_to, _step(weights))
        return SearchResult(self._rows.ids_at(positions), distances, self._concept_distances(codes, positions))

    def _search_by_logits(self, logits: np.ndarray, codes: np.ndarray, k: int) -> SearchResult:
        def distances_to(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
            return asymmetric_distances(logits[queries], codes[queries], self._codes[items])

        distances, positions = self._scanned().nearest(codes, np.abs(logits), k, distances_to)
        return SearchResult(self._rows.ids_at(positions), distances, self._concept_distances(codes, positions))

    def _range_search(self, codes: np.ndarray, radius: int) -> RangeResult:
        if len(self) == 0 or len(codes) == 0:
            offsets, found = np.zeros(len(codes) + 1, dtype=np.int64), np.empty((2, 0), dtype=np.int64)
            queries, positions = found
        else:
            limits, _, positions = self._flat.range_search(codes, min(radius, self.num_bits) + 1)  # faiss: below it
            offsets = limits.astype(np.int64)
            queries = np.repeat(np.arange(len(codes)), np.diff(offsets))
        concept_distances = self._count_per_concept(codes[queries], self._codes[positions])
        distances = concept_distances.sum(axis=-1)
        order = np.lexsort((positions, distances, queries))
        return RangeResult(offsets, self._rows.ids_at(positions[order]), distances[order], concept_distances[order])

    def _has(self, ids: pa.Array) -> np.ndarray:
        return self._rows.has(ids)

    def _get_metadata(self, ids: pa.Array) -> list[dict[str, Any]]:
        return self._rows.metadata_at(self._rows.positions_of(ids))

    def _get_codes(self, ids: pa.Array) -> np.ndarray:
        return self._codes[self._rows.positions_of(ids)]

    def _concept_distances(self, codes: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return self._count_per_concept(codes[:, None], self._codes[positions])

    def _own(self) -> faiss.IndexBinaryFlat:
        """The codes in memory, where they can be changed: a copy, if they were in their file."""
        if isinstance(self._flat, MappedFlat):
            self._keep(flat := make_flat(self._flat.code_size, [self._codes], len(self)))
            return flat
        return self._flat

    def _keep(self, flat: faiss.IndexBinaryFlat | MappedFlat) -> None:
        """Take over the codes, or see them anew after a change."""
        self._flat, self._codes = flat, codes_of(flat)

    def _ready(self) -> Any:
        """What searches whole codes: built if it is not there."""
        kind = KINDS[self.kind]
        if kind is None:
            return self._flat
        if self._approximate is None:
            self._approximate = kind.build(self._own())
            self._keep(self._approximate.flat)
        return self._approximate

    def _scanned(self) -> WeightedScan:
        if self._scan is None:
            self._scan = WeightedScan(self._codes)
        return self._scan

    def _save_pretrained(self, save_directory: Path) -> None:
        tensors = self._ready().arrays() if self.kind != "flat" and len(self) else {}
        tensors["codes"] = self._codes
        header = {"spec": asdict(self.spec), "kind": self.kind, "num_codes": len(self), "packing": PACKING}
        write_index(save_directory, header, tensors, self._rows.table)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **kwargs: Any) -> Self:
        folder = Path(model_id)
        if not folder.is_dir():
            known = ("revision", "cache_dir", "force_download", "local_files_only", "token")
            patterns = [INDEX_NAME, *DATA_PATTERNS]
            options = {name: kwargs[name] for name in known}
            folder = Path(snapshot_download(model_id, allow_patterns=patterns, **options))
        return cls.load(folder)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card of the index's folder; it tells nothing that `add` could change."""
        return super().generate_model_card(*args, model=markdown(self.spec.describe_model()), spec=self.spec, **kwargs)


def _step(weights: np.ndarray) -> float:
    """What all weighted distances are multiples of: the least weight, if it divides the others; else 0, unknown."""
    least = weights[weights > 0].min()
    multiples = weights / least
    return float(least) if np.allclose(multiples, np.rint(multiples), rtol=0, atol=1e-9) else 0.0

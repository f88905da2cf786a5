"""The front door: photos and words in, codes, indexes and explanations out."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm
from transformers import AutoImageProcessor, BaseImageProcessor, PreTrainedTokenizerBase

from .class_checks import coinciding_names, describe_coinciding
from .codes import binarize, pack_bits, split_sub_codes
from .data import BadImage, BadImageError, eval_transform
from .data.inputs import as_photos
from .encoding import code_spec
from .explain import ImageExplanation, MatchExplanation, explain_image, explain_match
from .hashing import Pictures, apart
from .index import CodeSpec, HammingIndex, ModelCodes, open_index
from .index.opening import has_index, shard_locations
from .language import embed_class_names, load_tokenizer
from .launch import cores
from .modeling_concepthash import ConceptHashPreTrainedModel
from .models import model_class
from .modes import evaluating
from .photo_index import Changes, PhotoIndex, Source, Words, is_collection
from .whole_files import one_writer

Output = Literal["codes", "logits", "sub_codes"]

_BASES = ("base_model_name_or_path", "text_base_name_or_path")  # of small checkpoints
_FEW = 64  # photos that are decoded faster than workers start
_MOST_WORKERS = 4

logger = logging.getLogger(__name__)


class ConceptHasher:
    """A saved model with all that it needs to hash photos and words.

    Codes are computed in float32 on every device, so that a photo has the same code wherever it is hashed.

    Args:
        name_or_path: a folder or a Hub id.
        device: default the accelerator (CUDA, MPS, ...) if there is one, else the CPU.
        batch_size: photos at a time.
        num_workers: processes that decode photos; default as many as there are cores to spare, for more than a few.
        **kwargs: of `from_pretrained`: `revision`, `token`, `base_model_name_or_path`, ...

    Attributes:
        model: a `ConceptHashModel`, or a `ConceptHashVisionModel` if only the tower was saved; of another method a
            `BaselineModel`, whose codes are not made of parts.
        image_processor: the model's.

    Raises:
        ValueError: if there is another kind of model, or its image processor is missing.
        OSError: if there is no model.

    Example:
        >>> hasher = ConceptHasher("my_model")  # doctest: +SKIP
        >>> hasher.encode(["robin.jpg", "wren.jpg"])  # doctest: +SKIP
        array([[ 27, 201, 64, 255], [ 27, 201, 65, 12]], dtype=uint8)
        >>> hasher.match("robin.jpg", "wren.jpg").distance  # doctest: +SKIP
        7
        >>> hasher.index("my_photos").search("new.jpg", k=3)  # doctest: +SKIP
        Hits('new.jpg': 3 photos, by distance: robin 2, robin 5, wren 11)
    """

    def __init__(
        self,
        name_or_path: str | Path,
        device: str | torch.device | None = None,
        *,
        batch_size: int = 64,
        num_workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.name_or_path, self.kwargs = str(name_or_path), kwargs
        self._hub_kwargs = {name: value for name, value in kwargs.items() if name not in _BASES}
        self.model = model_class(name_or_path, **self._hub_kwargs).from_pretrained(
            name_or_path, **{"dtype": torch.float32, **kwargs}
        )
        self.device = torch.device(device) if device is not None else _best_device()
        self.model.to(self.device).eval()
        self.image_processor = load_image_processor(name_or_path, **self._hub_kwargs)
        self.batch_size, self.num_workers = batch_size, num_workers

    @cached_property
    def spec(self) -> CodeSpec:
        """What the codes are, and which model makes them."""
        return code_spec(self.model)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Of the words.

        Raises:
            ValueError: if the model reads no words, or its tokenizer was not saved with it.
        """
        if not self.reads_words:
            raise ValueError(
                f"{self.name_or_path} reads no words: it was saved without its text tower. Search with photos, or "
                "with a model that has it (keep_text_model=True, the default)"
            )
        return load_tokenizer(self.name_or_path, **self._hub_kwargs)

    def __repr__(self) -> str:
        what = f"{self.spec.num_bits} bits, {self.spec.num_concepts} concepts"
        return f"ConceptHasher({self.name_or_path!r}: {what}, on {self.device})"

    def save_pretrained(self, folder: str | Path, *, trained_only: bool = False) -> None:
        """Save the model with its image processor and tokenizer.

        Args:
            folder: another `ConceptHasher` can be made of it.
            trained_only: make a small checkpoint, see `ConceptHashModel.save_pretrained`.

        Raises:
            ValueError: for `trained_only`, if the frozen weights cannot be had elsewhere.
        """
        self.model.save_pretrained(folder, trained_only=trained_only)
        self.save_companions(folder)

    def save_companions(self, folder: str | Path) -> None:
        """Save what belongs to the model: image processor and, where it reads words, tokenizer."""
        self.image_processor.save_pretrained(folder)
        if self.reads_words:
            self.tokenizer.save_pretrained(folder)

    @property
    def reads_words(self) -> bool:
        """Whether the model has its text tower."""
        return getattr(self.model, "text_model", None) is not None

    @property
    def has_concepts(self) -> bool:
        """Whether codes are made of parts that look at something; those of other methods are not."""
        return isinstance(self.model, ConceptHashPreTrainedModel)

    def check_has_concepts(self) -> None:
        """Refuse to explain what cannot be explained.

        Raises:
            ValueError: if the model has no concepts.
        """
        if not self.has_concepts:
            raise ValueError(
                f"{self.name_or_path} was trained by another method than ConceptHash: its codes have no concepts that "
                "could be explained"
            )

    def encode(self, photos: Any, *, output: Output = "codes") -> np.ndarray:
        """Hash photos.

        Args:
            photos: a path, a folder, a PIL picture, an array, a tensor, or a list of any: see `data.inputs.as_photos`.
            output: "codes", "logits" or "sub_codes".

        Returns:
            For n photos, in their order: packed codes uint8 `(n, ceil(K / 8))`, which an index of another model
            refuses; code logits float32 `(n, K)`; or
            sub-codes, booleans `(n, M, K / M)`.

        Raises:
            BadImageError: if a photo cannot be read; says which and why.
            TypeError: if something is no photo.
            ValueError: if there are no photos, or there is no such output.
        """
        if output not in ("codes", "logits", "sub_codes"):
            raise ValueError(f'output is "codes", "logits" or "sub_codes", got {output!r}')
        pictures = as_photos(photos)
        parts = []
        for logits, _, bad in self._logits(pictures, range(len(pictures))):
            if bad:
                raise BadImageError.of(bad[0].path, bad[0].reason, bad[0].row if len(pictures) > 1 else None)
            parts.append(logits)
        found = np.concatenate(parts)
        if output == "logits":
            return found
        bits = binarize(found)
        if output == "sub_codes":
            return split_sub_codes(bits, self.spec.num_concepts)
        return ModelCodes.of(pack_bits(bits), self.spec)

    def encode_names(self, names: str | Sequence[str]) -> np.ndarray:
        """Hash words: the codes of classes of these names, also of classes never trained on.

        Args:
            names: one or several, without the prompt around them, which is that of the training.

        Returns:
            Packed codes uint8 `(n, ceil(K / 8))`.

        Raises:
            ValueError: if the model reads no words, or a name is empty.
        """
        names = [names] if isinstance(names, str) else list(names)
        tokenizer = self.tokenizer
        embeddings = embed_class_names(self.model.text_model, tokenizer, names, self.model.config.prompt_template)
        if groups := coinciding_names(embeddings, names):
            logger.warning("%s. They find the same photos", describe_coinciding(groups))
        with torch.no_grad(), evaluating(self.model):
            return ModelCodes.of(self.model.get_text_hash_codes(embeddings).cpu().numpy(), self.spec)

    def encode_queries(self, queries: Sequence[Any]) -> np.ndarray:
        """Hash photos and words together; what is words is `photo_index.Words`."""
        codes = np.empty((len(queries), -(-self.spec.num_bits // 8)), np.uint8)
        words = [row for row, query in enumerate(queries) if isinstance(query, Words)]
        photos = [row for row, query in enumerate(queries) if not isinstance(query, Words)]
        if words:
            codes[words] = self.encode_names([str(queries[row]) for row in words])
        if photos:
            codes[photos] = self.encode([queries[row] for row in photos])
        return codes

    def index(self, photos: Any, **options: Any) -> PhotoIndex:
        """Hash a collection into an index that takes photos and words itself.

        Args:
            photos: a folder, with class folders or without, a table, or the name of a dataset: see
                `data.load_collection`. Or what `encode` takes.
            **options: how a collection is read, fields of `data.options.ReadOptions`.

        Returns:
            The index; photos that cannot be read are logged, and have no code. `index.save(folder)` keeps it.

        Raises:
            ValueError: if there are no photos.
        """
        of_all = is_collection(photos)
        source = Source(self.name_or_path, self.kwargs, str(photos) if of_all else None, options)
        index = PhotoIndex(self, HammingIndex(self.spec), source.absolute())
        changes = index.update() if of_all else index.add(photos)
        for bad in changes.unreadable:
            logger.warning("unreadable picture %s: %s", bad.path, bad.reason)
        return index

    def explain(self, photo: Any) -> ImageExplanation:
        """Explain the code of a photo: what each concept makes of it, and where it looks.

        Raises:
            ValueError: if it cannot be read, or the model has no concepts.
        """
        self.check_has_concepts()
        (picture,) = _one(photo)
        return explain_image(self.model, self.image_processor, picture)

    def match(self, one: Any, other: Any) -> MatchExplanation:
        """Explain why two photos have similar codes, or do not, concept by concept.

        Raises:
            ValueError: if one cannot be read, or the model has no concepts.
        """
        self.check_has_concepts()
        return explain_match(self.model, self.image_processor, *_one(one), *_one(other))

    def hash_rows(
        self, pictures: Sequence[Any], rows: Sequence[int]
    ) -> Iterator[tuple[np.ndarray, list[int], list[BadImage]]]:
        """Hash some of many pictures, batch by batch.

        Args:
            pictures: what `data.decode_image` reads.
            rows: which of them.

        Yields:
            Packed codes uint8 `(n, ceil(K / 8))`, the n rows that they are of, and the pictures that cannot be read.
        """
        for logits, hashed, bad in self._logits(pictures, rows):
            yield pack_bits(binarize(logits)), hashed, bad

    @torch.no_grad()
    def _logits(
        self, pictures: Sequence[Any], rows: Sequence[int]
    ) -> Iterator[tuple[np.ndarray, list[int], list[BadImage]]]:
        loader: DataLoader = DataLoader(
            Subset(Pictures(pictures, eval_transform(self.image_processor)), rows),
            self.batch_size,
            num_workers=_workers(len(rows)) if self.num_workers is None else self.num_workers,
            collate_fn=apart,
        )
        with tqdm(desc="hashing", unit=" photos", total=len(rows), disable=len(rows) <= _FEW) as bar:
            for number, (pixel_values, bad) in enumerate(loader):
                batch = rows[number * self.batch_size : (number + 1) * self.batch_size]
                unread = {image.row for image in bad}
                logits = [self.model.base_model(values.to(self.device)).code_logits for values in pixel_values]
                none = np.empty((0, self.spec.num_bits), np.float32)
                found = logits[0].float().cpu().numpy() if logits else none
                yield found, [row for row in batch if row not in unread], bad
                bar.update(len(batch))


def open_photo_index(
    location: str | Path | Sequence[str | Path],
    model: "str | Path | ConceptHasher | None" = None,
    photos: str | Path | None = None,
    table: str = "concepthash_codes",
    *,
    options: Mapping[str, Any] | None = None,
    mapped: bool = False,
    **kwargs: Any,
) -> PhotoIndex:
    """Open an index that `PhotoIndex.save` wrote, or any other index of codes.

    Args:
        location: a folder, a Hub id, or `postgresql://user@host/database`; or several, see `index.open_index`.
        model: the model that made it; default what the folder says, of several the first.
        photos: where its photos are now; default where they were, of several those of the first.
        table: of the database.
        options: how photos that are elsewhere now are read; default as they were.
        mapped: leave the codes in their file, see `HammingIndex.load`.
        **kwargs: for `ConceptHasher`.

    Raises:
        ValueError: if it was made by another model, or the folder does not say by which.
        FileNotFoundError: if there is no index.
    """
    shards = shard_locations(location)
    codes = open_index(location, table, mapped)
    source = Source.load(shards[0]) if Path(shards[0]).is_dir() else None
    if not isinstance(model, ConceptHasher):
        if model is None and source is None:
            raise ValueError(
                f"{shards[0]} does not say which model made it, {codes.spec.describe_model()}: give the model"
            )
        if model is None and source is not None:
            kwargs = {**source.model_kwargs, **kwargs}
            if os.path.isabs(source.model) and not os.path.isdir(source.model):
                raise FileNotFoundError(
                    f"the model of this index is not in {source.model} any more: say where it is (model=..., --model)"
                )
        model = ConceptHasher(model or source.model, **kwargs)  # type: ignore[union-attr]
    # where the model is now; that it is the one which made the codes, is checked below
    made_of = replace(source or Source(""), model=model.name_or_path, model_kwargs=model.kwargs).absolute()
    if photos is not None:
        made_of = made_of.moved_to(photos, options or {})
    return PhotoIndex(model, codes, made_of, is_foreign=source is None)


def renew_index(
    folder: str | Path,
    photos: str | Path,
    model: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    with_content: bool = False,
    tell: Callable[[str], None] | None = None,
    **kwargs: Any,
) -> tuple[PhotoIndex, Changes]:
    """Make an index of a collection in a folder, or bring the one that is there up to date.

    It is saved while it grows: what interrupts it loses a minute at most, and the same call goes on.

    Args:
        folder: of the index.
        photos: of the collection, see `data.load_collection`.
        model: the model; default the one that made the index.
        options: how photos are read; default as they were.
        with_content: see `PhotoIndex.update`.
        tell: see `PhotoIndex.update`.
        **kwargs: for `ConceptHasher`.

    Returns:
        The index, and what became of it.

    Raises:
        ValueError: if there is no model, no photos, or the folder has an index of other photos or another model.
        BlockingIOError: if another process writes into the folder.
        Interrupted: on SIGINT and SIGTERM.
    """
    hasher = None
    if not has_index(folder):
        if model is None:
            raise ValueError(f"there is no index in {folder} yet: say which model is to make it")
        hasher = ConceptHasher(model, **kwargs)  # which may fail, before there is a folder
    with one_writer(folder):
        if hasher is None or has_index(folder):  # also one that another process has just made
            index = open_photo_index(folder, hasher or model, **kwargs)
        else:
            index = PhotoIndex(hasher, HammingIndex(hasher.spec), Source(hasher.name_or_path, kwargs))
        index.source = index.source.renewed(photos, options or {})
        return index, index.update(with_content=with_content, folder=folder, tell=tell)


def load_image_processor(name_or_path: str | Path, **hub_kwargs: Any) -> BaseImageProcessor:
    """The image processor that was saved with a model.

    Raises:
        ValueError: if there is none; tells where it is from.
    """
    try:
        return AutoImageProcessor.from_pretrained(name_or_path, **hub_kwargs)
    except (OSError, ValueError) as error:
        why = "" if Path(name_or_path).is_dir() else f" ({error})"
        raise ValueError(
            f"there is no image processor in {name_or_path}, without which photos get other codes: save it there, "
            f"model.image_processor.save_pretrained({str(name_or_path)!r}), or copy its preprocessor_config.json{why}"
        ) from error


def _best_device() -> torch.device:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def _workers(num_photos: int) -> int:
    """None for few photos; else a core is left to the model."""
    if num_photos <= _FEW:
        return 0
    return min(_MOST_WORKERS, cores() - 1)


def _one(photo: Any) -> list[Any]:
    pictures = as_photos(photo)
    if len(pictures) != 1:
        raise ValueError(f"expected one photo, got {len(pictures)}")
    return pictures

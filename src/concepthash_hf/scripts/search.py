"""Search hashed photos with photos or with words: a table, and a picture of what was found."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, HfArgumentParser

from .. import ConceptHashModel
from ..class_checks import coinciding_names, describe_coinciding
from ..data import BadImageError, Collection, PhotoArguments, decode_image, eval_transform
from ..encoding import code_spec
from ..explain.contact_sheet import Found, Hit, contact_sheet
from ..hits import caption_of, hits_table
from ..index import SearchResult, open_index
from ..language import embed_class_names
from ..photo_records import regular_file_below
from ..quoting import printable
from ..whole_files import replacing


@dataclass(frozen=True, kw_only=True)
class Arguments(PhotoArguments):
    """What to look for, where, and how."""

    model_name_or_path: str = field(
        metadata={"help": "The ConceptHash model that made the codes: a folder or a Hub id.", "aliases": ["--model"]}
    )
    index: str = field(metadata={"help": "A folder, a Hub id, or postgresql://user@host/database."})
    images: list[str] = field(default_factory=list, metadata={"help": "Photos to search with."})
    text: list[str] = field(default_factory=list, metadata={"help": "Class names to search with, also new ones."})
    k: int = field(default=10, metadata={"help": "Hits for each.", "aliases": ["-k"]})
    concepts: list[str] = field(
        default_factory=list,
        metadata={"help": "Search by these concepts only, from 1; with a weight such as 2=0.5 if they differ."},
    )
    table: str = field(default="concepthash_codes", metadata={"help": "Name of the index in the database."})
    output: str = field(default="search.png", metadata={"help": "Where the picture goes."})
    dataset: str | None = field(
        default=None,
        metadata={
            "help": "What was hashed, as for encode.py: shows the photos of hits. Of an index alone no file is opened."
        },
    )


def main(words: Sequence[str] | None = None) -> None:
    """Hash the queries, search, show."""
    args: Arguments = HfArgumentParser(Arguments).parse_args_into_dataclasses(words)[0]
    if not args.images and not args.text:
        raise ValueError("give photos as --images or words as --text to search with")
    model = ConceptHashModel.from_pretrained(args.model_name_or_path).eval()
    index = open_index(args.index, args.table)
    index.check_model(None, code_spec(model).revision)
    weights = concept_weights(args.concepts, index.num_concepts)
    photos = [decode_image(path) for path in args.images]
    codes = np.concatenate([hash_photos(model, photos, args), hash_words(model, args)])
    result = index.search(codes, min(args.k, len(index)), weights)
    names = [Path(path).name for path in args.images] + args.text
    known = index.get_metadata(result.ids.ravel())
    rows = [known[start : start + result.ids.shape[1]] for start in range(0, len(known), result.ids.shape[1])]
    print(printable(table(names, result, rows)))
    found = to_show([*photos, *args.text], names, result, rows, HashedPhotos(args))
    with replacing(args.output) as part:
        contact_sheet(found, index.num_bits // index.num_concepts, weights).save(part)
    print(f"\npicture: {args.output}")
    if not any(hit.image for search in found for hit in search.hits):
        print("the photos of the hits are not shown: say with --dataset where they are")


def concept_weights(concepts: list[str], num_concepts: int) -> np.ndarray | None:
    """From such as "1" and "3=0.5" to weights of all concepts; None if none is named."""
    if not concepts:
        return None
    weights = np.zeros(num_concepts)
    for text in concepts:
        number, _, weight = text.partition("=")
        try:
            concept, value = int(number), float(weight or 1)
        except ValueError:
            concept, value = 0, 0.0
        if not 1 <= concept <= num_concepts:
            raise ValueError(f"--concepts takes numbers from 1 to {num_concepts}, or such as 2=0.5; got {text!r}")
        weights[concept - 1] = value
    return weights


@torch.no_grad()
def hash_photos(model: ConceptHashModel, photos: list[Image.Image], args: Arguments) -> np.ndarray:
    """Codes of pictures."""
    if not photos:
        return np.empty((0, -(-model.config.num_bits // 8)), np.uint8)
    transform = eval_transform(AutoImageProcessor.from_pretrained(args.model_name_or_path))
    return model.get_hash_codes(torch.stack([transform(photo) for photo in photos])).numpy()


def hash_words(model: ConceptHashModel, args: Arguments) -> np.ndarray:
    """Codes of class names."""
    if not args.text:
        return np.empty((0, -(-model.config.num_bits // 8)), np.uint8)
    if model.text_model is None:
        raise ValueError(f"{args.model_name_or_path} was saved without its text tower, which words need")
    tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path)
    embeddings = embed_class_names(model.text_model, tokenizer, args.text, model.config.prompt_template)
    if groups := coinciding_names(embeddings, args.text):
        print(f"warning: {describe_coinciding(groups)}. They find the same photos", file=sys.stderr)
    return model.get_text_hash_codes(embeddings).numpy()


def table(names: list[str], result: SearchResult, rows: list[list[dict[str, Any]]]) -> str:
    """A line for each hit, with its distance in all and by concept."""
    found = zip(names, rows, result.ids, result.distances, result.concept_distances, strict=True)
    return "\n\n".join(f"{name}\n{hits_table(*hits, known)}" for name, known, *hits in found)


def to_show(
    queries: list[Image.Image | str],
    names: list[str],
    result: SearchResult,
    rows: list[list[dict[str, Any]]],
    hashed: "HashedPhotos",
) -> list[Found]:
    """Everything with its picture."""
    searches = []
    for number, (query, name) in enumerate(zip(queries, names, strict=True)):
        hits = [
            Hit(hashed.photo(id), caption_of(id, row), distance, bits)
            for id, row, distance, bits in zip(
                result.ids[number],
                rows[number],
                result.distances[number].tolist(),
                result.concept_distances[number].tolist(),
                strict=True,
            )
        ]
        searches.append(Found(query, "searched by words" if isinstance(query, str) else name, hits))
    return searches


class HashedPhotos:
    """The photos that were hashed, by id, where the user says they are: what an index says of places is not trusted.

    Args:
        args: whose `dataset` is a folder, in which ids are paths; or what else `load_collection` understands; None for
            no photos.
    """

    def __init__(self, args: PhotoArguments) -> None:
        self.args = args

    def photo(self, id: Any) -> Image.Image | None:
        """The photo of a hit, or None if it is not there."""
        if self.args.dataset is None:
            return None
        try:
            file = regular_file_below(Path(self.args.dataset), str(id))
            if file is not None:
                return decode_image(file)
            return self._collection.image(self._row_of[id]) if id in self._row_of else None
        except BadImageError:
            return None

    @cached_property
    def _collection(self) -> Collection:
        return self.args.load_collection()

    @cached_property
    def _row_of(self) -> dict[Any, int]:
        return {id: row for row, id in enumerate(self._collection.ids)}

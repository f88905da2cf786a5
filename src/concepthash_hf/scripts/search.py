"""Search hashed photos with photos or with words: a table, and a picture of what was found."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..data import PhotoArguments
from ..explain.contact_sheet import contact_sheet
from ..hasher import open_photo_index
from ..hits import Hits
from ..photo_index import PhotoIndex, Words
from ..quoting import printable
from .arguments import WrongCallError, read_arguments
from .picture_files import check_picture_file, save_picture


@dataclass(frozen=True, kw_only=True)
class Arguments(PhotoArguments):
    """What to look for, where, and how."""

    model_name_or_path: str = field(
        metadata={"help": "The ConceptHash model that made the codes: a folder or a Hub id.", "aliases": ["--model"]}
    )
    index: list[str] = field(
        metadata={"help": "A folder, a Hub id, or postgresql://user@host/database; several are searched as one."}
    )
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
    """Open, search, show."""
    args: Arguments = read_arguments(Arguments, words)
    if not args.images and not args.text:
        raise WrongCallError("give photos as --images or words as --text to search with")
    check_picture_file(args.output)
    index = open_photo_index(
        args.index, args.model_name_or_path, args.dataset, args.table, options=args.reading_options()
    )
    weights = concept_weights(args.concepts, index.codes.num_concepts)
    queries = [*map(Path, args.images), *map(Words, args.text)]
    results = index.search_each(queries, args.k, weights)
    print(f"{len(index)} photos in {', '.join(args.index)}")
    show(index, results, weights, args.output)


def concept_weights(concepts: Sequence[str], num_concepts: int) -> list[float] | None:
    """From such as "1" and "3=0.5" to weights of all concepts; None if none is named.

    Raises:
        WrongCallError: if it is no such number.
    """
    if not concepts:
        return None
    weights = [0.0] * num_concepts
    for text in concepts:
        number, _, weight = text.partition("=")
        try:
            concept, value = int(number), float(weight or 1)
        except ValueError:
            concept, value = 0, 0.0
        if not 1 <= concept <= num_concepts:
            raise WrongCallError(f"--concepts takes numbers from 1 to {num_concepts}, or such as 2=0.5; got {text!r}")
        weights[concept - 1] = value
    return weights


def show(index: PhotoIndex, results: Sequence[Hits], weights: Sequence[float] | None, output: str) -> None:
    """Print what was found, and draw it into a file."""
    for hits in results:
        print(printable(f"\n{hits.name}\n{hits.table()}"))
    found = [hits.found() for hits in results]
    save_picture(contact_sheet(found, index.codes.num_bits // index.codes.num_concepts, weights), output)
    print(f"\npicture: {output}")
    if not any(hit.image for search in found for hit in search.hits):
        print("the photos of the hits are not shown: say with --dataset where they are")

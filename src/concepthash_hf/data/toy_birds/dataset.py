"""Toy birds as a `datasets.DatasetDict`."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import PIL
from PIL import Image

from .drawing import draw_bird
from .species import FAMILIES, SPECIES, VALUES, Species, find_species

_SPLITS = ("train", "test")
_BIRDS_PER_SPLIT = 1_000_000  # room for the birds of one species in one split


def toy_birds(
    seed: int = 0,
    train_per_species: int = 60,
    test_per_species: int = 20,
    size: int = 96,
    species: Sequence[Species | str] | None = None,
) -> datasets.DatasetDict:
    """Draws a data set of toy birds, or takes it from the cache of `datasets` if it was drawn before.

    Every bird depends on the seed, its split, its species and its number among them, and on nothing else: more birds,
    or fewer species, leave the others as they are. No bird of one split is in the other.

    Args:
        seed: Which data set, 0 or more.
        train_per_species: Birds of each species to train on; also the database to search.
        test_per_species: Birds of each species to test with, the queries.
        size: Width and height of the pictures in pixels.
        species: Only these, labelled in this order; all of `SPECIES` when left out.

    Returns:
        Splits `train` and `test` with the columns

        - `image`: the picture (lossless PNG);
        - `label`: the species, a `ClassLabel`;
        - `family`: the family, a `ClassLabel` over all `FAMILIES`;
        - `attributes`: the value of every part of `VALUES`, such as ``{"crown": "red", "belly": "barred", ...}``;
        - `parts`: a picture of the same size (mode ``L``) whose pixels are 0 in the background, otherwise the position
          in `PARTS` plus one;
        - `seed`: with the name of the species, all that `draw_bird` needs to draw the bird again.

    Raises:
        ValueError: An unknown or repeated species, none at all, or numbers out of range.

    Example:
        >>> birds = toy_birds(train_per_species=2, test_per_species=1)  # doctest: +SKIP
        >>> birds["train"].features["label"].names[0]  # doctest: +SKIP
        'red-crowned barred finch'
    """
    names = [(find_species(s) if isinstance(s, str) else s).name for s in (SPECIES if species is None else species)]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"species must name one or more different species, got {names}")
    counts = {"train": train_per_species, "test": test_per_species}
    if seed < 0 or not all(1 <= count <= _BIRDS_PER_SPLIT for count in counts.values()):
        raise ValueError(
            "toy birds need a seed of 0 or more and 1 to 1,000,000 birds of each species in either split, "
            f"got {seed=}, {train_per_species=}, {test_per_species=}"
        )
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=names),
        family=datasets.ClassLabel(names=list(FAMILIES)),
        attributes={part: datasets.Value("string") for part in VALUES},
        parts=datasets.Image(),
        seed=datasets.Value("int64"),
    )
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_generator(
                _rows,
                features=features,
                split=datasets.NamedSplit(split),
                gen_kwargs=dict(
                    names=tuple(names),  # datasets would take a list apart and call the generator once per name
                    first_seed=(len(_SPLITS) * seed + position) * _BIRDS_PER_SPLIT,
                    count=counts[split],
                    size=size,
                    recipe=_recipe(),
                ),
            )
            for position, split in enumerate(_SPLITS)
        }
    )


def _rows(names: tuple[str, ...], first_seed: int, count: int, size: int, recipe: str) -> Iterator[dict]:
    """One bird of every species in turn, so that the first rows are balanced too."""
    for bird_seed in range(first_seed, first_seed + count):
        for label, name in enumerate(names):
            bird = draw_bird(name, bird_seed, size)
            yield {
                "image": _png(bird.image),
                "label": label,
                "family": bird.species.family,
                "attributes": dict(bird.attributes),
                "parts": _png(Image.fromarray(bird.parts)),
                "seed": bird_seed,
            }


def _png(picture: Image.Image) -> dict:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=4)
    return {"bytes": buffer.getvalue(), "path": None}


def _recipe() -> str:
    """What the pictures depend on besides the arguments; part of the cache key, so that no stale bird is ever used."""
    digest = hashlib.sha256(PIL.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()

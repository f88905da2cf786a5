"""What a concept means in words: what photos have in common that are near to each other by its sub-code alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..index.distances import ConceptCounter

RESAMPLES = 500  # of the bootstrap
QUERIES_AT_A_TIME = 256


@dataclass(frozen=True)
class SharedWord:
    """Something that is true of some photos, and how well a concept's sub-code finds more of them.

    Attributes:
        word: such as "gull", or "habitat: water".
        share: of the nearest photos of other classes, by this concept alone, that have it too; mean over the classes
            that have it.
        low: lower end of the 95 % interval of `share`, from drawing classes anew.
        high: upper end.
        chance: `share` if neighbours were drawn at random.
        by_others: `share` of the other concepts, in the mean.
        num_classes: classes that have it.
        num_photos: photos that have it.
    """

    word: str
    share: float
    low: float
    high: float
    chance: float
    by_others: float
    num_classes: int
    num_photos: int

    @property
    def is_sure(self) -> bool:
        """Whether the concept also finds it better than the other concepts whatever classes are drawn."""
        return self.low > self.by_others


def shared_words(
    codes: np.ndarray,
    num_bits: int,
    num_concepts: int,
    classes: np.ndarray,
    has: np.ndarray,
    words: Sequence[str],
    neighbours: int = 10,
    top: int = 5,
    min_classes: int = 3,
    seed: int = 0,
) -> list[list[SharedWord]]:
    """Rank words by how much better one concept's sub-code finds photos with them than chance and other concepts do.

    Neighbours are photos of other classes: that photos of a class are alike says nothing about what a concept reads.
    Photos at the same distance are taken in random order.

    Args:
        codes: packed, uint8 `(n, ceil(K / 8))`.
        num_bits: K.
        num_concepts: M.
        classes: int `(n,)`; photos without classes are each their own.
        has: bool `(n, A)`, which words are true of which photos.
        words: A texts.
        neighbours: photos looked at for each.
        top: words for each concept.
        min_classes: that have a word, for an interval that means something.
        seed: of random order and drawing.

    Returns:
        For each concept its words, sure ones first, then most ahead first: those it finds better than the other
        concepts do, and better than chance whatever classes are drawn.

    Raises:
        ValueError: if shapes do not fit each other.
    """
    if not len(codes) == len(classes) == len(has) or has.shape[1] != len(words):
        raise ValueError(
            f"{len(codes)} codes, {len(classes)} classes, words of shape {has.shape} and {len(words)} names do not fit"
        )
    generator = np.random.default_rng(seed)
    rows = generator.permutation(len(codes))  # equal distances in random order, as sorting is stable
    codes, classes, has = codes[rows], classes[rows], has[rows]
    nearest, chance = _shares(codes, ConceptCounter(num_bits, num_concepts), classes, has, neighbours)
    found: list[list[SharedWord]] = [[] for _ in range(num_concepts)]
    for number, word in enumerate(words):
        photos = np.flatnonzero(has[:, number])
        own, class_of = np.unique(classes[photos], return_inverse=True)
        if len(own) < min_classes:
            continue
        sizes = np.bincount(class_of)
        by_class = np.stack([np.bincount(class_of, nearest[m, photos, number]) / sizes for m in range(num_concepts)])
        drawn = generator.integers(len(own), size=(RESAMPLES, len(own)))
        low, high = np.quantile(by_class[:, drawn].mean(axis=2), [0.025, 0.975], axis=1)
        shares = by_class.mean(axis=1)
        expected = float((np.bincount(class_of, chance[photos, number]) / sizes).mean())
        for concept, share in enumerate(shares.tolist()):
            by_others = float(np.delete(shares, concept).mean()) if num_concepts > 1 else expected
            if share > by_others and low[concept] > expected:
                facts = (share, float(low[concept]), float(high[concept]), expected, by_others)
                found[concept].append(SharedWord(word, *facts, len(own), len(photos)))
    return [
        sorted(of_concept, key=lambda word: (not word.is_sure, word.by_others - word.share))[:top]
        for of_concept in found
    ]


def _shares(
    codes: np.ndarray, count: ConceptCounter, classes: np.ndarray, has: np.ndarray, neighbours: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of every photo's neighbours the share that has each word, `(M, n, A)`; and of all photos of other classes."""
    nearest, chance = [], []
    for start in range(0, len(codes), QUERIES_AT_A_TIME):
        block = slice(start, start + QUERIES_AT_A_TIME)
        is_other = classes[block, None] != classes
        distances = np.where(is_other[..., None], count(codes[block, None], codes[None]), np.iinfo(np.int64).max)
        order = np.argsort(distances, axis=1, kind="stable")[:, :neighbours]
        kept = np.take_along_axis(is_other[..., None], order, axis=1)[..., None]
        total = np.maximum(kept.sum(axis=1), 1)
        nearest.append(((has[order] & kept).sum(axis=1) / total).transpose(1, 0, 2))
        chance.append(is_other.astype(np.float32) @ has.astype(np.float32) / np.maximum(is_other.sum(1), 1)[:, None])
    return np.concatenate(nearest, axis=1), np.concatenate(chance)

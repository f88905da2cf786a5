"""What a concept means in words: what photos have in common that are near to each other by its sub-code alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from ..index.distances import ConceptCounter

RESAMPLES = 500  # of the bootstrap
DEALS = 500  # of words to other classes
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
        is_sure: whether the concept also finds it better than the other concepts whatever classes are drawn, and
            further ahead of them than any word is of any concept, in 19 of 20 cases, where words are dealt to classes
            at random.
    """

    word: str
    share: float
    low: float
    high: float
    chance: float
    by_others: float
    num_classes: int
    num_photos: int
    is_sure: bool


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
    codes, classes, has = codes[rows], np.unique(classes[rows], return_inverse=True)[1], has[rows]
    shared = [number for number, found in enumerate(has.T) if len(np.unique(classes[found])) >= min_classes]
    found: list[list[SharedWord]] = [[] for _ in range(num_concepts)]
    if not shared:
        return found
    has = has[:, shared].astype(np.float32)
    near, chance = _neighbours(codes, ConceptCounter(num_bits, num_concepts), classes, has, neighbours)
    nearest = np.stack([of_concept @ has for of_concept in near])
    is_ahead = _is_ahead_of_chance(near, classes, has, generator)
    for number, name in enumerate(shared):
        photos = np.flatnonzero(has[:, number])
        own, class_of = np.unique(classes[photos], return_inverse=True)
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
                is_sure = bool(low[concept] > by_others and is_ahead[concept, number])
                found[concept].append(SharedWord(words[name], *facts, len(own), len(photos), is_sure))
    return [
        sorted(of_concept, key=lambda word: (not word.is_sure, word.by_others - word.share))[:top]
        for of_concept in found
    ]


def _neighbours(
    codes: np.ndarray, count: ConceptCounter, classes: np.ndarray, has: np.ndarray, neighbours: int
) -> tuple[list[csr_array], np.ndarray]:
    """By each concept, `(n, n)`: rows that take the mean over a photo's neighbours; and over all of other classes."""
    blocks, chance = [], []
    for start in range(0, len(codes), QUERIES_AT_A_TIME):
        block = slice(start, start + QUERIES_AT_A_TIME)
        is_other = classes[block, None] != classes
        distances = np.where(is_other[..., None], count(codes[block, None], codes[None]), np.iinfo(np.int64).max)
        order = np.argsort(distances, axis=1, kind="stable")[:, :neighbours]
        kept = np.take_along_axis(is_other[..., None], order, axis=1)
        blocks.append((order, kept / np.maximum(kept.sum(axis=1, keepdims=True), 1)))
        chance.append(is_other.astype(np.float32) @ has / np.maximum(is_other.sum(1), 1)[:, None])
    order, weights = map(np.concatenate, zip(*blocks, strict=True))  # (n, neighbours, M) both
    ends = np.arange(len(codes) + 1) * order.shape[1]
    return [
        csr_array(
            (weights[..., concept].ravel().astype(np.float32), order[..., concept].ravel(), ends),
            shape=(len(codes), len(codes)),
        )
        for concept in range(order.shape[2])
    ], np.concatenate(chance)


def _is_ahead_of_chance(
    near: Sequence[csr_array], classes: np.ndarray, has: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Of each concept and word, `(M, A)`: is it further ahead of the other concepts than the luckiest word would be?

    Many words are tried, and some of them would look good by luck. So each class is given the words of another one,
    which leaves codes and words as they are, each among themselves: what is ahead then is ahead by luck.
    """
    of_class = csr_array((np.ones(len(classes)), (classes, np.arange(len(classes)))), dtype=np.float32)
    rows_of = np.split(np.argsort(classes, kind="stable"), np.cumsum(np.bincount(classes))[:-1])

    def leads(has: np.ndarray) -> np.ndarray:
        sizes = of_class @ has
        weights = has / np.maximum(sizes, 1)[classes] / np.maximum((sizes > 0).sum(axis=0), 1)
        shares = np.stack([(weights * (of_concept @ has)).sum(axis=0) for of_concept in near])
        return shares if len(near) == 1 else (len(near) * shares - shares.sum(axis=0)) / (len(near) - 1)

    by_luck = []
    for _ in range(DEALS):
        dealt = np.empty_like(has)
        for to, of in enumerate(generator.permutation(len(rows_of))):
            dealt[rows_of[to]] = has[np.resize(generator.permutation(rows_of[of]), len(rows_of[to]))]
        by_luck.append(leads(dealt))
    lucky = np.stack(by_luck)
    # words of few classes are ahead seldom, but then far: each is measured by its own luckiest twentieth
    mean = lucky.mean(axis=0)
    far = np.sort(lucky, axis=0)[-(DEALS // 20) :].mean(axis=0) - mean + 1e-9
    luckiest = np.quantile(((lucky - mean) / far).max(axis=(1, 2)), 0.95)
    return leads(has) > mean + luckiest * far

"""Words for concepts, where it is known what each concept reads."""

import numpy as np
import pytest

from concepthash_hf.codes import pack_bits, sub_code_distances
from concepthash_hf.explain.shared_words import shared_words

NUM_CLASSES, EACH, BITS = 24, 8, 8
WORDS = ["red", "gull", "first half", "one of its own"]


@pytest.fixture(scope="module")
def collection():
    """Concept 0 codes whether a class is red, concept 1 whether it is a gull, concept 2 nothing but the class."""
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(NUM_CLASSES), EACH)
    red, gull = rng.permutation(NUM_CLASSES) < 8, rng.permutation(NUM_CLASSES) < 9
    patterns = rng.integers(0, 2, (3, NUM_CLASSES, BITS)).astype(bool)
    patterns[0] = np.where(red[:, None], patterns[0, 0], ~patterns[0, 0])
    patterns[1] = np.where(gull[:, None], patterns[1, 0], ~patterns[1, 0])
    bits = patterns[:, classes].transpose(1, 0, 2) ^ (rng.random((len(classes), 3, BITS)) < 0.08)
    own = np.arange(NUM_CLASSES) == 3
    has = np.stack([red, gull, np.arange(NUM_CLASSES) < 12, own], axis=1)[classes]
    return pack_bits(bits.reshape(len(classes), -1)), classes, has


def test_each_concept_has_its_word_and_is_sure_of_it(collection):
    found = shared_words(collection[0], 24, 3, *collection[1:], WORDS)
    for concept, word in ((0, "red"), (1, "gull")):
        first = found[concept][0]
        assert first.word == word and first.is_sure and first.share > 0.95
        assert first.low <= first.share <= first.high
        assert first.by_others < 0.6 and first.num_classes == (8, 9)[concept]
    assert not any(word.is_sure for word in found[2])
    assert all(word.word != "one of its own" for words in found for word in words), "of one class, nothing is shared"


def test_shares_are_those_of_a_naive_loop(collection):
    codes, classes, has = collection
    near = shared_words(codes, 24, 3, classes, has, WORDS)[0][0]
    expected, chance = [], []
    for row in np.flatnonzero(has[:, 0]):
        others = np.flatnonzero(classes != classes[row])
        distances = sub_code_distances(codes[row], codes[others], 24, 3)[:, 0]
        # without ties among the nearest and the next, their order does not matter
        limit = np.sort(distances)[9]
        inside, border = others[distances < limit], others[distances == limit]
        expected.append((has[inside, 0].sum() + (10 - len(inside)) * has[border, 0].mean()) / 10)
        chance.append(has[others, 0].mean())
    assert near.share == pytest.approx(np.mean(expected), abs=0.02)
    assert near.chance == pytest.approx(np.mean(chance))
    everybody = shared_words(codes, 24, 3, classes, has, WORDS, neighbours=len(codes))
    assert everybody == [[], [], []], "with all as neighbours nothing is above chance"


def test_nothing_is_found_in_noise():
    rng = np.random.default_rng(1)
    classes = np.repeat(np.arange(40), 5)
    codes = rng.integers(0, 256, (200, 4), dtype=np.uint8)
    has = (rng.random((40, 30)) < 0.3)[classes]
    found = shared_words(codes, 32, 4, classes, has, [f"word {number}" for number in range(30)], top=30)
    assert not any(word.is_sure for words in found for word in words)


def test_of_many_words_that_mean_nothing_no_lucky_one_is_sure(collection):
    """Of 80 values of metadata dealt out at random some always look good, by one concept or another."""
    codes, classes, _ = collection
    sure = 0
    for seed in range(5):
        has = np.eye(80, dtype=bool)[np.random.default_rng(seed).integers(80, size=(len(codes), 8))].any(axis=1)
        found = shared_words(codes, 24, 3, classes, has, [f"shelf: {number}" for number in range(80)])
        sure += any(word.is_sure for words in found for word in words)
    assert sure <= 1


def test_a_single_concept_and_few_photos(collection):
    codes, classes, has = collection
    assert shared_words(codes, 24, 1, classes, has, WORDS)[0]
    few = np.arange(0, len(codes), EACH)[:4]
    assert shared_words(codes[few], 24, 3, classes[few], has[few], WORDS) is not None
    assert shared_words(codes[:1], 24, 3, classes[:1], has[:1], WORDS) == [[], [], []]


def test_shapes_that_do_not_fit(collection):
    codes, classes, has = collection
    with pytest.raises(ValueError, match="do not fit"):
        shared_words(codes, 24, 3, classes[:-1], has, WORDS)

"""The tree of class codes, its agreement with families, and its picture."""

import itertools

import numpy as np
import pytest
from common import tiny_model, tiny_tower
from scipy.cluster.hierarchy import cophenet, leaves_list
from scipy.spatial.distance import squareform

from concepthash_hf.codes import hamming_distance, pack_bits, unpack_bits
from concepthash_hf.explain.class_tree import class_codes, class_tree
from concepthash_hf.explain.figure_parts import CONCEPT_COLOURS
from concepthash_hf.explain.measures.families import FamilyAgreement, family_agreement
from concepthash_hf.explain.tree_figure import draw_tree

FAMILIES = ["owl", "owl", "duck", "duck", "duck", "owl"]
NAMES = [f"bird {number}" for number in range(6)]


def codes_by_family(apart: int = 6) -> np.ndarray:
    """16 bits: the first six tell families, each class has one of its own."""
    bits = np.zeros((6, 16), dtype=bool)
    for number, family in enumerate(FAMILIES):
        bits[number, :apart] = family == "duck"
        bits[number, 8 + number] = True
    return pack_bits(bits)


def test_families_of_their_own():
    tree = class_tree(codes_by_family())
    assert tree.shape == (5, 4) and tree[-1, 2] == 8 and tree[0, 2] == 2
    assert family_agreement(tree, FAMILIES) == FamilyAgreement(
        adjusted_rand_index=1, closer_in_family=1, num_classes=6, num_families=2, num_groups=2
    )


def test_families_that_have_nothing_to_do_with_codes():
    """All distances are equal: every pair joins at the same height."""
    found = family_agreement(class_tree(codes_by_family(apart=0)), FAMILIES)
    assert found.closer_in_family == 0.5 and found.num_groups == 1 and found.adjusted_rand_index == 0


def test_families_at_random():
    generator = np.random.default_rng(0)
    found = []
    for _ in range(30):
        tree = class_tree(pack_bits(generator.random((40, 32)) < 0.5))
        found.append(family_agreement(tree, [str(family) for family in generator.integers(0, 6, 40)]))
    assert np.mean([each.adjusted_rand_index for each in found]) == pytest.approx(0, abs=0.02)
    assert np.mean([each.closer_in_family for each in found]) == pytest.approx(0.5, abs=0.02)


def test_closer_in_family_as_loops_count_it():
    generator = np.random.default_rng(1)
    tree = class_tree(pack_bits(generator.random((12, 8)) < 0.5))
    families = [str(family) for family in generator.integers(0, 3, 12)]
    heights = squareform(cophenet(tree))
    pairs = list(itertools.combinations(range(12), 2))
    inside = [heights[pair] for pair in pairs if families[pair[0]] == families[pair[1]]]
    across = [heights[pair] for pair in pairs if families[pair[0]] != families[pair[1]]]
    wins = np.mean([(one < other) + 0.5 * (one == other) for one in inside for other in across])
    assert family_agreement(tree, families).closer_in_family == pytest.approx(wins)


def test_heights_are_mean_distances():
    codes = pack_bits(np.random.default_rng(2).random((3, 24)) < 0.5)
    tree = class_tree(codes)
    distances = hamming_distance(codes[:, None], codes[None])
    first = tuple(int(leaf) for leaf in tree[0, :2])
    assert tree[0, 2] == distances[np.triu_indices(3, 1)].min() == distances[first]
    (third,) = set(range(3)) - set(first)
    assert tree[1, 2] == pytest.approx(distances[third, list(first)].mean())


def test_the_codes_of_class_centres():
    model = tiny_model()
    expected = model.class_centres().detach().numpy() > 0
    np.testing.assert_array_equal(unpack_bits(class_codes(model), 12), expected)


def test_models_without_class_embeddings():
    for model in (tiny_model(class_embedding_dim=None), tiny_tower()):
        with pytest.raises(ValueError, match="no class embeddings.*set_classes"):
            class_codes(model)


def test_what_does_not_fit():
    tree = class_tree(codes_by_family())
    with pytest.raises(ValueError, match="5 families for a tree of 6 classes"):
        family_agreement(tree, FAMILIES[:5])
    for families in (["owl"] * 6, NAMES):
        with pytest.raises(ValueError, match="two families or more, and one with two"):
            family_agreement(tree, families)
    with pytest.raises(ValueError, match="two classes or more, got 1"):
        class_tree(codes_by_family()[:1])
    with pytest.raises(ValueError, match="4 class names for a tree of 6"):
        draw_tree(tree, NAMES[:4], FAMILIES)


def test_the_picture_has_branches_in_the_colours_of_their_families():
    tree = class_tree(codes_by_family())
    pixels = np.asarray(draw_tree(tree, NAMES, FAMILIES), dtype=int)
    assert (pixels[[0, -1]] == 255).all() and (pixels[:, [0, -1]] == 255).all()  # nothing runs over the edge
    owl_first = FAMILIES[leaves_list(tree)[0]] == "owl"
    for number, colour in enumerate(CONCEPT_COLOURS[:2]):
        rows = np.flatnonzero((pixels == colour).all(-1).any(1))
        upper = rows.max() < pixels.shape[0] * 0.65
        assert upper == (number == 0), f"branch {number} is not where its family is, owls first: {owl_first}"
    assert draw_tree(tree, NAMES, FAMILIES) == draw_tree(tree, NAMES, FAMILIES)


def test_a_large_picture_with_more_families_than_colours():
    generator = np.random.default_rng(3)
    families = [f"family {number % 12}" for number in range(60)]
    picture = draw_tree(
        class_tree(pack_bits(generator.random((60, 16)) < 0.5)), [f"c{i}" for i in range(60)], families
    )
    assert picture.height > 60 * 15 and picture.mode == "RGB"

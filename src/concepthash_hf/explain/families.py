"""The tree of class codes, and how well it agrees with given families."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy.cluster.hierarchy import cophenet, fcluster, leaves_list, linkage
from scipy.stats import mannwhitneyu

from ..codes import hamming_distance
from ..lettering import font, text_length
from ..modeling_concepthash import ConceptHashModel
from .drawing import CONCEPT_COLOURS, GAP, MARGIN, MUTED, PAPER, RGB, draw_text
from .grouping import adjusted_rand_index

_ROW, _TREE_WIDTH, _SWATCH = 20, 420, 12


def class_codes(model: ConceptHashModel) -> np.ndarray:
    """The codes of a model's class centres, packed uint8 `(C, ceil(K / 8))`.

    Raises:
        ValueError: if the model has no class embeddings.
    """
    if not isinstance(model, ConceptHashModel) or model.class_embeddings is None:
        raise ValueError(
            "this model has no class embeddings, so its classes have no codes: load it as ConceptHashModel (not the "
            "vision tower alone), built with from_clip(class_names=...) or given classes by set_classes(...)"
        )
    return model.get_text_hash_codes(model.class_embeddings).cpu().numpy()


def class_tree(codes: np.ndarray) -> np.ndarray:
    """Join the classes with the most similar codes, then ever larger groups, by mean Hamming distance.

    Args:
        codes: packed uint8 `(C, bytes)`, of two classes or more.

    Returns:
        A linkage as of `scipy.cluster.hierarchy.linkage`, float64 `(C - 1, 4)`; heights are in bits.

    Raises:
        ValueError: if there are fewer than two classes, or the codes are not packed.
    """
    if len(codes) < 2:
        raise ValueError(f"a tree needs the codes of two classes or more, got {len(codes)}")
    first, second = np.triu_indices(len(codes), 1)
    distances = hamming_distance(codes[first], codes[second]).astype(float)
    return linkage(distances, method="average", optimal_ordering=True)


def family_agreement(tree: np.ndarray, families: Sequence[str]) -> dict[str, Any]:
    """Measure how well a tree of classes agrees with given families.

    Args:
        tree: of C classes, see `class_tree`.
        families: of each class, C names; at least two families, one of them with two classes or more.

    Returns:
        A dict that is ready for JSON:

        - `adjusted_rand_index`: between the families and the tree, cut into as many groups as there are families; 0 by
          chance, 1 for the families themselves. Where joins of the same height make that number impossible, it is cut
          into fewer: `num_groups`;
        - `closer_in_family`: how often two classes of one family join below two classes of different families (ties
          count half); 0.5 by chance, 1 where every family is a branch of its own;
        - `num_classes`, `num_families`.

    Raises:
        ValueError: if tree and families do not fit each other, or there is nothing to compare.
    """
    families = _check(tree, families)
    numbers = np.unique(families, return_inverse=True)[1]
    groups = fcluster(tree, numbers.max() + 1, criterion="maxclust")
    first, second = np.triu_indices(len(families), 1)
    same = numbers[first] == numbers[second]
    if same.all() or not same.any():
        raise ValueError(
            f"{len(set(families))} families of {len(families)} classes: agreement needs two families or more, and one "
            "with two classes or more"
        )
    heights = cophenet(tree)
    below = mannwhitneyu(heights[~same], heights[same]).statistic / (same.sum() * (~same).sum())
    return {
        "adjusted_rand_index": adjusted_rand_index(numbers, groups),
        "closer_in_family": float(below),
        "num_classes": len(families),
        "num_families": int(numbers.max()) + 1,
        "num_groups": int(groups.max()),
    }


def draw_tree(tree: np.ndarray, class_names: Sequence[str], families: Sequence[str]) -> Image.Image:
    """Draw a tree of classes, each beside its family; branches of a single family have the family's colour.

    Args:
        tree: of C classes, see `class_tree`.
        class_names: C names.
        families: of each class, C names; more than seven families share colours.

    Returns:
        An RGB picture on white, with a scale in bits.

    Raises:
        ValueError: if names or families do not fit the tree.
    """
    families = _check(tree, families)
    if len(class_names) != len(families):
        raise ValueError(f"{len(class_names)} class names for a tree of {len(families)} classes")
    order = leaves_list(tree).tolist()
    kinds = list(dict.fromkeys(families[leaf] for leaf in order))  # neighbours in the tree get different colours
    colour = {family: CONCEPT_COLOURS[number % len(CONCEPT_COLOURS)] for number, family in enumerate(kinds)}

    name_width = round(max(text_length(name, 13) for name in class_names)) + 2 * GAP
    family_width = round(max(text_length(family, 13) for family in families)) + 2 * GAP + _SWATCH
    top, right = MARGIN + 48, MARGIN + _TREE_WIDTH
    picture = Image.new("RGB", (right + name_width + family_width + MARGIN, top + _ROW * len(order) + MARGIN), PAPER)
    draw = ImageDraw.Draw(picture)
    longest = max(float(tree[-1, 2]), 1.0)

    def across(height: float) -> float:
        """From the root on the left to the leaves, at 0 bits, on the right."""
        return right - height / longest * (_TREE_WIDTH - GAP)

    _draw_scale(draw, across, longest, top, picture.height - MARGIN)
    for row, leaf in enumerate(order):
        middle = top + _ROW * row
        draw_text(draw, (right + GAP, middle), class_names[leaf], name_width)
        left = right + name_width
        draw.rectangle((left, middle + 2, left + _SWATCH, middle + 2 + _SWATCH), colour[families[leaf]], MUTED)
        draw_text(draw, (left + _SWATCH + GAP, middle), families[leaf], family_width)
    _draw_branches(draw, tree, order, across, top, [colour[family] for family in families], families)
    return picture


def _check(tree: np.ndarray, families: Sequence[str]) -> list[str]:
    if len(families) != len(tree) + 1:
        raise ValueError(f"{len(families)} families for a tree of {len(tree) + 1} classes: one for each class")
    return list(families)


def _draw_scale(draw: ImageDraw.ImageDraw, across, longest: float, top: int, bottom: int) -> None:
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 10**9) if longest / step <= 8)
    draw.text((across(0), top - 42), "mean Hamming distance, bits", MUTED, font(None, 13), anchor="ra")
    for bits in range(0, int(longest) + 1, step):
        draw.line((across(bits), top - 4, across(bits), bottom), (232, 232, 232))
        draw.text((across(bits), top - 8), str(bits), MUTED, font(None, 12), anchor="mb")


def _draw_branches(draw, tree: np.ndarray, order: list[int], across, top: int, colours: list[RGB], families) -> None:
    number = len(order)
    level = {leaf: top + _ROW * row + _ROW / 2 - 2 for row, leaf in enumerate(order)}
    height = dict.fromkeys(order, 0.0)
    family: dict[int, str | None] = dict(enumerate(families))
    ink: dict[int, RGB] = dict(enumerate(colours))
    for step, (one, other, joined, _) in enumerate(tree):
        node, children = number + step, (int(one), int(other))
        family[node] = family[children[0]] if family[children[0]] == family[children[1]] else None
        ink[node] = ink[children[0]] if family[node] is not None else MUTED
        level[node], height[node] = (level[children[0]] + level[children[1]]) / 2, float(joined)
        for child in children:
            draw.line((across(joined), level[child], across(height[child]), level[child]), ink[child], 2)
        draw.line((across(joined), level[children[0]], across(joined), level[children[1]]), ink[node], 2)

"""The tree of class codes as a picture, each class beside its family."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy.cluster.hierarchy import leaves_list

from ..lettering import font, text_length
from .class_tree import one_family_each
from .figure_parts import CONCEPT_COLOURS, GAP, MARGIN, MUTED, PAPER, RGB, draw_text

_ROW, _TREE_WIDTH, _SWATCH = 20, 420, 12


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
    families = one_family_each(tree, families)
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

"""Colours, type and bits."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from concepthash_hf.explain.figure_parts import (
    CONCEPT_COLOURS,
    INK,
    bit_strip,
    bit_strip_height,
    concept_colour,
    draw_text,
    outline,
    zeros_and_ones,
)


@pytest.mark.parametrize(("num_bits", "width"), [(4, 144), (8, 128), (16, 144), (40, 144)])
def test_a_square_for_every_bit(num_bits, width):
    generator = np.random.default_rng(num_bits)
    bits, differing = generator.random((2, num_bits)) < 0.5
    strip = np.asarray(bit_strip(bits, 2, width, differing))
    assert strip.shape == (bit_strip_height(num_bits, width), width, 3)
    side = min(16, width // min(num_bits, 16))
    read = []
    for bit in range(num_bits):
        row, column = divmod(bit, 16)
        square = strip[row * (side + 4) :, column * side :]
        read.append((tuple(square[side // 2 - 2, side // 2 - 2]), tuple(square[side, side // 2 - 2])))
    assert [middle == concept_colour(2) for middle, _ in read] == bits.tolist()
    assert [below == INK for _, below in read] == differing.tolist()


def test_bits_as_text():
    assert zeros_and_ones(np.array([False, True, True])) == "011"


def test_colours_start_over():
    assert concept_colour(len(CONCEPT_COLOURS) + 1) == CONCEPT_COLOURS[1]


def test_the_colours_can_be_told_apart_by_brightness_or_hue_under_colour_blindness():
    """Machado et al. (2009), full deficiency; distances as measured in linear RGB."""
    deficiencies = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    linear = (np.array(CONCEPT_COLOURS) / 255) ** 2.2
    for matrix in deficiencies.values():
        seen = (linear @ np.array(matrix).T).clip(0, 1) ** (1 / 2.2)
        distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(seen), 1)]
        assert distances.min() > 0.1


def test_text_is_cut_where_there_is_no_room():
    def drawn(text):
        canvas = Image.new("RGB", (200, 20), "white")
        draw_text(ImageDraw.Draw(canvas), (0, 0), text, width=100)
        return np.asarray(canvas)

    short, long = drawn("a bird"), drawn("a bird with a very long name\nthat goes on in another line")
    assert (short[:, 100:] == 255).all() and (long[:, 100:] == 255).all()
    assert (short != long).any()
    assert (drawn("") == 255).all()
    assert (drawn("two\nlines") == drawn("two lines")).all()


def test_the_frame_is_inside_the_box():
    framed = np.asarray(outline(Image.new("RGB", (50, 40)), (10, 5, 30, 35), (255, 0, 0)))
    rows, columns = np.nonzero(framed.any(-1))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (10, 5, 30, 35)
    assert (framed[9:31, 14:26] == 0).all()
    assert (framed[6, 11:29] == (255, 0, 0)).all()

"""What a search has found, as a picture."""

import numpy as np
import pytest
from PIL import Image

from concepthash_hf.explain.contact_sheet import Found, Hit, contact_sheet
from concepthash_hf.explain.figure_parts import CONCEPT_COLOURS

TILE = 40
# of one colour each, found again by it
QUERY, FIRST, SECOND, THIRD = (1, 2, 3), (10, 200, 30), (20, 30, 210), (220, 40, 50)


def photo(colour, width=60, height=60) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def hit(colour=FIRST, distances=(0, 0), distance=None) -> Hit:
    image = None if colour is None else photo(colour)
    return Hit(image, "a bird", sum(distances) if distance is None else distance, distances)


def pixels_of(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=int)


def boxes(sheet: Image.Image, colour) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a colour."""
    rows, columns = np.nonzero((pixels_of(sheet) == colour).all(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_the_query_at_the_left_and_hits_in_reading_order():
    hits = [hit(FIRST), hit(SECOND), hit(THIRD)]
    sheet = contact_sheet([Found(photo(QUERY), "query", hits)], 8, columns=2, tile=TILE)
    query, first, second, third = (boxes(sheet, colour) for colour in (QUERY, FIRST, SECOND, THIRD))
    for left, top, right, bottom in (query, first, second, third):
        assert (right - left, bottom - top) == (TILE, TILE)
    assert query[2] < first[0] and first[2] < second[0]
    assert query[1] == first[1] == second[1]
    assert third[0] == first[0] and third[1] > first[3]


def test_rows_are_of_equal_length():
    found = [Found("owl", "", [hit(FIRST), *[hit(THIRD)] * 4, hit(SECOND)])]
    sheet = contact_sheet(found, 8, columns=5, tile=TILE)  # three and three
    assert boxes(sheet, SECOND)[2] == sheet.width - 14 == boxes(sheet, FIRST)[2] + 2 * (TILE + 6)


def test_searches_below_each_other():
    searches = [Found(photo(QUERY), "", [hit(FIRST)]), Found("some words", "", [hit(SECOND)])]
    sheet = contact_sheet(searches, 8, tile=TILE)
    assert boxes(sheet, SECOND)[1] > boxes(sheet, FIRST)[3]
    assert boxes(sheet, SECOND)[0] == boxes(sheet, FIRST)[0]
    alone = contact_sheet(searches[:1], 8, tile=TILE)
    assert alone.width == sheet.width and alone.height < sheet.height


def field_colours(sheet: Image.Image, number: int) -> list[tuple[int, ...]]:
    """The colours of the fields below the first hit: those at the corners, which no digit covers."""
    left, _, right, bottom = boxes(sheet, FIRST)
    pixels, row = pixels_of(sheet), bottom + 3 + 2 * 18 + 2
    edges = np.linspace(left, right + 2, number + 1).round().astype(int)
    return [tuple(pixels[row, edge + 2].tolist()) for edge in edges[:-1]]


def test_fields_are_full_where_sub_codes_agree_and_white_where_they_do_by_chance():
    sheet = contact_sheet([Found(photo(QUERY), "", [hit(distances=(0, 2, 4, 7))])], 8, tile=4 * TILE)
    full, half, white, still_white = field_colours(sheet, 4)
    assert full == CONCEPT_COLOURS[0]
    expected = (np.array(CONCEPT_COLOURS[1]) + 255) / 2
    np.testing.assert_allclose(half, expected, atol=1)
    assert white == still_white == (255, 255, 255)


def test_fields_get_paler_bit_by_bit():
    seen = [
        field_colours(contact_sheet([Found("", "", [hit(distances=(0, bits))])], 16, tile=TILE), 2)[1]
        for bits in range(9)
    ]
    assert all(sum(nearer) < sum(farther) for nearer, farther in zip(seen, seen[1:], strict=False))


def test_the_number_of_bits_is_written():
    one, other = (
        pixels_of(contact_sheet([Found("", "", [hit(distances=(0, bits), distance=3)])], 4, tile=TILE))
        for bits in (2, 3)
    )
    assert (one != other).any()


def test_concepts_that_were_not_searched_by_stay_white():
    found = [Found(photo(QUERY), "", [hit(distances=(0, 0, 0))])]
    weighted = contact_sheet(found, 8, [1, 0, 0.5], tile=3 * TILE)
    assert field_colours(weighted, 3) == [CONCEPT_COLOURS[0], (255, 255, 255), CONCEPT_COLOURS[2]]
    assert pixels_of(weighted).tolist() != pixels_of(contact_sheet(found, 8, tile=3 * TILE)).tolist()


@pytest.mark.parametrize(("width", "height"), [(10, 500), (500, 10), (1, 1)])
def test_photos_of_any_shape(width, height):
    found = Found(photo(QUERY, width, height), "", [Hit(photo(FIRST, width, height), "", 0, (0, 0))])
    sheet = contact_sheet([found], 8, tile=TILE)
    for colour in (QUERY, FIRST):
        left, top, right, bottom = boxes(sheet, colour)
        assert (right - left, bottom - top) == (TILE, TILE)


def test_a_photo_that_is_not_at_hand():
    sheets = [contact_sheet([Found("owl", "", [hit(colour), hit(SECOND)])], 8, tile=TILE) for colour in (FIRST, None)]
    assert sheets[0].size == sheets[1].size
    assert boxes(sheets[0], SECOND) == boxes(sheets[1], SECOND)
    left, top, right, bottom = boxes(sheets[0], FIRST)
    assert len(np.unique(pixels_of(sheets[1])[top:bottom, left:right])) > 2  # words, not nothing


@pytest.mark.parametrize("words", ["", "owl", "a very long name of a bird that nobody has seen " * 9, "x" * 200])
def test_words_stay_in_their_square(words):
    sheet = contact_sheet([Found(words, "", [hit(FIRST)])], 8, tile=TILE)
    left, top, _, bottom = boxes(sheet, FIRST)
    between = pixels_of(sheet)[top : bottom - 1, 14 + TILE : left]  # but for the rule
    assert sorted(np.unique(between)) == [190, 255]


def test_long_names_and_many_concepts():
    name = "Very long names of birds " * 9
    found = Found(photo(QUERY), name, [Hit(photo(FIRST), name, 1.23456789, (1,) * 9), hit(SECOND, (1,) * 9)])
    sheet = contact_sheet([found], 8, tile=TILE)
    assert sheet.width == boxes(sheet, SECOND)[2] + 14


@pytest.mark.parametrize("tile", [TILE, 160])
def test_more_concepts_than_numbers_have_room(tile):
    """Every field keeps its colour, as long as it has a pixel of its own."""
    near, far = (contact_sheet([Found("", "", [hit(distances=(bits,) * 64)])], 4, tile=tile) for bits in (0, 2))
    left, _, right, bottom = boxes(near, FIRST)
    row = bottom + 3 + 2 * 18 + 2
    colours = set(map(tuple, pixels_of(near)[row, left:right].tolist()))
    assert right - left == tile and colours == set(CONCEPT_COLOURS)
    assert (pixels_of(far)[row, left:right] == 255).all()


def test_nothing_found():
    with pytest.raises(ValueError, match="nothing to show"):
        contact_sheet([Found("owl", "", [])], 8)
    with pytest.raises(ValueError, match="nothing to show"):
        contact_sheet([], 8)
    contact_sheet([Found("owl", "", []), Found("owl", "", [hit()])], 8)

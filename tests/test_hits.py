"""Hits by hand: what they say of themselves, in words, in a table, as JSON and on a page."""

import json
from datetime import date
from typing import Any

import pytest
from PIL import Image

from concepthash_hf.data import BadImageError
from concepthash_hf.hits import Hits, PhotoHit, caption_of, has_label


def picture() -> Image.Image:
    return Image.new("RGB", (300, 200), "red")


def a_hit(distance: float = 3, row: dict[str, Any] | None = None, opened: Any = picture) -> PhotoHit:
    return PhotoHit("birds/1.jpg", distance, (1, 2), row or {}, opened, picture)


def hits_of(*hits: PhotoHit, query: Image.Image | str = "owl", radius: int | None = None) -> Hits:
    return Hits(query, "owl", 4, hits, radius)


def test_a_hit_at_the_radius_is_near():
    for distances, far in (((5, 6), True), ((4, 9), False), ((9, 4), False), ((0, 1), False)):
        hits = hits_of(*map(a_hit, distances), radius=4)
        assert hits.nothing_near is far
        assert hits.found().caption == ("nothing here is near" if far else "searched by words")
        assert bool(hits.note) is far and hits.to_dict()["nothing_near"] is far
        assert (hits.note in hits.table()) and (hits.note in repr(hits)) and (hits.note in hits._repr_html_())
    assert hits_of(a_hit(9), radius=1).note.endswith("within 1 bit")
    assert hits_of(a_hit(9), radius=2).note.endswith("within 2 bits")


def test_without_a_radius_nothing_is_said_of_strangers():
    hits = hits_of(a_hit(40))
    assert hits.note == "" and "nothing_near" not in hits.to_dict()
    assert hits_of(a_hit(40), query=picture()).found().caption == "owl"


def test_numbers_that_are_none_dates_and_columns_of_the_result_s_own_name():
    row = {"label": "owl", "width": float("nan"), "seen": [date(2026, 5, 1), float("inf"), 2], "distance": 99, "id": 7}
    found = a_hit(3, row).to_dict()
    wanted = {"label": "owl", "width": None, "seen": ["2026-05-01", None, 2], "distance": 3, "id": "birds/1.jpg"}
    assert found == wanted | {"concept_distances": [1, 2]}
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("label", "caption"),
    [
        *(("snowy_owl", "snowy owl"), (["barn_owl", "male"], "barn owl, male"), (0, "0")),
        *((None, "1.jpg"), ("", "1.jpg"), ([], "1.jpg")),
    ],
)
def test_captions_are_labels_in_words_or_names_of_files(label, caption):
    row = {"label": label}
    assert has_label(row) == (caption != "1.jpg")
    assert caption_of("birds/1.jpg", row) == caption == a_hit(3, row).caption


def test_ranks_and_concepts_are_counted_from_one():
    head, *lines = hits_of(a_hit(3, {"label": ["barn_owl", "male"]}), a_hit(4.5)).table().splitlines()
    assert head.split() == ["distance", "by", "concept", "1", "2"]
    assert [line.split() for line in lines] == [
        ["1", "3", "1", "2", "barn", "owl,", "male", "(birds/1.jpg)"],
        ["2", "4.5", "1", "2", "birds/1.jpg"],
    ]


def test_three_hits_are_named_and_more_hinted_at():
    assert repr(hits_of(*[a_hit()] * 3)) == "Hits('owl': 3 photos, by distance: 1.jpg 3, 1.jpg 3, 1.jpg 3)"
    assert repr(hits_of(*[a_hit()] * 4)).endswith("1.jpg 3, ...)")


@pytest.mark.parametrize("error", [FileNotFoundError("moved"), BadImageError("half a file")])
def test_on_a_page_photos_that_are_gone_are_words(error):
    def gone() -> Image.Image:
        raise error

    hits = hits_of(a_hit(3, {"label": "<b>owl & co"}, gone))
    assert "<td>3: &lt;b&gt;owl &amp; co</td>" in hits._repr_html_() and "<img" not in hits._repr_html_()
    assert hits.found().hits[0].image is None


def test_a_page_shows_photos_small_and_leaves_them_as_they_are():
    shown = picture()
    hits = hits_of(a_hit(opened=lambda: shown), query=shown)
    assert hits._repr_html_().count("<img") == 2
    assert shown.size == (300, 200)

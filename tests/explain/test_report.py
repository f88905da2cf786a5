"""The page: what it says, that it says it safely, and that a real browser shows it."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from browser import chromium
from common import TINY_VISION, tiny_model
from PIL import Image
from transformers import CLIPImageProcessor

from concepthash_hf.data.toy_birds import SPECIES, draw_bird
from concepthash_hf.explain import (
    ConceptReadings,
    MatchExplanation,
    concept_gallery,
    explain_images,
)
from concepthash_hf.explain.attention import read_batch
from concepthash_hf.explain.crops import photo_as_seen
from concepthash_hf.explain.measures.table import Table
from concepthash_hf.explain.report import ConceptSummary, Fact, Neighbour, QueryResult, Report
from concepthash_hf.explain.verdict import ConceptVerdict

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "' onmouseover='alert(3)",
    "{{ 7 * 7 }} {% raw %}",
    "</title><style>*{display:none}</style>",
    "&lt;b&gt; & æøå 鳥 \u202e",
]
PROCESSOR = CLIPImageProcessor(size={"shortest_edge": 34}, crop_size=TINY_VISION["image_size"])
VOID = {"meta", "link", "img", "br"}


class Reader(HTMLParser):
    """Elements, attributes and text of a page, which must be well nested."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open_elements = "", []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open_elements.append(tag)

    def handle_endtag(self, tag):
        assert self.open_elements.pop() == tag
        self.text += " "

    def handle_data(self, data):
        if self.open_elements[-1:] != ["style"]:
            self.text += data


@pytest.fixture(scope="module")
def report() -> Report:
    """Everything there is to show, with names as nasty as names can be."""
    torch.manual_seed(5)
    model = tiny_model()
    birds = [draw_bird(species, seed=1, size=60).image for species in SPECIES[: len(HOSTILE)]]
    explanations = explain_images(model, PROCESSOR, birds)
    code_logits, attentions = read_batch(model, PROCESSOR(birds, return_tensors="pt")["pixel_values"])
    readings = ConceptReadings(code_logits.numpy(), attentions.numpy(), 10, np.arange(len(birds)))
    gallery = concept_gallery(readings, lambda row: photo_as_seen(birds[row], PROCESSOR), crop_size=24)
    neighbours = [
        Neighbour(HOSTILE[row], row % 2 == 0, MatchExplanation(explanations[0], explanations[row])) for row in (1, 2)
    ]
    group = gallery.groups[1][0]
    return Report(
        title=HOSTILE[0],
        photos=HOSTILE[1],
        facts=[Fact(HOSTILE[2], HOSTILE[3], HOSTILE[4]), Fact("parameters", 1234567), Fact("mAP", 0.25)],
        concepts=[
            ConceptSummary(
                readings.attentions[:, concept].mean(0),
                [Fact(HOSTILE[4], 0.5)],
                ConceptVerdict(f"{concept}: {HOSTILE[1]}", HOSTILE[0], holds),
                [HOSTILE[5]],
            )
            for concept, holds in enumerate(("yes", "no", "yes"))
        ],
        gallery=gallery,
        gallery_captions=HOSTILE,
        gallery_words={(1, "".join(str(int(bit)) for bit in group.bits)): ["word " + HOSTILE[0]]},
        explained=list(zip(HOSTILE, explanations, strict=True)),
        queries=[QueryResult(HOSTILE[0], explanations[0], neighbours)],
        tables=[Table(HOSTILE[1], ["", HOSTILE[2]], [[HOSTILE[3], 0.12345], ["none", None]], HOSTILE[4])],
        tree=Image.new("RGB", (40, 30), "white"),
    )


@pytest.fixture(scope="module")
def page(report) -> Reader:
    return Reader(report.html())


def test_names_are_text_whatever_they_hold(page):
    assert page.open_elements == []
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "base", "form"}
    assert sum(tag == "style" for tag, _ in page.elements) == 1
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
    for name in HOSTILE:
        assert name in page.text
    titles = {attributes.get("title") for _, attributes in page.elements}
    assert set(HOSTILE) <= titles
    assert "49" not in [word for word in page.text.split() if word == "49"]


def test_nothing_is_loaded_from_anywhere(page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data"):
            if attributes.get(name) is not None:
                assert attributes[name].startswith("data:") or (tag == "a" and attributes[name].startswith("#"))
    (policy,) = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:")
    anchors = {attributes["href"][1:] for tag, attributes in page.elements if tag == "a"}
    assert anchors <= {attributes.get("id") for _, attributes in page.elements}


def test_every_picture_has_a_text(page):
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) > 40 and all(picture["alt"] for picture in pictures)


def test_bits_and_those_that_differ(report, page):
    marked = [attributes for tag, attributes in page.elements if tag == "i"]
    neighbours = report.queries[0].neighbours
    differing = sum(neighbour.match.distance for neighbour in neighbours)
    assert differing > 0
    differing += report.example[1].match.distance  # on top once more
    assert sum("differs" in (attributes["class"] or "") for attributes in marked) == differing
    labels = [attributes["aria-label"] for tag, attributes in page.elements if attributes.get("class") == "bits"]
    for concept in neighbours[0].match.match.concepts:
        assert f"sub-code {concept.sub_code}" in labels
    for neighbour in neighbours:
        for concept in range(3):
            assert neighbour.match.verdict(concept) in page.text


def test_numbers_are_readable(page):
    cells = page.text.split()
    assert "1,234,567" in cells and "0.250" in cells and "0.123" in cells and "–" in cells


def test_a_report_may_be_short(report):
    concepts = [replace(concept, verdict=None, words=()) for concept in report.concepts]
    short = Report("model", "photos", [], concepts, report.gallery, HOSTILE)
    page = Reader(short.html())
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {"model", "concepts", "gallery", "reading"} <= ids
    assert not ids & {"photos", "matches", "measurements", "classes"}
    assert "For example" not in page.text and "Times chance" not in page.text and "Where bit 3" not in page.text


def test_what_is_said_is_defined_on_the_page(report, page):
    text = " ".join(page.text.split())
    assert "What a concept notes of a photo: 4 bits" in text and "Bit 3 is the third square" in text
    assert "How many bits of two codes differ: 0 is the same code. Half of them, 6, is what" in text
    assert "2 of 3 concepts mean what they show, 1 not at all, as far as measured." in text
    for concept in report.concepts:
        assert concept.verdict.sentence in page.text


def test_the_example_is_a_right_find_whose_distance_adds_up(report, page):
    result, neighbour = report.example
    assert neighbour is report.queries[0].neighbours[1] and neighbour.relevant
    match = neighbour.match
    text = " ".join(page.text.split())
    assert f"distance {' + '.join(map(str, match.distances))} = {match.distance}" in text
    for differing in match.differing:
        numbers = [str(position + 1) for position, bit in enumerate(differing) if bit]
        said = {0: "the same bits", 1: f"bit {numbers and numbers[0]} differs"}
        assert (
            said.get(len(numbers), f"bits {', '.join(numbers[:-1])} and {numbers[-1:] and numbers[-1]} differ") in text
        )
    only_wrong = replace(report, queries=[replace(result, neighbours=result.neighbours[:1])])
    assert only_wrong.example[1] is result.neighbours[0]
    assert replace(report, queries=[]).example is None


def test_near_sub_codes_are_said_to_be_near(report):
    near = replace(report, gallery=replace(report.gallery, radii=(0, 1, 2)))
    text = " ".join(Reader(near.html()).text.split())
    assert "so a row has those within 1 bit of the bits shown" in text and "within 2 bits of" in text


def test_a_browser_shows_it_in_light_and_dark(report, tmp_path):
    report.save(tmp_path / "report.html")
    with chromium(tmp_path / "profile") as browser:
        shots = {}
        for scheme in ("light", "dark"):
            browser.open(tmp_path / "report.html", scheme)
            shown = browser.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
            assert len(shown) > 40 and all(shown)
            assert browser.evaluate("document.title") == f"{HOSTILE[0]}: what its concepts see"
            # nothing sticks out, neither on a wide window nor on a phone
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
            shots[scheme] = np.asarray(browser.screenshot().convert("L"), dtype=float)
        browser.open(tmp_path / "report.html", "light", width=390)
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # nor has a phone's reader to move pictures sideways; and no number is broken in two
        sideways = (
            "[...document.querySelectorAll('.looks, .example, .crops')].filter(x => x.scrollWidth > x.clientWidth)"
        )
        assert browser.evaluate(f"{sideways}.length") == 0
        assert browser.evaluate("[...document.querySelectorAll('td')].every(cell => cell.offsetHeight < 60)")
        assert browser.complaints == []
        assert all(url.startswith(("data:", "file:///")) and "alert" not in url for url in browser.requests)
        assert {url for url in browser.requests if url.startswith("file:")} == {
            (tmp_path / "report.html").resolve().as_uri()
        }
    assert np.median(shots["light"]) > 240 and np.median(shots["dark"]) < 40
    assert all(shot.std() > 20 for shot in shots.values())


def test_the_browser_would_have_complained(tmp_path):
    """The checks above can fail: a broken picture and a script that throws are seen."""
    (tmp_path / "bad.html").write_text("<img src=nothing.png><script>throw Error('on purpose')</script>")
    with chromium(tmp_path / "profile") as browser:
        browser.open(tmp_path / "bad.html")
        assert browser.evaluate("[...document.images].map(image => image.naturalWidth)") == [0]
        assert any("on purpose" in complaint for complaint in browser.complaints)
        assert any("nothing.png" in complaint for complaint in browser.complaints)
        assert any(url.endswith("nothing.png") for url in browser.requests)


def test_the_page_says_what_it_proves(report):
    assert "a picture of attention, not a proof" in Reader(report.html()).text
    assert "This is a guarantee, with its limit" in Reader(replace(report, read_out="regions").html()).text
    with pytest.raises(ValueError, match="there is no read-out 'gaze'"):
        replace(report, read_out="gaze").html()

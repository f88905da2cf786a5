"""The page, in a real browser: as people use it, on a desk and on a phone, with hostile names all over."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from bird_photos import NAMES, write_photos
from hostile_birds import HOSTILE

from concepthash_hf.app import drawing, page
from concepthash_hf.app.explorer import Found, Page
from concepthash_hf.index import CodeSpec

SECONDS = 60_000  # of patience, in milliseconds
DESK, PHONE = {"width": 1360, "height": 1000}, {"width": 390, "height": 844}


class Visit:
    """A page that is open, and everything it complained of or asked elsewhere."""

    def __init__(self, browser, url: str, **options) -> None:
        self.context = browser.new_context(**{"viewport": DESK, **options})
        self.page, self.wrong = self.context.new_page(), []
        self.page.set_default_timeout(SECONDS)
        self.page.on("console", lambda said: self._note(said.type != "error", said.text))
        self.page.on("pageerror", lambda error: self._note(False, str(error)))
        self.page.on("response", lambda got: self._note(got.status < 400, f"{got.status} {got.url}"))
        self.page.on("request", lambda asked: self._note(asked.url.startswith((url, "data:", "blob:")), asked.url))
        self.page.goto(url)
        self.page.wait_for_selector(".ch-card")

    def _note(self, is_fine: bool, what: str) -> None:
        if not is_fine:
            self.wrong.append(what)

    def upload(self, photo: Path, field: str = "#ch-photo") -> None:
        self.page.set_input_files(f"{field} input[type=file]", photo)

    def searched(self, shown: str = "") -> None:
        """Wait for what was searched with, and for hits."""
        self.page.wait_for_selector(f".ch-one {shown}")
        self.page.wait_for_selector(".ch-distance")

    def ids(self) -> list[str]:
        return [card.get_attribute("title") for card in self.page.locator("#ch-hits .ch-photo").all()]

    def distances(self) -> list[float]:
        return [float(text) for text in self.page.locator(".ch-distance").all_inner_texts()]

    def wait_for(self, condition: str) -> None:
        self.page.wait_for_function(condition)


@pytest.fixture
def visit(chromium, served) -> Iterator[Visit]:
    visit = Visit(chromium, served.url)
    yield visit
    visit.context.close()
    assert visit.wrong == []


@pytest.fixture
def bird(served) -> Path:
    return served.photos / NAMES[1] / "3.png"


def opacity(visit: Visit, concept: int, within: str = ".ch-one") -> float:
    shown = visit.page.locator(f'{within} .ch-map[data-concept="{concept}"]').first
    return float(shown.evaluate("element => getComputedStyle(element).opacity"))


def test_a_photo_finds_what_the_index_finds(visit, bird, served):
    assert len(visit.ids()) == 24 and visit.distances() == []
    visit.upload(bird)
    visit.searched()
    hits = served.index.search(str(bird), k=24)
    assert visit.distances() == [hit.distance for hit in hits]
    assert visit.ids() == [hit.id for hit in hits]
    shown = visit.page.locator(".ch-fields").first.get_attribute("aria-label")
    assert shown == f"bits that differ by concept: {', '.join(map(str, hits[0].concept_distances))}"
    explanation = served.index.hasher.explain(bird)
    strips = visit.page.locator(".ch-one .ch-strip").all()
    assert [strip.get_attribute("aria-label") for strip in strips] == [
        f"sub-code {concept.sub_code}" for concept in explanation.concepts
    ]
    assert visit.page.locator(".ch-photo img").first.evaluate("image => image.complete && image.naturalWidth > 0")


def test_where_a_concept_looked_is_shown_while_pointed_at_and_when_chosen(visit, bird):
    visit.upload(bird)
    row = visit.page.locator('.ch-one .ch-row[data-concept="1"]')
    row.hover()
    visit.wait_for("""getComputedStyle(document.querySelector('.ch-one .ch-map[data-concept="1"]')).opacity === '1'""")
    assert opacity(visit, 0) == 0
    row.locator("label").click()
    visit.page.mouse.move(5, 5)
    visit.page.wait_for_timeout(400)
    assert opacity(visit, 1) == 1 and opacity(visit, 0) == 0
    visit.page.locator('.ch-one .ch-row[data-concept="2"]').hover()
    visit.wait_for("""getComputedStyle(document.querySelector('.ch-one .ch-map[data-concept="1"]')).opacity === '0'""")
    assert opacity(visit, 2) == 1


def test_a_slider_ranks_anew_at_once(visit, bird, served):
    visit.upload(bird)
    visit.searched()
    before = visit.distances()
    slider = visit.page.locator("#ch-concept-0 input[type=range]")
    slider.focus()
    for _ in range(10):
        visit.page.keyboard.press("ArrowLeft")
    visit.wait_for("document.querySelector('.ch-fields i').className.includes('ch-off')")
    hits = served.index.search(str(bird), k=24, concept_weights=[0, 1, 1])
    visit.wait_for(f"document.querySelectorAll('.ch-distance')[23].innerText === '{hits[23].distance:g}'")
    assert visit.distances() == [hit.distance for hit in hits] != before
    visit.page.get_by_role("button", name="All alike").click()
    visit.wait_for("!document.querySelector('.ch-fields i').className.includes('ch-off')")
    assert visit.distances() == before


def test_weights_that_leave_nothing_are_explained(visit, bird):
    visit.upload(bird)
    visit.searched()
    for concept in range(3):
        visit.page.locator(f"#ch-concept-{concept} input[type=number]").fill("0")
    visit.page.wait_for_selector(".toast-body")
    assert "not all zero" in visit.page.locator(".toast-body").first.inner_text()


def test_two_photos_are_compared_concept_by_concept(visit, bird, served):
    visit.upload(bird)
    visit.searched()
    cards = visit.page.locator("#ch-hits .ch-photo")
    ids = visit.ids()
    cards.nth(20).click()
    visit.page.wait_for_selector(".ch-two")
    match = served.index.hasher.match(bird, served.photos / ids[20])
    assert visit.page.locator(".ch-two .ch-sum").inner_text() == f"{match.distance} of 12 bits differ"
    assert visit.page.locator(".ch-two .ch-strip i.differs").count() == 2 * match.distance > 0
    cards.nth(22).click()
    match = served.index.hasher.match(served.photos / ids[20], served.photos / ids[22])
    visit.wait_for("document.querySelector('.ch-two figcaption b').innerText === 'first'")
    assert visit.page.locator(".ch-two .ch-sum").inner_text() == f"{match.distance} of 12 bits differ"
    assert visit.page.locator(".ch-picked").count() == 2
    visit.page.locator('.ch-two .ch-row[data-concept="2"]').hover()
    visit.wait_for("""getComputedStyle(document.querySelector('.ch-two .ch-map[data-concept="2"]')).opacity === '1'""")
    for number in (20, 22):
        cards.nth(number).click()
    visit.page.wait_for_selector(".ch-two", state="hidden")
    for number in (5, 7, 9):  # quickly: the last two count
        cards.nth(number).click()
    match = served.index.hasher.match(served.photos / ids[7], served.photos / ids[9])
    visit.wait_for("document.querySelector('.ch-two figcaption b')?.innerText === 'first'")
    visit.wait_for(f"document.querySelector('.ch-two .ch-sum').innerText === '{match.distance} of 12 bits differ'")
    assert visit.page.locator(".ch-picked").count() == 2


def test_words(visit, served):
    visit.page.fill("#ch-words textarea, #ch-words input", "spotted owl")
    visit.page.keyboard.press("Enter")
    visit.searched(".ch-words")
    hits = served.index.search("spotted owl", k=24)
    assert visit.distances() == [hit.distance for hit in hits]
    visit.page.locator("#ch-hits .ch-photo").first.click()
    visit.page.wait_for_selector(".ch-two")
    assert visit.page.locator(".ch-two .ch-map").count() == 3, "of the photo alone"
    visit.page.fill("#ch-words textarea, #ch-words input", "")
    visit.page.keyboard.press("Enter")
    visit.wait_for("!document.querySelector('.ch-distance')")
    assert visit.page.locator(".ch-one").count() == 0 and visit.page.locator(".ch-card").count() > 0


def test_an_empty_box_takes_no_photo_away(visit, bird):
    visit.upload(bird)
    visit.searched()
    visit.page.focus("#ch-words textarea, #ch-words input")
    visit.page.keyboard.press("Enter")
    visit.page.get_by_text("words have 1 to").wait_for()
    assert visit.page.locator(".ch-one").count() == 1 and visit.distances()


def test_head_of_this_and_wing_of_that(visit, bird, explorer, served):
    visit.upload(bird)
    visit.searched()
    visit.page.get_by_text("A second photo or words").click()
    visit.page.fill("#ch-second-words textarea, #ch-second-words input", "spotted owl")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_selector(".ch-two")
    visit.page.locator("#ch-concept-1").get_by_label("that").check()
    visit.wait_for("[...document.querySelectorAll('.ch-verdict')].some((each) => each.innerText === 'from that')")
    one, other = explorer.indexed(f"{NAMES[1]}/3.png"), explorer.read_words("spotted owl")
    found = served.index.codes.search(one.mixed(other, [False, True, False]).code[None], 24)
    assert visit.distances() == found.distances[0].tolist()
    visit.page.fill("#ch-second-words textarea, #ch-second-words input", " ")
    visit.page.keyboard.press("Enter")
    visit.wait_for("!document.querySelector('.ch-two')")
    assert visit.distances() == [hit.distance for hit in served.index.search(str(bird), k=24)]


def test_filters_and_pages(visit, bird, served):
    visit.upload(bird)
    visit.searched()
    visit.page.get_by_role("button", name="Further").click()
    visit.wait_for("document.querySelector('.ch-hits .ch-lead b').innerText.startsWith('25')")
    assert visit.distances() == [hit.distance for hit in served.index.search(str(bird), k=40)[24:]]
    visit.page.get_by_role("button", name="Nearer").click()
    visit.wait_for("document.querySelector('.ch-hits .ch-lead b').innerText.startsWith('1')")
    visit.page.get_by_text("Only photos with").click()
    visit.page.get_by_label("habitat").click()
    visit.page.get_by_role("option", name="water").click()
    visit.wait_for("document.querySelector('.ch-hits .ch-lead').innerText.includes('of 20 photos')")
    rows = served.index.codes.get_metadata(visit.ids())
    assert len(rows) == 20 and {row["habitat"] for row in rows} == {"water"}


def test_filters_hold_before_anything_is_searched(visit, served):
    visit.page.get_by_text("Only photos with").click()
    visit.page.get_by_label("habitat").click()
    visit.page.get_by_role("option", name="water").click()
    visit.wait_for("document.querySelector('.ch-hits .ch-lead').innerText.startsWith('Some of 20 photos')")
    assert {row["habitat"] for row in served.index.codes.get_metadata(visit.ids())} == {"water"}


def test_values_that_are_empty_leave_no_gap():
    spec = CodeSpec(32, 4)
    found = Found("a", "robin", {"label": "robin", "shop": "", "price": 2}, has_picture=False)
    assert '<div class="ch-more"><span title="price">2</span></div>' in drawing.hits(Page((found,), 0, 1), None, spec)
    assert page._choices(["", "ACME"]) == [("any", -1), ("(empty)", 0), ("ACME", 1)]


def test_near_duplicates_are_told_apart_by_their_files():
    group = [Found(f"robin/{name}.jpg", "robin", {}, has_picture=False) for name in ("a", "b")]
    text = drawing.groups([(2, group)], 1, 0)
    assert all(f'title="robin/{name}.jpg">{name}.jpg</div>' in text for name in ("a", "b"))
    alone = Found("a.jpg", "a.jpg", {}, has_picture=False)
    assert drawing.groups([(1, [alone])], 1, 0).count(">a.jpg<") == 1


def test_a_photo_of_the_collection_is_searched_with(visit):
    id = visit.ids()[5]
    visit.page.locator("#ch-hits .ch-photo").nth(5).click()
    visit.searched()
    assert id in visit.ids() and visit.distances()[visit.ids().index(id)] == 0
    other = visit.ids()[23]
    visit.page.locator(".ch-card").nth(23).hover()
    visit.page.locator(".ch-again").nth(23).click()
    visit.wait_for("document.querySelector('.ch-distance').innerText === '0'")
    visit.page.wait_for_timeout(300)
    assert other in visit.ids()


def test_near_duplicates_and_concepts(visit, served):
    visit.page.get_by_role("tab", name="Duplicates").click()
    visit.page.get_by_role("button", name="Look for near-duplicates").click()
    visit.page.wait_for_selector(".ch-group")
    assert visit.page.locator(".ch-group").count() == len(served.index.duplicates(0))
    visit.page.get_by_role("tab", name="Concepts").click()
    visit.page.wait_for_selector(".ch-concept")
    assert visit.page.locator(".ch-concept").count() == 3
    assert "not a proof" in visit.page.locator(".ch-about").inner_text()


def test_what_is_no_photo_is_explained(visit, tmp_path):
    (tmp_path / "text.jpg").write_text("no photo")
    visit.upload(tmp_path / "text.jpg")
    visit.page.wait_for_selector(".toast-body")
    assert "not a photo that can be read: send a JPEG" in visit.page.locator(".toast-body").inner_text()
    marks = visit.page.locator('[data-testid="status-tracker"] .error')
    assert marks.count() and not any(mark.is_visible() for mark in marks.all()), "it is said once"
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(30 * 2**20)
    visit.upload(tmp_path / "large.jpg")
    visit.page.get_by_text("a photo of 30 MB; at most 25 MB are taken").wait_for()


def test_markup_is_shown_as_text_wherever_it_stands(visit, served):
    photo = served.photos / HOSTILE / "0.png"
    visit.upload(photo)
    visit.searched()
    visit.page.fill("#ch-words textarea, #ch-words input", HOSTILE)
    visit.page.keyboard.press("Enter")
    visit.searched(".ch-words")
    cards = visit.page.locator("#ch-hits .ch-photo")
    for number in range(3):
        cards.nth(number).click()
        visit.page.wait_for_selector(".ch-two")
    visit.page.get_by_text("Only photos with").click()
    visit.page.get_by_label("label").click()
    visit.page.get_by_role("option").nth(1).wait_for()
    visit.page.get_by_role("tab", name="Duplicates").click()
    visit.page.get_by_role("button", name="Look for near-duplicates").click()
    visit.page.wait_for_selector(".ch-group")
    visit.page.get_by_role("tab", name="Concepts").click()
    visit.page.wait_for_selector(".ch-concept")
    assert "broken" not in visit.page.title().replace(HOSTILE, "")
    assert visit.page.locator("h1").inner_text() == " ".join(HOSTILE.split())
    assert visit.page.locator("img[src=x]").count() == 0
    words = visit.page.locator(".ch-one .ch-words q").evaluate("element => element.textContent")
    assert words == " ".join(HOSTILE.split())
    notes = visit.page.locator(".ch-more").all_text_contents()
    assert any("{{ 7 * 7 }}" in note and "${document" in note for note in notes)


def test_on_a_phone(chromium, served, bird):
    visit = Visit(chromium, served.url, viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    visit.upload(bird)
    visit.searched()
    visit.page.locator("#ch-hits .ch-photo").nth(20).tap()
    visit.page.wait_for_selector(".ch-two")
    visit.page.locator('.ch-two .ch-row[data-concept="1"] label').tap()
    visit.wait_for("""getComputedStyle(document.querySelector('.ch-two .ch-map[data-concept="1"]')).opacity === '1'""")
    for selector in (".ch-one", ".ch-two", "#ch-hits", ".ch-header", "#ch-photo"):
        box = visit.page.locator(selector).first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"], (selector, box)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert visit.page.locator(".ch-two .ch-strip").first.bounding_box()["width"] > 100
    visit.context.close()
    assert visit.wrong == []


def test_a_button_under_the_mouse_is_read_in_the_dark(chromium, served):
    visit = Visit(chromium, served.url, color_scheme="dark")
    visit.page.get_by_role("tab", name="Duplicates").click()
    button = visit.page.get_by_role("button", name="Look for near-duplicates")
    button.hover()
    visit.page.wait_for_timeout(500)
    style = "e => ['color', 'backgroundColor'].map(name => getComputedStyle(e)[name].match(/[0-9]+/g).slice(0, 3))"
    text, ground = (sum(map(int, colour)) for colour in button.evaluate(style))
    assert ground - text > 400
    visit.context.close()
    assert visit.wrong == []


def test_two_visitors_do_not_see_each_other(chromium, visit, bird, served):
    other = Visit(chromium, served.url)
    visit.upload(bird)
    visit.searched()
    assert other.page.locator(".ch-one").count() == 0
    other.page.fill("#ch-words textarea, #ch-words input", "spotted owl")
    other.page.keyboard.press("Enter")
    other.searched(".ch-words")
    assert visit.page.locator(".ch-one .ch-layers").count() == 1
    other.context.close()
    assert other.wrong == []


def test_photos_that_have_moved_leave_a_page_that_works(chromium, serve_index, hasher, tmp_path):
    birds = write_photos(tmp_path / "birds", 2)
    index = hasher.index(birds)
    shutil.rmtree(birds)
    visit = Visit(chromium, serve_index(index))
    assert visit.page.locator(".ch-none").count() == 10
    visit.page.locator("#ch-hits .ch-photo").first.click()
    visit.searched()
    visit.page.get_by_role("tab", name="Concepts").click()
    visit.page.get_by_text("none of the photos is at hand").wait_for()
    visit.context.close()
    assert visit.wrong == []


def test_a_model_without_concepts(chromium, served_baseline, bird):
    visit = Visit(chromium, served_baseline.url)
    visit.upload(bird)
    visit.searched(".ch-layers")
    hits = served_baseline.index.search(str(bird), k=24)
    assert visit.distances() == [hit.distance for hit in hits]
    assert visit.page.locator(".ch-one .ch-map, .ch-one .ch-proves").count() == 0
    assert not visit.page.get_by_text("1 concepts").count()
    visit.page.locator("#ch-hits .ch-photo").nth(20).click()
    visit.page.wait_for_selector(".ch-two")
    assert visit.page.locator(".ch-two .ch-sum").inner_text() == f"{hits[20].distance:g} of 12 bits differ"
    visit.page.locator(".ch-again").nth(23).click()
    visit.page.wait_for_function("document.querySelector('.ch-one figcaption span').title !== 'your photo'")
    assert visit.distances()[0] == 0
    visit.page.get_by_role("tab", name="Concepts").click()
    visit.page.get_by_text("its codes have no concepts").wait_for()
    visit.context.close()
    assert visit.wrong == []

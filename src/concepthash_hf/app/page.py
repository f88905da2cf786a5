"""The page: gradio's controls around what `drawing` draws and `Explorer` finds."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import gradio as gr

from ..hits import label_in_words
from . import drawing
from .batching import BusyError
from .decoding import MOST_BYTES, read_upload, too_large
from .explorer import MOST_HITS, PHOTOS_READ, Explorer, Page, Query
from .photos import id_of
from .readings import Comparison, Reading

HITS = 24  # on a page
MOST_GROUPS = 30  # of near-duplicates
SESSION_SECONDS, MOST_SESSIONS = 3600, 300  # each keeps a photo or two; the oldest go
_ANY = -1  # of a filter
_READING = f"Reading {PHOTOS_READ} photos ..."
_PHOTO, _SECOND_PHOTO, _SECOND = "A photo", "A second photo", "A second photo or words, to mix"
# a click on a card searches with its photo, or picks it: two at most. What is picked is kept here and told one after
# the other, the last choice when the answer to an earlier one is there, so that quick clicks are neither lost nor late
_CLICKS = """
let picked = [], search = null, told = '[]', since = 0;
const tell = () => {
  told = JSON.stringify(picked);
  since = Date.now();
  trigger('select', {keys: picked});
};
watch('value', () => {
  const shown = element.querySelector('.ch-hits').dataset.search;
  since = 0;
  if (shown !== search) {
    picked = [];
    told = '[]';
  } else if (JSON.stringify(picked) !== told) tell();
  search = shown;
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-action]');
  if (!button) return;
  const key = button.dataset.id;
  if (button.dataset.action === 'search') {
    trigger('submit', {key});
    return;
  }
  picked = picked.includes(key) ? picked.filter((each) => each !== key) : [...picked, key].slice(-2);
  for (const each of element.querySelectorAll('[data-action="pick"]'))
    each.closest('.ch-card').classList.toggle('ch-picked', picked.includes(each.dataset.id));
  if (Date.now() - since > 5000) tell();
});
"""
# what is new comes into view; of a search only where it would be below a phone's window
_SHOW = """
watch('value', () => {
  const shown = element.querySelector('section');
  if (shown) shown.scrollIntoView({behavior: 'smooth', block: 'nearest'});
});
"""
_SHOW_ON_PHONE = """
watch('value', () => {
  const shown = element.querySelector('section');
  if (shown && window.innerWidth < 760) shown.scrollIntoView({behavior: 'smooth', block: 'start'});
});
"""


@dataclass(frozen=True)
class Session:
    """What one visitor has asked.

    Attributes:
        one: a photo or words.
        other: another, of which some concepts are taken.
        from_other: which.
        first: place of the first hit shown.
        picked: ids of photos to compare, two at most.
        number: of the search, which tells it from others.
    """

    one: Reading | None = None
    other: Reading | None = None
    from_other: tuple[bool, ...] = ()
    first: int = 0
    picked: tuple[Any, ...] = ()
    number: int = 0

    def anew(self, **changes: Any) -> "Session":
        """Another search, from its first hit on."""
        return replace(self, first=0, picked=(), number=self.number + 1, **changes)

    @property
    def reading(self) -> Reading | None:
        """What is searched with."""
        if self.one is None or self.other is None or not any(self.from_other):
            return self.one
        return self.one.mixed(self.other, self.from_other)


def make_page(explorer: Explorer, title: str) -> gr.Blocks:
    """Build the page.

    Args:
        explorer: the collection.
        title: its name.
    """
    return _Page(explorer, title).blocks


def _telling(function: Callable) -> Callable:
    """What a visitor did wrong, and what is too busy, is said in a line; other errors are ours and stay in the log."""

    @wraps(function)
    def told(*args: Any) -> Any:
        try:
            return function(*args)
        except (ValueError, OSError, BusyError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    return told


def _choices(values: Sequence[Any]) -> list[tuple[str, int]]:
    """What a filter offers: values by their place, as a browser does not keep their kinds."""
    return [("any", _ANY), *((label_in_words(value) or "(empty)", place) for place, value in enumerate(values))]


def _are_taken_away(words: str, before: Reading | None) -> bool:
    """Whether an empty box means that the words of before are no longer asked for."""
    return not words.strip() and before is not None and before.is_words


def _sent(told: gr.EventData) -> bytes:
    """The photo that came with an event; its size where it is too large to come."""
    if told.size > MOST_BYTES:
        raise ValueError(too_large(told.size))
    return base64.b64decode(told.photo)


class _Page:
    """Controls, and what they do."""

    def __init__(self, explorer: Explorer, title: str) -> None:
        self.explorer, self.spec = explorer, explorer.spec
        self.facets = explorer.facets()
        facts = [
            f"{len(explorer.index):,} photos",
            f"{self.spec.num_bits} bits",
            *([f"{self.spec.num_concepts} concepts"] if explorer.index.hasher.has_concepts else []),
            self.spec.model_id or explorer.index.hasher.name_or_path,
        ]
        with gr.Blocks(title=title, analytics_enabled=False, fill_width=True) as self.blocks:
            gr.HTML(drawing.header(title, facts, self.spec), js_on_load=None, apply_default_css=False)
            with gr.Tabs():
                with gr.Tab("Search", id="search"):
                    self._search_tab()
                with gr.Tab("Concepts", id="concepts") as self.concepts_tab:
                    self.about = gr.HTML(drawing.message(_READING), js_on_load=None, apply_default_css=False)
                with gr.Tab("Duplicates", id="duplicates"):
                    self._duplicates_tab()
            self._connect()
        self.blocks.state_session_capacity = MOST_SESSIONS

    def _search_tab(self) -> None:
        self.session = gr.State(Session(), time_to_live=SESSION_SECONDS)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300):
                with gr.Column(elem_classes="ch-panel"):
                    self.photo = self._photo(_PHOTO, "ch-photo", pasted=True)
                    self.words = self._words("or type words", "ch-words")
                with gr.Accordion(_SECOND, open=False, elem_classes="ch-panel"):
                    self.second_photo = self._photo(_SECOND_PHOTO, "ch-second-photo", pasted=False)
                    self.second_words = self._words("or words", "ch-second-words")
                with gr.Column(elem_classes="ch-panel ch-weights"):
                    gr.HTML('<h2 class="ch-title">What each concept counts</h2>', js_on_load=None)
                    self.weights, self.sources = [], []
                    for concept in range(self.spec.num_concepts):
                        with gr.Column(elem_classes="ch-weight", elem_id=f"ch-concept-{concept}", min_width=100):
                            self.weights.append(
                                gr.Slider(0, 2, 1, step=0.1, label=f"concept {concept + 1}", buttons=[], min_width=100)
                            )
                            self.sources.append(
                                gr.Radio(
                                    ["this", "that"], value="this", show_label=False, container=False, visible=False
                                )
                            )
                    self.reset = gr.Button("All alike", size="sm", variant="secondary")
                self.filters: dict[str, gr.Dropdown] = {}
                if self.facets:
                    with gr.Accordion("Only photos with", open=False, elem_classes="ch-panel"):
                        for name, values in self.facets.items():
                            self.filters[name] = gr.Dropdown(_choices(values), value=_ANY, label=name)
            with gr.Column(scale=3, min_width=320):
                self.asked = gr.HTML(js_on_load=_SHOW_ON_PHONE, apply_default_css=False, elem_classes="ch-slot")
                self.pair = gr.HTML(js_on_load=_SHOW, apply_default_css=False, elem_classes="ch-slot")
                self.hits = gr.HTML(js_on_load=_CLICKS, apply_default_css=False, elem_id="ch-hits")
                with gr.Row(elem_id="ch-pager"):
                    self.back = gr.Button("Nearer", size="sm", interactive=False)
                    self.on = gr.Button("Further", size="sm", interactive=False)

    def _duplicates_tab(self) -> None:
        with gr.Column(elem_classes=["ch-panel", "ch-narrow"]):
            most = min(8, self.spec.num_bits)
            self.radius = gr.Slider(0, most, 0, step=1, label="Bits that may differ", elem_id="ch-radius", buttons=[])
            self.look = gr.Button("Look for near-duplicates", variant="primary", size="md")
        self.groups = gr.HTML(js_on_load=None, apply_default_css=False)

    def _photo(self, label: str, id: str, pasted: bool) -> gr.HTML:
        return gr.HTML(
            drawing.drop(label, None),
            js_on_load=drawing.drop_script(MOST_BYTES, pasted),
            apply_default_css=False,
            elem_id=id,
        )

    def _words(self, label: str, id: str) -> gr.Textbox:
        reads = self.explorer.reads_words
        return gr.Textbox(
            label=label,
            placeholder="such as a class name, then Enter" if reads else "this model reads no words",
            interactive=reads,
            max_lines=1,
            elem_id=id,
        )

    def _connect(self) -> None:
        controls = [*self.weights, *self.sources, *self.filters.values()]
        shown = [self.session, self.asked, self.pair, self.hits, self.back, self.on]
        after_first = [*shown, self.photo, self.words]
        after_second = [*shown, self.second_photo, self.second_words, *self.sources]
        quick: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
        slow: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal", "concurrency_limit": None}

        self.blocks.load(self._show, [self.session, *controls], shown, **quick)
        self._on(self.photo.upload, self._first_photo, controls, after_first, slow)
        self.photo.clear(self._forget_first, [self.session, *controls], after_first, **quick)
        self.words.submit(_telling(self._first_words), [self.session, self.words, *controls], after_first, **slow)
        self._on(self.second_photo.upload, self._second_photo, controls, after_second, slow)
        self.second_photo.clear(self._forget_second, [self.session, *controls], after_second, **quick)
        self.second_words.submit(
            _telling(self._second_words), [self.session, self.second_words, *controls], after_second, **slow
        )
        for slider in self.weights:
            slider.input(
                _telling(self._weighted), [self.session, *controls], shown, trigger_mode="always_last", **quick
            )
        choices: list[Any] = [*self.sources, *self.filters.values()]
        for control in choices:
            control.input(_telling(self._anew), [self.session, *controls], shown, **quick)
        self.reset.click(lambda: [1] * len(self.weights), None, self.weights, **quick).then(
            _telling(self._weighted), [self.session, *controls], shown, **quick
        )
        self.back.click(_telling(self._nearer), [self.session, *controls], shown, **quick)
        self.on.click(_telling(self._further), [self.session, *controls], shown, **quick)
        self._on(self.hits.select, self._pick, controls, shown, {**slow, "trigger_mode": "multiple"})
        self._on(self.hits.submit, self._again, controls, after_first, slow)
        self.concepts_tab.select(_telling(self._describe), None, self.about, **{**slow, "show_progress": "hidden"})
        self.look.click(_telling(self._group), self.radius, self.groups, **{**slow, "concurrency_limit": 1})

    def _on(self, event: Callable, function: Callable, controls: list, outputs: list, options: dict) -> None:
        """Call with what a script of the page tells, besides the session and the controls."""

        def happened(told: gr.EventData, session: Session, *values: Any) -> Any:
            return _telling(function)(session, told, *values)

        happened.__annotations__ = {"told": gr.EventData}  # by which gradio knows that it is wanted
        event(happened, [self.session, *controls], outputs, **options)

    def _first_photo(self, session: Session, told: gr.EventData, *values: Any) -> list[Any]:
        one = self.explorer.read_photo(lambda: read_upload(_sent(told)), "your photo")
        return self._first(session, one, values, drawing.drop(_PHOTO, one.photo))

    def _first_words(self, session: Session, words: str, *values: Any) -> list[Any]:
        if _are_taken_away(words, session.one):
            return self._forget_first(session, *values)
        return self._first(session, self.explorer.read_words(words), values, words=gr.skip())

    def _again(self, session: Session, told: gr.EventData, *values: Any) -> list[Any]:
        return self._first(session, self.explorer.read_item(id_of(told.key)), values)

    def _forget_first(self, session: Session, *values: Any) -> list[Any]:
        return self._first(session, None, values)

    def _first(
        self, session: Session, one: Reading | None, values: Sequence[Any], drop: str | None = None, words: Any = ""
    ) -> list[Any]:
        shown = self._show(session.anew(one=one), *values)
        return [*shown, drop or drawing.drop(_PHOTO, None), words]

    def _second_photo(self, session: Session, told: gr.EventData, *values: Any) -> list[Any]:
        other = self.explorer.read_photo(lambda: read_upload(_sent(told)), "your second photo")
        return self._second(session, other, values, drawing.drop(_SECOND_PHOTO, other.photo))

    def _second_words(self, session: Session, words: str, *values: Any) -> list[Any]:
        if _are_taken_away(words, session.other):
            return self._forget_second(session, *values)
        return self._second(session, self.explorer.read_words(words), values, words=gr.skip())

    def _forget_second(self, session: Session, *values: Any) -> list[Any]:
        number = len(self.weights)
        return self._second(session, None, [*values[:number], *["this"] * number, *values[2 * number :]])

    def _second(
        self, session: Session, other: Reading | None, values: Sequence[Any], drop: str | None = None, words: Any = ""
    ) -> list[Any]:
        shown = self._show(session.anew(other=other), *values)
        choices = gr.update(visible=True) if other is not None else gr.update(visible=False, value="this")
        return [*shown, drop or drawing.drop(_SECOND_PHOTO, None), words, *[choices] * len(self.sources)]

    def _weighted(self, session: Session, *values: Any) -> list[Any]:
        return self._from(0, session, values)

    def _anew(self, session: Session, *values: Any) -> list[Any]:
        return self._show(session.anew(), *values)

    def _nearer(self, session: Session, *values: Any) -> list[Any]:
        return self._from(max(0, session.first - HITS), session, values)

    def _further(self, session: Session, *values: Any) -> list[Any]:
        return self._from(min(MOST_HITS - HITS, session.first + HITS), session, values)

    def _from(self, first: int, session: Session, values: Sequence[Any]) -> list[Any]:
        """Other hits of the same query."""
        session, page, query = self._search(replace(session, first=first), values)
        return [session, gr.skip(), gr.skip(), *self._hits(session, page, query)]

    def _pick(self, session: Session, told: gr.EventData, *values: Any) -> list[Any]:
        """Compare a photo that was chosen with the query, or two with each other."""
        picked = tuple(id_of(key) for key in told.keys[:2])
        session, page, query = self._search(replace(session, picked=picked), values)
        return [session, gr.skip(), self._compared(session), *self._hits(session, page, query)]

    def _describe(self) -> str:
        try:
            found = self.explorer.describe_concepts()
        except ValueError as error:  # said where the concepts would be
            return drawing.message(str(error))
        return drawing.concepts(found.concepts, found.photos, found.codes, self.explorer.proves)

    def _group(self, radius: float) -> str:
        groups = self.explorer.duplicates(int(radius))
        shown = [(len(group), self.explorer.items(group[:HITS])) for group in groups[:MOST_GROUPS]]
        return drawing.groups(shown, len(groups), int(radius))

    def _show(self, session: Session, *values: Any) -> list[Any]:
        session, page, query = self._search(session, values)
        return [session, self._asked(session), self._compared(session), *self._hits(session, page, query)]

    def _search(self, session: Session, values: Sequence[Any]) -> tuple[Session, Page, Query | None]:
        number = len(self.weights)
        weights, sources, filters = values[:number], values[number : 2 * number], values[2 * number :]
        session = replace(session, from_other=tuple(source == "that" for source in sources))
        chosen = zip(self.filters, filters, strict=True)
        where = {name: self.facets[name][place] for name, place in chosen if place != _ANY}
        reading = session.reading
        if reading is None:
            return session, self.explorer.browse(HITS, where), None
        alike = all(weight == 1 for weight in weights)
        query = Query(reading, None if alike else tuple(map(float, weights)), where)
        return session, self.explorer.search(query, session.first, HITS), query

    def _asked(self, session: Session) -> str:
        if session.one is None:
            return ""
        if session.other is not None:
            return drawing.mixture(session.one, session.other, session.from_other)
        return drawing.reading(session.one, self.explorer.proves)

    def _compared(self, session: Session) -> str:
        if not session.picked or session.reading is None:
            return ""
        readings = [self.explorer.read_item(id) for id in session.picked]
        if len(readings) == 1:
            return drawing.comparison(Comparison(session.reading, readings[0]), ("query", "match"))
        return drawing.comparison(Comparison(*readings), ("first", "second"))

    def _hits(self, session: Session, page: Page, query: Query | None) -> list[Any]:
        return [
            drawing.hits(page, query, self.spec, session.picked, session.number),
            gr.update(interactive=query is not None and page.first > 0),
            gr.update(interactive=query is not None and page.has_more),
        ]

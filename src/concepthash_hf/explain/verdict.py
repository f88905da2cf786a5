"""What measurements say of a concept, in a sentence, and whether they bear out that it means something."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from .measures.faithfulness import Faithfulness
from .measures.localisation import Localisation
from .measures.measurement import Measurement

CLEARLY = 1.5
"""Times chance, and times other sub-codes, from which on a concept is said to point at a part, and its bits to depend
on what it looks at. A judgement, not a test."""
FOLLOWS = 1.2
"""Times its gaze in other photos from which on a concept is said to follow its part, not to look at one place."""

Holds = Literal["yes", "partly", "no", "not measured"]
_Kind = TypeVar("_Kind", bound=Measurement)


@dataclass(frozen=True)
class ConceptVerdict:
    """What is known of one concept, in words.

    Attributes:
        sentence: what was measured.
        judgement: what that means for somebody who looks at its pictures.
        holds: "yes" where its pictures can be taken at their word, "no" where measurements say that they mean nothing.
    """

    sentence: str
    judgement: str
    holds: Holds


def concept_verdict(concept: int, measured: Mapping[str, Measurement]) -> ConceptVerdict:
    """Say in words what measurements found of a concept.

    A concept *points at a part* if the patch it looks at most has its own part `CLEARLY` more often than chance, and
    `FOLLOWS` times as often as its gaze in other photos would. Its *bits depend on what it looks at* if hiding that
    flips them `CLEARLY` more often than those of other concepts, and than hiding as much elsewhere. It means what it
    shows if both are so, and nothing if neither is.

    Args:
        concept: its number, from 0.
        measured: from `measure_concepts` or `read_measurements`; what is not there is not spoken of.
    """
    located, hidden = _first(measured, Localisation), _first(measured, Faithfulness)
    place, points = _place(concept, located) if located is not None else (None, None)
    what = "what it looks at" if place is None else "that"
    dependence, depends = _dependence(concept, hidden, what) if hidden is not None else (None, None)
    name = f"Concept {concept + 1}"
    if place is not None:
        sentence = f"{name} {place}; {dependence}." if dependence is not None else f"{name} {place}."
    else:
        sentence = f"{name}: {dependence or 'nothing was measured'}."
    return ConceptVerdict(sentence, *_JUDGEMENTS[points, depends])


def _place(concept: int, located: Localisation) -> tuple[str, bool]:
    """Where it looks, and whether that is a part that it follows."""
    part = located.own_part[concept]
    chance, elsewhere = _shown(located.own_times_chance[concept]), _shown(located.own_times_other_photos[concept])
    if chance < CLEARLY:
        if located.any_part[concept] < located.any_part_chance:
            return f"looks past all annotated parts more often than chance would (the {part}: {chance:.1f})", False
        return f"looks at no part in particular (most at the {part}: {chance:.1f} times chance)", False
    if elsewhere < FOLLOWS:
        return f"looks where the {part} often is, {chance:.1f} times chance, but does not follow it", False
    return f"looks at the {part}: {chance:.1f} times chance", True


def _dependence(concept: int, hidden: Faithfulness, what: str) -> tuple[str, bool]:
    """How much more its bits react than those of others when what it looks at is hidden."""
    flips = hidden.flips[concept]
    own, others = flips[concept], float(np.mean([*flips[:concept], *flips[concept + 1 :]]))
    elsewhere = hidden.random_flips[concept][concept]
    if own == 0:
        return f"its bits stay as they are when {what} is hidden", False
    if others == 0:
        return f"no bits but its own change when {what} is hidden", own >= CLEARLY * elsewhere
    times = _shown(own / others)
    if times < CLEARLY:
        return f"its bits depend on {what} no more than those of the others ({times:.1f} times)", False
    if own < CLEARLY * elsewhere:
        return f"its bits depend on {what} {times:.1f} times more than others, but on any other place as much", False
    return f"its bits depend on {what} {times:.1f} times more than others", True


def _shown(ratio: float | None) -> float:
    """As it is said, so that nobody reads "1.5 times" and another verdict than that of 1.5."""
    return round(ratio or 0, 1)


def _first(measured: Mapping[str, Measurement], kind: type[_Kind]) -> _Kind | None:
    return next((each for each in measured.values() if isinstance(each, kind)), None)


_LITTLE = "Where it looks says little about its bits: do not read its map as the reason for a match."
_JUDGEMENTS: dict[tuple[bool | None, bool | None], tuple[str, Holds]] = {
    (True, True): ("It means what it shows.", "yes"),
    (True, False): (f"It finds its part. {_LITTLE}", "partly"),
    (False, True): ("Its bits do come from where it looks, but that is not one part.", "partly"),
    (False, False): ("Nothing that was measured says that it means anything.", "no"),
    (None, True): ("Its bits come from where it looks; what that is, the gallery has to show.", "partly"),
    (None, False): (_LITTLE, "no"),
    (True, None): ("It finds its part. Whether its bits depend on it was not measured.", "not measured"),
    (False, None): ("Whether its bits depend on where it looks was not measured.", "not measured"),
    (None, None): ("Its pictures are unproved.", "not measured"),
}
"""By whether it points at a part, and whether its bits depend on what it looks at; None if that was not measured."""

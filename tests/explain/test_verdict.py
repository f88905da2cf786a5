"""What is said of a concept follows from what was measured."""

from dataclasses import replace

import pytest

from concepthash_hf.explain.measures.faithfulness import Faithfulness
from concepthash_hf.explain.measures.localisation import Localisation
from concepthash_hf.explain.verdict import concept_verdict


def located(times_chance=(4.1, 4.1), times_other_photos=(2.0, 2.0), any_part=(0.7, 0.7)) -> Localisation:
    nothing = [[None, None]] * 2
    return Localisation(
        *("masks", 9, ["wing", "beak"], nothing, [None, None], nothing, ["wing", "beak"]),
        *(list(times_chance), list(times_other_photos), None, None, list(any_part), 0.3, [0.5, 0.5], 0.1),
    )


def hidden(own=0.32, other=0.1, at_random=0.05) -> Faithfulness:
    flips = [[own, other], [other, own]]
    at_random = [[at_random, 0.0], [0.0, at_random]]
    return Faithfulness(flips, at_random, own, other, 0.0, None, None, "blur", 0.1, 9)


def said(**measured) -> tuple[str, str, str]:
    verdict = concept_verdict(0, measured)
    return verdict.sentence, verdict.judgement, verdict.holds


def test_a_concept_that_means_what_it_shows():
    sentence, judgement, holds = said(localisation=located(), faithfulness=hidden())
    assert (
        sentence
        == "Concept 1 looks at the wing: 4.1 times chance; its bits depend on that 3.2 times more than others."
    )
    assert (judgement, holds) == ("It means what it shows.", "yes")


def test_the_second_concept_has_its_own_numbers():
    measured = {
        "localisation": located((1, 7.6)),
        "faithfulness_blur_10": replace(hidden(), flips=[[0, 0.2], [0.1, 0.5]]),
    }
    assert concept_verdict(1, measured).sentence == (
        "Concept 2 looks at the beak: 7.6 times chance; its bits depend on that 5.0 times more than others."
    )


@pytest.mark.parametrize(
    ("localisation", "faithfulness", "words", "holds"),
    [
        (located((1.2, 9)), hidden(), "looks at no part in particular (most at the wing: 1.2 times chance)", "partly"),
        (located((1.2, 9)), hidden(0.1), "no more than those of the others (1.0 times)", "no"),
        (located((1.2, 9), any_part=(0.2, 0.9)), hidden(0.1), "looks past all annotated parts more often than", "no"),
        (
            located((4, 4), (1.1, 2)),
            hidden(0.1),
            "looks where the wing often is, 4.0 times chance, but does not",
            "no",
        ),
        (located(), hidden(0.1), "no more than those of the others (1.0 times)", "partly"),
        (located(), hidden(at_random=0.3), "3.2 times more than others, but on any other place as much", "partly"),
        (located(), hidden(own=0), "its bits stay as they are when that is hidden", "partly"),
        (located(), hidden(other=0), "no bits but its own change when that is hidden", "yes"),
        (located(), hidden(other=0, at_random=0.3), "no bits but its own change when that is hidden", "partly"),
        (located((None, 4)), hidden(0.1), "looks at no part in particular (most at the wing: 0.0 times chance)", "no"),
        (located(), None, "Concept 1 looks at the wing: 4.1 times chance.", "not measured"),
        (located((1.2, 9)), None, "Concept 1 looks at no part in particular", "not measured"),
        (None, hidden(), "Concept 1: its bits depend on what it looks at 3.2 times more than others.", "partly"),
        (None, hidden(0.1), "no more than those of the others", "no"),
        (None, None, "Concept 1: nothing was measured.", "not measured"),
    ],
)
def test_what_was_not_found_is_said(localisation, faithfulness, words, holds):
    measured = {"localisation": localisation, "faithfulness": faithfulness}
    verdict = concept_verdict(0, {name: each for name, each in measured.items() if each is not None})
    assert words in verdict.sentence and verdict.holds == holds
    assert "{" not in verdict.sentence + verdict.judgement


def test_a_number_as_shown_decides():
    """Nobody reads "1.5 times" beside the verdict of what is less than 1.5."""
    assert "1.5 times more" in concept_verdict(0, {"faithfulness": hidden(0.1451)}).sentence
    assert (
        "no more than those of the others (1.4 times)" in concept_verdict(0, {"faithfulness": hidden(0.144)}).sentence
    )

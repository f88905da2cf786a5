"""One part changes: which sub-codes flip."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made import Photos, RowReader

from concepthash_hf.explain.measures.selectivity import agreement_with_localisation, selectivity


def changed_rows(number: int, rows: list[list[int]]) -> Photos:
    """White photos in which each part, when it changes, turns these rows of patches black."""
    pixels = torch.ones(number, 3, 20, 20)
    changed = pixels[:, None].repeat(1, len(rows), 1, 1, 1)
    for part, black in enumerate(rows):
        for row in black:
            changed[:, part, :, 5 * row : 5 * row + 5] = 0
    return Photos(pixel_values=pixels, changed=changed)


def test_a_part_in_one_row_shows_in_one_sub_code():
    found = selectivity(RowReader(), changed_rows(10, [[3], [1]]), ["wing", "head"], batch_size=3)
    np.testing.assert_allclose(found.flips, 0.5 * np.eye(4)[[3, 1]])
    assert found.concentration == [1, 1] and found.mean_concentration == 1
    assert found.concentration_chance == 0.25
    assert found.num_photos == 10 and found.part_names == ["wing", "head"]


def test_a_part_all_over_the_bird_shows_in_all():
    found = selectivity(RowReader(), changed_rows(10, [[0, 1, 2, 3], [0, 2]]), ["plumage", "legs"])
    np.testing.assert_allclose(found.concentration, [0.25, 0.5])


def test_a_part_that_changes_nothing():
    found = selectivity(RowReader(), changed_rows(4, [[], [2]]), ["shadow", "tail"])
    assert found.concentration == [None, 1] and found.mean_concentration == 1
    assert selectivity(RowReader(), changed_rows(4, [[]]), ["shadow"]).mean_concentration is None


def test_flips_by_chance_are_not_concentrated():
    """Noise of a threshold: the sub-code that flips most on one half is no more likely to on the other."""
    torch.manual_seed(0)
    pixels, changed = (0.472 + 0.01 * torch.randn(16, *more, 3, 20, 20) for more in ((), (60,)))
    found = selectivity(RowReader(), Photos(pixel_values=pixels, changed=changed), [str(part) for part in range(60)])
    assert found.mean_concentration == pytest.approx(0.25, abs=0.03)


def localised(score: list[list[float | None]]) -> SimpleNamespace:
    """Scores of concepts for the parts wing, tail and head."""
    return SimpleNamespace(part_names=["wing", "tail", "head"], score=score)


def flipped(flips: list[list[float]]) -> SimpleNamespace:
    """Flips when head or wing change."""
    return SimpleNamespace(part_names=["head", "wing"], flips=flips)


def test_concepts_that_react_to_what_they_look_at():
    looks_at_wing, looks_at_head = [0.8, 0.1, 0.1], [0.1, 0.1, 0.4]
    both = localised([looks_at_wing, looks_at_head])
    assert agreement_with_localisation(flipped([[0.1, 0.3], [0.09, 0.01]]), both) == pytest.approx(1)
    assert agreement_with_localisation(flipped([[0.3, 0.1], [0.01, 0.09]]), both) == pytest.approx(-1)
    # that the wing flips more than the head, in all sub-codes, says nothing
    assert agreement_with_localisation(flipped([[0.1, 0.1], [0.9, 0.9]]), both) is None


def test_agreement_leaves_out_what_was_not_seen_or_flips_nothing():
    with_unseen = localised([[0.8, 0.1, None], [0.1, 0.1, None]])
    assert agreement_with_localisation(flipped([[0.9, 0], [0.3, 0.1]]), with_unseen) == pytest.approx(1)
    assert agreement_with_localisation(flipped([[0.9, 0], [0, 0]]), with_unseen) is None
    with pytest.raises(ValueError, match="changed parts .'head'."):
        agreement_with_localisation(flipped([[0, 0], [0, 0]]), SimpleNamespace(part_names=["wing"], score=[[1], [1]]))


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="3 part names for photos with 2 changes"):
        selectivity(RowReader(), changed_rows(2, [[0], [1]]), ["a", "b", "c"])
    with pytest.raises(ValueError, match="no photos"):
        selectivity(RowReader(), changed_rows(0, [[0]]), ["a"])

"""Hiding what a concept attends to."""

import math

import numpy as np
import pytest
import torch
from common import photos, tiny_model
from made import Photos, RowReader

from concepthash_hf.codes import split_sub_codes, unpack_bits
from concepthash_hf.explain.measures.curves import deletion_insertion
from concepthash_hf.explain.measures.faithfulness import faithfulness
from concepthash_hf.explain.measures.hiding import attention_ranks, blurred, hide_patches, moved


def dotted(number: int) -> Photos:
    """A bright pixel in every patch of dark photos: the bit of a row is set until all of the row is hidden."""
    pixels = torch.zeros(number, 3, 20, 20)
    pixels[:, :, 2::5, 2::5] = 1
    return Photos(pixel_values=pixels)


DOTS = dotted(6)


def test_sub_codes_that_read_what_their_concepts_attend_to():
    found = faithfulness(RowReader(), DOTS, "grey", share=0.25, batch_size=4)
    np.testing.assert_allclose(found.flips, 0.5 * np.eye(4))  # one of two bits
    assert found.diagonal == 0.5 and found.off_diagonal == 0 and found.diagonal_over_off_diagonal is None
    assert found.num_photos == 6 and found.share_hidden == 0.25 and found.hide == "grey"


def test_rows_are_what_is_hidden_and_columns_what_flips():
    """Sub-code 0 reads what concept 1 attends to, sub-code 1 what concept 2 attends to, ..."""
    found = faithfulness(RowReader(reads=(1, 2, 3, 0)), DOTS, "grey", share=0.25)
    np.testing.assert_allclose(found.flips, 0.5 * np.eye(4)[[3, 0, 1, 2]])
    assert found.diagonal_over_off_diagonal == 0
    assert found.off_diagonal == pytest.approx(0.5 / 3)


def test_all_sub_codes_reading_the_same_row():
    found = faithfulness(RowReader(reads=(2, 2, 2, 2)), DOTS, "grey", share=0.25)
    assert found.diagonal_over_off_diagonal == pytest.approx(1)


def test_a_random_place_of_the_same_shape():
    """A row moved anywhere is a row: it hides the row that a sub-code reads in a quarter of the photos."""
    many = dotted(400)
    found = faithfulness(RowReader(), many, "grey", share=0.25)
    assert found.random == pytest.approx(0.5 / 4, abs=0.02)
    assert found.diagonal_over_random == pytest.approx(4, rel=0.2)
    assert faithfulness(RowReader(), many, "grey", share=0.25, seed=1).random != found.random
    assert faithfulness(RowReader(), many, "grey", share=0.25) == found


@pytest.mark.parametrize("hide", ["blur", "grey"])
def test_both_ways_hide_detail_and_leave_what_is_plain(hide):
    assert faithfulness(RowReader(), DOTS, hide, share=0.25).diagonal == 0.5
    plain = Photos(pixel_values=torch.ones(2, 3, 20, 20))
    assert faithfulness(RowReader(), plain, hide, share=0.25).diagonal == 0


def test_blur_is_local_and_grey_the_mean_of_the_photo():
    pixels = torch.zeros(1, 3, 20, 20)
    pixels[:, :, 10:] = 0.9  # the lower half is bright, the photo's mean is not
    for hide, still_bright in (("blur", [0, 0, 0, 0]), ("grey", [0, 0, 0.5, 0.5])):
        found = faithfulness(RowReader(), Photos(pixel_values=pixels), hide, share=0.25)
        np.testing.assert_allclose(np.diag(found.flips), still_bright)


def test_as_naive_loops_do_it():
    model, pixels = tiny_model(), photos(3)
    found = faithfulness(model, Photos(pixel_values=pixels), "grey", share=0.35)
    flips = np.zeros((3, 3))
    for photo in pixels:
        attentions = model(photo[None], output_attentions=True).concept_attentions[0].detach().numpy()
        code = unpack_bits(model.get_hash_codes(photo[None]).numpy(), 12)
        for concept in range(3):
            hidden = photo.clone()
            for patch in np.argsort(-attentions[concept])[:3]:  # 0.35 of 9
                row, column = divmod(int(patch), 3)
                place = (slice(10 * row, 10 * row + 10), slice(10 * column, 10 * column + 10))
                hidden[:, *place] = photo.mean((1, 2))[:, None, None]
            changed = unpack_bits(model.get_hash_codes(hidden[None]).numpy(), 12) ^ code
            flips[concept] += split_sub_codes(changed, 3)[0].mean(-1) / 3
    np.testing.assert_allclose(found.flips, flips)
    assert found.share_hidden == pytest.approx(3 / 9)
    assert flips.any()


def test_deletion_and_insertion_by_hand():
    """A sub-code reads the four patches of a row, hidden one after the other: its bit goes when half are hidden."""
    found = deletion_insertion(RowReader(), DOTS, "grey", steps=4, batch_size=4)
    np.testing.assert_allclose(found.shares, [0, 0.25, 0.5, 0.75, 1])
    # after a quarter of the patches the own row is gone: one of two bits has flipped, the other never does
    np.testing.assert_allclose(found.deletion, [[1, 0.5, 0.5, 0.5, 0.5]] * 4)
    np.testing.assert_allclose(found.insertion, [[0.5, 1, 1, 1, 1]] * 4)
    assert found.deletion_area == pytest.approx((0.75 + 3 * 0.5) / 4)
    assert found.insertion_area == pytest.approx((0.75 + 3 * 1) / 4)
    assert found.deletion_area < found.random_deletion_area
    assert found.insertion_area > found.random_insertion_area
    for name in ("random_deletion", "random_insertion"):
        curve = np.array(getattr(found, name))
        assert curve.shape == (4, 5)
        assert (curve[:, 0 if name == "random_deletion" else -1] == 1).all()


def test_curves_as_naive_loops_have_them():
    model, pixels = tiny_model(), photos(3)
    found = deletion_insertion(model, Photos(pixel_values=pixels), "grey", steps=4)
    deletion, insertion = np.zeros((3, 5)), np.zeros((3, 5))
    for photo in pixels:
        attentions = model(photo[None], output_attentions=True).concept_attentions[0].detach().numpy()
        code = unpack_bits(model.get_hash_codes(photo[None]).numpy(), 12)
        grey = photo.mean((1, 2))[:, None, None].expand_as(photo)
        for concept, step in np.ndindex(3, 5):
            without, only = photo.clone(), grey.clone()
            for patch in np.argsort(-attentions[concept])[: round(9 * step / 4)]:
                row, column = divmod(int(patch), 3)
                place = (slice(None), slice(10 * row, 10 * row + 10), slice(10 * column, 10 * column + 10))
                without[place], only[place] = grey[place], photo[place]
            for curve, changed in ((deletion, without), (insertion, only)):
                same = unpack_bits(model.get_hash_codes(changed[None]).numpy(), 12) == code
                curve[concept, step] += split_sub_codes(same, 3)[0, concept].mean() / 3
    np.testing.assert_allclose(found.deletion, deletion)
    np.testing.assert_allclose(found.insertion, insertion)
    assert 0 < deletion.mean() < 1 and 0 < insertion.mean() < 1


def test_a_random_order_is_that_of_no_concept():
    """Of 16 patches some are hidden: with which chance all four of a row are among them can be counted."""
    found = deletion_insertion(RowReader(), dotted(600), "grey", steps=4)
    ways = [math.comb(12, hidden - 4) / math.comb(16, hidden) for hidden in (4, 8, 12, 16)]
    gone = [1, *(1 - 0.5 * chance for chance in ways)]
    np.testing.assert_allclose(found.random_deletion, [gone] * 4, atol=0.03)
    np.testing.assert_allclose(found.random_insertion, [gone[::-1]] * 4, atol=0.03)


def test_sub_codes_that_read_elsewhere():
    """Patches that are attended to equally follow in reading order, after the own row."""
    found = deletion_insertion(RowReader(reads=(1, 2, 3, 0)), DOTS, "grey", steps=4)
    first_seen = [2, 3, 4, 2]  # quarters shown until the row that a sub-code reads is there
    expected = [[1.0 if step >= quarter else 0.5 for step in range(5)] for quarter in first_seen]
    np.testing.assert_allclose(found.insertion, expected)


def test_ranks_and_hidden_patches():
    attentions = torch.tensor([[0.1, 0.7], [0.3, 0.2]])
    assert attention_ranks(attentions[None]).tolist() == [[[3, 0], [1, 2]]]
    assert attention_ranks(torch.zeros(1, 2, 2)).tolist() == [[[0, 1], [2, 3]]]
    hidden = torch.tensor([[[True, False, False], [False, False, True]]])
    picture = hide_patches(torch.ones(1, 3, 4, 6), hidden, torch.zeros(()))
    assert picture[0, 0].int().tolist() == [[0, 0, 1, 1, 1, 1]] * 2 + [[1, 1, 1, 1, 0, 0]] * 2


def test_moved_patches_keep_their_shape_and_come_everywhere():
    """Also in photos that are not square."""
    shape = torch.zeros(2, 6, dtype=torch.bool)
    shape[0, 1] = shape[0, 2] = shape[1, 1] = True
    found = moved(shape.expand(1200, 2, 6), torch.Generator().manual_seed(0))
    places = [shape.roll((row, column), (0, 1)) for row in range(2) for column in range(6)]
    counts = [int((found == place).all(-1).all(-1).sum()) for place in places]
    assert sum(counts) == 1200 and min(counts) > 60


def test_a_blur_is_a_gaussian_as_wide_as_a_patch():
    """Cut off at two patches, in both directions alike; of a photo of a few patches, at its border."""
    dot = torch.zeros(1, 1, 31, 31)
    dot[..., 15, 15] = 1
    weights = [math.exp(-((place - 15) ** 2) / (2 * 4**2)) if abs(place - 15) <= 8 else 0.0 for place in range(31)]
    line = torch.tensor(weights) / sum(weights)
    torch.testing.assert_close(blurred(dot, 4)[0, 0], line[:, None] * line)
    small = torch.rand(1, 3, 8, 8)
    assert blurred(small, 4).std() < small.std() / 3


def test_one_patch_is_hidden_however_small_the_share():
    found = faithfulness(tiny_model(), Photos(pixel_values=photos(2)), "grey", share=0.01)
    assert found.share_hidden == pytest.approx(1 / 9)


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_impossible_shares(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        faithfulness(RowReader(), DOTS, share=share)


def test_unknown_ways_to_hide():
    with pytest.raises(ValueError, match='"blur" or "grey", got \'black\''):
        faithfulness(RowReader(), DOTS, "black")
    with pytest.raises(ValueError, match="at least one step"):
        deletion_insertion(RowReader(), DOTS, steps=0)


def test_one_concept_and_no_photos():
    with pytest.raises(ValueError, match="only one concept"):
        faithfulness(tiny_model({"num_concepts": 1}), Photos(pixel_values=photos(2)))
    for measure in (faithfulness, deletion_insertion):
        with pytest.raises(ValueError, match="no photos"):
            measure(tiny_model(), Photos(pixel_values=photos(0)))

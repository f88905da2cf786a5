"""Showing nothing but the region of a concept."""

import numpy as np
import pytest
import torch
from common import photos, tiny_model
from made import Photos, RowReader

from concepthash_hf.codes import split_sub_codes, unpack_bits
from concepthash_hf.explain.measures.region_only import concept_regions, region_only


def dotted(number: int) -> Photos:
    """A bright pixel in every patch of dark photos: the bit of a row is set until all of the row is hidden."""
    pixels = torch.zeros(number, 3, 20, 20)
    pixels[:, :, 2::5, 2::5] = 1
    return Photos(pixel_values=pixels)


def test_sub_codes_that_need_nothing_but_their_region():
    """Each reads the row that its concept attends to; one of its two bits is never set."""
    found = region_only(RowReader(), dotted(6), "grey", batch_size=4)
    np.testing.assert_allclose(found.kept, 0.5 + 0.5 * np.eye(4))
    assert (found.own_kept, found.other_kept, found.num_photos, found.hide) == (1, 0.5, 6, "grey")
    assert found.nothing_kept == [0.5] * 4 and found.region_share == [0.25] * 4


def test_rows_are_what_is_shown_and_columns_what_stays():
    """Sub-code 0 reads what concept 1 attends to, sub-code 1 what concept 2 attends to, ..."""
    found = region_only(RowReader(reads=(1, 2, 3, 0)), dotted(6), "grey")
    np.testing.assert_allclose(found.kept, 0.5 + 0.5 * np.eye(4)[[3, 0, 1, 2]])
    assert found.own_kept == 0.5


def test_a_region_at_a_random_place():
    """A row moved anywhere is a row: it shows the row that a sub-code reads in a quarter of the photos."""
    found = region_only(RowReader(), dotted(400), "grey")
    np.testing.assert_allclose(found.random_kept, [0.5 + 0.5 / 4] * 4, atol=0.05)
    assert region_only(RowReader(), dotted(400), "grey") == found
    assert region_only(RowReader(), dotted(400), "grey", seed=1).random_kept != found.random_kept


def test_what_stays_at_a_random_place_is_of_the_own_sub_code():
    """Only the first row has anything that could go: the sub-codes of the other concepts stay wherever one looks."""
    photos = dotted(40)
    photos.columns["pixel_values"][:, :, 5:] = 0
    found = region_only(RowReader(), photos, "grey")
    assert found.random_kept[0] < 0.8 and found.random_kept[1:] == [1, 1, 1]


def test_regions():
    even = torch.tensor([[0.3, 0.1], [0.2, 0.2]])  # 0.2 is an even share
    blind = torch.tensor([[0.0, 0.01], [0.2, 0.6]])  # everything but what it cannot see
    nothing = torch.zeros(2, 2)
    regions = concept_regions(torch.stack([even, blind, nothing])[None])[0]
    assert regions.int().tolist() == [[[1, 0], [0, 0]], [[0, 1], [1, 1]], [[0, 0], [0, 0]]]


def test_the_regions_of_a_model_that_has_regions():
    """All that a concept sees, however little of its attention a patch has."""
    model = tiny_model({"read_out": "regions", "first_adapted_layer": 1}).eval()
    torch.nn.init.normal_(model.vision_model.read_out.head.up_proj.weight)
    pixels = photos(4)
    with torch.no_grad():
        seen = model.vision_model.find_regions(pixels)
        attentions = model(pixels, output_attentions=True).concept_attentions.unflatten(-1, (3, 3))
    expected = torch.zeros(4, 3, 10).scatter(2, torch.where(seen < 0, 9, seen), 1.0)[..., :9].bool()
    assert torch.equal(concept_regions(attentions).flatten(2), expected)


def test_as_naive_loops_do_it():
    torch.manual_seed(2)
    model, pixels = tiny_model(), photos(3)
    found = region_only(model, Photos(pixel_values=pixels), "grey", batch_size=2)
    kept, share, nothing = np.zeros((3, 3)), np.zeros(3), np.zeros(3)

    def bits(photo: torch.Tensor) -> np.ndarray:
        return unpack_bits(model.get_hash_codes(photo[None]).numpy(), 12)

    for photo in pixels:
        attentions = model(photo[None], output_attentions=True).concept_attentions[0].detach().numpy()
        grey = photo.mean((1, 2))[:, None, None].expand_as(photo)
        nothing += split_sub_codes(bits(grey) == bits(photo), 3)[0].mean(-1) / 3
        for concept in range(3):
            shown = grey.clone()
            for patch in np.flatnonzero(attentions[concept] > attentions[concept].mean()):
                row, column = divmod(int(patch), 3)
                place = (slice(None), slice(10 * row, 10 * row + 10), slice(10 * column, 10 * column + 10))
                shown[place] = photo[place]
                share[concept] += 1 / 9 / 3
            kept[concept] += split_sub_codes(bits(shown) == bits(photo), 3)[0].mean(-1) / 3
    np.testing.assert_allclose(found.kept, kept)
    np.testing.assert_allclose(found.region_share, share, rtol=1e-5)
    np.testing.assert_allclose(found.nothing_kept, nothing)
    assert found.own_kept == pytest.approx(np.diag(kept).mean()) and 0 < kept.mean() < 1


def test_a_single_concept_has_no_others():
    found = region_only(tiny_model({"num_concepts": 1}), Photos(pixel_values=photos(2)))
    assert found.other_kept is None and len(found.kept) == 1
    assert found.table().rows[0][0] == "the region of concept 1"


def test_what_is_refused():
    with pytest.raises(ValueError, match='"blur" or "grey", got \'black\''):
        region_only(RowReader(), dotted(2), "black")
    with pytest.raises(ValueError, match="no photos"):
        region_only(tiny_model(), Photos(pixel_values=photos(0)))

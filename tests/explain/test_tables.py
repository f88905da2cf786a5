"""Measurements laid out for people."""

import json

import numpy as np
import pytest
import torch
from common import TINY_VISION, tiny_model
from runs import TinyPhotos
from transformers import CLIPImageProcessor

from concepthash_hf.explain import read_concepts
from concepthash_hf.explain.diversity import diversity
from concepthash_hf.explain.faithfulness import deletion_insertion, faithfulness
from concepthash_hf.explain.families import class_codes, class_tree, family_agreement
from concepthash_hf.explain.localisation import localisation
from concepthash_hf.explain.selectivity import selectivity
from concepthash_hf.explain.stability import stability
from concepthash_hf.explain.tables import measurement_tables


class Annotated(TinyPhotos):
    """Photos with three points, and with two changes."""

    def __getitem__(self, index):
        item, generator = super().__getitem__(index), torch.Generator().manual_seed(index)
        parts = TINY_VISION["image_size"] * torch.rand(3, 2, generator=generator)
        changed = item["pixel_values"] + torch.randn(2, *item["pixel_values"].shape, generator=generator)
        return item | {"parts": parts, "changed": changed}


@pytest.fixture(scope="module")
def measurements() -> dict:
    """What every measurement really gives, through JSON as the files have it."""
    torch.manual_seed(3)
    model, photos = tiny_model(), Annotated(16)
    readings = read_concepts(model, photos)
    blur = faithfulness(model, photos, "blur")
    measured = {
        "localisation": localisation(readings, ["beak", "wing", "tail"]),
        "diversity": diversity(readings),
        "faithfulness": blur,
        "faithfulness_grey_20": faithfulness(model, photos, "grey", 0.2),
        "curves": deletion_insertion(model, photos, steps=3),
        "selectivity": selectivity(model, photos, ["beak", "wing"]),
        "stability": stability(model, photos, CLIPImageProcessor()),
        "families": family_agreement(class_tree(class_codes(model)), ["a", "a", "b", "b", "b"]),
        "retrieval": {"eval_map": 0.5},
    }
    return json.loads(json.dumps(measured))


def test_every_measurement_has_a_table_whose_rows_fit_its_columns(measurements):
    tables = measurement_tables(measurements)
    assert len(tables) == len(measurements) - 1
    for table in tables:
        assert table.title and table.note and table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert all(cell is None or isinstance(cell, str | int | float) for row in table.rows for cell in row)


def test_the_numbers_are_those_measured(measurements):
    tables = {table.title.split(":")[0]: table for table in reversed(measurement_tables(measurements))}
    flips = np.array([row[1:4] for row in tables["Faithfulness"].rows], dtype=float)
    np.testing.assert_array_equal(flips, measurements["faithfulness"]["flips"])
    at_random = [row[4] for row in tables["Faithfulness"].rows]
    np.testing.assert_array_equal(at_random, np.diag(measurements["faithfulness"]["random_flips"]))
    ratio = measurements["faithfulness"]["diagonal_over_off_diagonal"]
    assert f"here {ratio:.2f} times the rest" in tables["Faithfulness"].note
    located = measurements["localisation"]
    assert [row[:3] for row in tables["Localisation"].rows[:3]] == [
        [f"concept {number + 1}", located["own_part"][number], located["own_times_chance"][number]]
        for number in range(3)
    ]
    assert tables["Localisation"].rows[-1][4:] == [located["any_part_chance"], located["consistency_chance"]]
    assert tables["Diversity"].rows[0][1:] == [
        measurements["diversity"]["cosine"],
        measurements["diversity"]["cosine_chance"],
    ]
    assert tables["Stability"].rows[1][:2] == ["cropped", measurements["stability"]["crop"]["same_bits"]]


def test_a_ratio_that_is_not_defined(measurements):
    without = measurements["faithfulness"] | {"diagonal_over_off_diagonal": None}
    (table,) = measurement_tables({"faithfulness": without})
    assert "here – times the rest" in table.note


def test_a_file_of_something_else():
    with pytest.raises(ValueError, match="'diversity' is not what this package measures: KeyError 'cosine'"):
        measurement_tables({"diversity": {"entropy": 1}})
    assert measurement_tables({}) == []

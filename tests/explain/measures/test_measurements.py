"""Measurements laid out for people."""

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from common import TINY_VISION, tiny_model
from runs import TinyPhotos
from transformers import CLIPImageProcessor

from concepthash_hf.explain import read_concepts
from concepthash_hf.explain.class_tree import class_codes, class_tree
from concepthash_hf.explain.measures import MEASUREMENTS, Measurement, read_measurements
from concepthash_hf.explain.measures.curves import deletion_insertion
from concepthash_hf.explain.measures.diversity import diversity
from concepthash_hf.explain.measures.faithfulness import faithfulness
from concepthash_hf.explain.measures.families import family_agreement
from concepthash_hf.explain.measures.keypoint_regression import keypoint_regression
from concepthash_hf.explain.measures.localisation import localisation
from concepthash_hf.explain.measures.part_discovery import part_discovery
from concepthash_hf.explain.measures.region_only import region_only
from concepthash_hf.explain.measures.selectivity import selectivity
from concepthash_hf.explain.measures.stability import stability

BENCHMARKS = Path(__file__).parents[3] / "examples" / "benchmarks"


class Annotated(TinyPhotos):
    """Photos with three points, and with two changes."""

    def __getitem__(self, index):
        item, generator = super().__getitem__(index), torch.Generator().manual_seed(index)
        parts = TINY_VISION["image_size"] * torch.rand(3, 2, generator=generator)
        changed = item["pixel_values"] + torch.randn(2, *item["pixel_values"].shape, generator=generator)
        return item | {"parts": parts, "changed": changed}


@pytest.fixture(scope="module")
def measured() -> dict[str, Measurement]:
    """What every measurement really gives."""
    torch.manual_seed(3)
    model, photos = tiny_model(), Annotated(16)
    readings = read_concepts(model, photos)
    blur = faithfulness(model, photos, "blur")
    return {
        "localisation": localisation(readings, ["beak", "wing", "tail"]),
        "part_discovery": part_discovery(readings, ["beak", "wing", "tail"]),
        "keypoint_regression": keypoint_regression(readings, readings, ["beak", "wing", "tail"]),
        "diversity": diversity(readings),
        "region_only": region_only(model, photos),
        "faithfulness": blur,
        "faithfulness_grey_20": faithfulness(model, photos, "grey", 0.2),
        "curves": deletion_insertion(model, photos, steps=3),
        "selectivity": selectivity(model, photos, ["beak", "wing"]),
        "stability": stability(model, photos, CLIPImageProcessor()),
        "families": family_agreement(class_tree(class_codes(model)), ["a", "a", "b", "b", "b"]),
    }


@pytest.fixture(scope="module")
def file(measured) -> dict[str, dict]:
    """The same through JSON, and something that is no measurement."""
    return json.loads(
        json.dumps({"retrieval": {"eval_map": 0.5}} | {name: m.to_dict() for name, m in measured.items()})
    )


def test_files_give_back_what_was_measured(measured, file):
    assert read_measurements(file) == measured
    assert list(read_measurements(dict(reversed(file.items()))))[0] == "localisation"  # in the order of a report
    newer = file["diversity"] | {"of_a_later_version": 1}
    assert read_measurements({"diversity": newer})["diversity"] == measured["diversity"]


def test_measurements_do_not_change(measured):
    with pytest.raises(FrozenInstanceError):
        measured["diversity"].cosine = 0.0


def test_every_kind_has_a_table_whose_rows_fit_its_columns(measured):
    assert {type(of_kind) for of_kind in measured.values()} == set(MEASUREMENTS.values())
    for table in (of_kind.table() for of_kind in measured.values()):
        assert table.title and table.note and table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert all(cell is None or isinstance(cell, str | int | float) for row in table.rows for cell in row)


def test_the_numbers_are_those_measured(measured, file):
    tables = {name: of_kind.table() for name, of_kind in measured.items()}
    flips = np.array([row[1:4] for row in tables["faithfulness"].rows], dtype=float)
    np.testing.assert_array_equal(flips, file["faithfulness"]["flips"])
    at_random = [row[4] for row in tables["faithfulness"].rows]
    np.testing.assert_array_equal(at_random, np.diag(file["faithfulness"]["random_flips"]))
    ratio = file["faithfulness"]["diagonal_over_off_diagonal"]
    assert f"here {ratio:.2f} times the rest" in tables["faithfulness"].note
    located = file["localisation"]
    assert [row[:3] for row in tables["localisation"].rows[:3]] == [
        [f"concept {number + 1}", located["own_part"][number], located["own_times_chance"][number]]
        for number in range(3)
    ]
    assert tables["localisation"].rows[-1][4:] == [located["any_part_chance"], located["consistency_chance"]]
    assert tables["diversity"].rows[0][1:] == [
        file["diversity"]["cosine"],
        file["diversity"]["cosine_chance"],
    ]
    assert tables["stability"].rows[1][:2] == ["cropped", file["stability"]["crop"]["same_bits"]]


def test_a_ratio_that_is_not_defined(measured):
    without = replace(measured["faithfulness"], diagonal_over_off_diagonal=None)
    assert "here – times the rest" in without.table().note


def test_a_file_of_something_else():
    with pytest.raises(ValueError, match="'diversity' is not what this package measures: it lacks num_photos, cosine"):
        read_measurements({"diversity": {"entropy": 1}})
    assert read_measurements({}) == {}


def test_values_of_another_form(file):
    with pytest.raises(ValueError, match="'faithfulness' is not what this package measures"):
        read_measurements({"faithfulness": file["faithfulness"] | {"flips": 0.3}})


@pytest.mark.parametrize("name", ["toy_birds", "cub100", "cub100_dinov2"])
def test_the_files_beside_the_benchmark(name):
    """Those beside the benchmark, most of them of an earlier version."""
    models = json.loads((BENCHMARKS / f"interpretability_{name}.json").read_text())["models"]
    for values in models.values():
        assert {"localisation", "diversity", "faithfulness_blur_10", "stability"} <= set(read_measurements(values))

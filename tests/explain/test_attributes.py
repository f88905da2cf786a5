"""Attributes over-represented for sub-code values and bits."""

import json

import numpy as np
import pytest
from made import readings
from scipy.stats import fisher_exact

from concepthash_hf.explain.attributes import attribute_lifts, load_attributes, photo_attributes

ATTENTION = np.ones((40, 2, 2, 2))


@pytest.fixture
def bits() -> np.ndarray:
    """40 photos, 2 concepts of 2 bits: concept 0 has the values 10 (20 times) and 01, concept 1 nothing to tell."""
    rows = np.zeros((40, 4), dtype=bool)
    rows[:20, 0] = rows[20:, 1] = True
    rows[::2, 2] = True
    return rows


def test_the_attribute_of_a_sub_code(bits):
    crested = np.arange(40) < 16  # 16 of the 20 photos with 10, and no other
    found = attribute_lifts(readings(ATTENTION, bits=bits), crested[:, None], ["crested"])
    assert [(lift.concept, lift.bit, lift.value) for lift in found] == [(0, None, "10"), (0, 0, "1"), (0, 1, "0")]
    for lift in found:
        assert (lift.attribute, lift.count, lift.num_with_bits, lift.num_with_attribute) == ("crested", 16, 20, 16)
        assert lift.lift == pytest.approx((16 / 20) / (16 / 40))
        assert lift.p_value == pytest.approx(fisher_exact([[16, 4], [0, 20]], alternative="greater").pvalue)


def test_attributes_that_all_have_or_that_go_with_nothing(bits):
    attributes = np.stack([np.ones(40, dtype=bool), np.arange(40) % 4 < 2], axis=1)
    assert attribute_lifts(readings(ATTENTION, bits=bits), attributes, ["two wings", "left"]) == []


def test_the_highest_lifts_first_then_the_surest_and_no_more_than_asked_for(bits):
    attributes = np.stack([np.arange(40) < number for number in (24, 12, 16)], axis=1)
    found = attribute_lifts(readings(ATTENTION, bits=bits), attributes, ["a", "b", "c"], top=2)
    assert [lift.attribute for lift in found if lift.bit is None] == ["c", "b"]  # all of both, but c is the surer one
    assert [lift.lift for lift in found if lift.bit is None] == pytest.approx([2, 2])


def test_rare_values_are_left_out(bits):
    bits[:4] = [1, 1, 0, 0]
    four = (np.arange(40) < 4)[:, None]
    assert not [lift for lift in attribute_lifts(readings(ATTENTION, bits=bits), four, ["x"]) if lift.value == "11"]
    found = attribute_lifts(readings(ATTENTION, bits=bits), four, ["x"], min_count=4)
    assert found[0].value == "11" and found[0].lift == 10


def test_no_groups_are_none(bits):
    crested = (np.arange(40) < 16)[:, None]
    assert attribute_lifts(readings(ATTENTION, bits=bits), crested, ["crested"], groups=[]) == []


def test_what_too_few_photos_show_is_left_out(bits):
    read, four = readings(ATTENTION, bits=bits), (np.arange(40) < 4)[:, None]
    assert attribute_lifts(read, four, ["x"], max_p_value=1) == []
    assert [lift.count for lift in attribute_lifts(read, four, ["x"], min_count=4, max_p_value=1)] == [4, 4, 4]


def test_attributes_drawn_at_random_are_rarely_found():
    generator = np.random.default_rng(0)
    read = readings(np.ones((200, 4, 2, 2)), bits=generator.random((200, 16)) < 0.5)
    found = attribute_lifts(read, generator.random((200, 50)) < 0.3, [str(i) for i in range(50)])
    tests = 50 * (4 * 16 + 16 * 2)
    assert len(found) < 3 * 0.001 * tests


def test_attributes_of_other_photos_are_refused(bits):
    with pytest.raises(ValueError, match=r"shape \(39, 1\) for 40 photos"):
        attribute_lifts(readings(ATTENTION, bits=bits), np.ones((39, 1), dtype=bool), ["x"])


def write(folder, **changes):
    table = {"attributes": ["a", "b"], "classes": ["wren", "owl"], "percent": [[0, 80], [50, 49.9]], **changes}
    file = folder / "attributes.json"
    file.write_text(json.dumps(table))
    return file


def test_a_table_in_the_order_of_the_classes(tmp_path):
    table = load_attributes(write(tmp_path), ["owl", "wren"])
    assert table.names == ("a", "b")
    assert table.of_class.tolist() == [[True, False], [False, True]]
    assert table.of_photos(np.array([1, 1, 0])).tolist() == [[False, True], [False, True], [True, False]]
    assert load_attributes(write(tmp_path), ["owl"], threshold=49).of_class.tolist() == [[True, True]]


def test_the_table_of_another_dataset(tmp_path):
    with pytest.raises(
        ValueError, match="another dataset: it lacks 2 of 3 classes .rose, tulip ....; it has wren, owl"
    ):
        load_attributes(write(tmp_path), ["rose", "owl", "tulip"])


def test_files_that_are_no_table(tmp_path):
    with pytest.raises(ValueError, match="no table of attributes"):
        load_attributes(write(tmp_path, percent="many"), ["owl"])
    with pytest.raises(ValueError, match=r"shape \(1, 2\) for 2 classes and 2 attributes"):
        load_attributes(write(tmp_path, percent=[[1, 2]]), ["owl"])
    file = tmp_path / "list.json"
    file.write_text("[1, 2]")
    with pytest.raises(ValueError, match="no table of attributes"):
        load_attributes(file, ["owl"])


def test_real_birds(shared_dir):
    """Every woodpecker of the table has the shape of one."""
    file = shared_dir / "data" / "cub100" / "attributes.json"
    names = json.loads(file.read_text())["classes"]
    table = load_attributes(file, names)
    column = table.names.index("has_shape::tree-clinging-like")
    woodpeckers = [label for label, name in enumerate(names) if name.endswith("Woodpecker")]
    assert len(woodpeckers) > 3 and table.of_class[woodpeckers, column].all()
    assert table.of_class[:, column].sum() < 2 * len(woodpeckers)


def test_attributes_of_photos_one_by_one():
    names, present = photo_attributes([{"crown": "red", "tail": "blue"}, {"crown": "black", "tail": "blue"}])
    assert names == ("crown: black", "crown: red", "tail: blue")
    assert present.tolist() == [[False, True, True], [True, False, True]]

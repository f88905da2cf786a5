import numpy as np
import pytest

from concepthash_hf.codes import hamming_distance
from concepthash_hf.index import HammingIndex, calibrate_names, calibrate_radius

from .oracle import random_codes


@pytest.fixture
def index() -> HammingIndex:
    return HammingIndex.from_codes(random_codes(500, 32, clusters=20), num_bits=32, num_concepts=4)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05, 0.3, 0.9])
def test_the_largest_radius_that_accepts_no_more_strangers(index, rate):
    strangers = random_codes(1000, 32, seed=5)
    nearest = index.search(strangers, 1).distances[:, 0]
    found = calibrate_radius(index, strangers, rate)
    assert found.false_accept_rate == (nearest <= found.radius).mean() <= rate < (nearest <= found.radius + 1).mean()
    assert found.num_strangers == 1000 and found.accept_rate is None


def test_it_carries_over_to_other_strangers_and_lets_members_in(index):
    found = calibrate_radius(
        index, random_codes(2000, 32, seed=5), 0.05, members=random_codes(300, 32, 6, clusters=20)
    )
    others = index.search(random_codes(2000, 32, seed=7), 1).distances[:, 0]
    assert (others <= found.radius).mean() < 0.08
    assert found.accept_rate > 0.9


def test_refused(index):
    strangers = random_codes(50, 32, seed=5)
    for rate in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            calibrate_radius(index, strangers, rate)
    with pytest.raises(ValueError, match="50 strangers cannot tell a rate of 0.01: at least 100"):
        calibrate_radius(index, strangers, 0.01)
    calibrate_radius(index, strangers, 0.02)
    with pytest.raises(ValueError, match="1 of the strangers have the very code"):
        calibrate_radius(index, index.get_codes(range(50)), 0.02)
    with pytest.raises(ValueError, match="no codes"):
        calibrate_radius(index, strangers, 0.02, members=strangers[:0])
    with pytest.raises(ValueError, match="empty"):
        calibrate_radius(HammingIndex(index.spec), strangers, 0.02)


def test_nobody_is_accepted_by_accident():
    """All strangers as near as the nearest member: only a radius below that keeps them out."""
    index = HammingIndex.from_codes(np.zeros((1, 4), dtype=np.uint8), num_bits=32, num_concepts=4)
    found = calibrate_radius(index, np.full((10, 4), 1, dtype=np.uint8), 0.1)
    assert (found.radius, found.false_accept_rate) == (3, 0.0)


@pytest.mark.parametrize("rate", [0.07, 0.29, 0.57])
def test_a_rate_lets_in_as_many_as_it_says(rate):
    """Though in floats 0.29 * 100 is less than 29."""
    index = HammingIndex.from_codes(np.zeros((1, 16), dtype=np.uint8), num_bits=128, num_concepts=4)
    strangers = np.packbits(np.arange(128) <= np.arange(100)[:, None], axis=1)  # at distances of 1 ... 100
    found = calibrate_radius(index, strangers, rate)
    assert (found.radius, found.false_accept_rate) == (round(100 * rate), rate)


def test_a_stranger_is_a_name_whose_own_items_are_left_out():
    names = [f"name {number}" for number in range(40)]
    codes = random_codes(40, 32, seed=1)
    item_codes, of_item = random_codes(300, 32, seed=2), np.arange(300) % 30  # ten names are of nothing here
    item_codes[:60] = codes[of_item[:60]]
    item_names = [[names[name]] if row % 7 else [names[name], names[0]] for row, name in enumerate(of_item)]
    strangers, members = [], []
    for name, code in zip(names, codes, strict=True):
        own = [name in bears for bears in item_names]
        distances = [int(hamming_distance(code, item)) for item in item_codes]
        strangers.append(min(d for d, is_own in zip(distances, own, strict=True) if not is_own))
        members += [min(d for d, is_own in zip(distances, own, strict=True) if is_own)] if any(own) else []
    found = calibrate_names(names, codes, item_codes, item_names)
    assert found.radius == sorted(strangers)[2] - 1  # two of 40 may come as near
    assert found.false_accept_rate == np.mean(np.array(strangers) <= found.radius) <= 0.05
    assert found.accept_rate == np.mean(np.array(members) <= found.radius) == 1
    assert found.num_strangers == 40


def test_of_few_names_one_may_come_near():
    codes = np.array([[0b00000000], [0b11110000], [0b11111111]], dtype=np.uint8)
    found = calibrate_names(["a", "b", "c"], codes, codes, [["a"], ["b"], ["c"]])
    assert found.radius == 3 and found.false_accept_rate == 0
    with pytest.raises(ValueError, match="cannot tell a rate"):
        calibrate_names(["a"], codes[:1], codes[:1], [["a"]])
    with pytest.raises(ValueError, match="have the very code"):
        calibrate_names(["a", "b", "c"], codes[[0, 0, 0]], codes[[0, 0, 0]], [["a"], ["b"], ["c"]])

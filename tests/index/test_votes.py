import numpy as np
import pytest

from concepthash_hf.index import HammingIndex, neighbour_vote


def index_of(*items: tuple[int, str | list[str] | None]) -> HammingIndex:
    """Items at a distance from the code of zeros, with a label."""
    codes = np.array([[(1 << distance) - 1] for distance, _ in items], dtype=np.uint8)
    metadata = {"label": [label for _, label in items]}
    return HammingIndex.from_codes(codes, num_bits=8, num_concepts=2, metadata=metadata)


QUERY = np.zeros((1, 1), dtype=np.uint8)


def test_most_votes_win():
    vote = neighbour_vote(index_of((0, "wren"), (1, "robin"), (2, "robin"), (7, "wren")), QUERY, 3, "label")[0]
    assert (vote.label, vote.share, vote.counts) == ("robin", 2 / 3, {"robin": 2, "wren": 1})


def test_of_equally_many_the_nearer_win():
    items = index_of((0, "wren"), (1, "robin"), (2, "robin"), (5, "wren"))
    vote = neighbour_vote(items, QUERY, 4, "label")[0]
    assert (vote.label, vote.share, list(vote.counts)) == ("robin", 0.5, ["robin", "wren"])
    assert neighbour_vote(index_of((1, "b"), (1, "a")), QUERY, 2, "label")[0].label == "b"


def test_items_without_a_label_do_not_vote():
    items = index_of((0, None), (1, None), (2, "robin"))
    vote = neighbour_vote(items, QUERY, 3, "label")[0]
    assert (vote.label, vote.share) == ("robin", 1.0)
    with pytest.raises(ValueError, match="none of the nearest items has a 'label'"):
        neighbour_vote(items, QUERY, 2, "label")
    with pytest.raises(ValueError, match="'name' in its metadata"):
        neighbour_vote(items, QUERY, 3, "name")


def test_each_of_several_labels_has_a_vote():
    vote = neighbour_vote(index_of((0, ["wren", "male"]), (1, ["robin"]), (2, ["wren"])), QUERY, 3, "label")[0]
    assert (vote.label, vote.share, vote.counts) == ("wren", 0.5, {"wren": 2, "male": 1, "robin": 1})
    vote = neighbour_vote(index_of((0, ["wren", "male"]), (1, ["robin", "male"])), QUERY, 2, "label")[0]
    assert (vote.label, vote.counts) == ("male", {"male": 2, "wren": 1, "robin": 1})


def test_a_new_class_votes_as_soon_as_it_is_there():
    items = index_of((3, "wren"), (4, "robin"))
    assert neighbour_vote(items, QUERY, 1, "label")[0].label == "wren"
    items.add(np.array([[1]], dtype=np.uint8), metadata={"label": ["dodo"]})  # the code of its name
    assert neighbour_vote(items, QUERY, 1, "label")[0].label == "dodo"


def test_every_query_has_its_own_vote():
    items = index_of((0, "wren"), (8, "robin"))
    votes = neighbour_vote(items, np.array([[0], [255]], dtype=np.uint8), 1, "label")
    assert [vote.label for vote in votes] == ["wren", "robin"]
    assert neighbour_vote(items, QUERY[:0], 1, "label") == []

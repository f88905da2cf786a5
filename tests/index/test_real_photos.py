"""Real photos, hashed and found again; the ranking of the index is the one that `metrics` measures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

from concepthash_hf import ConceptHashModel
from concepthash_hf.codes import compose_codes, split_sub_codes, unpack_bits
from concepthash_hf.index import HammingIndex, near_duplicates, neighbour_vote
from concepthash_hf.language import embed_class_names
from concepthash_hf.metrics import retrieval_metrics, sub_code_metrics

CLASSES, PHOTOS_PER_CLASS = 6, 10


@dataclass(frozen=True)
class Hashed:
    """Photos, their classes and codes, and the code of a class name that no photo has."""

    paths: list[str]
    names: list[str]
    codes: np.ndarray
    code_of_new_name: np.ndarray


@pytest.fixture(scope="module")
def hashed(shared_dir: Path) -> Hashed:
    """60 birds, hashed by an untrained model whose bits are balanced on them."""
    torch.manual_seed(0)
    folders = sorted((shared_dir / "data" / "cub100" / "train").iterdir())[:CLASSES]
    paths = [path for folder in folders for path in sorted(folder.iterdir())[:PHOTOS_PER_CLASS]]
    names = [path.parent.name for path in paths]
    clip = shared_dir / "reference" / "tiny-clip"
    model = ConceptHashModel.from_clip(clip, class_names=names[::PHOTOS_PER_CLASS], num_bits=24, adapter_dim=8)
    pixels = [
        np.asarray(Image.open(path).convert("RGB").resize((64, 64)), dtype=np.float32) / 127.5 - 1 for path in paths
    ]
    pixel_values = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    model.train()
    with torch.no_grad():
        for _ in range(60):  # batch statistics, nothing else
            model.vision_model(pixel_values)
    codes = model.get_hash_codes(pixel_values).numpy()
    embedding = embed_class_names(model.text_model, AutoTokenizer.from_pretrained(clip), ["Dodo"])
    paths = [f"{path.parent.name}/{path.name}" for path in paths]
    return Hashed(paths, names, codes, model.get_text_hash_codes(embedding).numpy())


@pytest.fixture
def index(hashed) -> HammingIndex:
    return HammingIndex.from_codes(
        hashed.codes, hashed.paths, num_bits=24, num_concepts=4, metadata={"class": hashed.names}
    )


def ranked_map(index: HammingIndex, codes: np.ndarray, names: list[str], **options) -> float:
    """mAP from the metadata of what the index returns, its definition written out."""
    found = index.search(codes, len(index), **options).ids
    values = []
    for ids, name in zip(found, names, strict=True):
        relevant = [row["class"] == name for row in index.get_metadata(ids)]
        hits = [rank for rank, hit in enumerate(relevant, start=1) if hit]
        values.append(sum(place / rank for place, rank in enumerate(hits, start=1)) / len(hits))
    return float(np.mean(values))


def test_the_ranking_is_the_one_that_metrics_measures(index, hashed):
    names, codes = hashed.names, hashed.codes
    labels = np.unique(names, return_inverse=True)[1]
    task = codes[::3], labels[::3], codes, labels
    assert ranked_map(index, codes[::3], names[::3]) == pytest.approx(retrieval_metrics(*task, ties="stable")["map"])
    alone = sub_code_metrics(*task, 24, 4, ties="stable")["map_alone"]
    for concept in range(4):
        found = ranked_map(index, codes[::3], names[::3], concept_weights={concept: 1})
        assert found == pytest.approx(alone[concept])
    assert len(np.unique(codes, axis=0)) > 30 and len(set(alone)) == 4


def test_every_photo_finds_itself_also_after_a_trip_to_disk(index, hashed, tmp_path):
    index.save(tmp_path)
    loaded = HammingIndex.load(tmp_path)
    for query, (ids, distances, _) in enumerate(loaded.range_search(hashed.codes, 0)[i] for i in range(60)):
        assert hashed.paths[query] in ids.tolist() and not distances.any()
    assert loaded.get_metadata(hashed.paths) == [{"class": name} for name in hashed.names]


def test_one_concept_of_this_and_the_others_of_that(index, hashed):
    this, that = hashed.codes[0], hashed.codes[-1]
    composed = compose_codes(np.stack([that, this, that, that]), 24)[None]
    of_this, of_that = (index.search(composed, 1, concept_weights=weights) for weights in ({1: 1}, {0: 1, 2: 1, 3: 1}))
    assert of_this.distances[0, 0] == of_that.distances[0, 0] == 0
    sub_codes = [split_sub_codes(unpack_bits(code, 24), 4) for code in (composed[0], this, that)]
    np.testing.assert_array_equal(sub_codes[0][1], sub_codes[1][1])
    np.testing.assert_array_equal(sub_codes[0][[0, 2, 3]], sub_codes[2][[0, 2, 3]])


def test_copies_in_a_collection_are_grouped(hashed):
    paths, codes = hashed.paths, hashed.codes
    doubled = np.concatenate([codes, codes[:5]])
    groups = near_duplicates(doubled, 0, 24, ids=[*paths, *(f"copy of {path}" for path in paths[:5])])
    together = {name: group.tolist() for group in groups for name in group}
    for path in paths[:5]:
        assert f"copy of {path}" in together[path]


def test_a_new_class_joins_by_name_alone(index, hashed):
    """The code of its name is an item like any other: it is found, and votes."""
    query = hashed.code_of_new_name
    assert neighbour_vote(index, query, 1, "class")[0].label in hashed.names
    index.add(query, ids=["the name Dodo"], metadata={"class": ["Dodo"]})
    index.remove([id for id in index.range_search(query, 0)[0][0].tolist() if id != "the name Dodo"])
    assert index.search(query, 1).ids.tolist() == [["the name Dodo"]]
    assert neighbour_vote(index, query, 1, "class")[0].label == "Dodo"

"""Frozen layers computed once: the same training as from the photos, and what cannot be kept."""

import numpy as np
import pytest
import torch
from families import save_backbone, save_text_model
from torch.utils.data import Dataset, IterableDataset

from concepthash_hf import ConceptHashModel
from concepthash_hf import frozen_states as module
from concepthash_hf.frozen_states import FrozenStates, frozen_states_size, keep_frozen_states
from concepthash_hf.training import ConceptHashTrainingArguments, train

NAMES = ["blue jay", "gull", "wren"]


class Photos(Dataset):
    """Twelve photos; with `noise` another augmentation each time."""

    def __init__(self, noise: float = 0.0):
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randn(12, 3, 40, 40, generator=generator)
        self.noise = noise

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> dict:
        pixels = self.pixels[index] + self.noise * torch.randn(3, 40, 40)
        return {"pixel_values": pixels, "labels": index % len(NAMES)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return save_backbone(folder / "vision", "dinov2"), save_text_model(folder / "text", "clip")


def build(folders, **fields) -> ConceptHashModel:
    torch.manual_seed(0)
    vision, text = folders
    return ConceptHashModel.from_backbone(
        vision, NAMES, text=text, num_bits=12, num_concepts=2, adapter_dim=8, **fields
    )


def test_what_is_kept_is_what_the_frozen_layers_give(folders, tmp_path):
    model, photos = build(folders), Photos()
    with keep_frozen_states(model, photos, tmp_path / "states", batch_size=5) as states:
        assert len(states) == 12
        assert (tmp_path / "states").stat().st_size == pytest.approx(frozen_states_size(model, 12), abs=200)
        items = [states[i] for i in range(12)]
        with torch.no_grad():
            expected = model.vision_model.frozen_states(photos.pixels)
        found = torch.stack([item["frozen_states"] for item in items])
        assert found.dtype == torch.float16
        assert torch.equal(found, expected.half())
        assert [int(item["labels"]) for item in items] == [photos[i]["labels"] for i in range(12)]
    assert not list(tmp_path.iterdir())  # removed at the end


def test_training_on_it_is_training_on_the_photos(folders, tmp_path):
    weights = []
    for keeps in (False, True):
        model, photos = build(folders), Photos()
        args = ConceptHashTrainingArguments(
            output_dir=str(tmp_path / str(keeps)),
            num_train_epochs=2,
            per_device_train_batch_size=4,
            lr_schedule="step",
        )
        if keeps:
            with keep_frozen_states(model, photos, tmp_path / "states") as states:
                train(model, states, args)
        else:
            train(model, photos, args)
        weights.append(torch.cat([p.detach().flatten() for p in model.trainable_parameters()]))
    # the states are kept in half precision
    torch.testing.assert_close(*weights, rtol=0, atol=2e-3)
    start = torch.cat([p.detach().flatten() for p in build(folders).trainable_parameters()])
    assert (weights[0] - start).abs().max() > 10 * (weights[0] - weights[1]).abs().max()


def test_views_are_drawn_by_their_seeds(folders, tmp_path):
    model, photos = build(folders), Photos(noise=0.5)
    kept = []
    for name in ("a", "b"):
        with keep_frozen_states(model, photos, tmp_path / name, [3, 4]) as states:
            kept.append(np.array(states.states))
            assert states.states.shape[:2] == (12, 2)
            drawn = {float(states[0]["frozen_states"].float().sum()) for _ in range(30)}
            assert len(drawn) == 2  # one item, either view
    assert np.array_equal(*kept)
    assert not np.array_equal(kept[0][:, 0], kept[0][:, 1])


def test_multi_hot_labels(folders, tmp_path):
    class MultiHot(Photos):
        def __getitem__(self, index):
            return super().__getitem__(index) | {"labels": torch.tensor([1.0, index % 2, 0.0])}

    with keep_frozen_states(build(folders), MultiHot(), tmp_path / "states") as states:
        assert states[3]["labels"].tolist() == [1.0, 1.0, 0.0]


class Stream(IterableDataset):
    def __iter__(self):
        yield from ()


def test_what_cannot_be_kept(folders, tmp_path, monkeypatch):
    def refused(model, photos, message):
        with pytest.raises(ValueError, match=message), keep_frozen_states(model, photos, tmp_path / "states"):
            pass
        assert not list(tmp_path.iterdir())

    refused(build(folders, first_adapted_layer=0), Photos(), "no frozen layers to keep: adapters begin at layer 0")
    refused(build(folders, freeze_backbone=False), Photos(), "freeze_backbone is False")
    refused(build(folders), Stream(), "cannot be kept of a stream")
    # a real disk is not filled for a test: one that says it has nothing left
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: type("", (), {"free": 10})())
    refused(build(folders), Photos(), "12 photos needs .* GB in .*, which has 0.0 GB; train without --cache_frozen")


def test_two_runs_do_not_share_a_file(folders, tmp_path):
    """The second would cut short what the first has mapped."""
    model, photos = build(folders), Photos()
    with keep_frozen_states(model, photos, tmp_path / "states") as states:
        before = np.array(states.states)
        with pytest.raises(FileExistsError, match="states is there already: another run keeps"):
            with keep_frozen_states(model, Photos(noise=0.5), tmp_path / "states"):
                pass
        assert np.array_equal(states.states, before)


def test_it_is_removed_after_an_error(folders, tmp_path):
    with pytest.raises(RuntimeError), keep_frozen_states(build(folders), Photos(), tmp_path / "states"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_from_memory():
    states = FrozenStates(np.zeros((2, 1, 5, 4), np.float16), torch.tensor([0, 1]))
    assert states[1]["frozen_states"].shape == (5, 4)

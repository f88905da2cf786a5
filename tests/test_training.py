"""The training loop, on tiny models: against a naive loop, over interruptions, and with mistakes."""

import itertools
import json
import math
import re
import signal
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from runs import (
    AugmentedPhotos,
    Killed,
    PhotoStream,
    State,
    TinyPhotos,
    arguments,
    files_in,
    forget_accelerate,
    kill_at,
    largest_difference,
    state_of,
    untrained,
)
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler, WeightedRandomSampler, default_collate
from transformers.models.clip.modeling_clip import CLIPAttention

import concepthash_hf.training as training
from concepthash_hf import ConceptHashModel, modeling_concepthash, training_progress, whole_files
from concepthash_hf.checkpoints import newest_checkpoint
from concepthash_hf.interruption import Interrupted
from concepthash_hf.metrics import retrieval_metrics
from concepthash_hf.training import ConceptHashTrainingArguments, learning_rate_at, learning_rate_at_step, train
from concepthash_hf.whole_files import one_writer


@pytest.fixture(autouse=True)
def _new_process() -> None:
    forget_accelerate()


def logged(folder: Path) -> dict[str, dict[int, float]]:
    """What tensorboard shows: value by step, for every name."""
    events = EventAccumulator(str(folder / "logs" / "concepthash")).Reload()
    return {name: {e.step: e.value for e in events.Scalars(name)} for name in events.Tags()["scalars"]}


# --- learning rate


def test_learning_rate_by_the_step():
    """Linear from almost nothing, highest at the end of the warm-up, then half a cosine down to nothing."""
    rates = [learning_rate_at_step(step / 10, 5, 1, 2.0) for step in range(51)]
    assert rates[0] == 0
    assert rates[5] == pytest.approx(1.0)
    assert max(rates) == rates[10] == 2.0
    assert rates[30] == pytest.approx(1.0)
    assert rates[50] == pytest.approx(0.0)
    assert all(later < earlier for earlier, later in zip(rates[10:], rates[11:], strict=False))


def test_learning_rate_is_the_published_one(shared_dir):
    golden = json.loads((shared_dir / "reference" / "golden.json").read_text())["meta"][
        "lr_schedule_100_epochs_base_1e3"
    ]
    args = ConceptHashTrainingArguments("unused").with_epochs(100)
    ours = [
        learning_rate_at(epoch, args.num_train_epochs, args.warmup_epochs, args.learning_rate)
        for epoch in range(args.num_train_epochs)
    ]
    assert len(golden) == 100
    np.testing.assert_allclose(ours, golden, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("epochs", "warmup"), [(100, 10), (30, 3), (24, 2), (26, 3), (10, 1), (3, 1), (1, 1)]
)  # METHOD: max(1, round(E / 10))
def test_short_runs_warm_up_for_a_tenth(epochs, warmup):
    args = ConceptHashTrainingArguments("unused", num_train_epochs=epochs)
    assert args.warmup_epochs == warmup
    rates = [learning_rate_at(epoch, epochs, warmup, 1.0) for epoch in range(epochs)]
    assert all(rate > 0 for rate in rates)
    assert rates[warmup - 1] == max(rates) == 1
    assert rates[warmup - 1 :] == sorted(rates[warmup - 1 :], reverse=True)


def test_no_warm_up():
    args = ConceptHashTrainingArguments("unused", num_train_epochs=5, warmup_epochs=0)
    assert args.warmup_epochs == 0
    assert 0.9 < learning_rate_at(0, 5, 0, 1.0) < 1


# --- the loop


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_same_weights_as_a_naive_loop(tmp_path, optimizer):
    photos, model = TinyPhotos(28), untrained(dropout=0.0)
    args = arguments(tmp_path, num_train_epochs=4, optimizer=optimizer, weight_decay=0.01, learning_rate=0.01)
    train(model, photos, args)

    order = torch.tensor(photos.asked_for).reshape(4, 3, 8)  # 28 photos: the incomplete batch is never asked for
    assert all(len(set(epoch.flatten().tolist())) == 24 for epoch in order)
    naive = untrained(dropout=0.0).train()
    parameters = [parameter for parameter in naive.parameters() if parameter.requires_grad]
    # fused, as there: some gradients (the specificity's) are round-off, of which Adam makes whole steps
    if optimizer == "sgd":
        steps: Any = torch.optim.SGD(parameters, momentum=0.9, weight_decay=0.01, fused=True)
    else:
        steps = torch.optim.AdamW(parameters, weight_decay=0.01, fused=True)
    for epoch, rate in enumerate([0.01, 0.01 / 2 * (1 + 0.5**0.5), 0.005, 0.01 / 2 * (1 - 0.5**0.5)]):
        steps.param_groups[0]["lr"] = rate
        for batch in order[epoch]:
            steps.zero_grad()
            naive(photos.photos[batch], labels=photos.labels[batch]).loss.backward()
            steps.step()
    assert largest_difference(state_of(model), state_of(naive)) < 1e-6


def test_only_what_is_trainable_changes(tmp_path):
    model = untrained()
    before = state_of(model)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    statistics = {name for name in before if "running_" in name or name.endswith("num_batches_tracked")}
    train(model, AugmentedPhotos(), arguments(tmp_path))
    after = state_of(model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == trainable | statistics


def test_the_whole_tower_is_trained_if_not_frozen(tmp_path):
    model = untrained(freeze_backbone=False)
    before = state_of(model)
    train(model, AugmentedPhotos(), arguments(tmp_path))
    same = {name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])}
    assert same
    assert all(name.startswith("text_model.") or name == "class_embeddings" for name in same)


def test_gradient_accumulation(tmp_path):
    once, twice = untrained(0.0, freeze_batch_norm=True), untrained(0.0, freeze_batch_norm=True)
    untouched = state_of(once)
    one = train(once, TinyPhotos(32), arguments(tmp_path / "1", per_device_train_batch_size=16))
    forget_accelerate()
    two = train(twice, TinyPhotos(32), arguments(tmp_path / "2", gradient_accumulation_steps=2))
    assert one["train_steps"] == two["train_steps"] == 4
    assert largest_difference(state_of(once), state_of(twice)) < 1e-6
    assert largest_difference(state_of(once), untouched) > 1e-2


@pytest.mark.parametrize("windows", [[1], [2, 1], [3], [3, 2]])
def test_the_last_step_of_an_epoch_counts_as_much_with_fewer_batches(tmp_path, windows):
    """The same as a plain loop, which takes the mean over the batches that a step has."""
    photos = TinyPhotos(8 * sum(windows))
    model, plain = untrained(0.0, freeze_batch_norm=True), untrained(0.0, freeze_batch_norm=True)
    settings = {"num_train_epochs": 1, "gradient_accumulation_steps": max(*windows, 2)}
    train(model, photos, arguments(tmp_path, **settings), train_sampler=SequentialSampler(photos))
    optimizer = torch.optim.SGD(plain.trainable_parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    batches = iter(DataLoader(photos, 8))
    for window in windows:
        losses = [plain(**next(batches)).loss for _ in range(window)]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    assert largest_difference(state_of(model), state_of(plain)) < 1e-6


def test_gradient_checkpointing(tmp_path, monkeypatch):
    """The same weights; and the model keeps its activations again afterwards."""
    computed, attention = [], CLIPAttention.forward
    monkeypatch.setattr(
        CLIPAttention, "forward", lambda *args, **kwargs: computed.append(1) or attention(*args, **kwargs)
    )
    weights, times = [], []
    for checkpointing in (False, True):
        computed.clear()
        model = untrained()
        args = arguments(tmp_path / f"{checkpointing}", gradient_checkpointing=checkpointing)
        train(model, TinyPhotos(), args)
        weights.append(state_of(model))
        times.append(len(computed))
        assert not model.is_activation_checkpointing
    assert largest_difference(*weights) == 0
    assert times[1] > times[0]


def test_gradient_clipping(tmp_path):
    model = untrained()
    before = state_of(model)
    args = arguments(tmp_path, num_train_epochs=1, max_grad_norm=0.01, weight_decay=0.0, learning_rate=0.5)
    train(model, TinyPhotos(8), args)
    moves = [(parameter - before[name]).norm() for name, parameter in model.named_parameters()]
    assert torch.stack(moves).norm().item() == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_bfloat16(tmp_path):
    model = untrained(freeze_backbone=False)
    seen = set()
    linear = model.vision_model.encoder.layers[0].mlp.fc1
    linear.register_forward_hook(lambda module, args, output: seen.add((module.training, output.dtype)))
    photos = TinyPhotos()
    results = train(model, photos, arguments(tmp_path, mixed_precision="bf16"), photos, photos)
    assert seen == {(True, torch.bfloat16), (False, torch.float32)}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert results["environment"]["mixed_precision"] == "bf16"

    # nothing of it stays behind
    again = ConceptHashModel.from_pretrained(tmp_path)
    output = model.eval()(photos.photos, return_dict=True)
    torch.testing.assert_close(output.code_logits, again.eval()(photos.photos).code_logits)
    assert isinstance(model(photos.photos, return_dict=False), tuple)
    seen.clear()
    train(model, photos, arguments(tmp_path / "again", mixed_precision="bf16"))
    assert seen == {(True, torch.bfloat16)}


def test_a_process_may_train_in_one_precision_after_another(tmp_path):
    """Accelerate keeps the first that it was told."""
    precisions = []
    for number, asked in enumerate((None, "bf16", None, "no", "bf16")):
        args = arguments(tmp_path / f"{number}", num_train_epochs=1, mixed_precision=asked)
        precisions.append(train(untrained(), TinyPhotos(), args)["environment"]["mixed_precision"])
    assert precisions == ["no", "bf16", "no", "no", "bf16"]


def test_precision_of_the_launcher(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # as `accelerate launch --mixed_precision bf16` says it
    results = train(untrained(), TinyPhotos(), arguments(tmp_path))
    assert results["environment"]["mixed_precision"] == "bf16"


def test_trains_on_a_stream(tmp_path):
    model = untrained()
    before = state_of(model)
    results = train(model, PhotoStream(27), arguments(tmp_path, logging_steps=100))
    assert results["train_steps"] == 2 * 3
    assert results["train_loss"] > 0
    assert largest_difference(before, state_of(model)) > 1e-2


# --- what is told


def test_results(tmp_path):
    photos, queries = AugmentedPhotos(), TinyPhotos(13)
    model = untrained()
    args = arguments(tmp_path, num_train_epochs=12, learning_rate=0.01, seed=5)
    results = train(model, photos, args, queries, TinyPhotos())
    assert results == json.loads((tmp_path / "all_results.json").read_text())

    database = TinyPhotos()
    expected = retrieval_metrics(
        model.get_hash_codes(queries.photos), queries.labels, model.get_hash_codes(database.photos), database.labels
    )
    assert {f"eval_{name}": value for name, value in expected.items()}.items() <= results.items()
    assert (results["eval_num_queries"], results["eval_num_database"]) == (13, 24)
    assert results["eval_map"] > 0.6  # chance is 0.2
    terms = sum(results[f"train_{name}"] for name in ("classification", "quantization", "concept", "diversity"))
    assert results["train_loss"] == pytest.approx(terms, rel=1e-5)
    assert results["train_steps"] == 12 * 3
    assert 0 < results["train_runtime"] < 300
    assert results["train_samples_per_second"] == pytest.approx(12 * 24 / results["train_runtime"])
    assert results["parameters"] - results["trainable_parameters"] == sum(
        parameter.numel() for parameter in model.parameters() if not parameter.requires_grad
    )
    assert results["arguments"]["seed"] == 5
    assert results["arguments"]["learning_rate"] == 0.01
    assert results["environment"]["torch"] == torch.__version__
    assert results["environment"]["num_processes"] == 1
    assert str(tmp_path) not in (tmp_path / "all_results.json").read_text()

    again = ConceptHashModel.from_pretrained(tmp_path)
    assert torch.equal(again.get_hash_codes(queries.photos), model.get_hash_codes(queries.photos))


def test_tracker_shows_falling_losses_rate_and_evaluations(tmp_path):
    photos = TinyPhotos()
    args = arguments(tmp_path, num_train_epochs=10, learning_rate=0.01, report_to="tensorboard", eval_epochs=4)
    results = train(untrained(), photos, args, photos, photos)
    curves = logged(tmp_path)
    losses = [value for _, value in sorted(curves["train_loss"].items())]
    assert len(losses) >= 10
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    for step, rate in curves["learning_rate"].items():
        assert rate == pytest.approx(learning_rate_at((step - 1) // 3, 10, 1, 0.01), rel=1e-6)
    assert set(curves["eval_map"]) == {12, 24, 30}  # after 4, 8 and all epochs
    assert curves["eval_map"][30] == pytest.approx(results["eval_map"])


def test_evaluation_changes_nothing(tmp_path):
    plain, evaluated = untrained(), untrained()
    train(plain, AugmentedPhotos(), arguments(tmp_path / "1", num_train_epochs=3))
    queries = AugmentedPhotos(11)  # also draws random numbers
    train(evaluated, AugmentedPhotos(), arguments(tmp_path / "2", num_train_epochs=3, eval_epochs=1), queries, queries)
    assert len(queries.asked_for) == 3 * 2 * 11
    assert largest_difference(state_of(plain), state_of(evaluated)) == 0


class BatchesOfAugmentedPhotos(AugmentedPhotos):
    """Given by the batch, as `PhotoDataset` does."""

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [self[index] for index in indices]


def test_seeds(tmp_path):
    def weights(name: str, seed: int) -> tuple[State, list[int]]:
        model, photos = untrained(), AugmentedPhotos()
        train(model, photos, arguments(tmp_path / name, seed=seed))
        return state_of(model), photos.asked_for

    (one, order), (same, same_order), (other, other_order) = weights("1", 7), weights("2", 7), weights("3", 8)
    assert largest_difference(one, same) == 0
    assert order == same_order
    assert largest_difference(one, other) > 1e-3
    epochs = {tuple(order[:24]), tuple(order[24:]), tuple(other_order[:24]), tuple(other_order[24:])}
    assert len(epochs) == 4  # also not the same order one epoch later


@pytest.mark.parametrize("photos", [AugmentedPhotos, BatchesOfAugmentedPhotos])
def test_the_number_of_workers_changes_no_weight(tmp_path, photos):
    def weights(workers: int) -> State:
        model = untrained()
        train(model, photos(), arguments(tmp_path / str(workers), dataloader_num_workers=workers))
        return state_of(model)

    alone = weights(0)
    assert largest_difference(alone, weights(1)) == largest_difference(alone, weights(3)) == 0


# --- interruptions


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_run_gives_the_same_weights(tmp_path, optimizer, workers):
    settings = {
        "num_train_epochs": 4,
        "optimizer": optimizer,
        "learning_rate": 0.02,
        "save_epochs": 1,
        "dataloader_num_workers": workers,
    }
    whole, resumed = untrained(), untrained()
    results = train(whole, AugmentedPhotos(), arguments(tmp_path / "whole", **settings))
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        train(kill_at(untrained(), step=8), AugmentedPhotos(), arguments(folder, **settings))
    assert [path.name for path in folder.iterdir()] == ["checkpoint-2"]

    again = train(resumed, AugmentedPhotos(), arguments(folder, **settings, resume_from_checkpoint=str(folder)))
    assert largest_difference(state_of(whole), state_of(resumed)) == 0
    assert again["train_steps"] == results["train_steps"] == 12
    assert again["train_loss"] == results["train_loss"]


def test_a_sampler_is_resumed_too(tmp_path):
    def run(name: str, model: ConceptHashModel, **changes: Any) -> list[int]:
        photos = AugmentedPhotos()
        sampler = WeightedRandomSampler([1.0] * 12 + [5.0] * 12, 24, generator=torch.Generator())
        args = arguments(tmp_path / name, num_train_epochs=3, save_epochs=1, **changes)
        try:
            train(model, photos, args, train_sampler=sampler)
        except Killed:
            pass
        return photos.asked_for

    whole, resumed = untrained(), untrained()
    order = run("whole", whole)
    assert order[:24] != order[24:48] != order[48:]
    assert np.mean(np.array(order) >= 12) > 0.7  # the sampler is asked
    run("killed", kill_at(untrained(), step=5))
    assert run("killed", resumed, resume_from_checkpoint=str(tmp_path / "killed")) == order[24:]
    assert largest_difference(state_of(whole), state_of(resumed)) == 0


def test_resume_from_a_checkpoint_into_another_folder(tmp_path):
    settings = {"num_train_epochs": 3, "save_epochs": 1}
    with pytest.raises(Killed):
        train(kill_at(untrained(), step=8), AugmentedPhotos(), arguments(tmp_path / "old", **settings))
    before = files_in(tmp_path / "old")
    whole, resumed = untrained(), untrained()
    train(whole, AugmentedPhotos(), arguments(tmp_path / "whole", **settings))
    checkpoint = str(tmp_path / "old" / "checkpoint-2")
    train(resumed, AugmentedPhotos(), arguments(tmp_path / "new", **settings, resume_from_checkpoint=checkpoint))
    assert largest_difference(state_of(whole), state_of(resumed)) == 0
    assert files_in(tmp_path / "old") == before


def test_resuming_elsewhere_leaves_a_finished_run_alone(two_epochs, tmp_path):
    train(untrained(), TinyPhotos(), arguments(tmp_path / "other"))
    before = files_in(tmp_path / "other")
    args = arguments(tmp_path / "other", num_train_epochs=3, resume_from_checkpoint=str(two_epochs))
    with pytest.raises(ValueError, match="output_dir .*other is not empty"):
        train(untrained(), TinyPhotos(), args)
    assert files_in(tmp_path / "other") == before
    # and where it may be written over, not for a checkpoint that turns out to be damaged
    weights = two_epochs / "checkpoint-2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        train(untrained(), TinyPhotos(), replace(args, overwrite_output_dir=True))
    assert files_in(tmp_path / "other") == before


def test_every_epoch_is_kept_unless_nobody_wants_it(tmp_path):
    args = arguments(tmp_path, num_train_epochs=3)
    with pytest.raises(Killed):
        train(kill_at(untrained(), 8), TinyPhotos(), args)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
    without = arguments(tmp_path / "without", save_epochs=0)
    train(untrained(), TinyPhotos(), without)
    assert not list((tmp_path / "without").glob("checkpoint-*"))


def test_checkpoints_leave_out_what_is_frozen(tmp_path):
    model = untrained()
    train(model, TinyPhotos(), arguments(tmp_path))
    kept = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learned <= kept.keys() and "vision_model.embeddings.patch_embedding.weight" not in kept
    other = untrained()
    with torch.no_grad():
        other.vision_model.embeddings.patch_embedding.weight[0] += 1
    args = arguments(tmp_path, num_train_epochs=3, resume_from_checkpoint=str(tmp_path))
    with pytest.raises(ValueError, match='checkpoint-2 is of another run .frozen_weights was "[0-9a-f]{16}", now "'):
        train(other, TinyPhotos(), args)


@pytest.mark.parametrize("wrong", ["too few", "too many"])
def test_a_checkpoint_with_weights_of_another_model(tmp_path, wrong):
    """Of an older version, which kept no checksums; one that has all weights, as those had, is gone on with."""
    model = untrained()
    train(model, TinyPhotos(), arguments(tmp_path))
    (tmp_path / "checkpoint-2" / "progress.json").write_text(json.dumps({"epochs_done": 2, "step": 6}))
    file = tmp_path / "checkpoint-2" / "model.safetensors"
    args = arguments(tmp_path, num_train_epochs=3, resume_from_checkpoint=str(tmp_path))
    save_file(state_of(model), file)
    assert train(untrained(), TinyPhotos(), args)["train_steps"] == 9
    (tmp_path / "checkpoint-3").rename(tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-2" / "progress.json").write_text(json.dumps({"epochs_done": 2, "step": 6}))
    weights = state_of(model)
    if wrong == "too few":
        del weights["vision_model.hash_head.projection.weight"]
    else:
        weights["more"] = torch.zeros(1)
    save_file(weights, file)
    with pytest.raises(ValueError, match="checkpoint-2 cannot be loaded .its weights are of another model"):
        train(untrained(), TinyPhotos(), args)


def test_resuming_a_finished_run_trains_no_more(tmp_path):
    photos = TinyPhotos()
    first = train(untrained(), photos, arguments(tmp_path, save_epochs=1), photos, photos)
    model = untrained()
    args = arguments(tmp_path, save_epochs=1, resume_from_checkpoint=str(tmp_path))
    second = train(model, photos, args, photos, photos)
    assert (second["eval_map"], second["train_steps"]) == (first["eval_map"], first["train_steps"])
    assert largest_difference(state_of(model), load_file(tmp_path / "model.safetensors")) == 0


def test_a_run_killed_while_it_saves_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    settings = {"num_train_epochs": 3, "save_epochs": 1}
    save_state = Accelerator.save_state

    def killed_in_the_second(accelerator: Accelerator, folder: str) -> None:
        save_state(accelerator, folder)
        if folder.endswith("2"):
            raise Killed

    monkeypatch.setattr(Accelerator, "save_state", killed_in_the_second)
    with pytest.raises(Killed):
        train(untrained(), AugmentedPhotos(), arguments(tmp_path / "killed", **settings))
    monkeypatch.undo()
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {"checkpoint-1", "partial-checkpoint-2"}
    assert newest_checkpoint(tmp_path / "killed") == tmp_path / "killed" / "checkpoint-1"
    whole, resumed = untrained(), untrained()
    train(whole, AugmentedPhotos(), arguments(tmp_path / "whole", **settings))
    args = arguments(tmp_path / "killed", **settings, resume_from_checkpoint=str(tmp_path / "killed"))
    train(resumed, AugmentedPhotos(), args)
    assert largest_difference(state_of(whole), state_of(resumed)) == 0
    assert {path.name for path in (tmp_path / "killed").iterdir() if path.is_dir()} == {"checkpoint-3"}


def test_checkpoints_are_replaced_and_other_folders_left_alone(tmp_path):
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-best" / "model.safetensors").write_text("precious")
    args = arguments(tmp_path, num_train_epochs=3, save_epochs=1, overwrite_output_dir=True)
    train(untrained(), TinyPhotos(), args)
    assert (tmp_path / "checkpoint-best" / "model.safetensors").read_text() == "precious"
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-best", "checkpoint-3"}


def signal_at(model: ConceptHashModel, step: int, number: signal.Signals) -> ConceptHashModel:
    """Let the run that trains this model be sent a signal when it begins a step (from 1)."""
    steps = itertools.count(1)

    def send(module: torch.nn.Module, args: tuple) -> None:
        if module.training and next(steps) == step:
            signal.raise_signal(number)

    model.register_forward_pre_hook(send)
    return model


@pytest.mark.parametrize("save_epochs", [0, 1])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_signal_keeps_the_epochs_that_are_done(tmp_path, optimizer, save_epochs):
    """Also without checkpoints; to go on gives the weights of an undisturbed run."""
    settings = {"num_train_epochs": 4, "optimizer": optimizer, "learning_rate": 0.02}
    whole, resumed = untrained(), untrained()
    train(whole, AugmentedPhotos(), arguments(tmp_path / "whole", **settings))
    folder = tmp_path / "stopped"
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    model = signal_at(untrained(), 8, signal.SIGTERM)
    with pytest.raises(
        Interrupted, match=f"2 epochs are kept in {folder}; go on with --resume_from_checkpoint"
    ) as caught:
        train(model, AugmentedPhotos(), arguments(folder, **settings, save_epochs=save_epochs))
    assert caught.value.signal == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert [path.name for path in folder.iterdir()] == ["checkpoint-2"]
    train(resumed, AugmentedPhotos(), arguments(folder, **settings, resume_from_checkpoint=str(folder)))
    assert largest_difference(state_of(whole), state_of(resumed)) == 0


def test_a_run_that_is_written_over_is_not_gone_on_with(tmp_path):
    """Its checkpoint is neither taken for one of the new run, nor left beside the new model."""
    over = {"overwrite_output_dir": True, "num_train_epochs": 4, "seed": 7}
    train(untrained(), TinyPhotos(), arguments(tmp_path, num_train_epochs=3))
    old = load_file(tmp_path / "checkpoint-3" / "model.safetensors")
    with pytest.raises(Interrupted, match="3 epochs are kept"):
        train(signal_at(untrained(), 11, signal.SIGTERM), TinyPhotos(), arguments(tmp_path, **over, save_epochs=4))
    new = load_file(tmp_path / "checkpoint-3" / "model.safetensors")
    assert largest_difference(old, new) > 1e-2
    with pytest.raises(FloatingPointError, match="Last good checkpoint: none, no epoch was kept"):
        train(untrained(), TinyPhotos(), arguments(tmp_path, **over, learning_rate=1e30))
    train(untrained(), TinyPhotos(), arguments(tmp_path, num_train_epochs=1, overwrite_output_dir=True))
    train(untrained(), TinyPhotos(), arguments(tmp_path, **over, save_epochs=0))
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_signal_in_the_first_epoch_leaves_nothing(tmp_path):
    with pytest.raises(Interrupted, match="no epoch was finished; the same command begins anew"):
        train(signal_at(untrained(), 2, signal.SIGINT), TinyPhotos(), arguments(tmp_path))
    assert list(tmp_path.iterdir()) == []
    train(untrained(), TinyPhotos(), arguments(tmp_path))


class Unreadable(TinyPhotos):
    """Photos that fail when they are asked for; or that the user stops at."""

    def __init__(self, what: Callable[[], None]):
        super().__init__()
        self.what = what

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.what()
        return super().__getitem__(index)


class Companion:
    def save_pretrained(self, folder: str) -> None:
        (Path(folder) / "companion.txt").touch()


def test_the_model_is_saved_before_it_is_evaluated(tmp_path):
    def fail() -> None:
        raise OSError("the disk is gone")

    model = untrained()
    with pytest.raises(OSError, match="the disk is gone"):
        train(model, TinyPhotos(), arguments(tmp_path), Unreadable(fail), TinyPhotos(), saved_beside=[Companion()])
    saved = {"config.json", "model.safetensors", "companion.txt"}
    assert {path.name for path in tmp_path.iterdir()} == saved | {"checkpoint-2"}
    assert largest_difference(state_of(model), load_file(tmp_path / "model.safetensors")) == 0


def test_a_signal_during_evaluation_says_that_the_model_is_there(tmp_path):
    queries = Unreadable(lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted, match=f"the trained model is in {tmp_path}; examples/evaluate.py measures it"):
        train(untrained(), TinyPhotos(), arguments(tmp_path), queries, TinyPhotos())
    assert (tmp_path / "model.safetensors").is_file()


# --- going on with the wrong thing


@pytest.fixture
def two_epochs(tmp_path) -> Path:
    """A run of two epochs with its checkpoint."""
    train(untrained(), TinyPhotos(), arguments(tmp_path / "run", save_epochs=1))
    return tmp_path / "run"


class OtherLabels(TinyPhotos):
    def __init__(self):
        super().__init__()
        self.labels = self.labels.flip(0)


@pytest.mark.parametrize(
    ("model", "photos", "changes", "message"),
    [
        ({}, TinyPhotos, {"num_train_epochs": 1}, "has 2 epochs done, more than --num_train_epochs 1"),
        ({}, partial(TinyPhotos, 32), {}, "of another run .*photos.number was 24, now 32"),
        ({}, OtherLabels, {}, 'of another run .*photos.labels was "[0-9a-f]{16}", now "'),
        ({"diversity_weight": 0.5}, TinyPhotos, {}, "of another run .model.diversity_weight was 1.0, now 0.5"),
        (
            {"id2label": dict(enumerate("abcde"))},
            TinyPhotos,
            {},
            'model.id2label.0 was "LABEL_0", now "a"; .*and [0-9]+ more',
        ),
        ({}, TinyPhotos, {"optimizer": "adamw"}, 'of another run .optimizer was "sgd", now "adamw"'),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(two_epochs, model, photos, changes, message):
    before = files_in(two_epochs)
    args = arguments(two_epochs, **({"num_train_epochs": 3} | changes), resume_from_checkpoint=str(two_epochs))
    with pytest.raises(ValueError, match=f"checkpoint-2 (is|has) .*{message}|checkpoint-2 {message}"):
        train(untrained(**model), photos(), args)
    assert files_in(two_epochs) == before


def test_other_settings_are_said(two_epochs, caplog):
    changes = {"num_train_epochs": 3, "learning_rate": 0.01, "seed": 7}
    train(untrained(), TinyPhotos(), arguments(two_epochs, **changes, resume_from_checkpoint=str(two_epochs)))
    assert "learning_rate was 0.05, now 0.01; num_train_epochs was 2, now 3; seed was 42, now 7" in caplog.text


def test_checkpoints_of_older_versions_are_gone_on_with(two_epochs, caplog):
    """They knew neither settings nor checksums."""
    progress = two_epochs / "checkpoint-2" / "progress.json"
    progress.write_text(json.dumps({"epochs_done": 2, "step": 6}))
    args = arguments(two_epochs, num_train_epochs=3, resume_from_checkpoint=str(two_epochs))
    assert train(untrained(), TinyPhotos(), args)["train_steps"] == 9
    assert "is of an older version and does not know its settings" in caplog.text


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.bin", "random_states_0.pkl", "progress.json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_checkpoint_is_named(two_epochs, name, how):
    file = two_epochs / "checkpoint-2" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 64
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(content if how == "flipped" else content[: len(content) // 2])
    args = arguments(two_epochs, num_train_epochs=3, resume_from_checkpoint=str(two_epochs))
    message = (
        "no checkpoint to resume from" if (name, how) == ("progress.json", "gone") else f"{name} is (damaged|missing)"
    )
    with pytest.raises(ValueError, match=message):
        train(untrained(), TinyPhotos(), args)


@pytest.mark.parametrize(
    "content", ["[]", "null", '{"epochs_done": "2", "step": 6}', '{"epochs_done": -1, "step": 6}', '{"step": 6}', "{"]
)
def test_progress_of_another_shape(two_epochs, content):
    (two_epochs / "checkpoint-2" / "progress.json").write_text(content)
    with pytest.raises(ValueError, match="progress.json is damaged"):
        train(untrained(), TinyPhotos(), arguments(two_epochs, resume_from_checkpoint=str(two_epochs)))


def test_a_kill_in_the_first_checkpoint_is_no_dead_end(tmp_path, monkeypatch):
    """The plain command begins anew, and clears up."""

    def killed(accelerator: Accelerator, folder: str) -> None:
        Path(folder).mkdir()
        (Path(folder) / ".tmpAbCdEf").write_bytes(b"half")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Accelerator, "save_state", killed)
        train(untrained(), TinyPhotos(), arguments(tmp_path, save_epochs=1))
    assert [path.name for path in tmp_path.iterdir()] == ["partial-checkpoint-1"]
    with pytest.raises(ValueError, match="stopped before its first checkpoint begins anew, without --resume_from"):
        train(untrained(), TinyPhotos(), arguments(tmp_path, resume_from_checkpoint=str(tmp_path)))
    train(untrained(), TinyPhotos(), arguments(tmp_path))
    assert not list(tmp_path.glob("partial-*"))


# --- not finite


def test_a_loss_that_is_not_finite(tmp_path):
    model = untrained()
    steps = iter(range(1, 100))

    def spoil_the_fifth(module: torch.nn.Module, args: tuple) -> None:
        if next(steps) == 5:
            module.vision_model.hash_head.projection.weight.data.fill_(torch.nan)

    model.register_forward_pre_hook(spoil_the_fifth)
    args = arguments(tmp_path, num_train_epochs=4, save_epochs=1, logging_steps=100)
    with pytest.raises(FloatingPointError, match=r"since step 5.*learning_rate.*checkpoint-1") as caught:
        train(model, TinyPhotos(), args)
    assert "checkpoint-1" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    assert all(
        tensor.isfinite().all() for tensor in load_file(tmp_path / "checkpoint-1" / "model.safetensors").values()
    )
    train(untrained(), TinyPhotos(), arguments(tmp_path, resume_from_checkpoint=str(tmp_path)))


@pytest.mark.parametrize("epoch", [2, 3], ids=["between", "last"])
def test_weights_that_are_not_finite_replace_no_checkpoint(tmp_path, monkeypatch, epoch):
    """A bad last gradient of an epoch shows in no loss of it."""
    model = untrained()
    train_one_step = training._Run._train_one_step

    def spoiled(run: Any, batch: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
        losses = train_one_step(run, batch, weight)
        if run.step == 3 * epoch:
            model.vision_model.hash_head.projection.weight.data[0, 0] = torch.inf
        return losses

    monkeypatch.setattr(training._Run, "_train_one_step", spoiled)
    with pytest.raises(FloatingPointError, match=f"after step {3 * epoch}.*checkpoint-{epoch - 1}"):
        train(model, TinyPhotos(), arguments(tmp_path, num_train_epochs=3, save_epochs=1))
    assert [path.name for path in tmp_path.iterdir()] == [f"checkpoint-{epoch - 1}"]


def test_not_finite_without_a_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match="none, no epoch was kept"):
        train(untrained(), TinyPhotos(), arguments(tmp_path, learning_rate=1e30))


# --- mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train_epochs": 0}, "num_train_epochs must be at least 1, got 0"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size must be at least 1, got 0"),
        ({"per_device_eval_batch_size": -2}, "per_device_eval_batch_size must be at least 1, got -2"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1, got 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm 0 would train nothing: give the largest norm, or leave it out"),
        ({"logging_steps": 0}, "logging_steps must be at least 1, got 0"),
        ({"save_epochs": -1}, "save_epochs must not be negative, got -1"),
        ({"eval_epochs": -1}, "eval_epochs must be at least 1, got -1"),
        ({"warmup_epochs": 3}, r"warmup_epochs must lie in 0 ... num_train_epochs \(2\), got 3"),
        ({"warmup_epochs": -1}, "warmup_epochs must lie in 0 .*, got -1"),
        ({"learning_rate": -1e-3}, "learning_rate must not be negative, got -0.001"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative, got -0.1"),
        ({"max_grad_norm": -1.0}, "max_grad_norm must not be negative, got -1.0"),
        ({"dataloader_num_workers": -1}, "dataloader_num_workers must not be negative, got -1"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number, got nan"),
        ({"max_grad_norm": math.inf}, "max_grad_norm must be a finite number, got inf"),
        ({"optimizer": "lion"}, "optimizer must be sgd or adamw, got 'lion'"),
        ({"lr_schedule": "epochs"}, "lr_schedule must be epoch or step, got 'epochs'"),
        ({"report_to": "nothing"}, "--report_to nothing: there is no such tracker; there are .*wandb"),
    ],
)
def test_bad_arguments(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **changes)


def test_a_tracker_that_is_not_installed_is_known_before_the_run(tmp_path):
    """Accelerate would leave it out without a word."""
    name = next(name for name in LOGGER_TYPE_TO_CLASS if name not in map(str, get_available_trackers()))
    with pytest.raises(ImportError, match=f"--report_to {name} is not installed: pip install {name}"):
        arguments(tmp_path, report_to=name)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_scaled_step_that_overflows_leaves_nothing(tmp_path, optimizer):
    """fp16 nearly always skips its first steps: those after it are as if they had never been."""
    photos, labels = TinyPhotos(8).photos, torch.arange(8) % 4
    weights = []
    for factors in ([math.inf, 1, 1], [1, 1]):
        model = untrained(dropout=0.0)
        optimizing = training._make_optimizer(model, arguments(tmp_path, optimizer=optimizer), scaled=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for factor in factors:
            scaler.scale(model(photos, labels=labels).loss * factor).backward()
            scaler.step(optimizing)
            scaler.update()
            optimizing.zero_grad()
        weights.append(torch.cat([parameter.flatten() for parameter in model.trainable_parameters()]))
    assert (weights[0] - weights[1]).abs().max() < 1e-4
    before = torch.cat([parameter.flatten() for parameter in untrained(dropout=0.0).trainable_parameters()])
    assert (weights[0] - before).abs().max() > 1e-2


@pytest.fixture
def precious(tmp_path) -> Path:
    """A folder with somebody's work in it."""
    folder = tmp_path / "work"
    (folder / "checkpoint-best").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "checkpoint-best" / "notes.txt").write_text("notes")
    return folder


@pytest.mark.parametrize(
    ("changes", "photos", "message"),
    [
        ({}, 24, "work is not empty.*--output_dir.*--resume_from_checkpoint.*--overwrite_output_dir"),
        ({"report_to": "tensorboard"}, 24, "work is not empty"),
        ({"resume_from_checkpoint": "{folder}"}, 24, r"no checkpoint to resume from in .*work"),
        (
            {"resume_from_checkpoint": "{folder}/checkpoint-best"},
            24,
            "no checkpoint to resume from in .*checkpoint-best",
        ),
        ({"resume_from_checkpoint": "nowhere", "overwrite_output_dir": True}, 24, "no checkpoint .* in nowhere"),
        ({"overwrite_output_dir": True}, 1, r"1 photos to train on are too few for 1 process\(es\): each needs two"),
        (
            {"overwrite_output_dir": True, "per_device_train_batch_size": 1},
            24,
            "normalises over a batch, which takes two photos: give a --per_device_train_batch_size of 2",
        ),
        ({"overwrite_output_dir": True, "mixed_precision": "bf6"}, 24, "bf6"),
        ({"overwrite_output_dir": True, "mixed_precision": "fp16"}, 24, "fp16 needs a GPU.*bf16"),
    ],
)
def test_a_refused_run_leaves_the_folder_as_it_is(precious, changes, photos, message, monkeypatch):
    if changes.get("mixed_precision") == "fp16":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # also where there is a GPU
    before = files_in(precious)
    changes = {
        name: value.format(folder=precious) if isinstance(value, str) else value for name, value in changes.items()
    }
    model = untrained()
    with pytest.raises(ValueError, match=message):
        train(model, TinyPhotos(photos), arguments(precious, **changes))
    assert files_in(precious) == before


def test_the_output_folder_is_a_file(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(ValueError, match="file is a file"):
        train(untrained(), TinyPhotos(), arguments(tmp_path / "file"))


def test_no_queries_are_refused_before_the_first_epoch(tmp_path):
    photos = TinyPhotos()
    with pytest.raises(ValueError, match="there are no query photos to measure retrieval with: a class needs two"):
        train(untrained(), photos, arguments(tmp_path), TinyPhotos(0), photos)
    assert not photos.asked_for


@pytest.mark.parametrize("as_lists", [True, False])
def test_a_photo_without_labels_is_named_before_the_first_epoch(tmp_path, as_lists):
    photos, multi_hot = TinyPhotos(), torch.eye(3).repeat(8, 1)
    multi_hot[20] = 0
    photos.labels = [row.nonzero().flatten().tolist() for row in multi_hot] if as_lists else multi_hot
    with pytest.raises(ValueError, match="1 of the photos to train on have no label, the first in row 20: give them"):
        train(untrained(), photos, arguments(tmp_path))
    assert not photos.asked_for


def test_one_training_in_a_folder_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_files, "_WAIT", 0.1)
    refused = []

    def train_too() -> None:
        try:
            train(untrained(), TinyPhotos(), arguments(tmp_path, overwrite_output_dir=True))
        except BlockingIOError as error:
            refused.append(str(error))

    with ThreadPoolExecutor() as threads, one_writer(tmp_path):
        threads.submit(train_too).result()
    assert refused == [f"another process is writing into {tmp_path}: wait until it is done, or give another folder"]


def test_fewer_photos_than_a_batch_are_one(tmp_path, capsys):
    results = train(untrained(), TinyPhotos(7), arguments(tmp_path))
    assert (results["train_steps"], results["arguments"]["per_device_train_batch_size"]) == (2, 7)
    assert "only 7 photos to train on: batches of 7 in place of 8" in capsys.readouterr().out


@pytest.mark.parametrize("lr_schedule", ["epoch", "step"])
def test_a_sampler_too_short_for_a_batch(tmp_path, lr_schedule):
    with pytest.raises(ValueError, match=r"do not fill one batch of 8.*per_device_train_batch_size"):
        train(untrained(), TinyPhotos(), arguments(tmp_path, lr_schedule=lr_schedule), train_sampler=range(3))


def test_a_stream_too_short_for_a_batch(tmp_path):
    with pytest.raises(ValueError, match=r"do not fill one batch of 8.*per_device_train_batch_size"):
        train(untrained(), PhotoStream(7), arguments(tmp_path))


# --- what is told


def test_each_epoch_says_its_losses_its_map_and_the_time_left(tmp_path, capsys):
    """Also epochs that are shorter than the steps between two looks at the losses."""
    photos = TinyPhotos()
    args = arguments(tmp_path, num_train_epochs=4, eval_epochs=2, logging_steps=100)
    results = train(untrained(), photos, args, photos, photos)
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if line.startswith("epoch ")]
    terms = r"loss \d+\.\d{3} \(classification [\d.]+, quantization [\d.]+, concept [\d.]+, diversity [\d.]+\)"
    expected = [f"epoch {epoch}/4: {terms}; 0\\d:\\d\\d left" for epoch in (1, 2, 3, 4)]
    expected.insert(2, r"epoch 2/4: mAP 0\.\d{4} \(24 queries\)")
    assert len(lines) == 5 and all(map(re.fullmatch, expected, lines)), lines
    assert f"loss {results['train_loss']:.3f}" in lines[-1] and lines[-1].endswith("00:00 left")
    assert "12/12" in printed.err  # one bar, over the steps of all epochs


def test_the_time_left_is_that_of_all_epochs(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr(training_progress.time, "perf_counter", lambda: now)
    progress = training_progress.Progress(10, 4, 3, is_shown=True)
    now = 160.0  # two epochs
    progress.finish(5, {"loss": 1.0, "concept": 0.5})
    progress.close()
    assert capsys.readouterr().out == "epoch 6/10: loss 1.000 (concept 0.500); 02:00 left\n"


# --- waiting and keeping


def test_the_host_looks_at_no_value_within_steps(tmp_path, monkeypatch):
    """Every look would make it wait for the accelerator; how often it looks may not depend on the number of steps."""
    # on a CPU, and only there, the model looks at the labels
    monkeypatch.setattr(modeling_concepthash, "check_labels", lambda *args, **kwargs: None)
    looks: list[str] = []

    def count(name: str) -> None:
        original = getattr(Tensor, name)

        def counted(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            looks.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Tensor, name, counted)

    for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "nonzero"):
        count(name)

    def looks_with(photos: int) -> int:
        looks.clear()
        args = arguments(tmp_path / str(photos), logging_steps=100, max_grad_norm=1.0, gradient_accumulation_steps=2)
        train(untrained(), TinyPhotos(photos), args)
        return len(looks)

    assert looks_with(32) == looks_with(128) > 0


def test_photos_are_let_go(tmp_path):
    """No more than the batch at hand and the next one is ever held."""
    batches: list[weakref.ref] = []
    most = 0

    def collate(items: list) -> dict[str, Tensor]:
        nonlocal most
        batch = default_collate(items)
        batches.append(weakref.ref(batch["pixel_values"]))
        most = max(most, sum(reference() is not None for reference in batches))
        return batch

    photos = TinyPhotos(160)
    args = arguments(tmp_path, per_device_eval_batch_size=8)
    train(untrained(), photos, args, photos, photos, collate_fn=collate)
    assert len(batches) == 2 * 20 + 2 * 20
    assert most <= 3

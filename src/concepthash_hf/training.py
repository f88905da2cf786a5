"""The training loop: an Accelerate loop over any torch Dataset (paper section 4, the published recipe).

Knows models, losses and metrics, but neither where photos come from nor how they are decoded: a dataset yields
`{"pixel_values": float (3, H, W), "labels": int or multi-hot (C,)}`, or `frozen_states` in place of the pixels (see
`frozen_states.keep_frozen_states`).
"""

import copy
import hashlib
import json
import math
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import accelerate
import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration, broadcast, send_to_device, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from ._version import __version__
from .base_models import fingerprint
from .checkpoints import (
    PREFIX,
    Settings,
    check_goes_on,
    find_checkpoint,
    frozen_weights,
    is_unfinished,
    load_checkpoint,
    newest_checkpoint,
    remove_others,
    save_checkpoint,
)
from .frozen_states import FrozenStates
from .hashing import default_workers, hash_dataset, on_cpu
from .interruption import Interrupted, Stop, noticing_signals
from .metrics import retrieval_metrics
from .modeling_hashing import HashingPreTrainedModel
from .modes import checkpointing
from .presets import PUBLISHED_EPOCHS
from .seeds import SeededBatches, derived_seed
from .together import new_accelerator, on_main_process, one_writer_of_all
from .trackers import check_tracker
from .training_progress import Progress, every_so_many
from .whole_files import write_json

# what a seed is derived for
_ORDER, _EPOCH, _BATCH = 1, 2, 3
# fields of arguments and configs: where things are, what they are shown with, what has written them
_SAYS_NOTHING_OF_WEIGHTS = (
    *("per_device_eval_batch_size", "dataloader_num_workers", "gradient_checkpointing", "logging_steps", "report_to"),
    *("eval_epochs", "save_epochs", "_name_or_path", "base_model_name_or_path", "base_model_revision"),
    *("transformers_version", "format_version", "architectures", "auto_map", "dtype"),
)
# in --help, of options whose default here is that of one preset
_BY_PRESET = "default the preset's, of paper %(default)s"


@dataclass
class ConceptHashTrainingArguments:
    """How to train; the defaults are the published recipe."""

    output_dir: str = field(
        default="outputs/concepthash", metadata={"help": "Where the model, the checkpoints and the results go."}
    )
    num_train_epochs: int | None = field(default=None, metadata={"help": "Epochs in all; default the preset's."})
    warmup_epochs: int | None = field(
        default=None, metadata={"help": "Epochs of linear warm-up; default a tenth of the epochs, at least 1."}
    )
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Photos per step and process."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Photos hashed at a time and process."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches per optimizer step."})
    max_grad_norm: float | None = field(default=None, metadata={"help": "Clip the norm of the gradient to this."})
    optimizer: Literal["sgd", "adamw"] = field(
        default="sgd", metadata={"help": f"SGD (momentum 0.9) or AdamW; {_BY_PRESET}."}
    )
    learning_rate: float = field(
        default=1e-3, metadata={"help": f"Highest learning rate, of all parameters; {_BY_PRESET}."}
    )
    lr_schedule: Literal["epoch", "step"] = field(
        default="epoch",
        metadata={"help": f"Change the learning rate once an epoch (the published way) or every step; {_BY_PRESET}."},
    )
    weight_decay: float = field(default=5e-4, metadata={"help": f"On everything that is trained; {_BY_PRESET}."})
    mixed_precision: Literal["no", "bf16", "fp16"] | None = field(
        default=None,
        metadata={
            "help": "Precision of training; default bf16 in --preset fast, where the machine is fast at it, else the "
            "launcher's. Evaluation is float32."
        },
    )
    gradient_checkpointing: bool = field(
        default=False,
        metadata={"help": "Compute layers twice in place of keeping what they give: less memory, the same weights."},
    )
    seed: int = field(default=42, metadata={"help": "Of initialisation, data order, augmentation and dropout."})
    dataloader_num_workers: int = field(
        default_factory=default_workers,
        metadata={"help": "Processes that decode photos; default the cores to spare beside a GPU, without one none."},
    )
    logging_steps: int = field(default=10, metadata={"help": "Steps between two looks at the losses."})
    report_to: str | None = field(
        default=None, metadata={"help": "A tracker that Accelerate knows: tensorboard, trackio, wandb, ..."}
    )
    eval_epochs: int | None = field(
        default=None, metadata={"help": "Also evaluate every so many epochs. Nothing is selected by it."}
    )
    save_epochs: int | None = field(
        default=None,
        metadata={
            "help": "Keep the last checkpoint to resume from, every so many epochs; 0 for none. Default every epoch, "
            "of more than 100 a hundred times in all."
        },
    )
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "A checkpoint-N folder, or a run's folder to go on from its newest one."}
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Write into a folder that is not empty."})

    def __post_init__(self) -> None:
        counts = (
            *("num_train_epochs", "per_device_train_batch_size", "per_device_eval_batch_size"),
            *("gradient_accumulation_steps", "logging_steps", "eval_epochs"),
        )
        for name in counts:
            if (count := getattr(self, name)) is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if self.max_grad_norm == 0:
            raise ValueError("max_grad_norm 0 would train nothing: give the largest norm, or leave it out")
        for name in ("learning_rate", "weight_decay", "dataloader_num_workers", "max_grad_norm", "save_epochs"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value}")
        for name, known in {"optimizer": ("sgd", "adamw"), "lr_schedule": ("epoch", "step")}.items():
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}, got {value!r}")
        if self.report_to is not None:
            check_tracker(self.report_to)
        if self.num_train_epochs is None:
            return
        if self.warmup_epochs is None:
            self.warmup_epochs = max(1, round(self.num_train_epochs / 10))
        if self.save_epochs is None:
            self.save_epochs = every_so_many(self.num_train_epochs)
        if not 0 <= self.warmup_epochs <= self.num_train_epochs:
            raise ValueError(
                f"warmup_epochs must lie in 0 ... num_train_epochs ({self.num_train_epochs}), got {self.warmup_epochs}"
            )

    def with_epochs(self, default: int) -> "ConceptHashTrainingArguments":
        """The same with a number of epochs, if none was given."""
        return replace(self, num_train_epochs=default) if self.num_train_epochs is None else self


def learning_rate_at_step(progress: float, num_epochs: int, warmup_epochs: int, learning_rate: float) -> float:
    """Learning rate at a point of the training: linear warm-up from 0, then half a cosine to 0.

    Args:
        progress: epochs done, with fractions.
        num_epochs: in all.
        warmup_epochs: of them.
        learning_rate: the highest.

    Example:
        >>> [round(learning_rate_at_step(progress, 5, 1, 1.0), 3) for progress in (0.25, 1, 3, 5)]
        [0.25, 1.0, 0.5, 0.0]
    """
    if progress < warmup_epochs:
        return learning_rate * progress / warmup_epochs
    return learning_rate / 2 * (1 + math.cos(math.pi * (progress - warmup_epochs) / (num_epochs - warmup_epochs)))


def learning_rate_at(epoch: int, num_epochs: int, warmup_epochs: int, learning_rate: float) -> float:
    """Learning rate of an epoch: linear warm-up, then half a cosine that never reaches 0.

    `lr (e + 1) / W` for e < W, then `(lr / 2)(1 + cos(pi (e - W + 1) / (E - W + 1)))`.

    Args:
        epoch: e, from 0.
        num_epochs: E.
        warmup_epochs: W.
        learning_rate: the highest.

    Example:
        >>> [round(learning_rate_at(epoch, 4, 1, 1.0), 3) for epoch in range(4)]
        [1.0, 0.854, 0.5, 0.146]
    """
    if epoch < warmup_epochs:
        return learning_rate * (epoch + 1) / warmup_epochs
    progress = (epoch - warmup_epochs + 1) / (num_epochs - warmup_epochs + 1)
    return learning_rate / 2 * (1 + math.cos(math.pi * progress))


def train(
    model: HashingPreTrainedModel,
    train_dataset: Dataset,
    args: ConceptHashTrainingArguments,
    query_dataset: Dataset | None = None,
    database_dataset: Dataset | None = None,
    train_sampler: Sampler | None = None,
    collate_fn: Callable[[list], Any] | None = None,
    saved_beside: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train a model and measure its retrieval; write the model and `all_results.json` into `args.output_dir`.

    Runs on one process or, under `accelerate launch` / `torchrun`, on many. BatchNorm then becomes SyncBatchNorm on
    GPUs; on CPUs, for which torch has none, every process normalises by its own photos and the running statistics
    are those of the first. The last model is the one that is kept: nothing is selected on the queries.

    Every epoch draws its order, augmentation and dropout from a seed of its own, so a run that was resumed from a
    checkpoint gives the weights of an uninterrupted one. SIGINT and SIGTERM keep the epochs that are done.

    What can be known to fail is checked before the first epoch, and the model is saved before it is evaluated.

    Args:
        model: trained in place (all that `requires_grad`).
        train_dataset: augmented photos; an incomplete last batch is dropped. Fewer than a batch are one, of two or
            more photos.
        args: how to train.
        query_dataset: photos to search with, as at evaluation; None for no evaluation.
        database_dataset: photos to search among, as at evaluation.
        train_sampler: order of the photos; default a new shuffle every epoch. If it has a `generator`, that is
            seeded anew every epoch.
        collate_fn: batches items; default torch's.
        saved_beside: what belongs to the model, such as its processor; anything with `save_pretrained`.

    Returns:
        What is in `all_results.json`: `eval_map` and other metrics, `train_loss`, times, versions and arguments.

    Raises:
        ValueError: if the model's regions have not been learned, a photo to train on has no label, the output folder
            is not empty, a checkpoint is not found, damaged or of another run, there are no queries or not two photos
            for each process, or fp16 is asked for without a GPU.
        BlockingIOError: if another process writes into the output folder.
        OSError: if something cannot be written; says which file.
        FloatingPointError: if loss or weights are not finite; says since which step. The last checkpoint stays.
        Interrupted: if the process was sent SIGINT or SIGTERM; says how to go on.
    """
    args = args.with_epochs(PUBLISHED_EPOCHS)
    checkpoint = find_checkpoint(args.resume_from_checkpoint)
    if checkpoint is None:
        model.check_can_be_trained()
    check_all_labelled(getattr(train_dataset, "labels", None))
    check_output_dir(args)
    evaluation = None
    if query_dataset is not None and database_dataset is not None:
        evaluation = _Evaluation(query_dataset, database_dataset, collate_fn)
    accelerator = _make_accelerator(args)
    args = _with_batches_that_fill(args, train_dataset, accelerator)
    with one_writer_of_all(accelerator, args.output_dir), checkpointing(model, args.gradient_checkpointing):
        check_output_dir(args)  # somebody may have come before
        run = _Run(model, train_dataset, args, accelerator, train_sampler, collate_fn)
        _check_room(args, model)
        if checkpoint:
            check_goes_on(checkpoint, run.settings, cast(int, args.num_train_epochs))
        accelerator.wait_for_everyone()  # all have looked before one writes
        on_main_process(accelerator, lambda: remove_others(args.output_dir, checkpoint))
        if args.report_to:
            known = {name: value for name, value in _on_record(args).items() if value is not None}
            accelerator.init_trackers("concepthash", config=known)
        return _train(run, checkpoint, evaluation, saved_beside)


def _train(
    run: "_Run", checkpoint: Path | None, evaluation: "_Evaluation | None", saved_beside: Sequence[Any]
) -> dict[str, Any]:
    """Epochs, model, evaluation, results."""
    args, accelerator, num_epochs = run.args, run.accelerator, cast(int, run.args.num_train_epochs)
    first_epoch = run.load_checkpoint(checkpoint) if checkpoint else 0
    started = time.perf_counter()
    progress = Progress(num_epochs, first_epoch, run.steps_per_epoch, accelerator.is_main_process)
    with noticing_signals() as run.stop, closing(progress):
        for epoch in range(first_epoch, num_epochs):
            run.train_one_epoch(epoch, progress)
            if args.save_epochs and (epoch + 1) % args.save_epochs == 0:
                run.save_checkpoint(epoch + 1)
            progress.finish(epoch, run.mean_losses)
            is_last = epoch + 1 == num_epochs
            if evaluation and args.eval_epochs and (epoch + 1) % args.eval_epochs == 0 and not is_last:
                measured = evaluation.run(run.unwrapped, args, accelerator)
                progress.tell(epoch, f"mAP {measured['eval_map']:.4f} ({measured['eval_num_queries']} queries)")
                accelerator.log(measured, step=run.step)
    metrics = run.summary(time.perf_counter() - started)
    # the caller gets back the model as it was: Accelerate would leave one alone that it takes for prepared
    for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
        run.unwrapped.__dict__.pop(name, None)
    on_main_process(accelerator, lambda: _save(run.unwrapped, saved_beside, args.output_dir))
    if evaluation:
        try:
            if run.stop.signal is not None:  # it came too late for an epoch to see it
                signal.raise_signal(run.stop.signal)
            metrics |= evaluation.run(run.unwrapped, args, accelerator)
        except KeyboardInterrupt as stop:
            done = f"the trained model is in {args.output_dir}; examples/evaluate.py measures it"
            raise Interrupted(getattr(stop, "signal", signal.SIGINT), done) from None
        accelerator.log({name: value for name, value in metrics.items() if name.startswith("eval_")}, step=run.step)
    results = metrics | {"arguments": _on_record(args), "environment": environment(accelerator)}
    on_main_process(accelerator, lambda: write_json(Path(args.output_dir) / "all_results.json", results))
    for tracker in accelerator.trackers:  # not end_training: the process group is the caller's
        tracker.finish()
    return results


def _save(model: HashingPreTrainedModel, saved_beside: Sequence[Any], output_dir: str) -> None:
    for part in (model, *saved_beside):
        part.save_pretrained(output_dir)


class _Run:
    """What lives as long as one training: wrapped model, optimizer, data, step count."""

    def __init__(
        self,
        model: HashingPreTrainedModel,
        dataset: Dataset,
        args: ConceptHashTrainingArguments,
        accelerator: Accelerator,
        sampler: Sampler | None,
        collate_fn: Callable[[list], Any] | None,
    ):
        self.args, self.accelerator, self.sampler = args, accelerator, sampler
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        # a stream is divided among workers, so what is drawn for it depends on their number
        self.batches = None if isinstance(dataset, IterableDataset) else SeededBatches(dataset)
        loader = DataLoader(
            dataset if self.batches is None else self.batches,
            args.per_device_train_batch_size,
            shuffle=None if sampler is not None or isinstance(dataset, IterableDataset) else True,
            sampler=sampler,
            num_workers=0 if isinstance(dataset, FrozenStates) else args.dataloader_num_workers,
            pin_memory=accelerator.device.type == "cuda",
            drop_last=True,
            collate_fn=collate_fn,
        )
        frozen = fingerprint(frozen_weights(model))[:16]  # of whole weights, before they may be shared out
        self.model, self.optimizer, self.loader = accelerator.prepare(
            model, _make_optimizer(model, args, scaled=accelerator.scaler is not None), loader
        )
        self.unwrapped: HashingPreTrainedModel = accelerator.unwrap_model(self.model)
        self.steps_per_epoch = None if isinstance(dataset, IterableDataset) else len(self.loader)
        if self.steps_per_epoch is None and args.lr_schedule == "step":
            raise ValueError("a stream has no known end: train on it with --lr_schedule epoch")
        if self.steps_per_epoch == 0:
            raise self._no_batch()
        self._check_batch_norm()
        self.settings = _settings(self.unwrapped, frozen, dataset, args, accelerator)
        self.stop = Stop()
        self.step = 0  # of the optimizer: as many as batches, but for gradient accumulation
        self.photos = 0
        self.first_bad_step = torch.full((), -1, device=accelerator.device)
        self.mean_losses: dict[str, float] = {}

    def _check_batch_norm(self) -> None:
        norms = [module for module in self.unwrapped.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        shared = all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
        if self.args.per_device_train_batch_size == 1 and norms and not shared:
            raise ValueError(
                "the hash function normalises over a batch, which takes two photos: give a "
                "--per_device_train_batch_size of 2 or more"
            )

    def train_one_epoch(self, epoch: int, progress: Progress) -> None:
        args, accelerator = self.args, self.accelerator
        done = _Snapshot(self)
        self._stop_if_asked(done, epoch)
        # a seed for every epoch and process: what came before, evaluation or a restart, makes no difference
        set_seed(derived_seed(args.seed, _EPOCH, epoch, accelerator.process_index))
        if self.batches is not None:
            self.batches.seeds = (args.seed, _BATCH, epoch)
        if hasattr(self.loader, "set_epoch"):
            self.loader.set_epoch(epoch)
        if isinstance(generator := getattr(self.sampler, "generator", None), torch.Generator):
            generator.manual_seed(derived_seed(args.seed, _ORDER, epoch))
        rate = self._set_learning_rate(epoch, 0)
        self.unwrapped.start_epoch(self.step)
        self.model.train()
        sums: dict[str, Tensor] = {}
        progress.start(epoch)
        steps = 0
        for steps, batch in enumerate(self.loader, start=1):
            if args.lr_schedule == "step":
                rate = self._set_learning_rate(epoch, steps)
            losses = self._train_one_step(batch, self._weight(steps))
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0) + loss
            progress.step()
            if accelerator.num_processes == 1 or steps % args.logging_steps == 0:
                self._stop_if_asked(done, epoch)
            if steps % args.logging_steps == 0:
                self._check_loss()
                self.mean_losses = {name: (total / steps).item() for name, total in sums.items()}
                progress.show(self.mean_losses)
                now = {f"train_{name}": loss.item() for name, loss in losses.items()}
                accelerator.log(now | {"learning_rate": rate, "epoch": epoch}, step=self.step)
        if steps == 0:  # of a stream
            raise self._no_batch()
        self._check_loss()
        self._check_weights()
        self.mean_losses = {name: (total / steps).item() for name, total in sums.items()}
        self._share_buffers()

    def _no_batch(self) -> ValueError:
        return ValueError(
            f"the photos of an epoch do not fill one batch of {self.args.per_device_train_batch_size}; use a smaller "
            "--per_device_train_batch_size"
        )

    def _set_learning_rate(self, epoch: int, batches: int) -> float:
        args, warmup_epochs, num_epochs = (
            self.args,
            self.args.warmup_epochs or 0,
            cast(int, self.args.num_train_epochs),
        )
        if args.lr_schedule == "epoch":
            rate = learning_rate_at(epoch, num_epochs, warmup_epochs, args.learning_rate)
        else:
            # the middle of a batch: the first is not lost on a rate of 0, nor the last
            progress = epoch + max(batches - 0.5, 0) / cast(int, self.steps_per_epoch)
            rate = learning_rate_at_step(progress, num_epochs, warmup_epochs, args.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _stop_if_asked(self, done: "_Snapshot", epochs_done: int) -> None:
        """Keep the epochs that are done, and end; all processes together, whichever was asked."""
        signum = self.stop.signal or 0
        if self.accelerator.num_processes > 1:
            signum = int(self.accelerator.gather(torch.tensor([signum], device=self.accelerator.device)).max())
        if not signum:
            return
        if epochs_done == 0:
            raise Interrupted(signum, "no epoch was finished; the same command begins anew")
        folder = self.args.output_dir
        done.put_back(self)
        if not (Path(folder) / f"{PREFIX}{epochs_done}").is_dir():
            self.save_checkpoint(epochs_done)
        raise Interrupted(
            signum, f"{epochs_done} epochs are kept in {folder}; go on with --resume_from_checkpoint {folder}"
        )

    def _share_buffers(self) -> None:
        """Everyone takes the running statistics of the first process, whose model is saved."""
        for buffer in self.unwrapped.buffers():
            broadcast(buffer)

    def _weight(self, number: int) -> float:
        """Of a batch, from 1, in its optimizer step: Accelerate divides by the batches of a full one.

        The last step of an epoch may have fewer; of a stream nobody knows, and it counts for less.
        """
        full = self.args.gradient_accumulation_steps
        left = (self.steps_per_epoch or 0) % full
        return full / left if left and number > cast(int, self.steps_per_epoch) - left else 1.0

    def _train_one_step(self, batch: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
        """Give the losses as tensors on the device, so that the host need not wait for them."""
        with self.accelerator.accumulate(self.model):
            output = self.model(**batch)
            self.accelerator.backward(output.loss * weight)
            if self.args.max_grad_norm is not None and self.accelerator.sync_gradients:
                self.accelerator.clip_grad_norm_(self.unwrapped.trainable_parameters(), self.args.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.step += self.accelerator.sync_gradients
        self.photos += len(batch["labels"])
        loss = output.loss.detach()
        step = self.step + (not self.accelerator.sync_gradients)  # the one that this batch belongs to
        is_first_bad = (self.first_bad_step < 0) & ~loss.isfinite()
        self.first_bad_step = torch.where(is_first_bad, step, self.first_bad_step)
        return {"loss": loss} | {name: term.detach() for name, term in output.loss_terms.items()}

    def _check_loss(self) -> None:
        if (step := int(self.first_bad_step)) >= 0:
            self._give_up(f"the loss is not finite since step {step}")

    def _check_weights(self) -> None:
        """Before they replace a good checkpoint: a last gradient can spoil them behind a finite loss."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.unwrapped.trainable_parameters()):
            self._give_up(f"weights are not finite after step {self.step}")

    def _give_up(self, what: str) -> NoReturn:
        checkpoint = newest_checkpoint(self.args.output_dir)
        raise FloatingPointError(
            f"{what}; try a lower --learning_rate, --max_grad_norm 1, or --mixed_precision bf16 in place of fp16. "
            f"Last good checkpoint: {checkpoint or 'none, no epoch was kept'}"
        )

    def save_checkpoint(self, epochs_done: int) -> None:
        save_checkpoint(self.accelerator, self.args.output_dir, epochs_done, self.step, self.settings)

    def load_checkpoint(self, checkpoint: Path) -> int:
        epochs_done, self.step = load_checkpoint(self.accelerator, checkpoint)
        return epochs_done

    def summary(self, seconds: float) -> dict[str, Any]:
        """Speed and last losses, over the steps of this process since start or resumption."""
        return {
            **{f"train_{name}": loss for name, loss in self.mean_losses.items()},
            "train_steps": self.step,
            "train_runtime": seconds,
            "train_samples_per_second": self.photos * self.accelerator.num_processes / seconds,
            "trainable_parameters": sum(parameter.numel() for parameter in self.unwrapped.trainable_parameters()),
            "parameters": sum(parameter.numel() for parameter in self.unwrapped.parameters()),
        }


class _Snapshot:
    """What a run had learned at a moment, to go back to."""

    def __init__(self, run: _Run):
        self.step = run.step
        # detached: what comes from a GPU would else be part of a graph, which cannot be copied
        self.weights = _copied({name: tensor.detach() for name, tensor in _learned(run.unwrapped)})
        self.optimizer = _copied(run.optimizer.state_dict())
        scaler = run.accelerator.scaler
        self.scaler = None if scaler is None else _copied(scaler.state_dict())

    @torch.no_grad()
    def put_back(self, run: _Run) -> None:
        for name, tensor in _learned(run.unwrapped):
            tensor.copy_(self.weights[name])
        run.optimizer.load_state_dict(self.optimizer)
        if self.scaler is not None:
            run.accelerator.scaler.load_state_dict(self.scaler)
        run.step = self.step


def _learned(model: HashingPreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    yield from ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
    yield from model.named_buffers()


def _copied(state: Any) -> Any:
    return copy.deepcopy(send_to_device(state, "cpu"))


@dataclass
class _Evaluation:
    """The database and the queries, and how to batch them."""

    query_dataset: Dataset
    database_dataset: Dataset
    collate_fn: Callable[[list], Any] | None

    def __post_init__(self) -> None:
        for name, photos in (("query", self.query_dataset), ("database", self.database_dataset)):
            if not isinstance(photos, IterableDataset) and len(photos) == 0:  # type: ignore[arg-type]
                raise ValueError(
                    f"there are no {name} photos to measure retrieval with: a class needs two photos or more for one "
                    "of them to be held out, or give photos to test with"
                )

    def run(
        self, model: HashingPreTrainedModel, args: ConceptHashTrainingArguments, accelerator: Accelerator
    ) -> dict[str, Any]:
        started = time.perf_counter()
        hashed = [
            hash_dataset(
                model,
                dataset,
                accelerator,
                args.per_device_eval_batch_size,
                args.dataloader_num_workers,
                self.collate_fn,
            )
            for dataset in (self.query_dataset, self.database_dataset)
        ]
        (query_codes, query_labels), (database_codes, database_labels) = hashed
        metrics = retrieval_metrics(query_codes, query_labels, database_codes, database_labels)
        metrics["runtime"] = time.perf_counter() - started
        return {f"eval_{name}": value for name, value in metrics.items()}


def check_output_dir(args: ConceptHashTrainingArguments) -> None:
    """Refuse an output folder that holds something.

    Raises:
        ValueError: if it is not empty, overwriting was not asked for, and no checkpoint in it is resumed from.
    """
    folder = Path(args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir {folder} is a file")
    checkpoint = find_checkpoint(args.resume_from_checkpoint)
    is_own = checkpoint is not None and checkpoint.resolve().parent == folder.resolve()
    is_welcome = args.overwrite_output_dir or is_own
    if folder.is_dir() and not is_welcome and not all(is_unfinished(path) for path in folder.iterdir()):
        raise ValueError(
            f"output_dir {folder} is not empty: give another --output_dir, go on with --resume_from_checkpoint "
            f"{folder}, or write over it with --overwrite_output_dir"
        )


def check_all_labelled(labels: Any) -> None:
    """Refuse photos to train on that have none of several possible labels: the losses have no target for them.

    Args:
        labels: of all photos, a list of numbers for each, or multi-hot `(n, C)`; or a number for each, or None where
            nobody knows them.

    Raises:
        ValueError: if there are such photos.
    """
    without: list[int] = []
    if isinstance(labels, list):
        without = [row for row, own in enumerate(labels) if isinstance(own, list) and not own]
    elif getattr(labels, "ndim", 1) == 2:
        without = (torch.as_tensor(labels) == 0).all(1).nonzero().flatten().tolist()
    if without:
        raise ValueError(
            f"{len(without)} of the photos to train on have no label, the first in row {without[0]}: give them one, "
            "or take their rows out"
        )


def _check_room(args: ConceptHashTrainingArguments, model: HashingPreTrainedModel) -> None:
    """Refuse to begin what could not be saved."""
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    trained = sum(parameter.nbytes for parameter in model.trainable_parameters())
    checkpoint = weights - sum(parameter.nbytes for parameter in frozen_weights(model).values())
    checkpoint += (2 if args.optimizer == "adamw" else 1) * trained
    needed = weights + (2 * checkpoint if args.save_epochs else 0)  # a new one beside the old
    if (free := shutil.disk_usage(args.output_dir).free) < needed:
        raise ValueError(
            f"output_dir {args.output_dir} has {free / 1e6:.0f} MB left, the model and its checkpoints take "
            f"{needed / 1e6:.0f} MB: make room, or give another --output_dir"
        )


def _settings(
    model: HashingPreTrainedModel,
    frozen: str,
    dataset: Dataset,
    args: ConceptHashTrainingArguments,
    accelerator: Accelerator,
) -> Settings:
    """What a checkpoint knows of its run; `frozen` is the fingerprint of what it leaves out."""
    config = _plain(json.loads(model.config.to_json_string(use_diff=False)))
    labels = getattr(dataset, "labels", None)
    listed = None if labels is None else labels.tolist() if hasattr(labels, "tolist") else list(labels)
    photos = {
        "number": None if isinstance(dataset, IterableDataset) else len(dataset),  # type: ignore[arg-type]
        "labels": None if listed is None else hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16],
    }
    free = {name: value for name, value in _on_record(args).items() if name not in _SAYS_NOTHING_OF_WEIGHTS}
    optimizer = free.pop("optimizer")
    return Settings(
        {
            "model": config,
            "frozen_weights": frozen,
            "photos": photos,
            "optimizer": optimizer,
        },
        free | {"num_processes": accelerator.num_processes},
    )


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """A config without where it is from and what wrote it."""
    return {
        name: _plain(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in _SAYS_NOTHING_OF_WEIGHTS
    }


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """Versions and hardware, for the record beside every number."""
    device = accelerator.device
    return {
        "concepthash_hf": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "num_processes": accelerator.num_processes,
        "mixed_precision": accelerator.mixed_precision,
    }


def _with_batches_that_fill(
    args: ConceptHashTrainingArguments, dataset: Dataset, accelerator: Accelerator
) -> ConceptHashTrainingArguments:
    """The same, with smaller batches where there are fewer photos than one for every process; says so."""
    if isinstance(dataset, IterableDataset):
        return args
    largest = len(dataset) // accelerator.num_processes  # type: ignore[arg-type]
    if largest >= args.per_device_train_batch_size:
        return args
    if largest < 2:
        raise ValueError(
            f"{len(dataset)} photos to train on are too few for {accelerator.num_processes} process(es): each needs "  # type: ignore[arg-type]
            "two for a batch"
        )
    if accelerator.is_main_process:
        print(
            f"only {len(dataset)} photos to train on: batches of {largest} in place of "  # type: ignore[arg-type]
            f"{args.per_device_train_batch_size}",
            flush=True,
        )
    return replace(args, per_device_train_batch_size=largest)


def _make_accelerator(args: ConceptHashTrainingArguments) -> Accelerator:
    if args.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("mixed precision fp16 needs a GPU; use --mixed_precision bf16")
    return new_accelerator(
        args.mixed_precision,
        cpu=on_cpu(),
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        log_with=args.report_to,
        project_config=ProjectConfiguration(project_dir=args.output_dir, logging_dir=f"{args.output_dir}/logs"),
        # the order of an epoch depends on seed and epoch alone
        dataloader_config=DataLoaderConfiguration(
            use_seedable_sampler=True,
            data_seed=derived_seed(args.seed, _ORDER),
            non_blocking=True,
            # of a stream, every process reads its own part
            dispatch_batches=False,
        ),
    )


def _make_optimizer(
    model: HashingPreTrainedModel, args: ConceptHashTrainingArguments, *, scaled: bool
) -> torch.optim.Optimizer:
    """`scaled`: whether the loss is, as in fp16, and steps whose gradients overflow are skipped."""
    parameters = list(model.trainable_parameters())
    if args.optimizer == "adamw":
        return torch.optim.AdamW(parameters, args.learning_rate, weight_decay=args.weight_decay, fused=True)
    # a fused SGD (torch 2.14) whose first step is skipped goes on with momentum that nobody has set
    return torch.optim.SGD(
        parameters, args.learning_rate, momentum=0.9, weight_decay=args.weight_decay, fused=None if scaled else True
    )


def _on_record(args: ConceptHashTrainingArguments) -> dict[str, Any]:
    """The arguments that say how a model was trained, not where on which machine."""
    left_out = ("output_dir", "resume_from_checkpoint", "overwrite_output_dir")
    return {name: value for name, value in asdict(args).items() if name not in left_out}

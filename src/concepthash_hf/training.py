"""The training loop: an Accelerate loop over any torch Dataset (METHOD: paper section 4).

Knows models, losses and metrics, but neither where photos come from nor how they are decoded: a dataset yields
`{"pixel_values": float (3, H, W), "labels": int or multi-hot (C,)}`.
"""

import json
import logging
import math
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import accelerate
import numpy as np
import torch
import transformers
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration, broadcast, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler
from tqdm.auto import tqdm

from ._version import __version__
from .metrics import retrieval_metrics
from .modeling_concepthash import ConceptHashModel

logger = logging.getLogger(__name__)

CHECKPOINT_PREFIX = "checkpoint-"


@dataclass
class ConceptHashTrainingArguments:
    """How to train; the defaults are the published recipe."""

    output_dir: str = field(
        default="outputs/concepthash", metadata={"help": "Where the model, the checkpoints and the results go."}
    )
    num_train_epochs: int = field(default=100, metadata={"help": "Epochs in all."})
    warmup_epochs: int | None = field(
        default=None, metadata={"help": "Epochs of linear warm-up; default a tenth of the epochs, at least 1."}
    )
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Photos per step and process."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Photos hashed at a time and process."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches per optimizer step."})
    max_grad_norm: float | None = field(default=None, metadata={"help": "Clip the norm of the gradient to this."})
    optimizer: Literal["sgd", "adamw"] = field(default="sgd", metadata={"help": "SGD (momentum 0.9) or AdamW."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Highest learning rate, of all parameters."})
    weight_decay: float = field(default=5e-4, metadata={"help": "On everything that is trained."})
    mixed_precision: Literal["no", "bf16", "fp16"] | None = field(
        default=None, metadata={"help": "Precision of training; default the launcher's. Evaluation is float32."}
    )
    seed: int = field(default=42, metadata={"help": "Of initialisation, data order, augmentation and dropout."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Processes that decode photos."})
    logging_steps: int = field(default=10, metadata={"help": "Steps between two looks at the losses."})
    report_to: str | None = field(
        default=None, metadata={"help": "A tracker that Accelerate knows: tensorboard, trackio, wandb, ..."}
    )
    eval_epochs: int | None = field(
        default=None, metadata={"help": "Also evaluate every so many epochs. Nothing is selected by it."}
    )
    save_epochs: int | None = field(
        default=None, metadata={"help": "Keep a checkpoint to resume from, every so many epochs."}
    )
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "A checkpoint-N folder, or a run's folder to go on from its newest one."}
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Write into a folder that is not empty."})

    def __post_init__(self) -> None:
        counts = (
            *("num_train_epochs", "per_device_train_batch_size", "per_device_eval_batch_size"),
            *("gradient_accumulation_steps", "logging_steps", "eval_epochs", "save_epochs"),
        )
        for name in counts:
            if (count := getattr(self, name)) is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        for name in ("learning_rate", "weight_decay", "dataloader_num_workers", "max_grad_norm"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        if self.optimizer not in ("sgd", "adamw"):
            raise ValueError(f"optimizer must be sgd or adamw, got {self.optimizer!r}")
        if self.warmup_epochs is None:
            self.warmup_epochs = max(1, round(self.num_train_epochs / 10))
        if not 0 <= self.warmup_epochs <= self.num_train_epochs:
            raise ValueError(
                f"warmup_epochs must lie in 0 ... num_train_epochs ({self.num_train_epochs}), got {self.warmup_epochs}"
            )


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


def hash_dataset(
    model: nn.Module,
    dataset: Dataset,
    accelerator: Accelerator | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    collate_fn: Callable[[list], Any] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Hash every photo of a dataset once, shared out over the processes.

    Args:
        model: anything with `get_hash_codes(pixel_values) -> uint8 (B, W)`.
        dataset: yields `pixel_values` and `labels`.
        accelerator: of the running processes; default a new one.
        batch_size: photos at a time and process.
        num_workers: processes that decode photos.
        collate_fn: batches items; default torch's.

    Returns:
        Packed codes uint8 `(n, W)` and labels int64 `(n,)` or multi-hot `(n, C)`, in the order of the dataset, on
        every process.
    """
    accelerator = accelerator or Accelerator()
    # not accelerator.prepare: that would keep every loader for good
    loader = prepare_data_loader(
        DataLoader(dataset, batch_size, num_workers=num_workers, collate_fn=collate_fn),
        accelerator.device,
        accelerator.num_processes,
        accelerator.process_index,
        put_on_device=True,
    )
    codes, labels = [], []
    for batch in tqdm(loader, desc="hashing", leave=False, disable=not accelerator.is_local_main_process):
        gathered = accelerator.gather_for_metrics(
            (model.get_hash_codes(batch["pixel_values"]), batch["labels"])  # type: ignore[operator]
        )
        codes.append(gathered[0].cpu())
        labels.append(gathered[1].cpu())
    return torch.cat(codes).numpy(), torch.cat(labels).numpy()


def train(
    model: ConceptHashModel,
    train_dataset: Dataset,
    args: ConceptHashTrainingArguments,
    query_dataset: Dataset | None = None,
    database_dataset: Dataset | None = None,
    train_sampler: Sampler | None = None,
    collate_fn: Callable[[list], Any] | None = None,
) -> dict[str, Any]:
    """Train a model and measure its retrieval; write the model and `all_results.json` into `args.output_dir`.

    Runs on one process or, under `accelerate launch` / `torchrun`, on many. BatchNorm then becomes SyncBatchNorm on
    GPUs; on CPUs, for which torch has none, every process normalises by its own photos and the running statistics
    are those of the first. The last model is the one that is kept: nothing is selected on the queries.

    Every epoch draws its order, augmentation and dropout from a seed of its own, so a run that was resumed from a
    checkpoint gives the weights of an uninterrupted one.

    Args:
        model: trained in place (all that `requires_grad`).
        train_dataset: augmented photos; an incomplete last batch is dropped.
        args: how to train.
        query_dataset: photos to search with, as at evaluation; None for no evaluation.
        database_dataset: photos to search among, as at evaluation.
        train_sampler: order of the photos; default a new shuffle every epoch. If it has a `generator`, that is
            seeded anew every epoch.
        collate_fn: batches items; default torch's.

    Returns:
        What is in `all_results.json`: `eval_map` and other metrics, `train_loss`, times, versions and arguments.

    Raises:
        ValueError: if the output folder is not empty, a checkpoint is not found, there is not one full batch, or fp16
            is asked for without a GPU.
        FloatingPointError: if loss or weights are not finite; says since which step. The last checkpoint stays.
    """
    checkpoint = _find_checkpoint(args.resume_from_checkpoint)
    check_output_dir(args)
    accelerator = _make_accelerator(args)
    accelerator.wait_for_everyone()  # all have looked before one writes
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    if args.report_to:
        accelerator.init_trackers("concepthash", config={k: v for k, v in _on_record(args).items() if v is not None})
    run = _Run(model, train_dataset, args, accelerator, train_sampler, collate_fn)
    evaluation = None
    if query_dataset is not None and database_dataset is not None:
        evaluation = _Evaluation(query_dataset, database_dataset, collate_fn)

    first_epoch = run.load_checkpoint(checkpoint) if checkpoint else 0
    started = time.perf_counter()
    metrics: dict[str, Any] = {}
    for epoch in range(first_epoch, args.num_train_epochs):
        run.train_one_epoch(epoch)
        if args.save_epochs and (epoch + 1) % args.save_epochs == 0:
            run.save_checkpoint(epoch + 1)
        is_last = epoch + 1 == args.num_train_epochs
        if evaluation and args.eval_epochs and (epoch + 1) % args.eval_epochs == 0 and not is_last:
            accelerator.log(evaluation.run(run.unwrapped, args, accelerator), step=run.step)
    metrics |= run.summary(time.perf_counter() - started)
    if evaluation:
        metrics |= evaluation.run(run.unwrapped, args, accelerator)
        accelerator.log({name: value for name, value in metrics.items() if name.startswith("eval_")}, step=run.step)

    # the caller's model computes in its own precision again
    accelerator.unwrap_model(run.model, keep_fp32_wrapper=False)
    results = metrics | {"arguments": _on_record(args), "environment": environment(accelerator)}
    if accelerator.is_main_process:
        run.unwrapped.save_pretrained(args.output_dir)
        write_json(Path(args.output_dir) / "all_results.json", results)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return results


class _Run:
    """What lives as long as one training: wrapped model, optimizer, data, step count."""

    def __init__(
        self,
        model: ConceptHashModel,
        dataset: Dataset,
        args: ConceptHashTrainingArguments,
        accelerator: Accelerator,
        sampler: Sampler | None,
        collate_fn: Callable[[list], Any] | None,
    ):
        self.args, self.accelerator, self.sampler = args, accelerator, sampler
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        loader = DataLoader(
            dataset,
            args.per_device_train_batch_size,
            shuffle=None if sampler is not None or isinstance(dataset, IterableDataset) else True,
            sampler=sampler,
            num_workers=args.dataloader_num_workers,
            pin_memory=accelerator.device.type == "cuda",
            drop_last=True,
            collate_fn=collate_fn,
        )
        self.model, self.optimizer, self.loader = accelerator.prepare(model, _make_optimizer(model, args), loader)
        self.unwrapped: ConceptHashModel = accelerator.unwrap_model(self.model)
        self.steps_per_epoch = None if isinstance(dataset, IterableDataset) else len(self.loader)
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"{len(dataset)} photos do not fill one batch of {args.per_device_train_batch_size} on each of "  # type: ignore[arg-type]
                f"{accelerator.num_processes} process(es); use a smaller --per_device_train_batch_size"
            )
        self.step = 0
        self.photos = 0
        self.first_bad_step = torch.full((), -1, device=accelerator.device)
        self.mean_losses: dict[str, float] = {}

    def train_one_epoch(self, epoch: int) -> None:
        args, accelerator = self.args, self.accelerator
        # a seed for every epoch and process: what came before, evaluation or a restart, makes no difference
        set_seed(_derived_seed(args.seed, epoch, accelerator.process_index))
        if hasattr(self.loader, "set_epoch"):
            self.loader.set_epoch(epoch)
        if isinstance(generator := getattr(self.sampler, "generator", None), torch.Generator):
            generator.manual_seed(_derived_seed(args.seed, epoch))
        rate = learning_rate_at(epoch, args.num_train_epochs, args.warmup_epochs or 0, args.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

        self.model.train()
        sums: dict[str, Tensor] = {}
        bar = tqdm(
            self.loader,
            desc=f"epoch {epoch + 1}/{args.num_train_epochs}",
            total=self.steps_per_epoch,
            disable=not accelerator.is_local_main_process,
        )
        steps = 0
        for steps, batch in enumerate(bar, start=1):
            losses = self._train_one_step(batch)
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0) + loss
            if steps % args.logging_steps == 0:
                self._check_loss()
                self.mean_losses = {name: (total / steps).item() for name, total in sums.items()}
                bar.set_postfix({name: f"{loss:.3f}" for name, loss in self.mean_losses.items()}, refresh=False)
                now = {f"train_{name}": loss.item() for name, loss in losses.items()}
                accelerator.log(now | {"learning_rate": rate, "epoch": epoch}, step=self.step)
        if steps == 0:
            raise ValueError(
                f"the stream of photos does not fill one batch of {args.per_device_train_batch_size}; use a smaller "
                "--per_device_train_batch_size"
            )
        self._check_loss()
        self._check_weights()
        self.mean_losses = {name: (total / steps).item() for name, total in sums.items()}
        self._share_buffers()

    def _share_buffers(self) -> None:
        """Everyone takes the running statistics of the first process, whose model is saved."""
        for buffer in self.unwrapped.buffers():
            broadcast(buffer)

    def _train_one_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give the losses as tensors on the device, so that the host need not wait for them."""
        with self.accelerator.accumulate(self.model):
            output = self.model(**batch)
            self.accelerator.backward(output.loss)
            if self.args.max_grad_norm is not None and self.accelerator.sync_gradients:
                self.accelerator.clip_grad_norm_(self.unwrapped.trainable_parameters(), self.args.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.step += 1
        self.photos += len(batch["labels"])
        loss = output.loss.detach()
        is_first_bad = (self.first_bad_step < 0) & ~loss.isfinite()
        self.first_bad_step = torch.where(is_first_bad, self.step, self.first_bad_step)
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
            f"Last good checkpoint: {checkpoint or 'none, since --save_epochs was not given'}"
        )

    def save_checkpoint(self, epochs_done: int) -> None:
        """Write beside, then rename: a run that is killed leaves the last checkpoint whole."""
        final = Path(self.args.output_dir) / f"{CHECKPOINT_PREFIX}{epochs_done}"
        partial = final.with_name(f"partial-{final.name}")
        self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()  # each process writes a part of it
        if self.accelerator.is_main_process:
            write_json(partial / "progress.json", {"epochs_done": epochs_done, "step": self.step})
            older = _checkpoints(self.args.output_dir)
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
            for folder in older:
                if folder != final:
                    shutil.rmtree(folder)
        self.accelerator.wait_for_everyone()

    def load_checkpoint(self, folder: Path) -> int:
        self.accelerator.load_state(str(folder))
        progress = json.loads((folder / "progress.json").read_text())
        self.step = progress["step"]
        return progress["epochs_done"]

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


@dataclass
class _Evaluation:
    """The database and the queries, and how to batch them."""

    query_dataset: Dataset
    database_dataset: Dataset
    collate_fn: Callable[[list], Any] | None

    def run(
        self, model: ConceptHashModel, args: ConceptHashTrainingArguments, accelerator: Accelerator
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
        ValueError: if it is not empty and neither overwriting nor resuming was asked for.
    """
    folder = Path(args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir {folder} is a file")
    is_welcome = args.overwrite_output_dir or args.resume_from_checkpoint
    if folder.is_dir() and any(folder.iterdir()) and not is_welcome:
        raise ValueError(
            f"output_dir {folder} is not empty: give another --output_dir, go on with --resume_from_checkpoint "
            f"{folder}, or write over it with --overwrite_output_dir"
        )


def newest_checkpoint(output_dir: str | Path) -> Path | None:
    """The checkpoint of a run's folder that is furthest, or None."""
    return max(_checkpoints(output_dir), key=_epochs_done, default=None)


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


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write readable JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n")


def _make_accelerator(args: ConceptHashTrainingArguments) -> Accelerator:
    if args.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("mixed precision fp16 needs a GPU; use --mixed_precision bf16")
    return Accelerator(
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        log_with=args.report_to,
        project_config=ProjectConfiguration(project_dir=args.output_dir, logging_dir=f"{args.output_dir}/logs"),
        # the order of an epoch depends on seed and epoch alone
        dataloader_config=DataLoaderConfiguration(
            use_seedable_sampler=True, data_seed=_derived_seed(args.seed), non_blocking=True
        ),
    )


def _make_optimizer(model: ConceptHashModel, args: ConceptHashTrainingArguments) -> torch.optim.Optimizer:
    parameters = list(model.trainable_parameters())
    if args.optimizer == "adamw":
        return torch.optim.AdamW(parameters, args.learning_rate, weight_decay=args.weight_decay)
    return torch.optim.SGD(parameters, args.learning_rate, momentum=0.9, weight_decay=args.weight_decay)


def _checkpoints(output_dir: str | Path) -> list[Path]:
    """Ours, by name and content: folders of other people with such names are left alone."""
    folders = Path(output_dir).glob(f"{CHECKPOINT_PREFIX}*/progress.json")
    return [file.parent for file in folders if file.parent.name.removeprefix(CHECKPOINT_PREFIX).isdecimal()]


def _derived_seed(*numbers: int) -> int:
    """A seed of its own for every combination: neighbouring seeds and epochs have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _on_record(args: ConceptHashTrainingArguments) -> dict[str, Any]:
    """The arguments that say how a model was trained, not where on which machine."""
    left_out = ("output_dir", "resume_from_checkpoint", "overwrite_output_dir")
    return {name: value for name, value in asdict(args).items() if name not in left_out}


def _epochs_done(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(CHECKPOINT_PREFIX))


def _find_checkpoint(resume_from: str | None) -> Path | None:
    if resume_from is None:
        return None
    folder = Path(resume_from)
    checkpoint = folder if (folder / "progress.json").is_file() else newest_checkpoint(folder)
    if checkpoint is None:
        raise ValueError(
            f"no checkpoint to resume from in {folder}: expected {CHECKPOINT_PREFIX}N folders or one of them"
        )
    return checkpoint

"""Run by `torchrun --nproc_per_node 2`: trains and hashes on two CPU processes, and writes down what came out."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from accelerate import Accelerator

sys.path.insert(0, str(Path(__file__).parents[1]))

from runs import (
    AugmentedPhotos,
    Killed,
    NumberedPhotos,
    NumberReader,
    TinyPhotos,
    arguments,
    kill_at,
    state_of,
    untrained,
)

from concepthash_hf.hashing import hash_dataset
from concepthash_hf.training import train


def main(folder: Path) -> None:
    rank = int(os.environ["RANK"])

    # 20 steps of 2 x 16 photos
    photos, model = TinyPhotos(64), untrained(dropout=0.0, freeze_batch_norm=True)
    settings = {"num_train_epochs": 10, "per_device_train_batch_size": 16, "per_device_eval_batch_size": 4}
    results = train(model, photos, arguments(folder / "plain", **settings), TinyPhotos(37), TinyPhotos(29))
    torch.save(state_of(model), folder / f"plain-{rank}.pt")
    found = {
        "environment": results["environment"],
        "order": photos.asked_for,
        "map": results["eval_map"],
        "queries": results["eval_num_queries"],
    }

    # an uneven last batch
    for number in (1, 3, 8, 37):
        codes, labels = hash_dataset(NumberReader(), NumberedPhotos(number), batch_size=4)
        np.savez(folder / f"hashed-{number}-{rank}.npz", codes=codes, labels=labels)

    # BatchNorm by process, augmentation, dropout; uninterrupted, and killed and resumed. The second process is slow.
    save_state = Accelerator.save_state

    def slow(self: Accelerator, *args, **kwargs) -> None:
        time.sleep(0.3 * rank)
        save_state(self, *args, **kwargs)

    Accelerator.save_state = slow
    settings = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "save_epochs": 1}
    whole, resumed = untrained(), untrained()
    train(whole, AugmentedPhotos(), arguments(folder / "whole", **settings))
    torch.save(state_of(whole), folder / f"whole-{rank}.pt")
    try:
        train(kill_at(untrained(), step=5), AugmentedPhotos(), arguments(folder / "killed", **settings))
    except Killed:
        found["left_by_kill"] = sorted(str(path.relative_to(folder)) for path in (folder / "killed").rglob("*"))
    torch.distributed.barrier()
    args = arguments(folder / "killed", **settings, resume_from_checkpoint=str(folder / "killed"))
    train(resumed, AugmentedPhotos(), args)
    torch.save(state_of(resumed), folder / f"resumed-{rank}.pt")

    # 24 photos are a batch for one process only
    try:
        train(untrained(), TinyPhotos(3), arguments(folder / "short"))
    except ValueError as error:
        found["too_few"] = str(error)
    try:
        train(untrained(), TinyPhotos(), arguments(folder / "whole"))
    except ValueError as error:
        found["not_empty"] = str(error)
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

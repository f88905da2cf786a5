"""Run by `torchrun --nnodes 2`: trains on the CPU processes that there are, and writes down what came out."""

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from runs import TinyPhotos, arguments, state_of, untrained

from concepthash_hf.training import train


def main(folder: Path) -> None:
    model = untrained(dropout=0.0, freeze_batch_norm=True)
    batch_size = 32 // int(os.environ["WORLD_SIZE"])
    train(model, TinyPhotos(64), arguments(folder, num_train_epochs=3, per_device_train_batch_size=batch_size))
    torch.save(state_of(model), f"weights-{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

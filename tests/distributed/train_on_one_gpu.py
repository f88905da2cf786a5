"""Run by `torchrun --nproc_per_node 2`: two processes train on the same GPU, which NCCL refuses and gloo does not."""

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from runs import TinyPhotos, arguments, state_of, untrained

from concepthash_hf.training import train


def main(folder: Path) -> None:
    rank = os.environ["RANK"]
    os.environ["LOCAL_RANK"] = "0"  # which GPU
    torch.distributed.init_process_group("gloo")
    model = untrained(dropout=0.0)
    run = arguments(folder / "run", num_train_epochs=3, per_device_train_batch_size=16, dataloader_num_workers=0)
    train(model, TinyPhotos(64), run)
    if rank == "0":
        torch.save({name: tensor.cpu() for name, tensor in state_of(model).items()}, folder / "weights.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Run by `torchrun --nproc_per_node 2`: trains on two CPU processes, of which the second dies in its third step."""

import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from runs import TinyPhotos, arguments, untrained

from concepthash_hf.training import train


def main(folder: Path, how: str) -> None:
    model = untrained()
    steps = iter(range(1, 100))

    def die(module: torch.nn.Module, args: tuple) -> None:
        if os.environ["RANK"] == "1" and module.training and next(steps) == 3:
            folder.with_name("died").touch()
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the second card is on fire")

    model.register_forward_pre_hook(die)
    train(model, TinyPhotos(), arguments(folder, num_train_epochs=20, per_device_train_batch_size=4, save_epochs=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

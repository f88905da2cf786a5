"""Train a ConceptHash model and measure how well its codes retrieve.

    accelerate launch examples/train.py
    accelerate launch examples/train.py --dataset path/to/photos

Without arguments it trains on the embedded toy birds, from scratch, with no network and no GPU. For photos of one's
own it takes the preset `fast`, on a DINOv2 with the words of CLIP; `--preset paper` is the published way. `--help`
lists the options; a JSON or YAML file of them may stand in front, and options on the command line overrule it.
"""

from concepthash_hf.launch import run_script
from concepthash_hf.scripts.train import main

if __name__ == "__main__":
    run_script(main)

"""Run by launchers: examples/train.py, but with eight toy birds of a species to train on and two to ask with."""

import runpy
import sys
from functools import partial
from pathlib import Path

import concepthash_hf.data.load
from concepthash_hf.data.toy_birds import toy_birds

concepthash_hf.data.load.toy_birds = partial(toy_birds, train_per_species=8, test_per_species=2)
sys.argv[0] = str(Path(__file__).parents[2] / "examples" / "train.py")
runpy.run_path(sys.argv[0], run_name="__main__")

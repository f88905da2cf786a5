"""The page as a program: `concepthash serve`, also as a Space on the Hugging Face Hub (see `space/`).

python examples/app.py                   # toy birds
python examples/app.py my_index          # an index of one's own; --help lists the options

In a Space it serves what the Space's variables name: INDEX, a folder in the Space or an index on the Hub; MODEL, the
model that made it, where the index does not say; PHOTOS, the folder of its photos.
"""

import os
import sys

from concepthash_hf.cli import app


def words_of_space() -> list[str]:
    """The command line that the variables of a Space stand for."""
    words = [os.environ["INDEX"]] if "INDEX" in os.environ else []
    for option, name in (("--model", "MODEL"), ("--photos", "PHOTOS")):
        words += [option, os.environ[name]] if name in os.environ else []
    return [*words, "--host", "0.0.0.0"]  # the Space's own address, which the Hub stands before


if __name__ == "__main__":
    app(["serve", *(words_of_space() if "SPACE_ID" in os.environ else sys.argv[1:])])

"""Search hashed photos with photos or with words: a table, and a picture of what was found.

    python examples/search.py --model my_model --index codes/index --images new.jpg other.jpg
    python examples/search.py --model my_model --index codes/index --text "red-tailed hawk" --k 20
    python examples/search.py --model my_model --index codes/index --images new.jpg --concepts 1 3=0.5

The index is a folder that `examples/encode.py` wrote, a Hub id, or a database: `postgresql://user@host/database`.
Concepts are numbered from 1, as in the picture.
"""

from concepthash_hf.launch import run_script
from concepthash_hf.scripts.search import main

if __name__ == "__main__":
    run_script(main)

"""Hash a collection of photos: codes as parquet files, and an index to search.

    accelerate launch examples/encode.py --model outputs/toy_birds-32-20260101-120000 --output_dir codes
    torchrun --nproc_per_node 2 examples/encode.py --model my_model --dataset my_photos --output_dir codes

A folder needs no classes. Processes share the photos out. After a kill the same command goes on where it was, also
with another number of processes. Photos that cannot be read are counted and listed in `unreadable.jsonl`.
"""

from concepthash_hf.launch import run_script
from concepthash_hf.scripts.encode import main

if __name__ == "__main__":
    run_script(main)

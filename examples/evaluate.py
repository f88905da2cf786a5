"""Measure a saved ConceptHash model on photos: a table, JSON, and a figure.

    accelerate launch examples/evaluate.py --model_name_or_path outputs/toy_birds-32-20260101-120000
    accelerate launch examples/evaluate.py --model_name_or_path my_model --dataset my_photos --top_k 1000

Queries are the test photos, the database is the training photos unless the photos come with a database of their own.
It writes `evaluation.json` (every number, per class too), `evaluation.png` and `evaluation.pdf`.
"""

from concepthash_hf.launch import run_script
from concepthash_hf.scripts.evaluate import main

if __name__ == "__main__":
    run_script(main)

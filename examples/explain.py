"""Show what a ConceptHash model's concepts see: a page to open in a browser, and the concept gallery as a picture.

    python examples/explain.py --model_name_or_path outputs/toy_birds-32-20260101-120000
    python examples/explain.py --model_name_or_path my_model --dataset my_photos --output_dir report

Galleries, explained photos and queries are test photos; what is found are photos of the database. None is picked by
hand: they are spread evenly over the test photos, half of the queries over those whose nearest neighbour is wrong. It
writes `report.html`, a single file, and `gallery.png`.
"""

from concepthash_hf.launch import run_script
from concepthash_hf.scripts.explain import main

if __name__ == "__main__":
    run_script(main)

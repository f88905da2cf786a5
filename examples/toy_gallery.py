"""Draw the concept gallery of a model of the toy birds, which can be drawn again larger than the model sees them.

Usage: `python examples/toy_gallery.py outputs/toy_birds-32-20260101-120000 toy_gallery.png`
"""

import sys

from PIL import Image
from transformers import AutoImageProcessor

from concepthash_hf import ConceptHashModel
from concepthash_hf.data import eval_transform, load_photos
from concepthash_hf.data.toy_birds import draw_bird
from concepthash_hf.explain import concept_gallery, read_concepts
from concepthash_hf.explain.crops import photo_as_seen


def main(model_name_or_path: str, path: str, size: int = 384) -> None:
    """Read the test birds, write the gallery to a picture file."""
    model = ConceptHashModel.from_pretrained(model_name_or_path)
    processor = AutoImageProcessor.from_pretrained(model_name_or_path)
    splits = load_photos("toy_birds")

    def photo_of(row: int) -> Image.Image:
        bird = splits.query[row]
        return photo_as_seen(draw_bird(splits.query_class_names[bird["label"]], bird["seed"], size).image, processor)

    readings = read_concepts(model, splits.torch_dataset("query", eval_transform(processor)))
    gallery = concept_gallery(readings, photo_of, num_groups=4, num_photos=6, crop_size=72)
    gallery.figure().save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])

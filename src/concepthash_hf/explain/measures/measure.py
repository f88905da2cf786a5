"""One door to what can be measured of a model's concepts in short time."""

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset, Subset

from ...modeling_concepthash import ConceptHashPreTrainedModel
from ..attention import ConceptReadings, read_concepts
from .diversity import diversity
from .faithfulness import faithfulness
from .keypoint_regression import keypoint_regression
from .localisation import localisation
from .measurement import Measurement
from .part_discovery import part_discovery
from .region_only import region_only

_MOST_TRAIN_PHOTOS = 1000


def measure_concepts(
    model: ConceptHashPreTrainedModel,
    photos: Dataset,
    part_names: Sequence[str] | None = None,
    train_photos: Dataset | None = None,
    readings: ConceptReadings | None = None,
    max_photos_to_hide_in: int = 256,
    seed: int = 0,
    batch_size: int = 64,
    num_workers: int = 0,
) -> dict[str, Measurement]:
    """Measure whether the concepts of a model are what they seem, as far as model and photos allow.

    Args:
        model: of any number of concepts; diversity and faithfulness compare two or more.
        photos: held out from training, items with "pixel_values", and "parts" where parts are to be measured.
        part_names: P names of annotated parts; None leaves out what needs parts.
        train_photos: likewise with "parts", where these are points: what the keypoint regression is fitted to, 1,000
            of them, evenly spread. None leaves it out.
        readings: `read_concepts(model, photos)`, where it is there already.
        max_photos_to_hide_in: hiding takes two runs of the model for each concept, so it keeps to this many photos,
            evenly spread.
        seed: of all that is drawn at random.
        batch_size: photos at a time.
        num_workers: processes that decode photos.

    Returns:
        Measurements by name, in the order of a report; each has a `table()` and a `to_dict()`.

    Raises:
        ValueError: if there are no photos, or parts are named that the photos do not have.
    """
    readings = readings or read_concepts(model, photos, batch_size, num_workers)
    measured: dict[str, Measurement] = {}
    if part_names is not None:
        measured["localisation"] = localisation(readings, part_names, seed)
        measured["part_discovery"] = part_discovery(readings, part_names, seed)
        if readings.has_points and train_photos is not None:
            to_fit = read_concepts(model, spread(train_photos, _MOST_TRAIN_PHOTOS), batch_size, num_workers)
            measured["keypoint_regression"] = keypoint_regression(readings, to_fit, part_names, seed)
    some = spread(photos, max_photos_to_hide_in)
    if readings.num_concepts > 1:
        measured["diversity"] = diversity(readings)
        measured["faithfulness"] = faithfulness(model, some, seed=seed, batch_size=batch_size, num_workers=num_workers)
    measured["region_only"] = region_only(model, some, seed=seed, batch_size=batch_size, num_workers=num_workers)
    return measured


def spread(photos: Dataset, most: int) -> Subset:
    """At most so many photos, evenly spread over all of them."""
    number = len(photos)  # type: ignore[arg-type]  # every Dataset that is no stream has a length
    kept = min(number, most)
    return Subset(photos, ((np.arange(kept) + 0.5) * number / max(kept, 1)).astype(int).tolist())

"""Which photos, as every script asks for them on its command line."""

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from .bad_images import OnBadImage
from .collection import Collection, load_collection
from .load import TOY_BIRDS, load_photos
from .options import ReadOptions, said
from .splits import PhotoSplits


class PhotosNotSaidError(ValueError):
    """A call that does not say which photos it is about."""

    exit_status = 2


@dataclass(frozen=True, kw_only=True)
class PhotoArguments(ReadOptions):
    """For `transformers.HfArgumentParser`: a script's own arguments inherit from it.

    Attributes:
        dataset: what `load_photos` and `load_collection` understand; None if it was not said.
    """

    dataset: str | None = field(
        default=None,
        metadata={
            "help": "A folder of class folders, perhaps in train/ and test/, a table, a benchmark's short name, or a "
            "Hub id; a model of toy birds takes these by itself."
        },
    )

    def with_photos_of(self, model_name_or_path: str) -> Self:
        """The same; where no photos were named, with the toy birds, if the model was trained on them.

        Args:
            model_name_or_path: the model that they are for.

        Raises:
            PhotosNotSaidError: if it was not.
        """
        if self.dataset is not None:
            return self
        if _trained_on(Path(model_name_or_path)) != TOY_BIRDS:
            raise PhotosNotSaidError(
                "which photos? Name a folder, a table, a benchmark or a Hub dataset, such as --dataset my_photos"
            )
        return replace(self, dataset=TOY_BIRDS)

    def load_photos(self, on_bad_image: OnBadImage) -> PhotoSplits:
        """The photos by split, see `data.load_photos`.

        Args:
            on_bad_image: "raise" or "skip".

        Raises:
            ValueError: as `data.load_photos`.
        """
        return load_photos(self._said(), on_bad_image=on_bad_image, **self.reading_options())

    def load_collection(self) -> Collection:
        """All photos, see `data.load_collection`.

        Raises:
            ValueError: as `data.load_collection`.
        """
        return load_collection(self._said(), **self.reading_options())

    def reading_options(self) -> dict[str, Any]:
        """How photos are read, as far as it was said: fields of `ReadOptions`."""
        return said({option.name: getattr(self, option.name) for option in fields(ReadOptions)})

    def _said(self) -> str:
        if self.dataset is None:
            raise PhotosNotSaidError("which photos? Name them with --dataset")
        return self.dataset


def _trained_on(model: Path) -> str | None:
    """The name of the photos that a model in a folder was trained on, as the training has noted it."""
    try:
        return json.loads((model / "all_results.json").read_text(encoding="utf-8"))["photos"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None

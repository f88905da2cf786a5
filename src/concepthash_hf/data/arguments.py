"""Which photos, as every script asks for them on its command line."""

from dataclasses import dataclass, field, fields
from typing import Any

from .bad_images import OnBadImage
from .collection import Collection, load_collection
from .load import TOY_BIRDS, load_photos
from .options import ReadOptions
from .splits import PhotoSplits


@dataclass(frozen=True, kw_only=True)
class PhotoArguments(ReadOptions):
    """For `transformers.HfArgumentParser`: a script's own arguments inherit from it.

    Attributes:
        dataset: what `load_photos` and `load_collection` understand.
    """

    dataset: str = field(
        default=TOY_BIRDS,
        metadata={
            "help": "toy_birds, a folder of class folders, perhaps in train/ and test/, a table, a benchmark's short "
            "name, or a Hub id."
        },
    )

    def load_photos(self, on_bad_image: OnBadImage) -> PhotoSplits:
        """The photos by split, see `data.load_photos`.

        Args:
            on_bad_image: "raise" or "skip".

        Raises:
            ValueError: as `data.load_photos`.
        """
        return load_photos(self.dataset, on_bad_image=on_bad_image, **self._options())

    def load_collection(self) -> Collection:
        """All photos, see `data.load_collection`.

        Raises:
            ValueError: as `data.load_collection`.
        """
        return load_collection(self.dataset, **self._options())

    def _options(self) -> dict[str, Any]:
        return {option.name: getattr(self, option.name) for option in fields(ReadOptions)}

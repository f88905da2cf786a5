"""Photos: where they come from, which are trained on, asked with and searched, and how they become pixel values.

Names are imported when they are asked for: `concepthash_hf.data.decode` needs no torch.
"""

from typing import TYPE_CHECKING

from ..lazy_names import lazy_names

if TYPE_CHECKING:
    from .arguments import PhotoArguments
    from .bad_images import BadImage, find_bad_images
    from .benchmarks import BENCHMARKS, Benchmark, benchmark_table
    from .collection import Collection, load_collection
    from .decode import BadImageError, decode_image
    from .describe import describe_collection, describe_photos
    from .families import class_families
    from .folders import list_photos
    from .load import known_names, load_photos
    from .options import LoadOptions
    from .photo_dataset import PhotoDataset, StreamingPhotoDataset
    from .sampler import class_balanced_sampler
    from .splits import PhotoSplits
    from .transforms import EvalTransform, eval_transform, train_transform

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "arguments": ("PhotoArguments",),
        "bad_images": (
            "BadImage",
            "find_bad_images",
        ),
        "benchmarks": (
            "BENCHMARKS",
            "Benchmark",
            "benchmark_table",
        ),
        "collection": (
            "Collection",
            "load_collection",
        ),
        "decode": (
            "BadImageError",
            "decode_image",
        ),
        "describe": (
            "describe_collection",
            "describe_photos",
        ),
        "families": ("class_families",),
        "folders": ("list_photos",),
        "load": (
            "known_names",
            "load_photos",
        ),
        "options": ("LoadOptions",),
        "photo_dataset": (
            "PhotoDataset",
            "StreamingPhotoDataset",
        ),
        "sampler": ("class_balanced_sampler",),
        "splits": ("PhotoSplits",),
        "transforms": (
            "EvalTransform",
            "eval_transform",
            "train_transform",
        ),
    },
)

__all__ = [
    "BENCHMARKS",
    "BadImage",
    "BadImageError",
    "Benchmark",
    "Collection",
    "EvalTransform",
    "LoadOptions",
    "PhotoArguments",
    "PhotoDataset",
    "PhotoSplits",
    "StreamingPhotoDataset",
    "benchmark_table",
    "class_balanced_sampler",
    "class_families",
    "decode_image",
    "describe_collection",
    "describe_photos",
    "eval_transform",
    "find_bad_images",
    "known_names",
    "list_photos",
    "load_collection",
    "load_photos",
    "train_transform",
]

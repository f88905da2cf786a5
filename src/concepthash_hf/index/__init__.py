"""Search: binary codes with ids and metadata, whole or by concept. Knows nothing of the model that made the codes."""

from .base import CodeIndex, CodeSpec
from .calibration import Calibration, calibrate_names, calibrate_radius
from .duplicates import near_duplicates
from .hamming import HammingIndex
from .model_codes import ModelCodes
from .opening import open_index
from .results import RangeResult, SearchResult
from .sharded import ShardedIndex
from .votes import Vote, neighbour_vote

__all__ = [
    "Calibration",
    "CodeIndex",
    "CodeSpec",
    "HammingIndex",
    "ModelCodes",
    "RangeResult",
    "SearchResult",
    "ShardedIndex",
    "Vote",
    "calibrate_names",
    "calibrate_radius",
    "near_duplicates",
    "neighbour_vote",
    "open_index",
]

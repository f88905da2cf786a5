"""All kinds of measurements, and how they are read from JSON."""

from collections.abc import Mapping
from typing import Any

from .curves import Curves
from .diversity import Diversity
from .faithfulness import Faithfulness
from .families import FamilyAgreement
from .keypoint_regression import KeypointRegression
from .localisation import Localisation
from .measurement import Measurement
from .part_discovery import PartDiscovery
from .region_only import RegionOnly
from .selectivity import Selectivity
from .stability import Stability

MEASUREMENTS: dict[str, type[Measurement]] = {
    "localisation": Localisation,
    "part_discovery": PartDiscovery,
    "keypoint_regression": KeypointRegression,
    "diversity": Diversity,
    "faithfulness": Faithfulness,
    "region_only": RegionOnly,
    "curves": Curves,
    "selectivity": Selectivity,
    "stability": Stability,
    "families": FamilyAgreement,
}
"""Results by the name that files and reports have for them, in the order of a report."""


def read_measurements(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Measurement]:
    """Read what `Measurement.to_dict` gave, as files have it.

    Args:
        measured: dicts by the names in `MEASUREMENTS`; something may follow a name, as in "faithfulness_blur_10".
            Other names are left out.

    Returns:
        Measurements by the same names, in the order of a report.

    Raises:
        ValueError: if one lacks a value that the measurement has, or has it in another form.
    """
    found: dict[str, Measurement] = {}
    for kind, of_kind in MEASUREMENTS.items():
        for name, values in measured.items():
            if name == kind or name.startswith(f"{kind}_"):
                try:
                    found[name] = of_kind.from_dict(values)
                    found[name].table()  # a value of another form shows there
                except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
                    raise ValueError(f"the measurement {name!r} is not what this package measures: {error}") from error
    return found

"""Measurements as tables for people to read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Numbers to show.

    Attributes:
        title: of the table.
        columns: names of the columns, the first of them for what the rows are.
        rows: the cells, texts or numbers; None where there is no number.
        note: how to read it: definition, chance level.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


def measurement_tables(measurements: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """Lay out what the measurements of this package give.

    Args:
        measurements: dicts by the name of the function that gave them: "localisation", "diversity", "faithfulness",
            "curves" (`deletion_insertion`), "selectivity", "stability", "families" (`family_agreement`); something
            may follow a name, as in "faithfulness_blur_10". Other names are left out.

    Raises:
        ValueError: if one lacks a value that the function gives.
    """
    tables = []
    for kind, layout in _LAYOUTS.items():
        for name, values in measurements.items():
            if name == kind or name.startswith(f"{kind}_"):
                try:
                    tables.append(layout(values))
                except (KeyError, TypeError, IndexError) as error:
                    raise ValueError(
                        f"the measurement {name!r} is not what this package measures: {type(error).__name__} {error}"
                    ) from error
    return tables


def _localisation(values: Mapping[str, Any]) -> Table:
    points = values["kind"] == "points"
    rows: list[list[Cell]] = [
        ["concept " + str(concept + 1), *columns]
        for concept, columns in enumerate(
            zip(
                values["own_part"],
                values["own_times_chance"],
                values["own_times_other_photos"],
                values["any_part"],
                values["consistency"],
                strict=True,
            )
        )
    ]
    rows.append(["mean", "", values["times_chance"], values["times_other_photos"], None, None])
    rows.append(["chance", "", 1.0, 1.0, values["any_part_chance"], values["consistency_chance"]])
    return Table(
        title="Localisation: which part each concept points at",
        columns=["", "own part", "times chance", "times its gaze in other photos", "on any part", "consistency"],
        rows=rows,
        note=f"{values['num_photos']:,} photos. "
        + (
            "A hit: the part lies in the patch attended to most, or one of its 8 neighbours; chance is a random patch."
            if points
            else "The share of a concept's attention inside the part; chance is the part's share of the area."
        )
        + " The own part is chosen on one half of the photos and measured on the other. Consistency: how often a "
        "concept picks its most frequent part.",
    )


def _diversity(values: Mapping[str, Any]) -> Table:
    names = {"cosine": "cosine", "overlap": "share in common", "same_peak": "same strongest patch"}
    return Table(
        title="Diversity: how much the concepts of a photo look at the same place",
        columns=["", "measured", "chance"],
        rows=[[label, values[name], values[f"{name}_chance"]] for name, label in names.items()],
        note="Means over photos and pairs of concepts; lower is more diverse. Chance: these maps, shuffled.",
    )


def _faithfulness(values: Mapping[str, Any]) -> Table:
    flips = values["flips"]
    own_at_random = [row[concept] for concept, row in enumerate(values["random_flips"])]
    return Table(
        title="Faithfulness: which bits flip when what a concept looks at is hidden",
        columns=["hidden", *_numbered("bits of", len(flips)), "its own, hidden at random"],
        rows=[
            [f"what concept {concept + 1} looks at", *row, own_at_random[concept]] for concept, row in enumerate(flips)
        ],
        note=f"Share of flipped bits of each sub-code, {values['num_photos']:,} photos, "
        f"{100 * values['share_hidden']:.0f} % of the patches hidden ({values['hide']}). Faithful concepts are "
        f"heavy on the diagonal: here {_ratio(values['diagonal_over_off_diagonal'])} times the rest, and "
        f"{_ratio(values['diagonal_over_random'])} times hiding as much elsewhere.",
    )


def _curves(values: Mapping[str, Any]) -> Table:
    names = {"deletion": "hidden first (lower is better)", "insertion": "shown first (higher is better)"}
    return Table(
        title="Deletion and insertion: how much of a sub-code hangs on what its concept looks at most",
        columns=["patches with most attention", "area below the curve", "patches in random order"],
        rows=[[label, values[f"{name}_area"], values[f"random_{name}_area"]] for name, label in names.items()],
        note=f"Share of the sub-code's bits that are as in the whole photo while ever more of it is hidden "
        f"({values['hide']}) or shown, mean of {len(values['shares'])} steps and all concepts, "
        f"{values['num_photos']:,} photos.",
    )


def _selectivity(values: Mapping[str, Any]) -> Table:
    rows = zip(values["part_names"], values["flips"], values["concentration"], strict=True)
    return Table(
        title="Selectivity: which bits flip when one part of the photo is changed",
        columns=["part changed", *_numbered("bits of", len(values["flips"][0])), "of these in one sub-code"],
        rows=[[part, *flips, concentration] for part, flips, concentration in rows],
        note=f"Share of flipped bits of each sub-code, {values['num_photos']:,} photos. Last column: of all flipped "
        "bits those in the sub-code that reacts most, chosen on one half of the photos, measured on the other; chance "
        f"{values['concentration_chance']:.2f}.",
    )


def _stability(values: Mapping[str, Any]) -> Table:
    names = {"flip": "mirrored", "crop": "cropped", "jpeg": "compressed"}
    per_concept = [values[name]["same_bits_per_concept"] for name in names]
    return Table(
        title="Stability: bits that stay when the photo is changed, but not what it shows",
        columns=["photo", "all bits", *_numbered("bits of", len(per_concept[0]))],
        rows=[
            [label, values[name]["same_bits"], *of_concepts]
            for (name, label), of_concepts in zip(names.items(), per_concept, strict=True)
        ],
        note=f"{values['num_photos']:,} photos. Two different photos share {values['chance']:.2f} of their bits.",
    )


def _families(values: Mapping[str, Any]) -> Table:
    return Table(
        title="Families: how well the tree of class codes agrees with them",
        columns=["", "measured", "chance"],
        rows=[
            ["classes of a family join before others", values["closer_in_family"], 0.5],
            [f"cut into {values['num_groups']} groups: adjusted Rand index", values["adjusted_rand_index"], 0.0],
        ],
        note=f"{values['num_classes']} classes in {values['num_families']} families.",
    )


def _numbered(name: str, number: int) -> list[str]:
    return [f"{name} {position + 1}" for position in range(number)]


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


_LAYOUTS: dict[str, Callable[[Mapping[str, Any]], Table]] = {
    "localisation": _localisation,
    "diversity": _diversity,
    "faithfulness": _faithfulness,
    "curves": _curves,
    "selectivity": _selectivity,
    "stability": _stability,
    "families": _families,
}

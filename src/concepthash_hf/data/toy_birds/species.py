"""What a toy bird can look like: parts, their values, and the species named after them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

#: Every part of a bird; the value of a pixel in a part map is the position here plus one (0 is the background).
PARTS = ("body", "tail", "legs", "belly", "throat", "wing", "crown", "beak", "eye")

_COLOURS = ("red", "orange", "yellow", "green", "blue", "black", "white", "grey", "brown")

#: The parts that tell species apart, and the values each can take.
VALUES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "crown": _COLOURS,
        "beak": _COLOURS,
        "throat": _COLOURS,
        "wing": _COLOURS,
        "belly": ("plain", "barred", "spotted", "streaked"),
        "tail": _COLOURS,
    }
)

_SUFFIXES = {"crowned": "crown", "billed": "beak", "throated": "throat", "winged": "wing", "tailed": "tail"}

# What a bird of the family looks like wherever the name of its species is silent.
_DEFAULTS = {
    "finch": dict(crown="brown", beak="grey", throat="white", wing="brown", belly="plain", tail="brown"),
    "owl": dict(crown="brown", beak="yellow", throat="brown", wing="brown", belly="plain", tail="brown"),
    "heron": dict(crown="grey", beak="yellow", throat="white", wing="grey", belly="plain", tail="grey"),
    "parrot": dict(crown="green", beak="grey", throat="yellow", wing="green", belly="plain", tail="green"),
    "swallow": dict(crown="blue", beak="black", throat="white", wing="blue", belly="plain", tail="blue"),
    "duck": dict(crown="brown", beak="grey", throat="white", wing="brown", belly="plain", tail="brown"),
}

#: The families; each has its own silhouette.
FAMILIES = tuple(_DEFAULTS)


@dataclass(frozen=True)
class Species:
    """A species of toy bird, fully described by its name.

    The words of the name set the parts they speak of (``red-crowned`` the crown, ``barred`` the belly); all other
    parts look as they do in the whole family.

    Args:
        name: Descriptive words and a family, such as ``"red-crowned barred finch"``.

    Attributes:
        family: The last word of the name, one of `FAMILIES`.
        attributes: The value of every part in `VALUES`.

    Raises:
        ValueError: A word of the name is neither a value of a part nor a family.
    """

    name: str
    family: str = field(init=False)
    attributes: Mapping[str, str] = field(init=False, hash=False)

    def __post_init__(self):
        *words, family = self.name.split()
        if family not in FAMILIES:
            raise ValueError(f"a species' name ends with its family, one of {', '.join(FAMILIES)}; got {self.name!r}")
        attributes = dict(_DEFAULTS[family])
        for word in words:
            value, _, suffix = word.partition("-")
            part = _SUFFIXES.get(suffix, "") if suffix else "belly"
            attributes[part] = check_value(part, value)
        object.__setattr__(self, "family", family)
        object.__setattr__(self, "attributes", MappingProxyType(attributes))

    def __reduce__(self):
        return Species, (self.name,)


def check_value(part: str, value: str) -> str:
    """Returns the value if the part can have it.

    Raises:
        ValueError: The part is not one that tells species apart, or cannot have the value.
    """
    if part not in VALUES:
        raise ValueError(f"{part!r} is not a part that tells toy birds apart; these are: {', '.join(VALUES)}")
    if value not in VALUES[part]:
        raise ValueError(f"the {part} of a toy bird cannot be {value!r}; it is one of: {', '.join(VALUES[part])}")
    return value


#: The 24 species: four in each family, any two of which differ in one to three parts.
SPECIES = tuple(
    Species(name)
    for name in (
        "red-crowned barred finch",
        "red-crowned spotted finch",
        "blue-winged barred finch",
        "blue-winged streaked finch",
        "white-crowned barred owl",
        "white-crowned spotted owl",
        "black-crowned spotted owl",
        "black-crowned orange-throated owl",
        "black-crowned red-billed heron",
        "white-crowned red-billed heron",
        "black-crowned blue-winged heron",
        "red-billed blue-winged heron",
        "yellow-crowned blue-winged parrot",
        "red-crowned blue-winged parrot",
        "yellow-crowned red-tailed parrot",
        "blue-winged red-tailed parrot",
        "red-throated white-tailed swallow",
        "red-throated spotted swallow",
        "yellow-throated spotted swallow",
        "white-tailed spotted swallow",
        "green-crowned orange-billed duck",
        "white-crowned orange-billed duck",
        "green-crowned barred duck",
        "orange-billed barred duck",
    )
)


def find_species(name: str) -> Species:
    """Returns the species of `SPECIES` with this name.

    Raises:
        ValueError: There is none.
    """
    for species in SPECIES:
        if species.name == name:
            return species
    raise ValueError(f"no toy bird is called {name!r}; the species are: {', '.join(s.name for s in SPECIES)}")


def split_species(held_out_per_family: int = 1) -> tuple[tuple[Species, ...], tuple[Species, ...]]:
    """Splits `SPECIES` into two groups without a species in common, both with birds of every family.

    For training on some species and fine-tuning or searching on others.

    Args:
        held_out_per_family: How many species of each family (1 to 3, the last ones) go to the second group.

    Returns:
        The species kept, and the species held out.
    """
    if not 1 <= held_out_per_family <= 3:
        raise ValueError(f"held_out_per_family must be 1, 2 or 3 (a family has 4 species), got {held_out_per_family}")
    members = [[s for s in SPECIES if s.family == family] for family in FAMILIES]
    kept = tuple(s for family in members for s in family[:-held_out_per_family])
    return kept, tuple(s for s in SPECIES if s not in kept)

"""What the model makes of a photo or of words, and of two of them: what everything on the page is drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..codes import compose_codes, split_sub_codes, unpack_bits
from ..explain import ImageExplanation
from ..index import CodeSpec


@dataclass(frozen=True)
class Reading:
    """A photo or words as the model reads them.

    Attributes:
        name: what to call it.
        code: packed, uint8 `(ceil(K / 8),)`.
        spec: what the code is.
        photo: what the model sees of the photo, a square; None for words, and where it is not at hand.
        looks: for each of the M concepts the explanation that shows where it looked; empty without a photo, and for
            models without concepts.
        radius: of words, within how many bits a photo is closer than a stranger would be, if that is known.
        is_words: whether words were read.
    """

    name: str
    code: np.ndarray
    spec: CodeSpec
    photo: Image.Image | None = field(default=None, repr=False)
    looks: tuple[ImageExplanation, ...] = field(default=(), repr=False)
    radius: int | None = None
    is_words: bool = False

    @classmethod
    def of_photo(cls, name: str, explanation: ImageExplanation, spec: CodeSpec) -> "Reading":
        """From what the model says of one photo."""
        return cls(name, explanation.code, spec, explanation.photo, (explanation,) * spec.num_concepts)

    @property
    def sub_codes(self) -> np.ndarray:
        """Bits by concept, bool `(M, K / M)`."""
        return split_sub_codes(unpack_bits(self.code, self.spec.num_bits), self.spec.num_concepts)

    def mixed(self, other: "Reading", from_other: Sequence[bool]) -> "Reading":
        """Some concepts of another in place of one's own: head of this, wing of that.

        Args:
            other: gives the others.
            from_other: M times, whether a concept is that of the other.

        Raises:
            ValueError: if there is not one for each concept.
        """
        if len(from_other) != self.spec.num_concepts:
            raise ValueError(f"there are {self.spec.num_concepts} concepts, got {len(from_other)} choices")
        sources = [other if choice else self for choice in from_other]
        code = compose_codes(np.stack([source.code for source in sources]), self.spec.num_bits)
        looks = tuple(source.looks[concept] for concept, source in enumerate(sources) if source.looks)
        name = f"{self.name} with {other.name}"
        if len(looks) < self.spec.num_concepts:
            return Reading(name, code, self.spec)
        return Reading(name, code, self.spec, looks[0].photo, looks)


@dataclass(frozen=True)
class Comparison:
    """Two readings, concept by concept."""

    one: Reading
    other: Reading

    @property
    def differing(self) -> np.ndarray:
        """Booleans `(M, K / M)`: the bits that differ."""
        return self.one.sub_codes != self.other.sub_codes

    @property
    def distances(self) -> list[int]:
        """M numbers: how many bits of each sub-code differ."""
        return self.differing.sum(axis=1).tolist()

    @property
    def distance(self) -> int:
        """How many bits of the code differ."""
        return int(self.differing.sum())

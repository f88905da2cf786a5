"""Draw the toy birds: a sheet of all species, three families on the left and three on the right.

Usage: `python examples/toy_birds.py toy_birds.png`
"""

import sys

from PIL import Image

from concepthash_hf.data.toy_birds import FAMILIES, SPECIES, contact_sheet


def main(path: str, size: int = 112, seed: int = 11) -> None:
    """Write the sheet to a picture file."""
    families = list(FAMILIES)
    halves = [families[: len(families) // 2], families[len(families) // 2 :]]
    left, right = (
        contact_sheet([species for species in SPECIES if species.family in half], size=size, seed=seed)
        for half in halves
    )
    sheet = Image.new("RGB", (left.width + right.width, left.height), "white")
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width, 0))
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:2])

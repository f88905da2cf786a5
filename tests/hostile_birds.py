"""A collection whose names and values try to be markup."""

import csv
from pathlib import Path

from bird_photos import NAMES, write_photos

# markup, and what the templates of jinja, of handlebars and of JavaScript would take for theirs
HOSTILE = "<img src=x onerror=document.title='broken'> ${document.title='broken'} {{ 7 * 7 }} `\\"
PHOTOS_EACH = 8


def write_collection(folder: Path) -> Path:
    """Birds in class folders, one of them of a hostile name, and a table that knows more of each."""
    write_photos(folder, PHOTOS_EACH)
    (folder / NAMES[0]).rename(folder / HOSTILE)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "habitat", "note"])
        for number, photo in enumerate(sorted(folder.rglob("*.png"))):
            name = photo.relative_to(folder).as_posix()
            writer.writerow([name, ("water", "land")[number % 2], HOSTILE if number % 3 else "plain"])
    return folder

"""The pictures that commands draw, in their files."""

from pathlib import Path

from PIL import Image

from ..whole_files import replacing
from .arguments import WrongCallError


def check_picture_file(output: str) -> None:
    """Refuse what is no name of a picture, before any work is done for it.

    Raises:
        WrongCallError: if no picture can be written to a file of this name.
    """
    suffix = Path(output).suffix.lower()
    if Image.registered_extensions().get(suffix) not in Image.SAVE:
        raise WrongCallError(f"--output {output} is no name of a picture: let it end in .png, .jpg or .pdf")


def save_picture(picture: Image.Image, output: str | Path) -> None:
    """Write a picture, whole or not at all, into a folder that is made if it is not there.

    Raises:
        OSError: if it cannot be written; says which file and why.
    """
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as part:
        picture.save(part)

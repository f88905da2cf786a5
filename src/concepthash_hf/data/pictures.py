"""Which files below a folder are pictures: every file that looks like one is found, nothing is found twice."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .bad_images import BadImageLog
from .decode import BadImageError

# what cameras, phones and the web call their photos; which of them can be read shows when they are opened
IMAGE_SUFFIXES = frozenset(
    ".apng .avif .avifs .bmp .dib .gif .heic .heics .heif .heifs .hif .j2k .jfif .jp2 .jpe .jpeg .jpf .jpg .jpx .jxl "
    ".mpo .pbm .pgm .png .pnm .ppm .psd .tga .tif .tiff .webp "
    ".arw .cr2 .cr3 .dng .nef .nrw .orf .pef .raf .rw2 .srw".split()
)
# a folder with the files of one of these lines was written by this package: its pictures are figures
OUTPUT_FILES = (
    {"all_results.json"},
    {"encoding.json"},
    {"evaluation.json"},
    {"model.safetensors"},
    {"model.trained.safetensors"},
    {"report.html", "gallery.png"},
)
# what `concepthash search` and `concepthash explain` leave where they are run
DRAWN = {"search.png", "explanation.png"}
_NOT_UTF8 = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class PictureFolder:
    """A folder and the pictures in it.

    Attributes:
        path: of the folder.
        entries: paths of pictures, and folders that have pictures in or below them, in the order of their names.
    """

    path: Path
    entries: tuple["str | PictureFolder", ...]

    @property
    def name(self) -> str:
        """As text; what is not UTF-8 in it is escaped."""
        return as_text(self.path.name)

    @property
    def pictures(self) -> list[str]:
        """Paths of the pictures directly in it."""
        return [entry for entry in self.entries if isinstance(entry, str)]

    @property
    def folders(self) -> list["PictureFolder"]:
        """The folders directly in it that have pictures."""
        return [entry for entry in self.entries if isinstance(entry, PictureFolder)]

    def below(self) -> Iterator[str]:
        """Paths of all pictures in it and below it."""
        for entry in self.entries:
            if isinstance(entry, str):
                yield entry
            else:
                yield from entry.below()


class PictureFinder:
    """Looks through a folder.

    Hidden files and folders, and what this package wrote (`OUTPUT_FILES`, `DRAWN`), are passed over.

    Args:
        root: the folder; symbolic links may point to anything below it.
        follow_symlinks: whether they may point elsewhere.
        log: of links that may not be followed and folders that cannot be opened.

    Attributes:
        ignored: how many files are no pictures, by suffix, and how many folders and links were passed over.
    """

    def __init__(self, root: Path, follow_symlinks: bool, log: BadImageLog) -> None:
        self._root, self._real_root = root, os.path.realpath(root)
        self._follow_symlinks, self._log = follow_symlinks, log
        self.ignored: Counter[str] = Counter()

    def find(self) -> PictureFolder:
        """All pictures."""
        return self._look_into(self._root, ())

    def _look_into(self, folder: Path, above: tuple[tuple[int, int], ...]) -> PictureFolder:
        try:
            listed = sorted(os.scandir(folder), key=lambda entry: entry.name)
            status = folder.stat()
        except OSError as error:
            self._log.add(BadImageError.of(as_text(folder), f"the folder cannot be opened: {error.strerror}"))
            return PictureFolder(folder, ())
        here = (status.st_dev, status.st_ino)
        if here in above:
            self.ignored["links to a folder that they are in"] += 1
            return PictureFolder(folder, ())
        if above and any(files <= {entry.name for entry in listed} for files in OUTPUT_FILES):
            self.ignored["folders with outputs of this package"] += 1
            return PictureFolder(folder, ())
        found: list[str | PictureFolder] = []
        for entry in listed:
            if entry.name.startswith(".") or (entry.is_symlink() and not self._may_follow(entry)):
                continue
            if _is_folder(entry):
                inside = self._look_into(Path(entry.path), (*above, here))
                if inside.entries:
                    found.append(inside)
            elif not above and entry.name in DRAWN:
                self.ignored["pictures drawn by this package"] += 1
            elif is_picture_name(entry.name):
                found.append(as_text(entry.path))
            else:
                self.ignored[f"{os.path.splitext(entry.name)[1].lower() or 'no suffix'}"] += 1
        return PictureFolder(folder, tuple(found))

    def _may_follow(self, link: os.DirEntry) -> bool:
        if self._follow_symlinks or not (_is_folder(link) or is_picture_name(link.name)):
            return True
        target = os.path.realpath(link.path)
        if os.path.commonpath([target, self._real_root]) == self._real_root:
            return True
        if not os.path.exists(target):
            reason = f"a symbolic link to {as_text(target)}, where nothing is"
        else:
            reason = f"a symbolic link that leaves the folder, to {as_text(target)}; follow_symlinks=True allows it"
        self._log.add(BadImageError.of(as_text(link.path), reason))
        return False


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether it is one, or a link to one; a link that leads nowhere is none, and no error."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def is_picture_name(name: str) -> bool:
    """Whether a file is named as pictures are."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def as_text(path: str | Path) -> str:
    r"""A path that can be written down: bytes that are not UTF-8 are escaped, such as `caf\xe9.png`."""
    path = str(path)
    return os.fsencode(path).decode("utf-8", "backslashreplace") if _NOT_UTF8.search(path) else path

"""Whether a photo is still the one that it was: its size, its time, and its content where that is asked for."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

SIZE, MODIFIED, CONTENT = "file_size", "file_modified", "file_sha256"
FACTS = (SIZE, MODIFIED, CONTENT)


def file_facts(image: Any, with_content: bool = False) -> dict[str, Any]:
    """What is known of the file of a photo.

    Args:
        image: a path, or what a `datasets.Image(decode=False)` column gives.
        with_content: also read the file and give its SHA-256. Of pictures inside a table it is given in any case.

    Returns:
        "file_size" in bytes, "file_modified" in nanoseconds and perhaps "file_sha256"; nothing for what is no file, or
        cannot be opened.
    """
    data, path = (image.get("bytes"), image.get("path")) if isinstance(image, Mapping) else (None, image)
    if data is not None:
        return {SIZE: len(data), CONTENT: hashlib.sha256(data).hexdigest()}
    if not isinstance(path, str | os.PathLike) or "://" in str(path):
        return {}
    try:
        status = os.stat(path)
        facts: dict[str, Any] = {SIZE: status.st_size, MODIFIED: status.st_mtime_ns}
        if with_content:
            with open(path, "rb") as file:
                facts[CONTENT] = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return {}
    return facts


def is_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a photo is another one than it was: by its content, where both sides know it, else by size and time."""
    if before.get(CONTENT) is not None and now.get(CONTENT) is not None:
        return before[CONTENT] != now[CONTENT]
    return any(before.get(fact) != now.get(fact) for fact in (SIZE, MODIFIED))

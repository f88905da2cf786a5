"""What a model was built on, as it is called where the folders of this machine are not."""

import re
from pathlib import Path

PLACES = ("base_model_name_or_path", "text_base_name_or_path")  # of a config: Hub ids, or folders here


def public_name(name_or_path: str | None) -> str | None:
    """A Hub id as it is, of a local folder the name alone."""
    return name_or_path if name_or_path is None or is_hub_id(name_or_path) else Path(name_or_path).name


def is_hub_id(name_or_path: str) -> bool:
    """Whether this can be had from the Hub, and is no folder here."""
    return bool(re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name_or_path)) and not Path(name_or_path).exists()

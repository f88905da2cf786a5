"""Publishing: all that belongs to a model, in one commit to the Hub."""

import fnmatch
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,  # of the HTTP library, which is not the same one in all versions of huggingface_hub
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
from transformers.dynamic_module_utils import get_relative_import_files

from .configuration_hashing import HashingConfig
from .model_card import update_model_card
from .models import load_hash_config, model_class
from .public_names import PLACES, is_hub_id, public_name
from .small_checkpoints import WEIGHTS_NAME as SMALL_WEIGHTS
from .whole_files import write_json

# what the upload of a single large file raises, with the reason as its cause
_UploadError = RuntimeError

_STAYS_HERE = ("checkpoint-*", "partial-checkpoint-*", "logs/*", ".*", "*/.*", "*__pycache__*")
# what an upload replaces as a whole: of an older model nothing of this may be left beside the new one
_REPLACED = ("*.safetensors", "*.safetensors.index.json", "*.py")


class HubError(OSError):
    """Publishing did not work; the message says why and what to do."""


def ensure_repo(repo_id: str, private: bool | None = None, token: str | None = None) -> str:
    """Create a model repository if it is not there; worth doing before hours of training.

    Args:
        repo_id: `organisation/name`, or `name` in the user's own space.
        private: whether only its members see a new repository; None for the organisation's default.
        token: default the one that the user has logged in with.

    Returns:
        The full `organisation/name`.

    Raises:
        HubError: if there is no token, it has not the right, or the Hub cannot be reached.
    """
    with _clear_errors(f"cannot publish to {repo_id}", token):
        return HfApi(token=token).create_repo(repo_id, private=private, exist_ok=True).repo_id


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    include_code: bool = False,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload hash model",
    token: str | None = None,
) -> CommitInfo:
    """Upload a saved model with all that lies beside it: processor, tokenizer, card, results and figures.

    It is one commit: who loads the model meanwhile gets the old one or the new one, whole, and so does everybody if
    the upload breaks off. Weights and code files of an older model are removed in the same commit.

    The card is made to fit first, in the folder too, see `update_model_card`. The config that is uploaded names no
    folder of this machine.

    Args:
        folder: with a saved model, such as `examples/train.py` writes; its checkpoints and logs stay here.
        repo_id: `organisation/name`, or `name` in the user's own space; made if it is not there.
        include_code: also upload the model's code, see `add_code`.
        private: whether only its members see a new repository; None for the organisation's default.
        revision: branch to commit to, made if it is not there; default "main".
        commit_message: first line of the commit.
        token: default the one that the user has logged in with.

    Returns:
        The commit; `.commit_url` shows it, `.oid` is the revision to load.

    Raises:
        ValueError: if there is no saved hash model in the folder, or only the trained part of one that was
            built on a model of this machine.
        HubError: if there is no token, it has not the right, or the Hub cannot be reached.

    Example:
        >>> push_to_hub("outputs/birds", "someone/concepthash-birds").commit_url  # doctest: +SKIP
        'https://huggingface.co/someone/concepthash-birds/commit/8f2c...'
    """
    folder = Path(folder)
    _check_can_be_loaded(folder)
    repo_id = ensure_repo(repo_id, private, token)
    if include_code:
        add_code(folder)
    update_model_card(folder, repo_id)
    api = HfApi(token=token)
    with _clear_errors(f"the upload of {folder} to {repo_id} failed, its last whole commit stays", token):
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        ours = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        added = {name: path for name, path in ours.items() if not _fits(name, _STAYS_HERE)}
        content: dict[str, Path | bytes] = {**added, "config.json": _public_config(folder)}
        there = api.list_repo_files(repo_id, revision=revision)
        stale = [name for name in there if "/" not in name and _fits(name, _REPLACED) and name not in added]
        # not upload_folder, which makes several commits of one folder where Xet is used
        return api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in content.items()),
                *(CommitOperationDelete(path_in_repo=name) for name in stale),
            ],
            commit_message=commit_message,
            revision=revision,
        )


def add_code(folder: str | Path) -> None:
    """Put the model's code beside its weights, for those who load it without this package.

    `AutoModel.from_pretrained(folder_or_id, trust_remote_code=True)` then works with transformers alone. The code is
    that of this version; weights without code always load with the version that is installed.

    Args:
        folder: of a saved model.
    """
    folder = Path(folder)
    classes = {"AutoConfig": type(load_hash_config(folder)), "AutoModel": model_class(folder)}
    source = sys.modules[classes["AutoModel"].__module__].__file__
    for file in (source, *get_relative_import_files(source)):
        shutil.copy(file, folder)
    config_file = folder / "config.json"
    auto_map = {auto: f"{ours.__module__.rpartition('.')[2]}.{ours.__name__}" for auto, ours in classes.items()}
    config = json.loads(config_file.read_text(encoding="utf-8")) | {"auto_map": auto_map}
    write_json(config_file, dict(sorted(config.items())))


def _check_can_be_loaded(folder: Path) -> None:
    """By those who have not what else is on this machine."""
    if not folder.is_dir() or not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"no saved model in {folder}: expected a folder with config.json and model.safetensors, such as "
            "model.save_pretrained or examples/train.py write"
        )
    config = load_hash_config(folder)
    if not (folder / SMALL_WEIGHTS).is_file() or not isinstance(config, HashingConfig):
        return
    bases = [getattr(config, place) for place in PLACES]
    for base in (base for base in bases if base is not None and not is_hub_id(base)):
        raise ValueError(
            f"{folder} holds only what was trained, and its frozen weights are in {base}, which nobody else has: "
            "publish the whole model (save_pretrained without trained_only), or build on models of the Hub"
        )


def _public_config(folder: Path) -> bytes:
    """What the model is, without the places of this machine that it was built from."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {place: public_name(config[place]) for place in PLACES if place in config}
    return (json.dumps(config, indent=2) + "\n").encode()


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


@contextmanager
def _clear_errors(what: str, token: str | None) -> Iterator[None]:
    """Say of all that can go wrong between here and the Hub what it was and what to do."""
    try:
        yield
    except (HTTPError, ConnectionError, LocalTokenNotFoundError, _UploadError) as error:
        raise HubError(f"{what}: {_reason(error, token)}") from error


def _reason(error: BaseException, token: str | None) -> str:
    if isinstance(error, _UploadError) and error.__cause__ is not None:
        error = error.__cause__
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, OfflineModeIsEnabled):
        return "huggingface_hub is offline; unset HF_HUB_OFFLINE and push again"
    if isinstance(error, LocalTokenNotFoundError) or (status == 401 and not (token or get_token())):
        return "there is no token; run `hf auth login`, set HF_TOKEN, or pass token=..."
    if status == 401:
        return "the Hub does not know the token; make one that may write, and run `hf auth login`"
    if status == 403:
        return f"the Hub refuses it ({_server_says(error)}); does the token have the right to write there?"
    if status is not None:
        return f"the Hub answered {status}, {_server_says(error)}"
    return f"no connection to {constants.ENDPOINT} ({error}); push again when there is"


def _server_says(error: BaseException) -> str:
    return getattr(error, "server_message", None) or str(error).splitlines()[0]

"""Publishing and loading over HTTP: the real client of the Hub against a small Hub on a socket of this machine."""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from common import forget_checksums
from hub_server import TOKEN, HubServer, Repo
from PIL import Image
from runs import WRITTEN
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoTokenizer, BertConfig, BertModel

from concepthash_hf import ConceptHashModel
from concepthash_hf.data.toy_birds import draw_bird
from concepthash_hf.toy_clip import save_toy_clip

TESTS = Path(__file__).parent
DUCK = "orange-billed barred duck"
BIRDS, WITH_CODE, SECRET, REPLACED = (f"someone/{name}" for name in ("birds", "with-code", "secret", "replaced"))
MODULES = {"codes.py", "configuration_concepthash.py", "language.py", "losses.py", "modeling_concepthash.py"}

Client = Callable[..., list[Any]]


def job(name: str, *arguments: Any, **options: Any) -> list[Any]:
    """Something for hub_client.py to do."""
    return [name, [str(a) if isinstance(a, Path) else a for a in arguments], options]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    server = HubServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def homes(tmp_path_factory) -> Path:
    """Where each client has its cache."""
    return tmp_path_factory.mktemp("homes")


def environment(hub_url: str, home: Path, token: str | None = TOKEN, offline: bool = False) -> dict[str, str]:
    """Of a client's process: this Hub, no way around it, and a home of its own."""
    left_out = ("HF_", "HUGGING", "TRANSFORMERS_", "http_", "https_", "all_", "HTTP", "ALL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    settings = {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "CUDA_VISIBLE_DEVICES": ""}
    settings |= {"HF_TOKEN": token} if token else {}
    return kept | settings | ({"HF_HUB_OFFLINE": "1"} if offline else {})


@pytest.fixture(scope="module")
def client(hub, homes) -> Client:
    """Does jobs in one new process of hub_client.py; gives `["result", ...]` or `["error", message]` for each."""

    def run(
        *jobs: list[Any], home: str, hub_url: str = hub.url, cwd: Path | None = None, **settings: Any
    ) -> list[Any]:
        python = settings.pop("python", [sys.executable])
        done = subprocess.run(
            [*python, str(TESTS / "hub_client.py"), json.dumps(jobs)],
            env=environment(hub_url, homes / home, **settings),
            cwd=cwd,
            stdin=subprocess.DEVNULL,  # nobody answers questions
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


def results(outcomes: list[Any]) -> list[Any]:
    """Of jobs that all went well."""
    assert [kind for kind, _ in outcomes] == ["result"] * len(outcomes), outcomes
    return [result for _, result in outcomes]


@pytest.fixture(scope="module")
def trained(hub, tmp_path_factory) -> Path:
    """The output folder of examples/train.py, which has published it."""
    cwd = tmp_path_factory.mktemp("trained")
    words = ["--num_train_epochs", "1", "--output_dir", "run", "--push_to_hub", "--hub_model_id", "birds"]
    done = subprocess.run(
        [sys.executable, str(TESTS / "examples" / "train_on_few_toy_birds.py"), *words],
        env=environment(hub.url, cwd / "home"),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"uploaded: {hub.url}/{BIRDS}/commit/{hub.repos[BIRDS].branches['main']}" in done.stdout
    return cwd / "run"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A file with eight drawn birds, uint8 `(8, 3, 96, 96)`."""
    file = tmp_path_factory.mktemp("photos") / "photos.pt"
    birds = [torch.from_numpy(np.array(draw_bird(DUCK, seed, 96).image)).permute(2, 0, 1) for seed in range(8)]
    torch.save(torch.stack(birds), file)
    return file


def codes_of(folder: Path, photos: Path) -> list[list[int]]:
    """The codes that a saved model gives on this machine."""
    inputs = AutoImageProcessor.from_pretrained(folder)(torch.load(photos), return_tensors="pt")
    return ConceptHashModel.from_pretrained(folder).get_hash_codes(**inputs).tolist()


def changed_copy(folder: Path, to: Path, scale: int) -> Path:
    """The same model with scaled code logits: -1 turns all bits, 0 makes them 0."""
    shutil.copytree(folder, to)
    weights = load_file(to / "model.safetensors")
    for name in ("weight", "bias"):
        weights[f"vision_model.hash_head.batch_norm.{name}"] *= scale
    save_file(weights, to / "model.safetensors", {"format": "pt"})
    forget_checksums(to)
    return to


@pytest.fixture(scope="module")
def published(hub, client, trained, photos, tmp_path_factory) -> dict[str, Any]:
    """A client publishes two commits to a private repository, one with code, and one over an older model."""
    folders = tmp_path_factory.mktemp("published")
    secret = shutil.copytree(trained, folders / "secret")
    (secret / "checkpoint-1").mkdir(exist_ok=True)  # the training has left one
    (secret / "checkpoint-1" / "model.safetensors").write_bytes(b"of a training that goes on")
    turned = changed_copy(secret, folders / "turned", scale=-1)
    with_code = shutil.copytree(trained, folders / "with_code")

    hub.repos[REPLACED] = Repo()
    left = ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "modeling_concepthash.py")
    kept = ("notes.txt", "index/codes.safetensors")
    hub.repos[REPLACED].commit("main", "older", dict.fromkeys((*left, *kept), b"older"))

    save_toy_clip(folders / "clip", ["duck", "finch"])
    hub.add("someone/clip", folders / "clip")

    on_folder = shutil.copytree(trained, folders / "on_folder")
    config = json.loads((trained / "config.json").read_text()) | {"base_model_name_or_path": str(folders / "clip")}
    (on_folder / "config.json").write_text(json.dumps(config))

    first, second, again, code, replaced, plain, small_codes = results(
        client(
            job("push", secret, "secret", private=True),
            job("push", turned, SECRET),
            job("push", turned, SECRET),
            job("push", with_code, "with-code", include_code=True),
            job("push", trained, "replaced", revision="next"),
            job("push_model", on_folder, "plain"),
            job("push_small", "someone/clip", folders / "small", "small", photos),
            home="publisher",
        )
    )
    return {
        "revisions": {first["oid"]: secret, second["oid"]: turned},
        "again": again,
        "with_code": (code, with_code),
        "replaced": (replaced, kept),
        "plain": plain,
        "small_codes": small_codes,
    }


# --- publishing


def test_training_publishes_everything_in_one_commit(hub, trained):
    first, pushed = hub.repos[BIRDS].commits
    assert first.message == "initial commit"
    assert pushed.files.keys() - {".gitattributes"} == WRITTEN
    assert all(pushed.files[name] == (trained / name).read_bytes() for name in WRITTEN)
    assert f'model_id = "{BIRDS}"' in pushed.files["README.md"].decode()


def test_without_asking_no_code_travels(hub, published):
    """And checkpoints never do. A push is one commit; where nothing changed, it is none."""
    first, second = hub.repos[SECRET].commits[1:]
    assert [first.oid, second.oid] == list(published["revisions"])
    assert published["again"]["oid"] == second.oid
    assert first.files.keys() == second.files.keys() == WRITTEN | {".gitattributes"}
    assert "auto_map" not in json.loads(second.files["config.json"])
    assert "trust_remote_code" not in second.files["README.md"].decode()
    changed = [name for name in first.files if first.files[name] != second.files[name]]
    assert changed == ["config.json", "model.safetensors"]  # it does not vouch for these weights


def test_what_an_older_model_left_is_removed(hub, published):
    """Its shards and code; what people put beside it stays, and so does the branch that nobody pushed to."""
    pushed, kept = published["replaced"]
    assert pushed["files"] == sorted(WRITTEN | {*kept})
    repo = hub.repos[REPLACED]
    assert repo.branches["next"] == pushed["oid"] and repo.at("main").message == "older"


def test_a_model_publishes_itself_alone(hub, trained, published):
    """As every model of transformers does, and names no folder of this machine."""
    _, pushed = hub.repos["someone/plain"].commits
    assert published["plain"] == pushed.oid
    assert pushed.files.keys() == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert pushed.files["model.safetensors"] == (trained / "model.safetensors").read_bytes()
    assert json.loads(pushed.files["config.json"])["base_model_name_or_path"] == "clip"


def test_a_trained_part_is_published_without_its_base(hub, published):
    """Whose id and revision it names; the stranger below loads it."""
    _, pushed = hub.repos["someone/small"].commits
    assert "model.safetensors" not in pushed.files
    config = json.loads(pushed.files["config.json"])
    base = hub.repos["someone/clip"].branches["main"]
    assert (config["base_model_name_or_path"], config["base_model_revision"]) == ("someone/clip", base)


def test_an_upload_cut_in_the_middle_changes_nothing(hub, client, published, photos, homes, tmp_path):
    """The uploading process dies when half of the weights are there; the next attempt goes through."""
    folder = list(published["revisions"].values())[1]
    changed = changed_copy(folder, tmp_path / "model", scale=0)
    before = list(hub.repos[SECRET].commits)
    hub.cut_uploads_at = (changed / "model.safetensors").stat().st_size // 2
    uploading = subprocess.Popen(
        [sys.executable, str(TESTS / "hub_client.py"), json.dumps([job("push", changed, SECRET)])],
        env=environment(hub.url, homes / "publisher"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert hub.cut.wait(timeout=120)
    uploading.kill()
    uploading.wait()
    hub.cut_uploads_at = None
    assert hub.repos[SECRET].commits == before

    loaded, pushed, loaded_again = results(
        client(job("load", SECRET, photos), job("push", changed, SECRET), job("load", SECRET, photos), home="next")
    )
    assert loaded == codes_of(folder, photos)
    assert hub.repos[SECRET].branches["main"] == pushed["oid"]
    assert loaded_again == [[0] * 4] * 8


# --- loading


def test_loading_by_revision_from_the_cache_and_offline(hub, client, published, photos):
    loads = [job("load", SECRET, photos, revision=oid) for oid in published["revisions"]]
    folder, _ = folders = list(published["revisions"].values())
    codes = [codes_of(folder, photos) for folder in folders]
    assert codes[0] != codes[1]
    hub.requests.clear()
    hub.cut_downloads_at = 100_000  # a download that breaks off is taken up again
    assert results(client(*loads, *loads, home="user")) == [*codes, *codes]
    assert hub.cut_downloads_at is None
    # weights once for each revision, one of them in two parts; nothing twice
    fetched = hub.asked("GET /storage/*")
    assert len(fetched) == 3 and len(set(fetched)) == 2

    hub.requests.clear()
    others = [job("push", folder, SECRET), job("load", "someone/never-seen", photos)]
    outcomes = client(*loads, *others, home="user", offline=True, token=None)
    assert results(outcomes[:2]) == codes
    says = [
        (f"HubError: cannot publish to {SECRET}: huggingface_hub is offline; unset HF_HUB_OFFLINE",),
        (f"OSError: We couldn't connect to '{hub.url}'", "couldn't find them in the cached files"),
    ]
    check_errors(outcomes[2:], says)
    assert hub.requests == []


def test_transformers_alone_loads_it(hub, client, published, photos):
    """In a process that cannot import this package: site-packages reaches it by a `.pth` file, which -S leaves out."""
    pushed, folder = published["with_code"]
    code = {name for name in pushed["files"] if name.endswith(".py")}
    assert code > MODULES and set(pushed["files"]) == WRITTEN | code | {".gitattributes"}

    start = (
        "import runpy, sys; sys.path += sys.argv[1:3]; del sys.argv[:3]; runpy.run_path(sys.argv[0], None, '__main__')"
    )
    libraries = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    loaded, local = results(
        client(
            job("load_without_the_package", WITH_CODE, photos),
            job("load_without_the_package", folder, photos),
            python=[sys.executable, "-S", "-c", start, *libraries],
            home="without the package",
            token=None,
        )
    )
    assert not loaded["has_package"]
    assert loaded["module"].startswith("transformers_modules.someone.")
    assert loaded["codes"] == local["codes"] == codes_of(folder, photos)
    words = AutoTokenizer.from_pretrained(folder)(["a photo of a duck"], return_tensors="pt")
    model = ConceptHashModel.from_pretrained(folder)
    assert loaded["text_codes"] == model.get_text_hash_codes(input_ids=words["input_ids"]).tolist()


# --- what goes wrong, and the card, for a stranger


def test_a_stranger_loads_runs_the_card_and_is_told_what_goes_wrong(hub, client, published, trained, photos, tmp_path):
    for seed, name in enumerate(("one.jpg", "two.jpg", "three.jpg")):
        draw_bird(DUCK, seed, 120).image.save(tmp_path / name)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=9, **sizes)).save_pretrained(tmp_path / "bert")
    hub.add("someone/bert", tmp_path / "bert")
    changed = changed_copy(trained, tmp_path / "changed", scale=3)
    hub.quota = 1000
    card, small, *failed = client(
        job("run_card", WITH_CODE),
        job("load", "someone/small", photos),
        job("load", SECRET, photos),
        job("load", BIRDS, photos, revision="no-such-branch"),
        job("load", "someone/bert", photos),
        job("push", trained, "birds"),
        job("push", trained, "birds", token="hf_of_nobody"),
        job("push", trained, "others/birds", token=TOKEN),
        job("push", tmp_path / "bert", "birds"),
        job("push", tmp_path / "nothing", "birds"),
        job("push", changed, "birds", token=TOKEN),
        cwd=tmp_path,
        home="stranger",
        token=None,
    )
    left, small_codes = results([card, small])
    assert left == ["where_concepts_look.png"]
    assert small_codes == published["small_codes"]
    with Image.open(tmp_path / "where_concepts_look.png") as sheet:
        assert sheet.width > 4 * 96 and sheet.height > 3 * 96
    says = [
        (
            "OSError: someone/secret is not a local folder and is not a valid model",
            "private repository",
            "pass a token",
        ),
        ("OSError: no-such-branch is not a valid git identifier",),
        ("ValueError: someone/bert holds a 'bert' model, not a ConceptHash",),
        ("HubError: cannot publish to birds: there is no token", "hf auth login", "HF_TOKEN"),
        ("HubError: cannot publish to birds: the Hub does not know the token",),
        ("HubError: cannot publish to others/birds: the Hub refuses it", "namespace 'others'", "right to write"),
        ("ValueError: ", "is a 'bert' model, which makes no codes"),
        ("ValueError: no saved model in ", "expected a folder with config.json and model.safetensors"),
        (
            f"HubError: the upload of {changed} to {BIRDS} failed",
            "its last whole commit stays: the Hub refuses it (storage limit",
        ),
    ]
    check_errors(failed, says)
    assert len(hub.repos[BIRDS].commits) == 2
    hub.quota = None


def test_without_a_network_nothing_is_published(client, trained):
    with socket.create_server(("127.0.0.1", 0)) as server:
        nowhere = f"http://127.0.0.1:{server.getsockname()[1]}"
    outcomes = client(job("push", trained, "birds"), hub_url=nowhere, home="user")
    check_errors(outcomes, [(f"HubError: cannot publish to birds: no connection to {nowhere}", "refused")])


def check_errors(outcomes: list[Any], says: list[tuple[str, ...]]) -> None:
    """Each is an error that begins with the first text and has the others in it."""
    assert len(outcomes) == len(says)
    for (kind, message), (beginning, *others) in zip(outcomes, says, strict=True):
        assert kind == "error"
        assert message.startswith(beginning) and all(other in message for other in others), message

"""Every code block of README.md and docs/ runs as it stands, page by page from top to bottom.

A reader has photos, some to search with, and base models: small random ones here, under the names of the real ones.
The README's own commands make the model that the other pages use. Only trainings are cut short, after a few epochs.
What cannot run in a test says so above the block,

    <!-- not run: uploads -->

with one of the reasons below; its options and names are checked all the same.
"""

import ast
import inspect
import json
import re
import runpy
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import uvicorn
from families import save_backbone
from PIL import Image
from runs import forget_accelerate

from concepthash_hf import launch
from concepthash_hf.cli import app, main
from concepthash_hf.data.toy_birds import SPECIES, draw_bird
from concepthash_hf.scripts.train import parse_arguments
from concepthash_hf.toy_clip import save_toy_clip

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REASONS = ("installs", "uploads", "downloads", "needs a server")
MOST_NOT_RUN = 6
A_FEW_EPOCHS = ["--num_train_epochs", "3"]
BIRDS = dict(zip(("robin", "wren", "blue_jay", "indigo_bunting"), SPECIES[::6], strict=True))
WORDS = ["red-tailed hawk", "scarlet tanager"]
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>.*?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """The words of each command of a shell block."""
        for line in self.code.replace("\\\n", " ").splitlines():
            for command in line.split(" && "):
                if words := shlex.split(command, comments=True):
                    yield words


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found["language"], found["code"], found["reason"])
        for found in BLOCK.finditer(text)
    ]


SERVED: list[str] = []  # addresses of servers that commands of the pages have started
ALL = [block for page in PAGES for block in blocks(page)]
NOT_RUN = [block for block in ALL if block.reason is not None]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Where the reader is, after the README."""
    folder = tmp_path_factory.mktemp("reader")
    draw_photos(folder)
    with pytest.MonkeyPatch.context() as patch:
        run_page(PAGES[0], folder, patch)
    return folder


def draw_photos(folder: Path) -> None:
    save_backbone(folder / "facebook" / "dinov2-small", "dinov2")
    names = [*(name.replace("_", " ") for name in BIRDS), *WORDS]
    save_toy_clip(folder / "openai" / "clip-vit-base-patch32", names, image_size=32)
    for name, species in BIRDS.items():
        (folder / "my_photos" / name).mkdir(parents=True)
        for number in range(1, 13):
            draw_bird(species, number, 64).image.save(folder / "my_photos" / name / f"{number}.jpg")
        draw_bird(species, 100, 64).image.save(folder / f"{name.rpartition('_')[2]}.jpg")
    shutil.copy(folder / "robin.jpg", folder / "new.jpg")


def run_page(page: Path, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Run all blocks of a page in a folder."""
    patch.chdir(folder)
    patch.setattr(launch, "cores", torch.get_num_threads)  # other tests may be running beside
    patch.setattr("concepthash_hf.app.server.listen", serve_beside)
    known: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        try:
            if block.reason is None and block.language == "python":
                code = block.code.replace("http://127.0.0.1:7860", SERVED[-1] if SERVED else "")
                exec(compile("\n" * block.line + code, str(page), "exec"), known)
            elif block.reason is None and block.language == "bash":
                for words in block.commands():
                    run_command(words, patch)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{block} does not run: {error!r}") from error


def serve_beside(application: Any, host: str, port: int) -> None:
    """What `listen` does, on a free port and in a thread, which ends with the tests."""
    assert (host, port) == ("127.0.0.1", 7860), "what the pages say"
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    SERVED.append(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")


def run_command(words: list[str], patch: pytest.MonkeyPatch) -> None:
    """Run a command in this process: what `concepthash` and the scripts of examples/ do, without a second import."""
    script = next((word for word in words if word.startswith("examples/")), None)
    if words[:2] == ["concepthash", "train"] or script == "examples/train.py":
        words = [*words, *A_FEW_EPOCHS]
    forget_accelerate()
    if words[0] == "concepthash":
        patch.setattr(sys, "argv", words)
        run: Any = main
    else:
        assert script is not None, f"no test knows how to run {words[0]}"
        patch.setattr(sys, "argv", [str(ROOT / script), *words[words.index(script) + 1 :]])
        run = lambda: runpy.run_path(str(ROOT / script), run_name="__main__")  # noqa: E731
    try:
        run()
    except SystemExit as ended:
        if ended.code:
            raise


def test_the_readme_runs(world):
    assert (world / "my_model" / "config.json").is_file()
    for picture in ("search.png", "why.png", "match.png"):
        assert np.asarray(Image.open(world / picture)).std() > 10


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_every_block_runs(page, world, tmp_path, monkeypatch):
    trains = "--output_dir my_model\n" in page.read_text(encoding="utf-8")
    not_kept = ("outputs", "my_model") if trains else ("outputs",)
    folder = tmp_path / "reader"
    shutil.copytree(world, folder, ignore=shutil.ignore_patterns(*not_kept))
    run_page(page, folder, monkeypatch)
    code = "".join(block.code for block in blocks(page) if block.reason is None)
    pictures = re.findall(r'save\("(\w+\.png)"\)', code)
    pictures += ["search.png"] * ("concepthash search" in code) + ["explanation.png"] * ("concepthash explain" in code)
    for picture in pictures:
        assert np.asarray(Image.open(folder / picture)).std() > 10


def test_most_blocks_run_and_the_others_say_why():
    assert {block.reason for block in NOT_RUN} <= set(REASONS)
    assert len(NOT_RUN) <= MOST_NOT_RUN
    assert {block.language for block in ALL} <= {"bash", "python", "text", "bibtex", "html"}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- not run") == sum(block.page == page for block in NOT_RUN)
        indented = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        assert not re.findall(r"^ {4}(?:python|accelerate|torchrun|concepthash|pip|import|from) .*", indented, re.M)


@pytest.mark.parametrize("block", NOT_RUN, ids=str)
def test_what_is_not_run_could_be(block, world, monkeypatch):
    monkeypatch.chdir(world)
    if block.language == "python":
        check_python(block)
    for words in block.commands() if block.language == "bash" else ():
        check_command(words)


def check_command(words: list[str]) -> None:
    """Refuse options that do not exist."""
    script = next((word for word in words if word.startswith("examples/")), None)
    if words[:2] == ["pip", "install"]:
        setup = ConfigParser(interpolation=None)
        setup.read(ROOT / "setup.cfg")
        extras = re.findall(r"\[(.*?)\]", words[-1])
        assert all(extra in setup["options.extras_require"] for names in extras for extra in names.split(","))
    elif words[0] == "concepthash":
        context = typer.main.get_command(app).commands[words[1]].make_context(words[1], words[2:])
        assert not context.args
    elif script == "examples/train.py":
        parse_arguments(words[words.index(script) + 1 :])
    elif script == "examples/benchmarks/compare_methods.py":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words[1:])
            runpy.run_path(str(ROOT / script))["parse_arguments"]()
    else:
        assert words == ["pytest"], f"no test knows {words[0]}"


def check_python(block: Block) -> None:
    """Refuse imports and arguments that do not exist."""
    tree = ast.parse(block.code)
    known: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(compile(ast.Module([node], []), str(block), "exec"), known)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called = call.func
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id in known:
            function = getattr(known[called.value.id], called.attr)
        elif isinstance(called, ast.Name) and called.id in known:
            function = known[called.id]
        else:
            continue
        inspect.signature(function).bind_partial(**{word.arg: None for word in call.keywords if word.arg})


def test_the_first_session_is_the_recorded_one():
    script = runpy.run_path(str(ROOT / "examples" / "benchmarks" / "newcomer.py"))
    record = json.loads(script["RECORD"].read_text(encoding="utf-8"))
    assert script["table"](record) in script["PAGE"].read_text(encoding="utf-8")
    assert [step["typed"].split()[0] for step in record["steps"]].count("concepthash") == 6


def test_links_lead_somewhere():
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            file, _, anchor = target.partition("#")
            if re.match(r"\w+:", target):
                continue
            there = (page.parent / file).resolve() if file else page
            assert there.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors(there), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_checks_can_fail(tmp_path):
    with pytest.raises(ValueError, match="unrecognized arguments: --unknwon"):
        check_command(["accelerate", "launch", "examples/train.py", "--unknwon", "3"])
    with pytest.raises(Exception, match="No such option:? '?--privat"):
        check_command(["concepthash", "push", "my_model", "org/birds", "--privat"])
    with pytest.raises(AssertionError):
        check_command(["pip", "install", "-e", ".[tests]"])
    code = "from concepthash_hf.hub import push_to_hub\npush_to_hub('a', privat=True)\n"
    with pytest.raises(TypeError, match="privat"):
        check_python(Block(tmp_path, 1, "python", code, "uploads"))
    with pytest.raises(ImportError):
        check_python(Block(tmp_path, 1, "python", "from concepthash_hf import Nothing\n", "uploads"))
    (tmp_path / "page.md").write_text("# a\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError, match="page.md:7 does not run"):
        run_page(tmp_path / "page.md", tmp_path, patch)

"""The command `concepthash`: names of options, help, and one call each.

Nothing heavy is imported before a command is known, so that help answers at once.
"""

import argparse
import functools
import json
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .launch import run_script
from .quoting import printable

if TYPE_CHECKING:
    from .hasher import ConceptHasher
    from .photo_index import PhotoIndex

_FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True}
_READING = (
    "How photos are read can be said with --label_column, --image_column, --label_separator, --class_level, "
    "--train_split, --query_split, --database_split, --data_dir, --follow_symlinks and --max_image_pixels."
)

app = typer.Typer(
    name="concepthash",
    help="Hash photos into short binary codes of readable parts, search them, and see why two match.\n\n"
    "Begin with `concepthash demo`, or with photos of your own: `concepthash photos my_photos`.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)

Photos = Annotated[
    str, typer.Argument(metavar="PHOTOS", help="A folder, a table, a benchmark's short name, or a Hub dataset.")
]
PhotosOrModels = Annotated[
    str | None,
    typer.Argument(metavar="PHOTOS", help="As for `photos`; only a model of toy birds needs none: it takes those."),
]
Model = Annotated[
    str, typer.Option("--model_name_or_path", "--model", "-m", help="A saved ConceptHash model: folder or Hub id.")
]
ModelOfIndex = Annotated[
    str | None,
    typer.Option("--model_name_or_path", "--model", "-m", help="The model; default the one that made the index."),
]
Base = Annotated[
    str | None,
    typer.Option("--base_model_name_or_path", help="Where the backbone of a small checkpoint is now, if it moved."),
]
Index = Annotated[str, typer.Option("--index", "-i", help="An index: a folder or a Hub id, not a database.")]
Indexes = Annotated[
    list[str],
    typer.Option("--index", "-i", help="An index: a folder, a Hub id, or postgresql://...; repeated, several as one."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]


def main() -> None:
    """Run the command that `sys.argv` says; the exit status is 2 for a wrong call, 1 for an error."""
    app()


def _command(**settings: Any) -> Callable[[Callable], Callable]:
    """Make a function a command that ends as scripts do: with one line about what was wrong, or what is kept."""

    def register(function: Callable) -> Callable:
        @functools.wraps(function)
        def command(*args: Any, **kwargs: Any) -> None:
            run_script(functools.partial(function, *args, **kwargs))

        app.command(**settings)(command)
        return function

    return register


@_command()
def demo(
    output_dir: Annotated[str, typer.Option("--output_dir", help="Where everything goes.")] = "outputs/demo",
    num_train_epochs: Annotated[int, typer.Option("--num_train_epochs", help="Fewer are faster and worse.")] = 50,
) -> None:
    """Train on drawn birds, index them, search them: everything once, in a few minutes, without network or GPU.

    Example: concepthash demo
    """
    from .checkpoints import newest_checkpoint
    from .data.toy_birds import save_toy_birds
    from .index.opening import has_index
    from .interruption import Interrupted
    from .scripts.train import main as run_training

    folder = Path(output_dir)
    model, photos, index = folder / "model", folder / "photos", folder / "index"
    try:
        if not (model / "README.md").exists():  # which is written last
            words = ["--output_dir", str(model), "--num_train_epochs", str(num_train_epochs)]
            if newest_checkpoint(model) is not None:
                words += ["--resume_from_checkpoint", str(model)]
            run_training(words)
        if not has_index(index):
            save_toy_birds(photos)
        _make_index(str(photos), str(index), str(model), {}, {}, with_content=False, as_json=False)
        bird = next(photos.rglob("*.png"))
        search([str(bird)], index=str(index), output=str(folder / "search.png"))
    except Interrupted as stop:
        raise Interrupted(stop.signal, "what is done is kept; the same command goes on") from None


@_command(context_settings=_FORWARD, epilog=_READING)
def photos(context: typer.Context, photos: Photos, as_json: Json = False) -> None:
    """Say what is understood of photos: classes, splits, columns, what is left out. Changes nothing.

    Example: concepthash photos my_photos
    """
    from .data import describe_collection, describe_photos, load_collection, load_photos

    options = _read_options(context.args)
    try:
        splits = load_photos(photos, **options, on_bad_image="skip")
    except ValueError as error:
        if not Path(photos).is_dir():
            raise
        collection = load_collection(photos, **options)
        found: dict[str, Any] = {"name": collection.name, "photos": len(collection), "notes": list(collection.notes)}
        text = f"{describe_collection(collection)}\n  no classes to train on: {error}"
        following = ["index", photos, "--model", "MODEL", *context.args]
    else:
        found = {"name": splits.name, **splits.counts, "class_names": list(splits.class_names)}
        found["notes"] = list(splits.notes)
        place = [] if Path("my_model").exists() else ["--output_dir", "my_model"]
        text, following = describe_photos(splits), ["train", photos, *place, *context.args]
    _say(text, found, as_json)
    _next(following, as_json)


@_command(context_settings=_FORWARD, epilog=_READING)
def train(
    context: typer.Context,
    photos: Annotated[
        str | None, typer.Argument(metavar="PHOTOS", help="Photos in classes; default toy birds.")
    ] = None,
    model_name_or_path: Annotated[
        str | None,
        typer.Option(
            "--model_name_or_path",
            "--model",
            "-m",
            help="A DINOv2, ViT, CLIP or SigLIP to build on, or a ConceptHash model to go on with; default "
            "facebook/dinov2-small.",
        ),
    ] = None,
    output_dir: Annotated[
        str | None, typer.Option("--output_dir", help="Where the model goes; default outputs/<photos>-<bits>-<time>.")
    ] = None,
    num_bits: Annotated[
        int | None, typer.Option("--num_bits", help="Length of a code; default 64, of toy birds 32.")
    ] = None,
    num_concepts: Annotated[int | None, typer.Option("--num_concepts", help="Parts of a code; default 4.")] = None,
    num_train_epochs: Annotated[
        int | None,
        typer.Option("--num_train_epochs", help="Default as many as the preset finds good for so many photos."),
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="Another method to compare with: csq, hashnet, orthohash, ...")
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="fast (the default) or paper.")] = None,
    on_bad_image: Annotated[
        str | None, typer.Option("--on_bad_image", help="raise (the default) or skip unreadable photos.")
    ] = None,
    resume_from_checkpoint: Annotated[
        str | None, typer.Option("--resume_from_checkpoint", help="Go on from a checkpoint.")
    ] = None,
    all_options: Annotated[bool, typer.Option("--all_options", help="List every option there is.")] = False,
) -> None:
    """Train a model on photos in classes, and measure how well its codes find them again.

    Every option of examples/train.py is understood, which is the same for several GPUs: accelerate launch.

    Example: concepthash train my_photos --output_dir my_model
    """
    photos, others = _forwarded(context, photos)
    if photos is None and model_name_or_path is not None and resume_from_checkpoint is None:
        from .data import PhotoArguments

        photos = PhotoArguments().with_photos_of(model_name_or_path).dataset
    given = _without(context, "photos", "all_options")
    words = ["--help"] if all_options else [*_words({"dataset": photos, **given}), *others]
    from .scripts.train import main as run_training

    folder = run_training(words)
    if photos is None:
        _next(["evaluate", "--model", str(folder)])
    else:
        taken = ["--index", f"{folder}-index"] if Path(_default_index(photos)).exists() else []
        _next(["index", photos, "--model", str(folder), *taken, *_reading_words(others)])


@_command(context_settings=_FORWARD, epilog=_READING)
def index(
    context: typer.Context,
    photos: Photos,
    model: ModelOfIndex = None,
    index: Annotated[
        str | None, typer.Option("--index", "-i", help="Its folder; default outputs/index-<photos>.")
    ] = None,
    by_content: Annotated[
        bool, typer.Option("--by_content", help="Find changed photos by what is in the files, not by size and time.")
    ] = False,
    base_model_name_or_path: Base = None,
    as_json: Json = False,
) -> None:
    """Hash all photos into an index; the next time only what is new or has changed, and what is gone goes.

    Example: concepthash index my_photos --model my_model
    """
    folder = index or _default_index(photos)
    if model is None and not (Path(folder) / "index.json").exists():
        raise typer.BadParameter(
            f"there is no index in {folder} yet: say which model is to make it", param_hint="--model"
        )
    options = _read_options(context.args)
    made = _make_index(photos, folder, model, _base(base_model_name_or_path), options, by_content, as_json)
    _next(_after_index(made, folder), as_json)


@_command()
def search(
    queries: Annotated[list[str], typer.Argument(metavar="PHOTO_OR_WORDS...", help="Files, or class names in words.")],
    index: Indexes,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Photos to find for each.")] = 10,
    concepts: Annotated[
        list[str] | None,
        typer.Option(help="Search by this concept only, from 1; with a weight such as 2=0.5. Can be repeated."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Where the photos of the index are now, if they moved.")
    ] = None,
    model: ModelOfIndex = None,
    table: Annotated[str, typer.Option("--table", help="Name of the index in a database.")] = "concepthash_codes",
    output: Annotated[str, typer.Option("--output", help="Where the picture goes.")] = "search.png",
    base_model_name_or_path: Base = None,
    as_json: Json = False,
) -> None:
    """Find the photos nearest to photos or to words, and say by which concepts they match.

    Example: concepthash search new.jpg "red-tailed hawk" --index outputs/index-my_photos
    """
    from .hasher import open_photo_index
    from .scripts.picture_files import check_picture_file
    from .scripts.search import concept_weights, show

    check_picture_file(output)
    opened = open_photo_index(index, model, dataset, table, **_base(base_model_name_or_path))
    weights = concept_weights(concepts or [], opened.codes.num_concepts)
    results = opened.search_each(queries, k, weights)
    if as_json:
        print(json.dumps([hits.to_dict() for hits in results], indent=2))
        return
    print(f"{len(opened)} photos in {', '.join(index)}")
    show(opened, results, weights, output)
    asked = [Path(query) for query in queries[:1] if os.path.isfile(query)]
    found = [file for hit in results[0] if (file := opened.file_of(hit.id)) and not _is_same(file, asked)]
    if found:
        _next(["explain", *map(_near, [*asked, found[0]]), "--model", _near(opened.hasher.name_or_path)])


@_command()
def explain(
    photo: Annotated[str, typer.Argument(help="A photo.")],
    model: Model,
    other: Annotated[str | None, typer.Argument(help="Another, to compare it with.")] = None,
    output: Annotated[str, typer.Option("--output", help="Where the picture goes.")] = "explanation.png",
    base_model_name_or_path: Base = None,
    as_json: Json = False,
) -> None:
    """Show why a photo has its code: what each concept makes of it, and where it looks; or why two photos match.

    Example: concepthash explain one.jpg other.jpg --model my_model
    """
    from .scripts.picture_files import check_picture_file, save_picture

    check_picture_file(output)
    hasher = _hasher(model, base_model_name_or_path)
    if other is None:
        explanation = hasher.explain(photo)
        found, figure = explanation.to_dict(), explanation.figure(Path(photo).name)
        text = f"{photo}: {hasher.spec.num_bits} bits in {hasher.spec.num_concepts} concepts"
        lines = [f"concept {number}: {sub_code}" for number, sub_code in enumerate(found["sub_codes"], 1)]
        lines.append(explanation.what_it_proves)
        folders = [Path(photo).parent]
    else:
        match = hasher.match(photo, other)
        found, figure = match.to_dict(), match.figure((Path(photo).name, Path(other).name))
        text = f"{photo} and {other}: {match.distance} of {match.differing.size} bits differ"
        lines = [f"concept {number + 1}: {match.verdict(number)}" for number in range(len(match.distances))]
        folders = sorted({Path(photo).parent, Path(other).parent})
    save_picture(figure, output)
    _say("\n".join([text, *(f"  {line}" for line in lines), f"picture: {output}"]), found, as_json)
    if len(folders) == 1:
        _next(["index", _near(folders[0]), "--model", model], as_json)
    else:  # of two classes
        _next(["report", _near(os.path.commonpath([path.absolute() for path in folders])), "--model", model], as_json)


@_command(context_settings=_FORWARD, epilog=_READING)
def report(
    context: typer.Context,
    model_name_or_path: Model,
    photos: PhotosOrModels = None,
    output_dir: Annotated[
        str | None, typer.Option("--output_dir", help="Default outputs/explain-<photos>-<bits>-<time>.")
    ] = None,
) -> None:
    """Write a page that shows what the concepts of a model see on test photos. Other options: examples/explain.py.

    Example: concepthash report my_photos --model my_model
    """
    from .scripts.explain import main as write_report

    photos, others = _forwarded(context, photos)
    write_report([*_words({"dataset": photos, **_without(context, "photos")}), *others])


@_command(context_settings=_FORWARD, epilog=_READING)
def evaluate(
    context: typer.Context,
    model_name_or_path: Model,
    photos: PhotosOrModels = None,
    output_dir: Annotated[
        str | None, typer.Option("--output_dir", help="Default outputs/evaluate-<photos>-<bits>-<time>.")
    ] = None,
) -> None:
    """Measure how well a model's codes find test photos in the database. Other options: examples/evaluate.py.

    Example: concepthash evaluate my_photos --model my_model
    """
    from .scripts.evaluate import main as measure

    photos, others = _forwarded(context, photos)
    measure([*_words({"dataset": photos, **_without(context, "photos")}), *others])
    _next(["report", *([photos] if photos else []), "--model", model_name_or_path, *_reading_words(others)])


@_command()
def duplicates(
    index: Index,
    radius: Annotated[int, typer.Option("--radius", min=0, help="Bits that may differ.")] = 0,
    as_json: Json = False,
) -> None:
    """List groups of photos in an index that have the same code, or nearly.

    Example: concepthash duplicates --index outputs/index-my_photos --radius 2
    """
    from .index import near_duplicates, open_index

    opened = open_index(index)
    ids = opened.ids
    if ids is None:
        raise ValueError("duplicates are looked for in an index in a folder or on the Hub, not in a database")
    groups = [group.tolist() for group in near_duplicates(opened.get_codes(ids), radius, opened.num_bits, ids)]
    if as_json:
        print(json.dumps(groups, indent=2))
        return
    print(f"{len(opened)} photos in {index}: {len(groups)} groups within {radius} bits")
    for group in groups:
        print(printable("  " + "  ".join(map(str, group))))
    _next(["duplicates", "--index", index, "--radius", str(radius + 1)])


@_command()
def serve(
    index: Annotated[
        str | None,
        typer.Argument(help="An index: a folder, a Hub id, or postgresql://...; default toy birds, trained on first."),
    ] = None,
    photos: Annotated[
        str | None, typer.Option("--photos", help="Where the photos of the index are now, if they moved.")
    ] = None,
    model: ModelOfIndex = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 lets others in, and there is no password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 7860,
    title: Annotated[str | None, typer.Option("--title", help="Of the page; default the name of the photos.")] = None,
    cache_dir: Annotated[
        str | None, typer.Option("--cache_dir", help="Folder for thumbnails; default one in HF_HOME.")
    ] = None,
    table: Annotated[str, typer.Option("--table", help="Name of the index in a database.")] = "concepthash_codes",
    base_model_name_or_path: Base = None,
) -> None:
    """Open a page to search an index by photo, words and concepts, and see why; and an interface for programs.

    Example: concepthash serve outputs/index-my_photos
    """
    try:
        from .app.server import listen, make_app
    except ModuleNotFoundError as error:
        raise ImportError(f'the page needs {error.name}: pip install "concepthash_hf[app]"') from error
    from .hasher import open_photo_index

    if index is None:
        index = "outputs/demo/index"
        if not (Path(index) / "index.json").exists():
            print("no index is given: a model is trained on toy birds first, which takes some minutes", flush=True)
            demo()
    opened = open_photo_index(index, model, photos, table, mapped=True, **_base(base_model_name_or_path))
    listen(make_app(opened, cache_dir, title), host, port)


@_command()
def export(
    folder: Annotated[str, typer.Argument(help="Where model.onnx and what belongs to it go.")],
    model: Model,
    int8: Annotated[
        bool, typer.Option("--int8", help="A quarter of the size, and faster; one bit in a hundred differs.")
    ] = False,
    base_model_name_or_path: Base = None,
) -> None:
    """Write what hashes photos as ONNX, with image processor and tokenizer beside it, for programs without torch.

    Example: concepthash export my_model_onnx --model my_model
    """
    from .export import export_folder

    hasher = _hasher(model, base_model_name_or_path)
    print(f"{hasher.name_or_path}: {hasher.spec.num_bits} bits in {hasher.spec.num_concepts} concepts", flush=True)
    path = export_folder(hasher, folder, int8=int8)
    print(f"{path}: pixel_values in, code_logits and codes out")
    _next_python(f"from concepthash_hf.onnx_hasher import OnnxHasher; print(OnnxHasher({json.dumps(folder)}))")


@_command()
def push(
    folder: Annotated[str, typer.Argument(help="A saved model.")],
    repo_id: Annotated[str, typer.Argument(help="organisation/name, or a name in your own space.")],
    private: Annotated[bool, typer.Option("--private", help="Only its members see a new repository.")] = False,
    include_code: Annotated[
        bool, typer.Option("--include_code", help="With the code, for those without this package.")
    ] = False,
) -> None:
    """Upload a saved model with all that belongs to it to the Hugging Face Hub, in one commit.

    Example: concepthash push my_model someone/concepthash-birds
    """
    from .hub import push_to_hub

    commit = push_to_hub(folder, repo_id, include_code=include_code, private=private or None)
    print(f"uploaded: {commit.commit_url}")
    _next_python(f'from concepthash_hf import ConceptHasher; print(ConceptHasher("{commit.repo_url.repo_id}"))')


def _make_index(
    photos: str,
    folder: str,
    model: str | None,
    model_kwargs: dict[str, Any],
    options: dict[str, Any],
    with_content: bool,
    as_json: bool,
) -> "PhotoIndex":
    """Make or renew an index in a folder, and say what became of it."""
    from .hasher import renew_index

    index, changes = renew_index(
        folder,
        photos,
        model,
        options,
        with_content=with_content,
        tell=None if as_json else lambda text: print(printable(text), flush=True),
        **model_kwargs,
    )
    if as_json:
        print(json.dumps({"index": folder, "photos": len(index), **changes.to_dict()}, indent=2))
        return index
    for bad in changes.unreadable[:10]:
        print(printable(f"  unreadable: {bad.path}: {bad.reason}"))
    print(f"{len(index)} photos in {folder}: {changes}")
    return index


def _default_index(photos: str) -> str:
    place = Path(photos).resolve()
    return f"outputs/index-{place.stem if place.is_file() else place.name}"


def _after_index(index: "PhotoIndex", folder: str) -> list[str]:
    """Search it with one of its photos, or with what that is called; else look which are there twice."""
    for id in index.ids[:1]:
        if (file := index.file_of(id)) is not None:
            return ["search", _near(file), "--index", folder]
        (row,) = index.codes.get_metadata([id])
        if isinstance(label := row.get("label"), str) and index.hasher.reads_words:
            return ["search", label, "--index", folder]
    return ["duplicates", "--index", folder]


def _near(path: str | Path) -> str:
    """A path as it is called from here."""
    whole, here = Path(path).absolute(), Path.cwd()
    near = str(whole.relative_to(here)) if Path(path).exists() and whole.is_relative_to(here) else str(path)
    return f"./{near}" if near.startswith("-") else near  # which is no option


def _is_same(file: Path, others: Sequence[Path]) -> bool:
    return any(file.samefile(other) for other in others)


def _hasher(model: str, base_model_name_or_path: str | None) -> "ConceptHasher":
    from .hasher import ConceptHasher

    return ConceptHasher(model, **_base(base_model_name_or_path))


def _base(base_model_name_or_path: str | None) -> dict[str, Any]:
    return {} if base_model_name_or_path is None else {"base_model_name_or_path": base_model_name_or_path}


def _read_options(words: Sequence[str]) -> dict[str, Any]:
    """What is said of how photos are read, as in every script."""
    from dataclasses import asdict

    from .data.options import ReadOptions, said
    from .scripts.arguments import ArgumentReader

    (options,) = ArgumentReader(ReadOptions).read(words)
    return said(asdict(options))


def _reading_words(words: Sequence[str]) -> list[str]:
    """Of the words of a command those that say how photos are read."""
    from .data.options import ReadOptions, said
    from .scripts.arguments import ArgumentReader

    options, _ = ArgumentReader(ReadOptions).parse_known_args(list(words))
    return _words(said(vars(options)))


def _forwarded(context: typer.Context, photos: str | None) -> tuple[str | None, list[str]]:
    """The photos and the other words of a command that a script understands, where photos may be said as there."""
    words = list(context.args)
    if photos is not None and photos.startswith("--"):  # an option is no name of photos
        words.insert(0, photos)
        photos = None
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    reader.add_argument("--dataset")
    named, others = reader.parse_known_args(words)
    if photos is not None and named.dataset is not None:
        raise typer.BadParameter(f"photos are named twice: {photos} and {named.dataset}", param_hint="--dataset")
    return photos or named.dataset, others


def _without(context: typer.Context, *names: str) -> dict[str, Any]:
    return {name: value for name, value in context.params.items() if name not in names}


def _words(options: dict[str, Any]) -> list[str]:
    """Options by name as they stand on a command line."""
    return [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]


def _say(text: str, found: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(found, indent=2) if as_json else printable(text))


def _next(words: Sequence[str], as_json: bool = False) -> None:
    """The last line: what to type now."""
    if not as_json:
        print(printable(f"next: concepthash {shlex.join(words)}"))


def _next_python(code: str) -> None:
    """The last line where no command comes next: a look at what was made."""
    print(printable(f"next: python -c {shlex.quote(code)}"))

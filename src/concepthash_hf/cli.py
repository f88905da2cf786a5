"""The command `concepthash`: names of options, help, and one call each.

Nothing heavy is imported before a command is known, so that help answers at once.
"""

import functools
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .launch import run_script
from .quoting import printable

if TYPE_CHECKING:
    from .hasher import ConceptHasher

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
Index = Annotated[str, typer.Option("--index", "-i", help="An index: a folder, a Hub id, or postgresql://...")]
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
    from .data.toy_birds import save_toy_birds
    from .scripts.train import main as run_training

    folder = Path(output_dir)
    model, photos = folder / "model", folder / "photos"
    run_training(["--output_dir", str(model), "--num_train_epochs", str(num_train_epochs)])
    save_toy_birds(photos)
    _make_index(str(photos), str(folder / "index"), str(model), {}, {}, with_content=False, as_json=False)
    bird = next(photos.rglob("*.png"))
    search([str(bird)], index=str(folder / "index"), output=str(folder / "search.png"))


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
        following = ["index", photos, "--model", "MODEL"]
    else:
        found = {"name": splits.name, **splits.counts, "class_names": list(splits.class_names)}
        found["notes"] = list(splits.notes)
        text, following = describe_photos(splits), ["train", photos, "--output_dir", "my_model"]
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
    if photos is None and model_name_or_path is not None and resume_from_checkpoint is None:
        from .data import PhotoArguments

        photos = PhotoArguments().with_photos_of(model_name_or_path).dataset
    given = _without(context, "photos", "all_options")
    words = ["--help"] if all_options else [*_words({"dataset": photos, **given}), *context.args]
    from .scripts.train import main as run_training

    folder = run_training(words)
    _next(["index", photos or "PHOTOS", "--model", str(folder)])


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
    folder = index or f"outputs/index-{Path(photos).resolve().stem}"
    if model is None and not (Path(folder) / "index.json").exists():
        raise typer.BadParameter(
            f"there is no index in {folder} yet: say which model is to make it", param_hint="--model"
        )
    _make_index(
        photos, folder, model, _base(base_model_name_or_path), _read_options(context.args), by_content, as_json
    )


@_command()
def search(
    queries: Annotated[list[str], typer.Argument(metavar="PHOTO_OR_WORDS...", help="Files, or class names in words.")],
    index: Index,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Photos to find for each.")] = 10,
    concepts: Annotated[
        list[str] | None,
        typer.Option(help="Search by this concept only, from 1; with a weight such as 2=0.5. Can be repeated."),
    ] = None,
    photos: Annotated[
        str | None, typer.Option("--photos", help="Where the photos of the index are now, if they moved.")
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
    from .explain.contact_sheet import contact_sheet
    from .hasher import open_photo_index
    from .whole_files import replacing

    opened = open_photo_index(index, model, photos, table, **_base(base_model_name_or_path))
    weights = _concept_weights(concepts or [], opened.codes.num_concepts)
    results = opened.search_each(queries, k, weights)
    if as_json:
        print(json.dumps([hits.to_dict() for hits in results], indent=2))
        return
    print(f"{len(opened)} photos in {index}")
    for hits in results:
        print(printable(f"\n{hits.name}\n{hits.table()}"))
    with replacing(output) as part:
        found = [hits.found() for hits in results]
        contact_sheet(found, opened.codes.num_bits // opened.codes.num_concepts, weights).save(part)
    print(f"\npicture: {output}")
    first = results[0]
    if not isinstance(first.query, str) and opened.source.folder is not None:
        match = opened.source.folder / str(first[0].id)
        _next(["explain", queries[0], str(match), "--model", opened.hasher.name_or_path])


@_command()
def explain(
    photo: Annotated[str, typer.Argument(help="A photo.")],
    model: Model,
    other: Annotated[str | None, typer.Argument(help="Another, to compare it with.")] = None,
    output: Annotated[str, typer.Option("--output", help="Where the picture goes.")] = "explanation.png",
    base_model_name_or_path: Base = None,
) -> None:
    """Show why a photo has its code: what each concept makes of it, and where it looks; or why two photos match.

    Example: concepthash explain one.jpg other.jpg --model my_model
    """
    from .whole_files import replacing

    hasher = _hasher(model, base_model_name_or_path)
    if other is None:
        explanation = hasher.explain(photo)
        sub_codes = [(f"concept {each.concept + 1}", each.sub_code) for each in explanation.concepts]
        figure = explanation.figure(Path(photo).name)
    else:
        match = hasher.match(photo, other)
        sub_codes = [(f"concept {number + 1}", match.verdict(number)) for number in range(len(match.distances))]
        sub_codes.append(("in all", f"{match.distance} of {match.differing.size} bits differ"))
        figure = match.figure((Path(photo).name, Path(other).name))
    for name, value in sub_codes:
        print(f"{name}: {value}")
    with replacing(output) as part:
        figure.save(part)
    print(f"picture: {output}")
    _next(["report", "PHOTOS", "--model", model])


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

    write_report([*_words({"dataset": photos, **_without(context, "photos")}), *context.args])


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

    measure([*_words({"dataset": photos, **_without(context, "photos")}), *context.args])
    _next(["report", photos or "PHOTOS", "--model", model_name_or_path])


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
    from .index.hamming import HammingIndex

    opened = open_index(index)
    if not isinstance(opened, HammingIndex):
        raise ValueError("duplicates are looked for in an index in a folder or on the Hub, not in a database")
    codes = opened.get_codes(opened.ids)
    groups = [group.tolist() for group in near_duplicates(codes, radius, opened.num_bits, opened.ids)]
    if as_json:
        print(json.dumps(groups, indent=2))
        return
    print(f"{len(opened)} photos in {index}: {len(groups)} groups within {radius} bits")
    for group in groups:
        print(printable("  " + "  ".join(map(str, group))))


@_command()
def export(
    folder: Annotated[str, typer.Argument(help="Where model.onnx and what belongs to it go.")],
    model: Model,
    base_model_name_or_path: Base = None,
) -> None:
    """Write what hashes photos as ONNX, with image processor and tokenizer beside it, for programs without torch.

    Example: concepthash export my_model_onnx --model my_model
    """
    from .export import export_onnx

    hasher = _hasher(model, base_model_name_or_path)
    path = export_onnx(hasher.model, Path(folder) / "model.onnx")
    hasher.image_processor.save_pretrained(folder)
    if getattr(hasher.model, "text_model", None) is not None:
        hasher.tokenizer.save_pretrained(folder)
    print(f"{path}: pixel_values in, code_logits and codes out; {hasher.spec.num_bits} bits")


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


def _make_index(
    photos: str,
    folder: str,
    model: str | None,
    model_kwargs: dict[str, Any],
    options: dict[str, Any],
    with_content: bool,
    as_json: bool,
) -> None:
    """Make or renew an index in a folder."""
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
        return
    for bad in changes.unreadable[:10]:
        print(printable(f"  unreadable: {bad.path}: {bad.reason}"))
    print(f"{len(index)} photos in {folder}: {changes}")
    _next(["search", "PHOTO_OR_WORDS", "--index", folder])


def _hasher(model: str, base_model_name_or_path: str | None) -> "ConceptHasher":
    from .hasher import ConceptHasher

    return ConceptHasher(model, **_base(base_model_name_or_path))


def _base(base_model_name_or_path: str | None) -> dict[str, Any]:
    return {} if base_model_name_or_path is None else {"base_model_name_or_path": base_model_name_or_path}


def _read_options(words: Sequence[str]) -> dict[str, Any]:
    """What is said of how photos are read, as in every script."""
    from dataclasses import asdict

    from transformers import HfArgumentParser

    from .data.options import ReadOptions

    parser = HfArgumentParser(ReadOptions, prog="concepthash")
    parser.parse_args(list(words))  # which knows how a wrong call ends
    (options,) = parser.parse_args_into_dataclasses(list(words))
    return {name: value for name, value in asdict(options).items() if value not in (None, False)}


def _concept_weights(concepts: list[str], num_concepts: int) -> Any:
    from .scripts.search import concept_weights

    try:
        return concept_weights(concepts, num_concepts)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--concepts") from None


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

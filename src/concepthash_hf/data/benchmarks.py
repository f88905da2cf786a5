"""The benchmarks by short name: where each comes from, how it is split, what should be in it."""

from dataclasses import dataclass

from ..language import DEFAULT_TEMPLATE
from .splits import PhotoSplits


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        title: its full name.
        num_classes: classes.
        num_train: photos to train on, also the database.
        num_query: photos to ask with.
        homepage: where the official archive is.
        data_dir: which folder of the unpacked archive to give.
        hub_id: dataset on the Hugging Face Hub; None if no faithful one is known.
        revision: of the Hub dataset, None where none is documented: the newest is taken then.
        train_split: Hub splits to train on, joined by "+".
        query_split: Hub split to ask with.
        image_column: in the Hub dataset.
        label_column: in the Hub dataset.
        template: the text a class name is put into.
        class_names: how the names look before `language.clean_class_name`.
        known_from: where the Hub id, the columns and the counts were read.
        citation: for cards.
    """

    title: str
    num_classes: int
    num_train: int
    num_query: int
    homepage: str
    data_dir: str
    hub_id: str | None = None
    revision: str | None = None
    train_split: str = "train"
    query_split: str = "test"
    image_column: str = "image"
    label_column: str = "label"
    template: str = DEFAULT_TEMPLATE
    class_names: str = "words"
    known_from: str = ""
    citation: str = ""


BENCHMARKS = {
    "cub200": Benchmark(
        title="CUB-200-2011",
        num_classes=200,
        num_train=5_994,
        num_query=5_794,
        homepage="https://www.vision.caltech.edu/datasets/cub_200_2011/",
        data_dir="CUB_200_2011",
        hub_id="bentrevett/caltech-ucsd-birds-200-2011",
        class_names="001.Black_footed_Albatross: number and underscores go",
        known_from="paper and reference code",
        citation="Wah et al.: The Caltech-UCSD Birds-200-2011 Dataset. CNS-TR-2011-001, Caltech 2011",
    ),
    "nabirds": Benchmark(
        title="NABirds",
        num_classes=555,
        num_train=23_929,
        num_query=24_633,
        homepage="https://dl.allaboutbirds.org/nabirds",
        data_dir="nabirds",
        known_from="paper and reference code; official archive only",
        citation="Van Horn et al.: Building a bird recognition app and large scale dataset. CVPR 2015",
    ),
    "aircraft": Benchmark(
        title="FGVC-Aircraft (variants)",
        num_classes=100,
        num_train=6_667,
        num_query=3_333,
        homepage="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
        data_dir="fgvc-aircraft-2013b/data",
        hub_id="HuggingFaceM4/FGVC-Aircraft",
        revision="e18a7c97147c90dc7f4a60d74a7f4258e9264e97",
        train_split="train+validation",
        label_column="variant",
        class_names="737-300: digits are the name",
        known_from="paper and reference code; the revision is its parquet version",
        citation="Maji et al.: Fine-Grained Visual Classification of Aircraft. arXiv 1306.5151, 2013",
    ),
    "cars196": Benchmark(
        title="Stanford Cars",
        num_classes=196,
        num_train=8_144,
        num_query=8_041,
        homepage="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        data_dir="the one with devkit, cars_train, cars_test and cars_test_annos_withlabels.mat",
        hub_id="tanganke/stanford_cars",
        class_names="AM General Hummer SUV 2000: words",
        known_from="paper and reference code; columns and splits: the Hub's viewer; the archive's home is gone",
        citation="Krause et al.: 3D Object Representations for Fine-Grained Categorization. 3dRR 2013",
    ),
    "food101": Benchmark(
        title="Food-101",
        num_classes=101,
        num_train=75_750,
        num_query=25_250,
        homepage="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        data_dir="class folders in train and test",
        hub_id="ethz/food101",
        query_split="validation",
        class_names="apple_pie: underscores go",
        known_from="paper and reference code for counts; Hub id and splits: the Hub's viewer",
        citation="Bossard et al.: Food-101, Mining Discriminative Components with Random Forests. ECCV 2014",
    ),
    "vegfru": Benchmark(
        title="VegFru",
        num_classes=292,
        num_train=29_200,
        num_query=116_931,
        homepage="https://github.com/ustc-vim/vegfru",
        data_dir="index files train.txt, test.txt, class_names.txt, or class folders in train and test",
        known_from="the paper and its lists (train + validation are 43,800); no Hub copy known: give files by hand",
        citation="Hou et al.: VegFru, a Domain-Specific Dataset for Fine-grained Visual Categorization. ICCV 2017",
    ),
    "flowers102": Benchmark(
        title="Oxford Flowers 102",
        num_classes=102,
        num_train=2_040,
        num_query=6_149,
        homepage="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        data_dir="class folders in train and test",
        hub_id="dpdl-benchmark/oxford_flowers102",
        train_split="train+validation",
        known_from="the Hub's viewer (1,020 + 1,020 / 6,149); names as that dataset gives them",
        citation="Nilsback, Zisserman: Automated flower classification over a large number of classes. ICVGIP 2008",
    ),
    "pets": Benchmark(
        title="Oxford-IIIT Pet",
        num_classes=37,
        num_train=3_680,
        num_query=3_669,
        homepage="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        data_dir="class folders in train and test",
        hub_id="timm/oxford-iiit-pet",
        class_names="maine_coon: underscores go",
        known_from="the Hub's file list; counts and columns: its enriched copy and the TFDS catalogue",
        citation="Parkhi, Vedaldi, Zisserman, Jawahar: Cats and Dogs. CVPR 2012",
    ),
    "inat_birds": Benchmark(
        title="iNaturalist 2021, birds",
        num_classes=1_486,
        num_train=414_847,
        num_query=14_860,
        homepage="https://github.com/visipedia/inat_comp/tree/master/2021",
        data_dir="the one with train and val",
        class_names="Accipiter_cooperii: genus and species, underscores go",
        known_from="the competition's README; the folder with train/ and val/ unpacked",
        citation="Van Horn et al.: Benchmarking Representation Learning for Natural World Images. CVPR 2021",
    ),
}
"""By short name. Test photos ask, training photos are the database."""


def check_counts(splits: PhotoSplits, benchmark: Benchmark) -> None:
    """Compare what was loaded with what should be there.

    Raises:
        ValueError: at the first number that differs, with both.
    """
    expected = {"classes": benchmark.num_classes, "train": benchmark.num_train, "query": benchmark.num_query}
    for what, count in splits.counts.items():
        if expected.get(what, count) != count:
            unit = "classes" if what == "classes" else f"{what} photos"
            raise ValueError(
                f"{benchmark.title} has {expected[what]:,} {unit}, but {splits.source} holds {count:,}: the "
                "copy is incomplete or another version (give its path, not the short name, to use it nevertheless)"
            )


def benchmark_table() -> str:
    """The registry as a Markdown table."""
    lines = [
        "| `--dataset` | benchmark | classes | train = database / queries | source | known from |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, entry in BENCHMARKS.items():
        hub = (
            f"[`{entry.hub_id}`](https://huggingface.co/datasets/{entry.hub_id})"
            if entry.hub_id
            else "no Hub copy known"
        )
        if entry.revision:
            hub += f" at `{entry.revision[:8]}`"
        archive = f"[archive]({entry.homepage.split(' ')[0]})"
        counts = f"{entry.num_train:,} / {entry.num_query:,}"
        lines.append(
            f"| `{name}` | {entry.title} | {entry.num_classes:,} | {counts} | {hub}; {archive} | {entry.known_from} |"
        )
    return "\n".join(lines)

"""Other hashing methods by name: what each trains or fits, on what, and who made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .hash_heads import HEADS
from .objectives import OBJECTIVES


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        title: how it is written.
        citation: who made it.
        objective: what trains it, a key of `objectives.OBJECTIVES`; None if it is fitted, by
            `linear_hashing.FITS`, under the method's own name.
        objective_kwargs: constants of the objective.
        head: what makes code logits of a photo's tokens, a key of `hash_heads.HEADS`.
        adapters: whether it trains adapters in the backbone, as ConceptHash does, or a hash function on its features
            alone.
        reads_language: whether it needs class embeddings.
    """

    title: str
    citation: str
    objective: str | None = None
    objective_kwargs: Mapping[str, Any] = field(default_factory=dict)
    head: str = "linear"
    adapters: bool = True
    reads_language: bool = False

    def config_fields(self) -> dict[str, Any]:
        """Fields of the `BaselineConfig` of a model that it trains or fits."""
        trained_by = OBJECTIVES[self.objective] if self.objective else None
        return {
            "objective": self.objective,
            "objective_kwargs": dict(self.objective_kwargs),
            "head": self.head,
            "apply_last_norm": HEADS[self.head].after_last_norm,
            "hash_bias": trained_by.hash_bias if trained_by else True,
            "batch_norm": trained_by.batch_norm if trained_by else False,
        }


_ITQ = (
    "Gong, Lazebnik: Iterative quantization: a Procrustean approach to learning binary codes, CVPR 2011; "
    "with Gordo, Perronnin, TPAMI 2013"
)
_CONCEPTHASH = "Ng, Zhu, Song, Xiang: ConceptHash, CVPR Workshops 2024"
_ORTHOHASH = (
    "Hoe, Ng, Zhang, Chan, Song, Xiang: One loss for all: deep hashing with a single cosine similarity based learning "
    "objective, NeurIPS 2021"
)
METHODS: dict[str, Method] = {
    "lsh": Method(
        "LSH",
        "Charikar: Similarity estimation techniques from rounding algorithms, STOC 2002",
        adapters=False,
    ),
    "pca": Method("PCA", "Wang, Kumar, Chang: Semi-supervised hashing, CVPR 2010", adapters=False),
    "pca_rotation": Method(
        "PCA, rotated",
        "Moummad, Zaher, Rauch, Joly: Hashing-Baseline: rethinking hashing in the age of pretrained models, 2025",
        adapters=False,
    ),
    "itq": Method("ITQ", _ITQ, adapters=False),
    "linear": Method("linear, learned centres", _CONCEPTHASH, "centres", {"language": False}, adapters=False),
    "linear_language": Method(
        "linear, language", _CONCEPTHASH, "centres", {"language": True}, adapters=False, reads_language=True
    ),
    "ce": Method("CE", "", "ce"),
    "hashnet": Method(
        "HashNet", "Cao, Long, Wang, Yu: HashNet: deep learning to hash by continuation, ICCV 2017", "hashnet"
    ),
    "dpsh": Method(
        "DPSH",
        "Li, Wang, Kang: Feature learning based deep supervised hashing with pairwise labels, IJCAI 2016",
        "dpsh",
    ),
    "dtsh": Method("DTSH", "Wang, Shi, Kitani: Deep supervised hashing with triplet labels, ACCV 2016", "dtsh"),
    "greedyhash": Method(
        "GreedyHash",
        "Su, Zhang, Han, Tian: Greedy Hash: towards fast optimization for accurate hash coding in CNN, NeurIPS 2018",
        "greedyhash",
    ),
    "csq": Method(
        "CSQ",
        "Yuan, Wang, Zhang, Tay, Jie, Liu, Feng: Central similarity quantization for efficient image and video "
        "retrieval, CVPR 2020",
        "csq",
    ),
    "dpn": Method(
        "DPN",
        "Fan, Ng, Ju, Zhang, Chan: Deep polarized network for supervised learning of accurate binary hashing codes, "
        "IJCAI 2020",
        "dpn",
    ),
    "orthohash": Method("OrthoHash", _ORTHOHASH, "orthohash"),
    "orthohash_hadamard": Method("OrthoHash, Hadamard", _ORTHOHASH, "orthohash", {"targets": "hadamard"}),
    "orthohash_language": Method(
        "OrthoHash, language", _ORTHOHASH, "orthohash", {"targets": "language"}, reads_language=True
    ),
    "a2net": Method(
        "A2-Net, cross-entropy",
        "Wei, Shen, Sun, Ye, Yang: A^2-Net: learning attribute-aware hash codes for large-scale fine-grained image "
        "retrieval, NeurIPS 2021",
        "a2net",
        head="a2net",
    ),
    "semicon": Method(
        "SEMICON, cross-entropy",
        "Shen, Sun, Wei, Jiang, Yang: SEMICON: a learning-to-hash solution for large-scale fine-grained image "
        "retrieval, ECCV 2022",
        "semicon",
        head="semicon",
    ),
}


TRAINED = tuple(name for name, method in METHODS.items() if method.objective)


def method_named(name: str) -> Method:
    """A method.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in METHODS:
        raise ValueError(f"there is no method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]

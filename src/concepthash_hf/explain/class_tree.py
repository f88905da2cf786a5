"""The codes of classes, and the tree that joins those with similar codes."""

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import linkage

from ..codes import hamming_distance
from ..modeling_concepthash import ConceptHashModel


def class_codes(model: ConceptHashModel) -> np.ndarray:
    """The codes of a model's class centres, packed uint8 `(C, ceil(K / 8))`.

    Raises:
        ValueError: if the model has no class embeddings.
    """
    if not isinstance(model, ConceptHashModel) or model.class_embeddings is None:
        raise ValueError(
            "this model has no class embeddings, so its classes have no codes: load it as ConceptHashModel (not the "
            "vision tower alone), built with from_clip(class_names=...) or given classes by set_classes(...)"
        )
    return model.get_text_hash_codes(model.class_embeddings).cpu().numpy()


def class_tree(codes: np.ndarray) -> np.ndarray:
    """Join the classes with the most similar codes, then ever larger groups, by mean Hamming distance.

    Args:
        codes: packed uint8 `(C, bytes)`, of two classes or more.

    Returns:
        A linkage as of `scipy.cluster.hierarchy.linkage`, float64 `(C - 1, 4)`; heights are in bits.

    Raises:
        ValueError: if there are fewer than two classes, or the codes are not packed.
    """
    if len(codes) < 2:
        raise ValueError(f"a tree needs the codes of two classes or more, got {len(codes)}")
    first, second = np.triu_indices(len(codes), 1)
    distances = hamming_distance(codes[first], codes[second]).astype(float)
    return linkage(distances, method="average", optimal_ordering=True)


def one_family_each(tree: np.ndarray, families: Sequence[str]) -> list[str]:
    """The families of a tree's classes, as a list.

    Raises:
        ValueError: if there are more or fewer families than classes.
    """
    if len(families) != len(tree) + 1:
        raise ValueError(f"{len(families)} families for a tree of {len(tree) + 1} classes: one for each class")
    return list(families)

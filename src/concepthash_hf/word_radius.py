"""Is anything here that these words could mean? How near words come to photos of something else says it."""

from typing import TYPE_CHECKING, Any

import torch

from .codes import binarize, pack_bits
from .index import CodeIndex, calibrate_names
from .language import clean_class_name
from .modeling_concepthash import ConceptHashModel

if TYPE_CHECKING:
    from .hasher import ConceptHasher

_MOST = 100_000
"""Photos looked at, evenly spread: fewer come a little less near to strangers, and less is said to be far."""


def word_radius(hasher: "ConceptHasher", index: CodeIndex) -> int | None:
    """Within how many bits of words a photo is closer than a stranger would be.

    A stranger is the name of something that is not in the collection. What distance strangers have is measured with
    the names of the classes that the model was trained on, each against the photos that have another label: see
    `calibrate_names`; one stranger in 20 comes as near as this radius.

    Args:
        hasher: whose codes these are.
        index: a collection.

    Returns:
        Bits; None where it cannot be known: a model without class names, photos without labels or in a database,
        fewer than two names, or names that photos of other classes come as near to as their own.
    """
    if not isinstance(hasher.model, ConceptHashModel) or hasher.model.class_embeddings is None or index.ids is None:
        return None
    ids = index.ids[:: -(-len(index) // _MOST)]
    names_of = [_words(row.get("label")) for row in index.get_metadata(ids)]
    labelled = [row for row, names in enumerate(names_of) if names]
    if not labelled:
        return None
    with torch.no_grad():
        codes = pack_bits(binarize(hasher.model.class_centres())).cpu().numpy()
    id2label = hasher.model.config.id2label
    names = [_word(id2label[label]) for label in range(len(codes))]
    item_codes = index.get_codes(ids[labelled])
    try:
        return calibrate_names(names, codes, item_codes, [names_of[row] for row in labelled]).radius
    except ValueError:
        return None


def _words(label: Any) -> set[str]:
    """The names that a label stands for, in one spelling."""
    labels = label if isinstance(label, list) else [label]
    return {_word(each) for each in labels if each not in (None, "")}


def _word(name: Any) -> str:
    return clean_class_name(str(name)).casefold()

"""Quality of binary codes in themselves, as an `evaluate` measurement."""

import datasets
import evaluate
import numpy as np

from concepthash_hf.metrics import code_quality

_CITATION = """\
@inproceedings{ng2024concepthash,
  title     = {ConceptHash: Interpretable Fine-Grained Hashing via Concept Discovery},
  author    = {Ng, Kam Woh and Zhu, Xiatian and Song, Yi-Zhe and Xiang, Tao},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops},
  year      = {2024}
}
"""

_DESCRIPTION = """\
Looks at a set of binary codes without searching it: balance, entropy and correlation of bits and sub-codes, distinct
codes and collisions across classes, and mean distances within classes, within families and across families.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: packed codes, one list of bytes (0 to 255) per item; most significant bit first, as `numpy.packbits`.
    references: labels, an integer per item.
    num_bits (`int`): K, the length of a code.
    num_concepts (`int`): M, the number of sub-codes.
    class_families (`list` of `int`, *optional*): the family of class 0, 1, ...
Returns:
    `dict`: as `concepthash_hf.metrics.code_quality`.
Examples:
    >>> measurement = evaluate.load("concepthash_code_quality")
    >>> values = measurement.compute(predictions=[[0], [1], [3]], references=[0, 0, 1], num_bits=8, num_concepts=2)
    >>> values["distance_within_class"], values["distance_across_classes"]
    (1.0, 1.5)
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ConceptHashCodeQuality(evaluate.Measurement):
    """Accumulates codes and labels over batches and processes, and measures them at once."""

    def _info(self) -> evaluate.MeasurementInfo:
        return evaluate.MeasurementInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("uint8")), "references": datasets.Value("int64")}
            ),
            reference_urls=["https://arxiv.org/abs/2406.08457"],
        )

    def _compute(self, predictions, references, num_bits, num_concepts, class_families=None):
        codes = np.array(predictions, dtype=np.uint8)
        return code_quality(codes, references, num_bits, num_concepts, class_families)

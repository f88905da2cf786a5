"""How well the tree of class codes agrees with given families."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import cophenet, fcluster
from scipy.stats import mannwhitneyu

from ..class_tree import one_family_each
from .grouping import adjusted_rand_index
from .measurement import Measurement
from .table import Table


@dataclass(frozen=True)
class FamilyAgreement(Measurement):
    """Whether classes of one family are close in the tree.

    Attributes:
        adjusted_rand_index: between the families and the tree, cut into as many groups as there are families; 0 by
            chance, 1 for the families themselves. Where joins of the same height make that number impossible, it is
            cut into fewer: `num_groups`.
        closer_in_family: how often two classes of one family join below two classes of different families (ties count
            half); 0.5 by chance, 1 where every family is a branch of its own.
        num_classes: C.
        num_families: how many different ones.
        num_groups: that the tree was cut into.
    """

    adjusted_rand_index: float
    closer_in_family: float
    num_classes: int
    num_families: int
    num_groups: int

    def table(self) -> Table:
        """Both measures beside their chance."""
        return Table(
            title="Families: how well the tree of class codes agrees with them",
            columns=["", "measured", "chance"],
            rows=[
                ["classes of a family join before others", self.closer_in_family, 0.5],
                [f"cut into {self.num_groups} groups: adjusted Rand index", self.adjusted_rand_index, 0.0],
            ],
            note=f"{self.num_classes} classes in {self.num_families} families.",
        )


def family_agreement(tree: np.ndarray, families: Sequence[str]) -> FamilyAgreement:
    """Measure how well a tree of classes agrees with given families.

    Args:
        tree: of C classes, see `class_tree`.
        families: of each class, C names; at least two families, one of them with two classes or more.

    Raises:
        ValueError: if tree and families do not fit each other, or there is nothing to compare.
    """
    families = one_family_each(tree, families)
    numbers = np.unique(families, return_inverse=True)[1]
    groups = fcluster(tree, numbers.max() + 1, criterion="maxclust")
    first, second = np.triu_indices(len(families), 1)
    same = numbers[first] == numbers[second]
    if same.all() or not same.any():
        raise ValueError(
            f"{len(set(families))} families of {len(families)} classes: agreement needs two families or more, and one "
            "with two classes or more"
        )
    heights = cophenet(tree)
    below = mannwhitneyu(heights[~same], heights[same]).statistic / (same.sum() * (~same).sum())
    return FamilyAgreement(
        adjusted_rand_index=adjusted_rand_index(numbers, groups),
        closer_in_family=float(below),
        num_classes=len(families),
        num_families=int(numbers.max()) + 1,
        num_groups=int(groups.max()),
    )

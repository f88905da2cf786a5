"""The golden numbers of other methods: BASELINES.md, section 4."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Golden:
    """Inputs by name, cases and codebooks."""

    def __init__(self, shared: Path) -> None:
        found = json.loads((shared / "reference" / "baselines_golden.json").read_text())
        self.cases, self.codebooks = found["cases"], found["codebooks"]
        self.inputs = {name: tensor(values) for name, values in found["inputs"].items()}

    def case(self, name: str) -> dict[str, Any]:
        return self.cases[name]

    def codebook(self, name: str) -> Tensor:
        return tensor(self.codebooks[name])


def tensor(values: Any) -> Tensor:
    found = torch.tensor(values)
    return found.float() if found.is_floating_point() else found

"""Modes that a model is in for a while: evaluation, and keeping fewer activations."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode again outside."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def checkpointing(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Gradient checkpointing inside, if it is wanted; outside as it was."""
    changes = wanted and not model.is_activation_checkpointing
    if changes:
        model.activation_checkpointing_enable()
    try:
        yield
    finally:
        if changes:
            model.activation_checkpointing_disable()

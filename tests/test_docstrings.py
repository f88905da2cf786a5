"""The examples in docstrings run and say what they say."""

import doctest
import importlib

import pytest

MODULES = [
    *("base_models", "class_checks", "codes", "configuration_concepthash", "convert", "data.decode", "data.labels"),
    *("data.split_names", "explain.crops", "index.hamming", "language", "lettering", "losses", "metrics.baselines"),
    "modeling_concepthash",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(f"concepthash_hf.{name}")
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    count = sum(len(finder.find(importlib.import_module(f"concepthash_hf.{name}"))) for name in MODULES)
    assert count > 10

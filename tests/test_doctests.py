"""The examples in docstrings show what happens."""

import doctest
import importlib
import pkgutil

import pytest

import fewbits


def has_examples(name):
    try:
        return ">>>" in (importlib.import_module(name).__doc__ or "")
    except ModuleNotFoundError as missing:
        if missing.name in ("torch", "triton", "transformers", "pytorch_lightning", "amaranth"):
            return False
        raise


MODULES = [
    module.name
    for module in pkgutil.walk_packages(fewbits.__path__, "fewbits.")
    if not module.name.endswith("_kernels") and has_examples(module.name)
]


@pytest.mark.parametrize("name", ["fewbits", *MODULES])
def test_examples_of_a_module_run_as_written(name):
    try:
        results = doctest.testmod(importlib.import_module(name), raise_on_error=True)
    except doctest.UnexpectedException as unexpected:
        error = unexpected.exc_info[1]
        told = isinstance(error, fewbits.FewbitsError) and "pip install" in str(error)
        if told or isinstance(error, ModuleNotFoundError):
            pytest.skip(str(error))
        raise
    assert results.attempted > 0

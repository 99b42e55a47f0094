"""Triton's kernels run in its interpreter where there is no GPU; it must be asked before import."""

import os

import pytest

try:
    import torch
except ImportError:  # each test module skips itself then
    torch = None

if torch and not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["torch", "native"])
def form(request, monkeypatch):
    """Both forms for the CPU."""
    monkeypatch.setenv("FEWBITS_LOSSY", request.param)
    return request.param

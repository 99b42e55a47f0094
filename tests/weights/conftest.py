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
def _one_thread():
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other would take most of the time
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)

"""How the C++ kernels see tensors: an address, a number of elements, and a kind of float.

The kernels trust what they are given. So a tensor goes to them only through these functions, which
check what an address does not say, and every output is allocated beside the call.
"""

import torch

from fewbits.torch_threads import share_torch_threads

#: Kinds of floats as the kernels number them (``Float`` in ``lossy_common.hpp``).
FLOATS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def address(tensor: torch.Tensor) -> int:
    """Where the elements of a contiguous tensor on the CPU begin; it must outlive its use."""
    if tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise ValueError("the C++ kernels take contiguous tensors on the CPU")
    return int(tensor.data_ptr())


def threads() -> int:
    """As many threads as PyTorch uses for one operation; those themselves, if they can be had."""
    share_torch_threads()
    return int(torch.get_num_threads())

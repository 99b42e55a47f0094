"""The codec whose time the IPU model has is the one of ``fewbits.lossy``."""

import pytest

torch = pytest.importorskip("torch")

from fewbits.lossy.codec import TensorSpec  # noqa: E402
from fewbits.lossy.dct import DCT  # noqa: E402
from fewbits.machines.ipu import chop_ratio  # noqa: E402


@pytest.mark.parametrize("chop", range(1, 8))
def test_a_chop_has_the_ratio_that_is_modelled(chop) -> None:
    maps = torch.zeros(2, 3, 32, 64, dtype=torch.float16)
    packed = DCT(chop).nbytes(TensorSpec.of(maps))
    assert maps.nbytes / packed == pytest.approx(chop_ratio(chop))

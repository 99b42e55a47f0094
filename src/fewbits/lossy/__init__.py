"""Codecs for PyTorch tensors: what they keep, what they lose, and by how much at most.

A codec's parts are tensors on the device of the tensor it was given, so that the same codec serves
saved activations on a GPU, a compiled graph, and a generated training step.

>>> import torch
>>> from fewbits.lossy import Mask, Quantize, TensorSpec
>>> x = torch.randn(1000).relu()
>>> codec = Quantize(4) + Mask()
>>> parts = codec.encode(x)
>>> y = codec.decode(parts, TensorSpec.of(x))
>>> sum(part.nbytes for part in parts), x.nbytes, bool(((y > 0) == (x > 0)).all())
(642, 4000, True)
"""

# Not imported when first used, as elsewhere: whoever comes here waits for PyTorch anyway. And the
# functions `codec`, `chain` and `fidelity` would be replaced by their modules of that name.
from fewbits.lossy.bounded import Bounded
from fewbits.lossy.cast import Cast
from fewbits.lossy.chain import Chain, chain
from fewbits.lossy.codec import Codec, Parts, TensorSpec, packed_nbytes
from fewbits.lossy.crossbar import CrossbarQuantize
from fewbits.lossy.dct import DCT
from fewbits.lossy.fidelity import fidelity
from fewbits.lossy.fixedrate import FixedRate
from fewbits.lossy.lossless import Exact, Lossless
from fewbits.lossy.mask import Bits, Mask, Shape, is_two_valued
from fewbits.lossy.names import codec, name_of
from fewbits.lossy.pool import PoolIndices
from fewbits.lossy.quantize import Quantize

__all__ = [
    "DCT",
    "Bits",
    "Bounded",
    "Cast",
    "Chain",
    "Codec",
    "CrossbarQuantize",
    "Exact",
    "FixedRate",
    "Lossless",
    "Mask",
    "Parts",
    "PoolIndices",
    "Quantize",
    "Shape",
    "TensorSpec",
    "chain",
    "codec",
    "fidelity",
    "is_two_valued",
    "name_of",
    "packed_nbytes",
]

"""Rounding that is right on average, for probabilities in a loss.

The gradient of a cross-entropy is the probabilities minus the labels. Rounded to the nearest of a
few levels, small ones all become 0 and large ones grow, the same way in every step, and every
gradient behind leans with them: a language model on ``int3`` stops to learn. Rounded at random they
are noisy, and noise averages out.
"""

from dataclasses import replace

from fewbits.lossy.bounded import Bounded
from fewbits.lossy.chain import Chain, chain
from fewbits.lossy.codec import Codec
from fewbits.lossy.quantize import Quantize
from fewbits.training.gradients import Witness


def unbiased(codec: Codec) -> Codec:
    """The codec, rounding at random where it can; sizes stay, or nearly."""
    if isinstance(codec, Chain):
        return chain(*map(unbiased, codec.stages))
    if isinstance(codec, Witness):
        return replace(codec, codec=unbiased(codec.codec))
    if isinstance(codec, Quantize):
        return replace(codec, rounding="stochastic")
    return replace(codec, dither=True) if isinstance(codec, Bounded) else codec

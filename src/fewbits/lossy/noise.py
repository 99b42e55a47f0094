"""Random numbers that depend on a seed and a place only, the same in every form of a codec.

The number at a place is a hash of the place and of two keys that are made of the seed. The hash is
the 32-bit mix "lowbias32" of Chris Wellons' hash prospector (public domain), with a key brought in
before each of its two products:

    x = (place ^ key0);  x ^= x >> 16;  x *= 0x7feb352d
    x ^= x >> 15;  x ^= key1;  x *= 0x846ca68b;  x ^= x >> 16        (mod 2^32, logical shifts)

Nothing is drawn from a global generator, so packing does not disturb a model's random numbers.
"""

import torch

_MASK = (1 << 64) - 1
_M1 = 0x7FEB352D
_M2 = 0x846CA68B - (1 << 32)  # as int32 sees it


def keys(seed: int) -> tuple[int, int]:
    """Two 32-bit keys of a seed, by one step of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = (seed + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    z ^= z >> 31
    return z & 0xFFFFFFFF, z >> 32


def hashes(places: torch.Tensor, seed: int) -> torch.Tensor:
    """The hash of each place (int64 or int32, taken mod 2^32), as int32 of the same bits."""
    key0, key1 = (key - (1 << 32) if key >> 31 else key for key in keys(seed))
    x = places.to(torch.int32) ^ key0
    x = (x ^ _logical_shift(x, 16)) * _M1
    x = ((x ^ _logical_shift(x, 15)) ^ key1) * _M2
    return x ^ _logical_shift(x, 16)


def fractions(count: int, seed: int, device: torch.device, first: int = 0) -> torch.Tensor:
    """Numbers from 0 to below 1 for places ``first`` on: float32, multiples of 2^-16.

    With 16 bits, the sum of such a number and a code of up to 8 bits is exact in float32: a value
    that lies on a level stays there.
    """
    places = torch.arange(first, first + count, device=device)
    return _logical_shift(hashes(places, seed), 16).to(torch.float32) * (1.0 / 65536)


def _logical_shift(x: torch.Tensor, by: int) -> torch.Tensor:
    return (x >> by) & ((1 << (32 - by)) - 1)

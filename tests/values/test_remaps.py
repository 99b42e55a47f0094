"""Remaps of single values and of histograms are those of the kernels."""

import numpy as np
import pytest

from fewbits.lossless.histogram import histogram
from fewbits.lossless.plan import Plan, Plane
from fewbits.values.remaps import nibble_histogram, remapped, remapped_histogram
from fewbits.values.types import NIBBLES, Remap


def kernel_histogram(values, remap, plane):
    plan = Plan(values.itemsize, remap, 1 << 16, (plane,))
    return plan.histograms(0, values.view(np.uint8))[0]


@pytest.mark.parametrize("remap", Remap)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_remapped_histograms_are_those_of_remapped_tensors(remap, dtype):
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, 5000).astype(dtype)
    width = 8 * values.itemsize
    expected = kernel_histogram(values, remap, Plane(values.itemsize, 0))
    assert (remapped_histogram(histogram(values, width), remap) == expected).all()
    assert (histogram(remapped(values, remap, width).astype(dtype), width) == expected).all()


@pytest.mark.parametrize("remap", Remap)
@pytest.mark.parametrize("width", [8, 16])
def test_remaps_lose_nothing(remap, width):
    mapped = remapped(np.arange(1 << width), remap, width)
    assert sorted(mapped.tolist()) == list(range(1 << width))


def test_zigzag_counts_outwards_and_sign_moves_to_the_end():
    signed = np.array([0, -1, 1, -2, 127, -128], np.int8)
    assert remapped(signed.view(np.uint8), Remap.ZIGZAG, 8).tolist() == [0, 1, 2, 3, 254, 255]
    floats = np.array([1.0, -1.0], np.float16).view(np.uint16)
    assert remapped(floats, Remap.SIGN_TO_LSB, 16).tolist() == [0x7800, 0x7801]


def test_nibble_histogram_counts_both_halves():
    values = np.random.default_rng(1).integers(0, 256, 3000).astype(np.uint8)
    expected = kernel_histogram(values, Remap.IDENTITY, Plane(NIBBLES, 0))
    assert (nibble_histogram(histogram(values, 8)) == expected).all()

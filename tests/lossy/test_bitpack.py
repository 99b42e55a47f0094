import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from fewbits.lossy.bitpack import pack_flat, pack_rows, packed_size, unpack_flat, unpack_rows  # noqa: E402


def codes_of(count, bits, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 1 << bits, (count,), dtype=torch.uint8, generator=generator)


@given(st.integers(1, 8), st.integers(0, 700), st.sampled_from([8, 64, 256]))
def test_codes_come_back_and_take_the_bytes_announced(bits, count, group):
    codes = codes_of(count, bits)
    packed = pack_flat(codes, bits, group)
    assert packed.dtype == torch.uint8
    assert packed.numel() == packed_size(count, bits, group)
    assert torch.equal(unpack_flat(packed, bits, group, count), codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_order_of_bytes_is_as_the_module_says(bits):
    run = 5
    codes = codes_of(8 * run - 2, bits)
    padded = [*codes.tolist(), 0, 0]
    expected = [
        (sum(padded[k * run + j] << (bits * k) for k in range(8)) >> (8 * plane)) & 255
        for plane in range(bits)
        for j in range(run)
    ]
    assert pack_rows(codes[None], bits)[0].tolist() == expected
    assert torch.equal(unpack_rows(pack_rows(codes[None], bits), bits, len(codes))[0], codes)


def test_bits_are_used_but_for_the_rest_of_eight():
    assert packed_size(1024, 3, 256) == 384
    assert packed_size(1, 3, 256) == 3
    assert packed_size(0, 3, 256) == 0

"""A corpus for the sanitizers: valid and damaged frames through every kernel and instruction set.

Run by ``.ci/sanitize`` on kernels built with ASan and UBSan, which end the process at the first
fault; here it is only checked that damage is refused or harmless.
"""

import struct
import sys
import time

import ml_dtypes
import numpy as np

import fewbits
from fewbits import CorruptError, Lossless, _kernels, find_table
from fewbits.lossless.histogram import histogram
from fewbits.lossless.plan import Mode

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
CODECS = [
    Lossless(),
    Lossless(coder="arithmetic"),
    Lossless(rows=64, count_bits=14),
    Lossless(rows=3, count_bits=8, search="paper"),
    Lossless(count_bits=16),
]


def arrays(rng):
    """Tensors of every kind of layout, in sizes that use 1 to 256 lanes and several blocks."""
    for n in (1, 7, 300, 5000, 40_000, 300_001):
        wave = rng.laplace(0, 1, n)
        yield (wave * 0.02).astype(ml_dtypes.bfloat16)
        yield wave.astype(np.float32)[: n // 2 + 1]
        yield np.clip(wave * 8, -127, 127).astype(np.int8)
        yield np.where(rng.random(n) < 0.999, 0, wave).astype(np.float16)
        yield np.clip(wave * 3, -8, 7).astype(ml_dtypes.int4)
        yield wave.astype(ml_dtypes.float8_e5m2)
        yield (wave * 1000).astype(np.int64)[: n // 4 + 1]
        yield rng.integers(0, 256, n, dtype=np.uint8)
        yield np.full(n, 3, np.int16)
    for rows, row in ((130, 129), (50, 3000), (17_000, 1)):
        # Rows of two scales, which become classes; some of shorter floats, which begin a group.
        wave = rng.normal(0, 1, (rows, row)) * rng.choice((1, 0.05), (rows, 1))
        yield wave.astype(ml_dtypes.bfloat16)
        yield np.clip(wave * 30, -127, 127).astype(np.int8)
        yield np.clip(wave * 7, -8, 7).astype(ml_dtypes.int4)
        wide = wave.astype(np.float32)
        wide[::3] = wide[::3].astype(ml_dtypes.bfloat16)
        yield wide
        yield np.where(rng.random((rows, row)) < 0.999, 5, wave * 1000).astype(np.int16)


def resealed(frame):
    """The frame with its header's checksum made right."""
    size = struct.unpack_from("<I", frame, 8)[0]
    frame[24:32] = bytes(8)
    if size <= len(frame):
        digest = _kernels.xxh3(np.frombuffer(frame, np.uint8)[:size])
        frame[24:32] = digest.to_bytes(8, "little")
    return bytes(frame)


def damage(frame, rng):
    """The frame with some bytes changed, or cut, or with a changed header that is resealed."""
    damaged = bytearray(frame)
    for _ in range(int(rng.integers(1, 5))):
        near_start = rng.random() < 0.5
        high = min(len(frame), 700) if near_start else len(frame)
        damaged[int(rng.integers(0, high))] = int(rng.integers(256))
    if rng.random() < 0.1:
        del damaged[int(rng.integers(len(frame))) :]
    damaged[8:12] = frame[8:12]
    return resealed(damaged) if len(damaged) > 32 else bytes(damaged)


def try_damaged(frame, rng):
    """Whether a damaged copy was refused."""
    try:
        damaged = damage(frame, rng)
        products(damaged, rng)
        fewbits.unpack(damaged, verify=bool(rng.random() < 0.2), threads=1)
    except CorruptError:
        return True
    return False


NUMBERS = {"bfloat16": 0, "float32": 1, "int8": 2}


def products(frame, rng):
    """Multiplies a frame, or a damaged copy, with vectors in buffers of just the size."""
    try:
        tensor = fewbits.PackedTensor.of(frame)
    except CorruptError:
        return
    header = tensor.header
    elements = tensor.nbytes // header.plan.element_bytes
    if header.dtype not in NUMBERS or elements == 0:
        return
    columns = next(c for c in (129, 7, 1) if elements % c == 0)
    count = int(rng.integers(1, 4))
    payload = np.frombuffer(tensor.read(*header.payload_range(0, header.blocks)), np.uint8)
    index = (header.modes, header.lengths, header.checksums, NUMBERS[header.dtype], columns)
    vectors = rng.normal(size=count * columns).astype(np.float32)
    out = np.empty(count * elements // columns, np.float32)
    header.plan.kernel.multiply(header.arrangement, payload, *index, vectors, out, False, 2)


def lossy_kernels(rng):
    """Quantizes and masks in buffers of just the size, any bits as floats, codes and grids."""
    for n in (0, 1, 255, 256, 1000):
        for kind, width in ((0, 4), (1, 2), (2, 2)):
            x, out = rng.bytes(n * width), bytearray(n * width)
            value, mask = rng.bytes(width), bytearray(-(-n // 8))
            at = [address(some) for some in (x, out, value, mask)]
            _kernels.pack_mask(kind, at[0], n, at[3], 2)
            _kernels.apply_mask(kind, at[0], at[3], n, True, at[1], 2)
            _kernels.spread_mask(kind, at[2], at[3], n, at[1], 2)
            for bits in range(1, 9):
                for group, odd in ((256, False), (40, True)):
                    kernel = _kernels.Quantizer(bits, group, odd, odd ^ (bits % 2 == 0), 1, 2)
                    full, rest = divmod(n, group)
                    codes = bytearray(full * group // 8 * bits + -(-rest // 8) * bits)
                    grids = bytearray(4 * -(-n // group))
                    kernel.encode(kind, at[0], n, address(codes), address(grids), 2)
                    kernel.decode(kind, address(codes), address(grids), n, at[1], 2)
                    codes, grids = rng.bytes(len(codes)), rng.bytes(len(grids))
                    kernel.decode(kind, address(codes), address(grids), n, at[1], 2)


def address(buffer):
    """Where a buffer's bytes are."""
    return np.frombuffer(buffer, np.uint8).ctypes.data if len(buffer) else 0


def main() -> None:
    """Go through the corpus once, then on with new damage until the time is up."""
    rng = np.random.default_rng(0)
    started, frames, tries, refused = time.monotonic(), [], 0, 0
    modes, groups = set(), False
    for array in arrays(rng):
        for codec in CODECS:
            if codec.search == "paper" and array.size > 40_000:
                continue
            frame = fewbits.pack(array, codec)
            header = fewbits.PackedTensor.of(frame).header
            modes.update(header.modes.tolist())
            groups |= header.plan.classes is not None and any(header.plan.classes.starts_group[1:])
            for simd in _kernels.available_simd():
                _kernels.set_simd(simd)
                assert fewbits.unpack(frame).tobytes() == array.tobytes()
                products(frame, rng)
            frames.append(frame)
    assert modes >= {*Mode} and groups, "a kind of block is missing"
    for width, exact in ((8, True), (12, False), (12, True)):
        counts = histogram(rng.geometric(0.01, 5000).clip(0, (1 << width) - 1), width)
        for covering in (False, True):
            assert find_table(counts, exact=exact, covering=covering).rows > 1
    for simd in _kernels.available_simd():
        _kernels.set_simd(simd)
        lossy_kernels(rng)
    small = [frame for frame in frames if len(frame) < 40_000]
    while time.monotonic() - started < SECONDS or tries < 2000:
        _kernels.set_simd(str(rng.choice(_kernels.available_simd())))
        pool = frames if rng.random() < 0.05 else small
        refused += try_damaged(pool[int(rng.integers(len(pool)))], rng)
        tries += 1
    assert refused > tries / 2
    print(f"{len(frames)} frames round-trip, {tries} damaged ones: {refused} refused, none harmful")


if __name__ == "__main__":
    main()

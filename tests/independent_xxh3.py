"""XXH3 (64 bits, seed 0, default secret) from its specification, standard library alone."""

import struct
from itertools import pairwise

M64 = 2**64 - 1
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P1, P2, P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P4, P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
MX1, MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)


def u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def rotl(x: int, bits: int) -> int:
    return (x << bits | x >> (64 - bits)) & M64


def fold(a: int, b: int) -> int:
    return a * b & M64 ^ a * b >> 64


def avalanche(x: int) -> int:
    x = (x ^ x >> 37) * MX1 & M64
    return x ^ x >> 32


def old_avalanche(x: int) -> int:
    x = (x ^ x >> 33) * P2 & M64
    x = (x ^ x >> 29) * P3 & M64
    return x ^ x >> 32


def short(data: bytes) -> int:
    """Up to 16 bytes."""
    n = len(data)
    if n > 8:
        low = u64(SECRET, 24) ^ u64(SECRET, 32) ^ u64(data, 0)
        high = u64(SECRET, 40) ^ u64(SECRET, 48) ^ u64(data, n - 8)
        swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
        return avalanche((n + swapped + high + fold(low, high)) & M64)
    if n >= 4:
        x = u64(SECRET, 8) ^ u64(SECRET, 16) ^ (u32(data, n - 4) | u32(data, 0) << 32)
        x = (x ^ rotl(x, 49) ^ rotl(x, 24)) * MX2 & M64
        x = (x ^ (x >> 35) + n) * MX2 & M64
        return x ^ x >> 28
    if n == 0:
        return old_avalanche(u64(SECRET, 56) ^ u64(SECRET, 64))
    combined = data[-1] | n << 8 | data[0] << 16 | data[n >> 1] << 24
    return old_avalanche(u32(SECRET, 0) ^ u32(SECRET, 4) ^ combined)


def medium(data: bytes) -> int:
    """17 to 240 bytes."""
    n = len(data)

    def mix(at: int, key: int) -> int:
        return fold(u64(data, at) ^ u64(SECRET, key), u64(data, at + 8) ^ u64(SECRET, key + 8))

    acc = n * P1
    if n <= 128:
        for i in range((n - 1) // 32 + 1):
            acc += mix(16 * i, 32 * i) + mix(n - 16 * i - 16, 32 * i + 16)
        return avalanche(acc & M64)
    acc = avalanche((acc + sum(mix(16 * i, 16 * i) for i in range(8))) & M64)
    acc += sum(mix(16 * i, 16 * (i - 8) + 3) for i in range(8, n // 16))
    return avalanche((acc + mix(n - 16, 119)) & M64)


def long(data: bytes) -> int:
    """More than 240 bytes."""
    acc = [P32_3, P1, P2, P3, P4, P32_2, P5, P32_1]

    def eat(at: int, key: int) -> None:
        lanes = struct.unpack_from("<8Q", data, at)
        keys = struct.unpack_from("<8Q", SECRET, key)
        for i, (lane, word) in enumerate(zip(lanes, keys, strict=True)):
            value = lane ^ word
            acc[i ^ 1] = acc[i ^ 1] + lane & M64
            acc[i] = acc[i] + (value & 0xFFFFFFFF) * (value >> 32) & M64

    starts = [*range(0, len(data), 1024), len(data)]
    for start, after in pairwise(starts):
        last = after == len(data)
        for n in range((len(data) - 1 - start) // 64 if last else 16):
            eat(start + 64 * n, 8 * n)
        if not last:
            acc = [
                (a ^ a >> 47 ^ u64(SECRET, 128 + 8 * i)) * P32_1 & M64 for i, a in enumerate(acc)
            ]
    eat(len(data) - 64, 121)
    folded = [
        fold(acc[i] ^ u64(SECRET, 11 + 8 * i), acc[i + 1] ^ u64(SECRET, 19 + 8 * i))
        for i in range(0, 8, 2)
    ]
    return avalanche((len(data) * P1 + sum(folded)) & M64)


def xxh3(data: bytes) -> int:
    """The hash, as an unsigned 64-bit integer."""
    if len(data) <= 16:
        return short(data)
    return medium(data) if len(data) <= 240 else long(data)

"""Peers that stand in for the real libraries: a right one and three that are wrong."""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fewbits.bench.codecs import Codec
from fewbits.bench.peers import Peer

Compress = Callable[[bytearray], Any]


def fake(name: str, compress: Compress, decompress: Callable[[Any], Any] = zlib.decompress) -> Peer:
    """A peer whose module, zlib, is always there."""
    return Peer(
        name, "no-such-distribution", "zlib", lambda peer, _: Codec(name, "1", compress, decompress)
    )


def lossy(packed: bytes) -> bytes:
    data = bytearray(zlib.decompress(packed))
    data[-1] ^= 1
    return bytes(data)


def crashing(data: bytearray) -> bytes:
    raise RuntimeError("out of\nluck")


def rewriting(data: bytearray) -> bytes:
    packed = zlib.compress(data, 1)
    np.frombuffer(data, np.uint8)[:] = 0xAA
    return packed


class Panic(BaseException):
    """As Rust's panics arrive."""


def panicking(packed: bytes) -> bytes:
    raise Panic("index out of range")


RIGHT = fake("right", lambda data: zlib.compress(data, 1))
LOSSY = fake("lossy", lambda data: zlib.compress(data, 1), lossy)
CRASHING = fake("crashing", crashing)
PANICKING = fake("panicking", lambda data: zlib.compress(data, 1), panicking)
REWRITING = fake("rewriting", rewriting)
FAKES = (RIGHT, LOSSY, CRASHING, PANICKING, REWRITING)

"""The other compressors, each behind the same two functions; imported only when they are used.

All run on one thread, at the level that their makers give as default or, where that takes minutes,
at their fastest. A peer that does not know a dtype gets the nearest that it knows.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits.bench.codecs import Codec

Dtype = np.dtype[Any]


@dataclass(frozen=True)
class Peer:
    """A library, and how it becomes a codec for a dtype."""

    name: str
    distribution: str
    module: str
    build: Callable[["Peer", Dtype], Codec]

    @property
    def installed(self) -> bool:
        """Whether its module can be found; nothing is imported."""
        try:
            return importlib.util.find_spec(self.module) is not None
        except (ImportError, ValueError):
            return False

    @property
    def version(self) -> str:
        """Of the package, or ``?``."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return "?"

    def codec(self, dtype: Dtype) -> Codec:
        """The codec for a dtype; one that fails if the library cannot even be imported."""
        try:
            return self.build(self, dtype)
        except Exception as error:
            fault = error  # the name ends with the block

            def fail(_: object) -> Any:
                raise fault

            return Codec(self.name, self.version, fail, fail)


def _zipnn(peer: Peer, dtype: Dtype) -> Codec:
    zipnn = import_module("zipnn")
    known = ("bfloat16", "float16", "float32", "float8_e4m3fn", "float8_e5m2")
    nearest = {1: "float8_e4m3fn", 2: "bfloat16"}.get(dtype.itemsize, "float32")
    name = dtype.name if dtype.name in known else nearest

    def coder() -> Any:
        return zipnn.ZipNN(input_format="byte", bytearray_dtype=name, threads=1)

    # Made anew each time: it keeps what it read in a header.
    note = "" if name == dtype.name else f"as {name}: it has no {dtype.name}"
    return Codec(
        peer.name,
        peer.version,
        lambda data: coder().compress(data),
        lambda packed: coder().decompress(packed),
        note=note,
    )


def _pcodec(peer: Peer, dtype: Dtype) -> Codec:
    pcodec = import_module("pcodec")
    standalone = import_module("pcodec.standalone")
    native = dtype.name in ("float16", "float32", "float64") or dtype.kind in "iu"
    view = dtype if native else np.dtype(f"u{dtype.itemsize}")
    config = pcodec.ChunkConfig(enable_8_bit=True)
    return Codec(
        peer.name,
        peer.version,
        lambda data: standalone.simple_compress(np.frombuffer(data, view), config),
        standalone.simple_decompress,
        lambda packed, out: standalone.simple_decompress_into(packed, out.view(view)),
        note="" if native else f"as {view.name}: it has no {dtype.name}",
    )


def _openzl(entropy: str) -> Callable[[Peer, Dtype], Codec]:
    """Exponents by FSE or Huffman, the rest stored; bytes by the same."""

    def build(peer: Peer, dtype: Dtype) -> Codec:
        zl = import_module("openzl.ext")
        compressor = zl.Compressor()
        coded, stored = getattr(zl.graphs, entropy), zl.graphs.Store
        float_nodes = {
            "bfloat16": zl.nodes.BFloat16Deconstruct,
            "float32": zl.nodes.Float32Deconstruct,
        }
        width = dtype.itemsize
        if dtype.name in float_nodes:
            node = float_nodes[dtype.name]()
            graph = node(compressor, sign_frac=stored(), exponent=coded())
        elif width == 1:
            graph = zl.nodes.ConvertNumToSerialLE()(compressor, coded())
        else:
            split = zl.nodes.TransposeSplit()(compressor, coded())
            graph = zl.nodes.ConvertNumToStructLE()(compressor, split)
        compressor.select_starting_graph(graph)
        context, reader = zl.CCtx(), zl.DCtx()
        context.ref_compressor(compressor)
        context.set_parameter(zl.CParam.StickyParameters, 1)
        context.set_parameter(zl.CParam.FormatVersion, zl.MAX_FORMAT_VERSION)

        def compress(data: bytearray) -> Any:
            values = np.frombuffer(data, f"u{width}")
            return context.compress([zl.Input(zl.Type.Numeric, values)])

        def decompress(packed: Any) -> NDArray[np.uint8]:
            content = reader.decompress(packed)[0].content
            return np.asarray(content.as_nparray()).view(np.uint8)

        return Codec(peer.name, peer.version, compress, decompress)

    return build


def _blosc2(peer: Peer, dtype: Dtype) -> Codec:
    blosc2 = import_module("blosc2")
    settings = {
        "codec": blosc2.Codec.ZSTD,
        "clevel": 1,
        "filters": [blosc2.Filter.SHUFFLE],
        "typesize": dtype.itemsize,
        "nthreads": 1,
    }
    return Codec(
        peer.name,
        peer.version,
        lambda data: blosc2.compress2(data, **settings),
        lambda packed: blosc2.decompress2(packed, nthreads=1),
        lambda packed, out: blosc2.decompress2(packed, dst=out, nthreads=1),
    )


def _zstd(level: int) -> Callable[[Peer, Dtype], Codec]:
    def build(peer: Peer, dtype: Dtype) -> Codec:
        zstandard = import_module("zstandard")
        return Codec(
            peer.name,
            peer.version,
            zstandard.ZstdCompressor(level=level).compress,
            zstandard.ZstdDecompressor().decompress,
        )

    return build


def _lz4(peer: Peer, dtype: Dtype) -> Codec:
    frame = import_module("lz4.frame")
    return Codec(peer.name, peer.version, frame.compress, frame.decompress)


def _brotli(peer: Peer, dtype: Dtype) -> Codec:
    brotli = import_module("brotli")
    return Codec(
        peer.name,
        peer.version,
        lambda data: brotli.compress(data, quality=1),
        brotli.decompress,
        note="quality 1; its default is 11",
    )


PEERS: tuple[Peer, ...] = (
    Peer("zipnn", "zipnn", "zipnn", _zipnn),
    Peer("openzl FSE", "openzl", "openzl", _openzl("Fse")),
    Peer("openzl Huffman", "openzl", "openzl", _openzl("Huffman")),
    Peer("pcodec", "pcodec", "pcodec", _pcodec),
    Peer("blosc2 shuffle+zstd", "blosc2", "blosc2", _blosc2),
    Peer("zstd 1", "zstandard", "zstandard", _zstd(1)),
    Peer("zstd 3", "zstandard", "zstandard", _zstd(3)),
    Peer("lz4", "lz4", "lz4", _lz4),
    Peer("brotli 1", "brotli", "brotli", _brotli),
)


def installed(peers: Sequence[Peer] | None = None) -> list[Peer]:
    """Those whose libraries are here."""
    return [peer for peer in (PEERS if peers is None else peers) if peer.installed]

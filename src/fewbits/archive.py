"""Archives: frames in a safetensors file, read lazily, and the writing of them.

>>> import numpy as np, tempfile, os
>>> path = os.path.join(tempfile.mkdtemp(), "m.safetensors")
>>> save({"w": np.zeros((1000, 4), np.float32)}, path)
>>> with open(path) as archive:
...     archive["w"][10:12].shape, archive["w"].packed_bytes < 1000
((2, 4), True)
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from math import prod
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from fewbits import _kernels, container, frame_header, links
from fewbits.atomic import atomic_file
from fewbits.bases import (
    HINT_KEY,
    MARKS_KEY,
    BaseFinder,
    BaseLike,
    DeltaPacker,
    delta_packer,
    marks_in,
)
from fewbits.container import Container, Entry
from fewbits.delta import Base, DeltaTensor, Mark
from fewbits.errors import CorruptError, FewbitsError
from fewbits.frame import PackedTensor
from fewbits.frame_header import ALIGNMENT
from fewbits.frameworks import as_array, converter
from fewbits.loading import arrays
from fewbits.lossless.choose import Lossless
from fewbits.profiles import Profile
from fewbits.sources import MemoryFile, PathLike, Source, open_source
from fewbits.values.types import dtype_named, from_storage

# Keys of the metadata that make a safetensors file an archive.
OWN_KEYS = "fewbits."
VERSION_KEY, CHECKSUM_KEY = "fewbits.version", "fewbits.checksum"
SOURCE_KEY = "fewbits.header"  # the original header, where it cannot be derived
METADATA_KEY = "fewbits.metadata"  # "empty": the original had metadata, with nothing in it
VERSION = "1"
EXTENDED_VERSION = "2"  # of archives that hold deltas, or a frame that is that of several tensors
KNOWN_VERSIONS = f"versions {VERSION} and {EXTENDED_VERSION}"
KNOWN_KEYS = (VERSION_KEY, CHECKSUM_KEY, SOURCE_KEY, METADATA_KEY, HINT_KEY, MARKS_KEY)
_NO_CHECKSUM = "0" * 16
_CHECKSUM = re.compile(rb'("fewbits\.checksum":")([0-9a-f]{16})(")')


class Archive(Mapping[str, "PackedTensor | NDArray[Any]"]):
    """A packed file (or a plain safetensors file), opened for reading by name.

    ``archive[name]`` is a ``PackedTensor``, which decodes when asked; in a plain file it is a
    read-only array over the file's bytes. Tensors are in the order of the original file's header.
    Reading is safe from many threads; behind fsspec they take turns.
    """

    def __init__(
        self,
        path: PathLike,
        source: Source,
        *,
        base: "BaseLike | None" = None,
        threads: int | None = None,
        verify: bool = True,
        trail: tuple[str, ...] = (),
    ) -> None:
        self.path = str(path)
        self._source = source
        self._threads, self._verify = threads, verify
        try:
            self.container = container.parse(source.read, source.size)
            # Any key of ours: damage to one of them must not make frames look like plain tensors.
            self.packed = any(key.startswith(OWN_KEYS) for key in self.container.metadata or {})
            self._entries = {entry.name: entry for entry in self.container.entries}
            self._at = {entry.start: entry for entry in self.container.entries}
            self._links = (self.container.metadata or {}).get(VERSION_KEY) == EXTENDED_VERSION
            self._marks: dict[str, Mark] = {}
            if self.packed:
                self._marks = _check_header(self.container)
        except CorruptError as error:
            raise CorruptError(f"{self.path}: {error}") from None
        self._base = BaseFinder(
            path,
            partial(_open, threads=threads, verify=verify),
            given=base,
            # Bytes in memory lie beside nothing.
            hint=None if isinstance(source, MemoryFile) else self.base_name,
            trail=trail,
        )
        if base is not None and self._marks:
            self._base.archive  # noqa: B018  (says at once if there is no such file)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._source.size

    @property
    def metadata(self) -> dict[str, str] | None:
        """The metadata of the original file, without the archive's own."""
        found = self.container.metadata
        if found is None or not self.packed:
            return None if found is None else dict(found)
        own = {key: found[key] for key in found if not key.startswith(OWN_KEYS)}
        return own if own or found.get(METADATA_KEY) == "empty" else None

    @property
    def base_name(self) -> str | None:
        """The name of the file that this archive's deltas need; None if there is none, or none is
        known."""
        return (self.container.metadata or {}).get(HINT_KEY) if self._marks else None

    def __getitem__(self, name: str) -> PackedTensor | NDArray[Any]:
        base = self.container.data_start
        if not self.packed:
            entry = self._entries[name]
            data = self._source.read(base + entry.start, base + entry.stop)
            return plain_array(np.frombuffer(data, np.uint8), entry)
        context = f"{self.path}: tensor {name!r}"
        try:
            entry = self.frame_entry(name)
            begin, size = base + entry.start, entry.stop - entry.start
            fixed = self._source.read(begin, begin + min(size, frame_header.FIXED_BYTES))
            head_bytes = min(frame_header.declared_bytes(fixed), size)
            header = frame_header.parse(self._source.read(begin, begin + head_bytes), size)
            if -(-header.frame_bytes // ALIGNMENT) * ALIGNMENT != size:
                raise CorruptError(f"frame of {header.frame_bytes} bytes in {size} bytes")
            if any(self._source.read(begin + header.frame_bytes, begin + size)):
                raise CorruptError("padding after the frame is not zero")
        except CorruptError as error:
            raise CorruptError(f"{context}: {error}") from None
        read = partial(_read_within, self._source, begin)
        tensor = PackedTensor(header, read, self._threads, self._verify, context)
        if name not in self._marks:
            return tensor
        try:
            find = partial(self._base_of, name, context)
            return DeltaTensor.of_changes(tensor, self._marks[name], find)
        except ValueError as error:
            raise CorruptError(f"{context}: {error}") from None

    def _base_of(self, name: str, context: str) -> Base:
        base = self._base.archive
        if name not in base:
            raise FewbitsError(f"{context}: {base.path} has no such tensor to take as its base")
        return base.stored(name)

    def stored(self, name: str) -> Base:
        """A tensor as bytes to read parts of, whether it is packed or not."""
        tensor = self[name] if self.packed else None
        if isinstance(tensor, PackedTensor):
            return Base(tensor.dtype, tensor.shape, tensor.storage, self.path)
        entry = self._entries[name]
        size, begin = entry.stop - entry.start, self.container.data_start + entry.start

        def read(start: int, stop: int) -> NDArray[np.uint8]:
            return np.frombuffer(self._source.read(begin + start, begin + stop), np.uint8)

        if entry.dtype not in container.DTYPES:
            return Base(np.dtype(np.uint8), (size,), read, self.path)
        return Base(dtype_named(container.DTYPES[entry.dtype]), entry.shape, read, self.path)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def frame_entry(self, name: str) -> Entry:
        """The entry that holds a packed tensor's frame: its own, or that of an earlier, equal one.

        ``CorruptError`` for a link that is damaged or leads to nothing before it.
        """
        entry = self._entries[name]
        if not self._links or entry.stop - entry.start != links.LINK_BYTES:
            return entry
        base = self.container.data_start
        target = links.target_of(self._source.read(base + entry.start, base + entry.stop))
        if target is None:
            return entry
        if target not in self._at or target >= entry.start:
            raise CorruptError("link to no frame before it")
        return self._at[target]

    def expect(self, entries: Sequence[Entry]) -> None:
        """Say which entries, one behind the other, will be read next, so that reading may begin."""
        base = self.container.data_start
        self._source.expect(base + entries[0].start, base + entries[-1].stop)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        kind = "packed" if self.packed else "plain"
        return f"Archive({self.path!r}, {len(self)} {kind} tensors)"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go; tensors of it can no longer be read."""
        self._source.close()
        self._base.close()


def _read_within(source: Source, begin: int, start: int, stop: int) -> memoryview:
    return source.read(begin + start, begin + stop)


def plain_array(data: NDArray[np.uint8], entry: Entry) -> NDArray[Any]:
    """An array over a plain tensor's bytes; flat bytes where NumPy has no such type."""
    if entry.dtype not in container.DTYPES:
        return data
    dtype = dtype_named(container.DTYPES[entry.dtype])
    return from_storage(data, dtype, prod(entry.shape)).reshape(entry.shape)


def open(
    path: PathLike,
    *,
    base: "BaseLike | None" = None,
    threads: int | None = None,
    verify: bool = True,
) -> Archive:
    """Open a packed or plain safetensors file, local or behind fsspec, and read its header.

    ``base``: what the deltas of an archive were packed against, a path or an open ``Archive``; a
    sequence of paths names the base's own base as well, and so on. Without it the file of the name
    that the archive knows is used, if it lies beside the archive.

    ``verify=False`` skips the checksums of decoded tensors. ``CorruptError`` (naming the file) if
    it is neither kind of file or its header is damaged; ``OSError`` if it cannot be read.
    """
    return _open(path, base, threads=threads, verify=verify)


def _open(
    path: PathLike,
    base: "BaseLike | None" = None,
    trail: tuple[str, ...] = (),
    *,
    threads: int | None = None,
    verify: bool = True,
) -> Archive:
    """Open a file that others, whose names are in ``trail``, have as their base."""
    source = open_source(path)
    try:
        return Archive(path, source, base=base, threads=threads, verify=verify, trail=trail)
    except BaseException:
        source.close()
        raise


def load(
    path: PathLike,
    *,
    base: "BaseLike | None" = None,
    framework: str = "np",
    threads: int | None = None,
    verify: bool = True,
) -> dict[str, Any]:
    """All tensors of a packed or plain safetensors file, each in memory of its own.

    They are NumPy arrays, or tensors of another framework: ``pt`` (PyTorch) or ``jax``, on the CPU.
    The file does not depend on the framework, whichever saved it. ``TypeError`` (naming file and
    tensor) if the framework has no such dtype.

    ``base`` as in ``open``; ``FewbitsError`` if it is missing or not the one that is needed.
    """
    convert = converter(framework)
    tensors = {}
    with open(path, base=base, threads=threads, verify=verify) as archive:
        for name, array in arrays(archive, threads):
            try:
                tensors[name] = convert(array)
            except TypeError as error:
                raise TypeError(f"{archive.path}: tensor {name!r}: {error}") from None
        return {name: tensors[name] for name in archive}


def save(
    tensors: Mapping[str, Any],
    path: PathLike,
    *,
    metadata: Mapping[str, str] | None = None,
    codec: Lossless | Profile | None = None,
    threads: int | None = None,
    base: "BaseLike | None" = None,
) -> None:
    """Pack a mapping of names to arrays into an archive, one tensor in memory at a time.

    Arrays may be NumPy's, PyTorch's (on any device) or JAX's. The file takes its name when it is
    complete. ``TypeError`` or ``ValueError`` (naming the tensor) for what cannot be packed.

    With ``base``, another checkpoint's file, tensors are packed as what changed since, where that
    is smaller; ``load`` and ``open`` then need that file as well. ``ValueError`` for a profile with
    a base.
    """

    def frames(packer: DeltaPacker) -> Iterator[Iterable[Any]]:
        for name, tensor in tensors.items():
            try:
                yield packer.pack(name, as_array(tensor))
            except (TypeError, ValueError) as error:
                raise type(error)(f"tensor {name!r}: {error}") from None

    with packer_for(path, base, codec, threads) as packer, atomic_file(path) as file:
        names = list(tensors)
        write_archive(file, names, names, frames(packer), metadata, packer=packer)


def packer_for(
    path: PathLike,
    base: "BaseLike | None",
    codec: Lossless | Profile | None,
    threads: int | None,
) -> AbstractContextManager[DeltaPacker]:
    """What packs the tensors of the archive ``path``, against a base if there is one."""
    return delta_packer(path, base, partial(_open, threads=threads), codec, threads)


def write_archive(
    file: BinaryIO,
    names: Iterable[str],
    listed: Iterable[str],
    frames: Iterable[Iterable[Any]],
    metadata: Mapping[str, str] | None,
    source_header: str | None = None,
    packer: DeltaPacker | None = None,
) -> None:
    """Write an archive: ``frames``, each in parts, of ``names``; its header lists ``listed``.

    The header's place is kept free and filled in last, since it tells where each frame ends, and
    what ``packer`` made of the tensors. A frame that equals an earlier one is not written again, a
    link to that one is.
    """
    names, listed = list(names), list(listed)

    def marks(linked: bool) -> dict[str, str]:
        deltas = packer.metadata(listed) if packer else {}
        version = EXTENDED_VERSION if deltas or linked else VERSION
        own = {VERSION_KEY: version, CHECKSUM_KEY: _NO_CHECKSUM} | deltas
        if metadata is not None and not metadata:
            own[METADATA_KEY] = "empty"
        if source_header is not None:
            own[SOURCE_KEY] = source_header
        return {**own, **(metadata or {})}

    clash = [key for key in metadata or {} if key.startswith(OWN_KEYS)]
    if clash:
        raise ValueError(f"metadata key {clash[0]!r} is the archive's own")
    for name in names:
        if not isinstance(name, str) or name == container.METADATA or not container.is_text(name):
            raise ValueError(f"{name!r} is not a tensor name")

    widest = 10**15
    reserved = container.header_text(
        [Entry(name, "U8", (widest,), widest, widest) for name in names],
        marks(False),
        align=ALIGNMENT,
    )
    file.write(bytes(container.PREFIX_BYTES + len(reserved)))
    entries, reached, linked = {}, 0, False
    written = links.Written(file, container.PREFIX_BYTES + len(reserved))
    for name, frame in zip(names, frames, strict=True):
        parts, size = list(frame), 0
        start = written.start_of(parts, reached)
        if start != reached:
            parts, linked = [links.to_bytes(start)], True
        for part in parts:
            file.write(part)
            size += len(part)
        padding = -size % ALIGNMENT
        file.write(bytes(padding))
        entries[name] = Entry(name, "U8", (size + padding,), reached, reached + size + padding)
        reached += size + padding
    text = container.header_text(
        [entries[name] for name in listed],
        marks(linked),
        align=ALIGNMENT,
        least=container.PREFIX_BYTES + len(reserved),
    )
    file.seek(0)
    file.write(container.with_prefix(_with_checksum(text)))


def _with_checksum(text: bytes) -> bytes:
    checksum = f"{_kernels.xxh3(np.frombuffer(text, np.uint8)):016x}".encode()
    return _CHECKSUM.sub(rb"\g<1>" + checksum + rb"\g<3>", text, count=1)


def _check_header(found: Container) -> dict[str, Mark]:
    """The checks of an archive's header (``docs/format.md``, "Archive"); the marks of deltas."""
    metadata = found.metadata or {}
    version = metadata.get(VERSION_KEY)
    if version not in (VERSION, EXTENDED_VERSION):
        raise CorruptError(f"archive version {version!r}; this release reads {KNOWN_VERSIONS}")
    blank, sums = _CHECKSUM.subn(rb"\g<1>" + _NO_CHECKSUM.encode() + rb"\g<3>", found.text, count=1)
    if not sums or _with_checksum(blank) != found.text:
        raise CorruptError("archive header is damaged (checksum)")
    for entry in found.entries:
        if entry.dtype != "U8" or len(entry.shape) != 1 or entry.start % ALIGNMENT:
            raise CorruptError(f"tensor {entry.name!r} is not a frame")
    unknown = [key for key in metadata if key.startswith(OWN_KEYS) and key not in KNOWN_KEYS]
    if unknown:
        raise CorruptError(f"archive has a key {unknown[0]!r} that this release does not know")
    if MARKS_KEY not in metadata:
        return {}
    if version != EXTENDED_VERSION:
        raise CorruptError(f"archive version {version} does not go with its deltas")
    try:
        return marks_in(metadata, [entry.name for entry in found.entries])
    except ValueError as error:
        raise CorruptError(str(error)) from None

"""Packing and unpacking files and folders: what the commands ``pack``, ``unpack``, ``verify`` do.

A folder is packed file by file: tensors in ``*.safetensors``, everything else (configuration,
tokenizer, ``model.safetensors.index.json``) copied. Names do not change, so an index stays right.

With ``workers`` the files of a folder are shared out to processes, here or on a Ray cluster. Where
there are fewer files than workers, packing shares out the tensors of one file after the other. The
result is the same to the byte. Workers are new processes: a program that asks for them must start
its own work under ``if __name__ == "__main__":``.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits import __version__, archive, container, paths
from fewbits.archive import Archive
from fewbits.atomic import atomic_file
from fewbits.base_files import Bases, bases_of, listed, refuse_to_replace
from fewbits.bases import DeltaPacker
from fewbits.container import Entry
from fewbits.delta import DeltaTensor, Mark
from fewbits.engines import Engine, EngineName, each, open_engine, threads_of
from fewbits.errors import FewbitsError
from fewbits.folders import check_target, contents, tensor_files
from fewbits.frame import PackedTensor
from fewbits.lossless.choose import Lossless
from fewbits.originals import original_header, source_container
from fewbits.sources import is_remote
from fewbits.staging import make_once, staged_folder
from fewbits.values.types import to_storage

__all__ = [
    "Bases",
    "Progress",
    "Totals",
    "pack_path",
    "tensor_files",
    "unpack_path",
    "verify_path",
]

# A worker gets so many bytes of tensors at a time, or one tensor.
GROUP_BYTES = 1 << 24

# Called after each tensor with the file, the tensor's name, and its bytes unpacked and packed.
Progress = Callable[[str, str, int, int], None]
Frame = tuple[bytes, NDArray[np.uint8]]


@dataclass(frozen=True)
class Totals:
    """What an operation went through: bytes of whole files, before and after.

    ``deltas``: how many of the tensors are packed as what changed since a base.
    """

    files: int
    tensors: int
    bytes_in: int
    bytes_out: int
    deltas: int = 0


@dataclass(frozen=True)
class Checked:
    """A file that was verified: how large it is, packed and unpacked, or what is wrong with it."""

    path: str
    tensors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    deltas: int = 0
    error: Exception | None = None


def pack_path(
    src: str | Path,
    dst: str | Path,
    *,
    codec: Lossless | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
    engine: EngineName = "local",
    base: Bases = (),
) -> Totals:
    """Pack a safetensors file, a folder, or the shards that an index lists, to ``dst``.

    ``base``: another checkpoint of the same form, packed or not. Tensors are then packed as what
    changed since, where that is smaller, and unpacking needs the base. If the base is itself packed
    in this way and does not lie beside its own base, name that one next, and so on.

    Every tensor is unpacked again and compared before the result takes its name. ``FewbitsError``
    (naming file and tensor) if the source is not what it should be or ``dst`` is there already and
    ``force`` does not say to replace it.

    ``workers``: processes to share the work with (default: none; with Ray, as many as the cluster
    has room for). ``engine``: where they are, ``local`` for this machine or ``ray``. ``threads``:
    those of one process. If a folder is not finished, the same call goes on where it ended.
    """
    codec = codec or Lossless()
    crew = _Crew(engine, workers, threads)
    refuse_to_replace(base, dst)
    convert = partial(_pack_file, codec=codec, threads=crew.threads_each)
    return _convert_path(src, dst, base, convert, f"pack {codec!r}", force, progress, crew)


def unpack_path(
    src: str | Path,
    dst: str | Path,
    *,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
    engine: EngineName = "local",
    base: Bases = (),
) -> Totals:
    """Unpack what ``pack_path`` made: the original files, byte for byte.

    ``base`` as for ``pack_path``; not needed for a file whose base lies beside it under its name.

    An archive that ``fewbits.save`` made becomes the safetensors file that the reference
    implementation would write. ``CorruptError`` if anything is damaged; it is not in ``dst`` then.

    ``workers`` and ``engine`` as for ``pack_path``; a file by itself takes threads only.
    """
    single = contents(src).folder is None
    crew = _Crew("local", None, threads) if single else _Crew(engine, workers, threads)
    convert = partial(_unpack_file, threads=crew.threads_each)
    return _convert_path(src, dst, base, convert, "unpack", force, progress, crew, by_tensor=False)


def verify_path(
    src: str | Path,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    engine: EngineName = "local",
    base: Bases = (),
) -> Totals:
    """Decode every tensor of an archive or folder of archives, checksums included.

    ``CorruptError`` at the first that is damaged. ``workers`` and ``engine`` as for ``pack_path``,
    ``base`` as for ``unpack_path``.
    """
    files: list[Checked] = []
    for file in verify_each(
        src, threads=threads, progress=progress, workers=workers, engine=engine, base=base
    ):
        if file.error:
            raise file.error
        files.append(file)
    tensors, before, after, deltas = (
        sum(getattr(file, field) for file in files)
        for field in ("tensors", "bytes_in", "bytes_out", "deltas")
    )
    return Totals(len(files), tensors, before, after, deltas)


def verify_each(
    src: str | Path,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    engine: EngineName = "local",
    base: Bases = (),
) -> Iterator[Checked]:
    """Like ``verify_path``, file by file, and going on after one that is damaged."""
    crew = _Crew(engine, workers, threads)
    src, base = crew.reachable(src), [crew.reachable(path) for path in listed(base)]
    tasks = [_Archived(*pair) for pair in bases_of(src, base).items()]
    verify = partial(_verify_file, threads=crew.threads_each)
    with crew.opened() as workers_there:
        yield from each(workers_there, verify, tasks, progress or _ignore)


@dataclass(frozen=True)
class _Crew:
    """Who was asked to do the work."""

    engine: EngineName
    workers: int | None
    threads: int | None

    @property
    def threads_each(self) -> int | None:
        return threads_of(self.engine, self.workers, self.threads)

    def opened(self) -> Any:
        return open_engine(self.engine, self.workers, self.threads)

    def reachable(self, path: str | Path) -> str:
        """A path as workers may use it; ``FewbitsError`` for what they cannot reach."""
        if self.engine == "ray" or (self.workers or 1) > 1:
            paths.must_be_shared(path)
        # Workers on a cluster have current folders of their own.
        ours = self.engine == "local" or is_remote(path)
        return str(path) if ours else os.path.abspath(path)  # noqa: PTH100


def _convert_path(
    src: str | Path,
    dst: str | Path,
    base: Bases,
    convert: Callable[..., tuple[int, ...]],
    settings: str,
    force: bool,
    progress: Progress | None,
    crew: _Crew,
    *,
    by_tensor: bool = True,
) -> Totals:
    src, dst, report = crew.reachable(src), crew.reachable(dst), progress or _ignore
    found, bases = contents(src), bases_of(src, [crew.reachable(path) for path in listed(base)])
    inputs = {name: (found.path(name), *bases[found.path(name)]) for name in found.tensors}
    check_target(src, dst, force=force, folder=found.folder is not None)
    if found.folder is None:
        [(name, of_file)] = inputs.items()
        with crew.opened() as engine:
            tensors, deltas = convert(of_file, dst, report, engine=engine)
        return Totals(1, tensors, paths.size_of(name), paths.size_of(dst), deltas)
    copies = {name: found.path(name) for name in found.others}
    settings = f"fewbits {__version__}: {settings}"
    # The workers end before the stage is cleared.
    with staged_folder(dst, found.tensors, copies, replace=force) as stage:
        tasks = [stage.task(name, of_file, settings) for name, of_file in inputs.items()]
        with crew.opened() as engine:
            if by_tensor and engine and len(tasks) < engine.workers:
                make = partial(make_once, partial(convert, engine=engine))
                counts = [make(task, report) for task in tasks]
            else:
                counts = list(each(engine, partial(make_once, convert), tasks, report))
        before = sum(paths.size_of(task.inputs[0]) for task in tasks)
        after = sum(paths.size_of(task.target) for task in tasks)
    tensors, deltas = (sum(column) for column in zip(*counts, strict=True))
    return Totals(len(tasks), tensors, before, after, deltas)


def _ignore(path: str, name: str, plain: int, packed: int) -> None:
    """No progress is asked for."""


@dataclass(frozen=True)
class _Archived:
    """An archive to be verified; its base, that one's own base, and so on."""

    path: str
    bases: tuple[str, ...]

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class _Group:
    """Tensors of a plain file, to be packed by one worker; ``inputs`` are that file and its base,
    that one's own base, and so on."""

    inputs: tuple[str, ...]
    names: tuple[str, ...]

    def __str__(self) -> str:
        more = f" to {self.names[-1]!r}" if len(self.names) > 1 else ""
        return f"{self.inputs[0]}: tensor {self.names[0]!r}{more}"


def _groups(inputs: tuple[str, ...], entries: list[Entry]) -> Iterator[_Group]:
    """Tensors in file order, together until they are worth a worker's while."""
    names: list[str] = []
    size = 0
    for entry in entries:
        names.append(entry.name)
        size += entry.stop - entry.start
        if size >= GROUP_BYTES:
            yield _Group(inputs, tuple(names))
            names, size = [], 0
    if names:
        yield _Group(inputs, tuple(names))


def _pack_file(
    inputs: tuple[str, ...],
    dst: str,
    report: Progress,
    *,
    codec: Lossless,
    threads: int | None,
    engine: Engine | None = None,
) -> tuple[int, int]:
    """Pack a file, given with its base, that one's own base, and so on; tensors and deltas."""
    src, *base = inputs
    packing = archive.packer_for(dst, base or None, codec, threads)
    with archive.open(src) as opened, packing as packer, atomic_file(dst) as file:
        if opened.packed:
            raise FewbitsError(f"{src}: is packed already")
        entries = opened.container.in_file_order
        names = [entry.name for entry in entries]

        def frames() -> Iterator[Frame]:
            if engine is None:
                yield from _frames(opened, names, report, packer)
                return
            pack = partial(_pack_group, dst=dst, codec=codec, threads=threads)
            ahead = 2 * engine.workers
            for group, marks in each(engine, pack, _groups(inputs, entries), report, ahead=ahead):
                packer.marks |= marks
                yield from group

        try:
            archive.write_archive(
                file,
                names,
                [entry.name for entry in opened.container.entries],
                frames(),
                opened.container.metadata,
                original_header(opened.container),
                packer,
            )
        except ValueError as error:
            raise FewbitsError(f"{src}: {error}") from None
        return len(entries), packer.deltas


def _pack_group(
    group: _Group, report: Progress, *, dst: str, codec: Lossless, threads: int | None
) -> tuple[list[Frame], dict[str, Mark | None]]:
    """Frames of some tensors for the archive ``dst``, and what they say about deltas."""
    src, *base = group.inputs
    packing = archive.packer_for(dst, base or None, codec, threads)
    with archive.open(src) as opened, packing as packer:
        return list(_frames(opened, group.names, report, packer)), packer.marks


def _frames(
    opened: Archive, names: Iterable[str], report: Progress, packer: DeltaPacker
) -> Iterator[Frame]:
    """Tensors of a plain file, packed one by one."""
    for name in names:
        tensor = np.asarray(opened[name])
        parts = packer.pack(name, tensor)
        back = packer.unpack(name, parts)
        _check_round_trip(tensor, back, f"{opened.path}: tensor {name!r}")
        report(opened.path, name, tensor.nbytes, sum(map(len, parts)))
        yield parts


def _check_round_trip(tensor: NDArray[Any], back: NDArray[Any], context: str) -> None:
    """Compare with what was unpacked: a packed file must never lose a bit."""
    if not np.array_equal(to_storage(back), to_storage(tensor)):
        raise FewbitsError(f"{context}: does not survive packing; this is a bug in Fewbits")


def _unpack_file(
    inputs: tuple[str, ...],
    dst: str,
    report: Progress,
    *,
    threads: int | None,
    engine: Engine | None = None,
) -> tuple[int, int]:
    """Unpack a file, given with its base, that one's own base, and so on; tensors and deltas."""
    src, *base = inputs
    unpacking = archive.open(src, threads=threads, base=base or None)
    with unpacking as opened, atomic_file(dst) as file:
        _require_packed(opened)
        original = source_container(opened)
        file.write(container.with_prefix(original.text))
        deltas = 0
        for name in (entry.name for entry in original.in_file_order):
            tensor = opened[name]
            assert isinstance(tensor, PackedTensor)
            file.write(to_storage(tensor.unpack()).data)
            deltas += isinstance(tensor, DeltaTensor)
            report(src, name, tensor.nbytes, tensor.packed_bytes)
        return len(opened), deltas


def _verify_file(task: _Archived, report: Progress, *, threads: int | None) -> Checked:
    path = task.path
    try:
        with archive.open(path, threads=threads, base=task.bases or None) as opened:
            _require_packed(opened)
            plain = deltas = 0
            for name, tensor in _packed_tensors(opened):
                tensor.unpack()
                report(path, name, tensor.nbytes, tensor.packed_bytes)
                plain += tensor.nbytes
                deltas += isinstance(tensor, DeltaTensor)
            return Checked(path, len(opened), opened.size, plain, deltas)
    except (FewbitsError, OSError, MemoryError) as error:
        return Checked(path, error=error)


def _require_packed(opened: Archive) -> None:
    if not opened.packed:
        raise FewbitsError(f"{opened.path}: is a plain safetensors file, not a packed one")


def _packed_tensors(opened: Archive) -> Iterator[tuple[str, PackedTensor]]:
    for name, tensor in opened.items():
        assert isinstance(tensor, PackedTensor)
        yield name, tensor

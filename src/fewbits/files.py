"""Packing and unpacking files and folders: what the commands ``pack``, ``unpack``, ``verify`` do.

A folder is packed file by file: tensors in ``*.safetensors``, everything else (configuration,
tokenizer, ``model.safetensors.index.json``) copied. Names do not change, so an index stays right.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbits import archive, container
from fewbits.archive import Archive
from fewbits.atomic import atomic_file, atomic_folder
from fewbits.errors import CorruptError, FewbitsError
from fewbits.frame import PackedTensor, pack_parts, unpack
from fewbits.lossless.choose import Lossless
from fewbits.sources import is_remote
from fewbits.values.types import to_storage

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"

# Called after each tensor with the file, the tensor's name, and its bytes unpacked and packed.
Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class Totals:
    """What an operation went through: bytes of whole files, before and after."""

    files: int
    tensors: int
    bytes_in: int
    bytes_out: int


def pack_path(
    src: str | Path,
    dst: str | Path,
    *,
    codec: Lossless | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Totals:
    """Pack a safetensors file, a folder, or the shards that an index lists, to ``dst``.

    Every tensor is unpacked again and compared before the result takes its name. ``FewbitsError``
    (naming file and tensor) if the source is not what it should be or ``dst`` is there already and
    ``force`` does not say to replace it.
    """

    def convert(source: str, target: str) -> int:
        return _pack_file(source, target, codec, threads, progress)

    return _convert_path(src, dst, convert, force)


def unpack_path(
    src: str | Path,
    dst: str | Path,
    *,
    threads: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Totals:
    """Unpack what ``pack_path`` made: the original files, byte for byte.

    An archive that ``fewbits.save`` made becomes the safetensors file that the reference
    implementation would write. ``CorruptError`` if anything is damaged; nothing is left then.
    """

    def convert(source: str, target: str) -> int:
        return _unpack_file(source, target, threads, progress)

    return _convert_path(src, dst, convert, force)


def verify_path(
    src: str | Path, *, threads: int | None = None, progress: Progress | None = None
) -> Totals:
    """Decode every tensor of an archive or folder of archives, checksums included.

    ``CorruptError`` at the first that is damaged.
    """
    tensors = bytes_in = bytes_out = 0
    files = tensor_files(src)
    for path in files:
        with archive.open(path, threads=threads) as opened:
            _require_packed(opened)
            for name, tensor in _packed_tensors(opened):
                tensor.unpack()
                _report(progress, path, name, tensor.nbytes, tensor.packed_bytes)
                bytes_out += tensor.nbytes
            tensors += len(opened)
            bytes_in += opened.size
    return Totals(len(files), tensors, bytes_in, bytes_out)


def tensor_files(src: str | Path) -> list[str]:
    """The safetensors files that a path stands for: itself, a folder's, or those an index lists."""
    if is_remote(src):
        return [str(src)]
    path = Path(src)
    if path.is_dir():
        found = sorted(str(p) for p in path.rglob(f"*{SUFFIX}") if p.is_file())
        if not found:
            raise FewbitsError(f"{path}: no {SUFFIX} file in this folder")
        return found
    if path.name.endswith(INDEX_SUFFIX):
        return [str(path.parent / name) for name in _shards(path)]
    if not path.exists():
        raise FewbitsError(f"{path}: no such file or folder")
    return [str(path)]


def _shards(index: Path) -> list[str]:
    """Names of the files in an index's weight map; they must lie beside it."""
    try:
        shards = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except FileNotFoundError:
        raise FewbitsError(f"{index}: no such file") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CorruptError(f"{index}: not an index of shards") from None
    for name in shards:
        if not isinstance(name, str) or Path(name).name != name:
            raise CorruptError(f"{index}: shard {name!r} is not a file beside the index")
        if not (index.parent / name).is_file():
            raise FewbitsError(f"{index}: shard {name} is missing")
    return shards


def _convert_path(
    src: str | Path, dst: str | Path, convert: Callable[[str, str], int], force: bool
) -> Totals:
    files = tensor_files(src)
    single = len(files) == 1 and files[0] == str(Path(src) if not is_remote(src) else src)
    if not is_remote(dst):
        _check_target(Path(src), Path(dst), force, folder=not single)
    if single:
        tensors = convert(files[0], str(dst))
        return Totals(1, tensors, _size(files[0]), _size(dst))
    if is_remote(dst):
        raise FewbitsError(f"{dst}: a folder can only be written to a local path")
    root, tensors = Path(src), 0
    if not root.is_dir():
        root = root.parent
    with atomic_folder(Path(dst), replace=force) as folder:
        for name in _members(Path(src), files):
            target = folder / name.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if str(name) in files:
                tensors += convert(str(name), str(target))
            else:
                shutil.copy2(name, target)
        sizes = sum(_size(folder / Path(name).relative_to(root)) for name in files)
    return Totals(len(files), tensors, sum(map(_size, files)), sizes)


def _members(src: Path, files: list[str]) -> list[Path]:
    """Files to carry over: all of a folder's, or an index with its shards."""
    if src.is_dir():
        return sorted(p for p in src.rglob("*") if p.is_file())
    return [src, *map(Path, files)]


def _check_target(src: Path, dst: Path, force: bool, *, folder: bool) -> None:
    if not dst.parent.is_dir():
        raise FewbitsError(f"{dst.parent}: no such folder")
    if dst.exists() and not (dst.is_file() or dst.is_dir()):
        raise FewbitsError(f"{dst}: is a device or the like, which cannot be replaced")
    if dst.exists() and dst.is_dir() != folder:
        raise FewbitsError(f"{dst}: is {'not ' if folder else ''}a folder")
    if dst.exists() and src.exists() and dst.samefile(src):
        raise FewbitsError(f"{dst}: source and destination are the same")
    if folder and src.resolve() in dst.resolve().parents:
        raise FewbitsError(f"{dst}: lies inside the source folder")
    if dst.exists() and not force:
        raise FewbitsError(f"{dst}: exists already (use --force to replace it)")


def _size(path: str | Path) -> int:
    return 0 if is_remote(path) else Path(path).stat().st_size


def _report(progress: Progress | None, path: str, name: str, plain: int, packed: int) -> None:
    if progress:
        progress(path, name, plain, packed)


def _pack_file(
    src: str,
    dst: str,
    codec: Lossless | None,
    threads: int | None,
    progress: Progress | None,
) -> int:
    with archive.open(src) as opened, atomic_file(dst) as file:
        if opened.packed:
            raise FewbitsError(f"{src}: is packed already")
        entries = {entry.name: entry for entry in opened.container.in_file_order}

        def frames() -> Iterator[tuple[bytes, NDArray[np.uint8]]]:
            for name, entry in entries.items():
                tensor = np.asarray(opened[name])
                parts = pack_parts(tensor, codec, threads=threads)
                _check_round_trip(tensor, parts, f"{src}: tensor {name!r}", threads)
                _report(progress, src, name, entry.stop - entry.start, sum(map(len, parts)))
                yield parts

        try:
            archive.write_archive(
                file,
                list(entries),
                [entry.name for entry in opened.container.entries],
                frames(),
                opened.container.metadata,
                archive.original_header(opened.container),
            )
        except ValueError as error:
            raise FewbitsError(f"{src}: {error}") from None
        return len(entries)


def _check_round_trip(
    tensor: NDArray[Any], parts: tuple[bytes, NDArray[np.uint8]], context: str, threads: int | None
) -> None:
    """Unpack what is about to be written and compare: a packed file must never lose a bit."""
    head, payload = parts
    back = unpack(np.concatenate([np.frombuffer(head, np.uint8), payload]), threads=threads)
    if not np.array_equal(to_storage(back), to_storage(tensor)):
        raise FewbitsError(f"{context}: does not survive packing; this is a bug in Fewbits")


def _unpack_file(src: str, dst: str, threads: int | None, progress: Progress | None) -> int:
    with archive.open(src, threads=threads) as opened, atomic_file(dst) as file:
        _require_packed(opened)
        original = archive.source_container(opened)
        file.write(container.with_prefix(original.text))
        for name in (entry.name for entry in original.in_file_order):
            tensor = opened[name]
            assert isinstance(tensor, PackedTensor)
            file.write(to_storage(tensor.unpack()).data)
            _report(progress, src, name, tensor.nbytes, tensor.packed_bytes)
        return len(opened)


def _require_packed(opened: Archive) -> None:
    if not opened.packed:
        raise FewbitsError(f"{opened.path}: is a plain safetensors file, not a packed one")


def _packed_tensors(opened: Archive) -> Iterator[tuple[str, PackedTensor]]:
    for name, tensor in opened.items():
        assert isinstance(tensor, PackedTensor)
        yield name, tensor

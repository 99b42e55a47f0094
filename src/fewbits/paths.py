"""Questions about paths that are local or behind fsspec, answered alike."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fewbits import _kernels
from fewbits.atomic import atomic_file
from fewbits.errors import CorruptError, FewbitsError
from fewbits.sources import (
    MappedFile,
    PathLike,
    filesystem_of,
    is_remote,
    open_source,
    store_errors,
)

# Only one process sees what these hold.
_PROCESS_OWN = ("memory",)
_READ_ONLY = ("http", "https", "data", "git", "github")


def join(folder: PathLike, name: str) -> str:
    """The path of ``name``, with slashes, in a folder; in ``a://b::c://d`` it lies in ``a://b``."""
    if not is_remote(folder):
        return str(Path(folder) / name)
    links = str(folder).split("::")
    place = next(i for i, link in enumerate(links) if "://" in link)
    links[place] = f"{links[place].rstrip('/')}/{name}"
    return "::".join(links)


def split(path: PathLike) -> tuple[str, str]:
    """A file's folder and its name there."""
    if not is_remote(path):
        return str(Path(path).parent), Path(path).name
    links = str(path).split("::")
    place = next(i for i, link in enumerate(links) if "://" in link)
    links[place], _, name = links[place].rpartition("/")
    return "::".join(links), name


def is_folder(path: PathLike) -> bool:
    """Whether there is a folder (in an object store: anything whose name begins with it)."""
    if not is_remote(path):
        return Path(path).is_dir()
    filesystem, inner = filesystem_of(str(path))
    with store_errors(str(path)):
        return bool(filesystem.isdir(inner))


def is_file(path: PathLike) -> bool:
    """Whether there is a file."""
    if not is_remote(path):
        return Path(path).is_file()
    filesystem, inner = filesystem_of(str(path))
    with store_errors(str(path)):
        return bool(filesystem.isfile(inner))


def exists(path: PathLike) -> bool:
    """Whether there is a file or folder."""
    if not is_remote(path):
        return Path(path).exists()
    filesystem, inner = filesystem_of(str(path))
    with store_errors(str(path)):
        return bool(filesystem.exists(inner))


def size_of(path: PathLike) -> int:
    """Bytes of a file."""
    if not is_remote(path):
        return Path(path).stat().st_size
    filesystem, inner = filesystem_of(str(path))
    with store_errors(str(path)):
        return int(filesystem.size(inner) or 0)


def names_in(folder: PathLike) -> list[str]:
    """All files of a folder and the folders in it: their names relative to it, sorted."""
    if not is_remote(folder):
        root = Path(folder)
        return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    filesystem, inner = filesystem_of(str(folder))
    with store_errors(str(folder)):
        found = filesystem.find(inner)
    return sorted(name[len(inner.rstrip("/")) :].lstrip("/") for name in found)


def remove(path: PathLike) -> None:
    """Remove a file, or a folder with all in it, that may be gone already; remote only."""
    filesystem, inner = filesystem_of(str(path))
    with store_errors(str(path)):
        if filesystem.exists(inner):
            filesystem.rm(inner, recursive=True)


def copy(src: PathLike, dst: PathLike) -> None:
    """Copy a file; the copy appears whole or not at all."""
    source = open_source(src)
    try:
        with atomic_file(dst) as file:
            for start in range(0, source.size, 1 << 24):
                file.write(source.read(start, min(start + (1 << 24), source.size)))
    finally:
        source.close()


def identity(path: PathLike) -> str:
    """Text that differs when a file's bytes do: a local file's XXH3, what a store tells of others.

    Stores tell sizes, times and checksums of their own; asking costs no transfer.
    """
    if is_remote(path):
        filesystem, inner = filesystem_of(str(path))
        with store_errors(str(path)):
            filesystem.invalidate_cache()
            told = repr(sorted(filesystem.info(inner).items(), key=str)).encode()
        return f"{_kernels.xxh3(np.frombuffer(told, np.uint8)):016x}"
    source = MappedFile(Path(path))
    try:
        data = np.frombuffer(source.read(0, source.size), np.uint8)
        return f"{_kernels.xxh3(data):016x}"
    finally:
        source.close()


def read_json(path: PathLike) -> Any:
    """The JSON document in a file; ``CorruptError`` if there is none in it."""
    source = open_source(path)
    try:
        return json.loads(bytes(source.read(0, source.size)))
    except (ValueError, RecursionError):
        raise CorruptError(f"{path}: not JSON") from None
    finally:
        source.close()


def must_be_writable(path: PathLike) -> None:
    """``FewbitsError`` for stores that can only be read."""
    if protocols := _protocols(path, _READ_ONLY):
        raise FewbitsError(f"{path}: {protocols[0]} can be read but not written")


def must_be_shared(path: PathLike) -> None:
    """``FewbitsError`` for stores that other processes do not see."""
    if protocols := _protocols(path, _PROCESS_OWN):
        raise FewbitsError(f"{path}: {protocols[0]} is this process's own; workers cannot reach it")


def _protocols(path: PathLike, wanted: tuple[str, ...]) -> list[str]:
    """Which of some protocols a path goes through."""
    links = str(path).split("::") if is_remote(path) else []
    return [name for name in wanted if name in {link.partition("://")[0] for link in links}]

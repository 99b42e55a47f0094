"""What a path stands for: a file, a folder of files, or an index with its shards."""

from dataclasses import dataclass
from pathlib import Path

from fewbits import paths
from fewbits.errors import CorruptError, FewbitsError
from fewbits.sources import PathLike, is_remote
from fewbits.staging import REMOTE_RECORDS

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"


@dataclass(frozen=True)
class Contents:
    """Names in a folder: files of tensors, and others. A file by itself has no folder."""

    folder: str | None
    tensors: tuple[str, ...]
    others: tuple[str, ...] = ()

    def path(self, name: str) -> str:
        """Where a file is."""
        return name if self.folder is None else paths.join(self.folder, name)


def contents(src: PathLike) -> Contents:
    """Look a path up; ``FewbitsError`` if nothing is there, or nothing with tensors."""
    path = str(src) if is_remote(src) else str(Path(src))
    if path.endswith(INDEX_SUFFIX) and not paths.is_folder(path):
        folder, name = paths.split(path)
        return Contents(folder, tuple(_shards(path)), (name,))
    # A store is not asked about what is a file by its name.
    if not (is_remote(path) and path.endswith(SUFFIX)) and paths.is_folder(path):
        names = paths.names_in(path)
        tensors = tuple(name for name in names if name.endswith(SUFFIX))
        if not tensors:
            raise FewbitsError(f"{path}: no {SUFFIX} file in this folder")
        return Contents(path, tensors, tuple(name for name in names if name not in set(tensors)))
    if not is_remote(path) and not Path(path).exists():
        raise FewbitsError(f"{path}: no such file or folder")
    return Contents(None, (path,))


def tensor_files(src: PathLike) -> list[str]:
    """The safetensors files that a path stands for: itself, a folder's, or those an index lists."""
    found = contents(src)
    return [found.path(name) for name in found.tensors]


def _shards(index: str) -> list[str]:
    """Names of the files in an index's weight map; they must lie beside it."""
    try:
        shards = sorted(set(paths.read_json(index)["weight_map"].values()))
    except FileNotFoundError:
        raise FewbitsError(f"{index}: no such file") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CorruptError(f"{index}: not an index of shards") from None
    folder, _ = paths.split(index)
    for name in shards:
        if not isinstance(name, str) or "/" in name or name in ("", ".", ".."):
            raise CorruptError(f"{index}: shard {name!r} is not a file beside the index")
        if not paths.is_file(paths.join(folder, name)):
            raise FewbitsError(f"{index}: shard {name} is missing")
    return shards


def check_target(src: PathLike, dst: PathLike, *, force: bool, folder: bool) -> None:
    """``FewbitsError`` if writing ``dst`` would lose something, or cannot work."""
    if is_remote(dst):
        _check_remote_target(src, str(dst), force=force, folder=folder)
        return
    source, path = None if is_remote(src) else Path(src), Path(dst)
    if not path.parent.is_dir():
        raise FewbitsError(f"{path.parent}: no such folder")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise FewbitsError(f"{path}: is a device or the like, which cannot be replaced")
    if path.exists() and path.is_dir() != folder:
        raise FewbitsError(f"{path}: is {'not ' if folder else ''}a folder")
    if path.exists() and source and source.exists() and path.samefile(source):
        raise FewbitsError(f"{path}: source and destination are the same")
    if folder and source and source.resolve() in path.resolve().parents:
        raise FewbitsError(f"{path}: lies inside the source folder")
    if path.exists() and not force:
        raise FewbitsError(f"{path}: exists already (use --force to replace it)")


def _check_remote_target(src: PathLike, dst: str, *, force: bool, folder: bool) -> None:
    paths.must_be_writable(dst)
    if str(src).rstrip("/") == dst.rstrip("/"):
        raise FewbitsError(f"{dst}: source and destination are the same")
    if folder and dst.startswith(str(src).rstrip("/") + "/"):
        raise FewbitsError(f"{dst}: lies inside the source folder")
    if paths.is_folder(dst) != folder and paths.exists(dst):
        raise FewbitsError(f"{dst}: is {'not ' if folder else ''}a folder")
    if not paths.exists(dst) or (folder and paths.is_folder(paths.join(dst, REMOTE_RECORDS))):
        return
    if folder:
        # A store cannot exchange one folder for another, and emptying one is not for us to do.
        raise FewbitsError(f"{dst}: exists already, and a remote folder cannot be replaced")
    if not force:
        raise FewbitsError(f"{dst}: exists already (use --force to replace it)")

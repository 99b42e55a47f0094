"""Files and folders that appear whole or not at all."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fewbits.sources import PathLike, filesystem_of, is_remote, store_errors

# Stores whose folders must be made first. Elsewhere that could make a bucket nobody asked for.
_WITH_FOLDERS = ("file", "sftp", "smb", "ftp", "hdfs", "webhdfs")


@contextmanager
def atomic_file(path: PathLike) -> Iterator[BinaryIO]:
    """A seekable file to write that takes its name only when the block ends without an error.

    It grows under a temporary name in the same folder and is flushed to disk before it is renamed;
    an older file of that name stays as it was until then. For a remote path it is a local temporary
    file, which is sent when it is complete.
    """
    if is_remote(path):
        with tempfile.TemporaryFile() as file:
            yield file
            _send(file, str(path))
        return
    target = Path(path)
    # Named before it is made: a signal in between must not leave a file that nobody knows of.
    partial = _beside(target)
    try:
        with partial.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _send(file: BinaryIO, url: str) -> None:
    """Send a file to a remote store, where it gets its name when all of it has arrived.

    That takes a transaction: without one, closing a file commits it, after an error as well.
    Object stores finish the upload then, others rename a temporary file.
    """
    filesystem, path = filesystem_of(url)
    file.seek(0)
    with store_errors(url):
        if any(protocol in filesystem.protocol for protocol in _WITH_FOLDERS):
            filesystem.makedirs(filesystem._parent(path), exist_ok=True)
        with filesystem.transaction, filesystem.open(path, "wb") as remote:
            shutil.copyfileobj(file, remote, 1 << 20)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill that takes its name only when the block ends without an error.

    With ``replace`` an older folder of that name is moved aside then, and removed last.
    """
    partial = _beside(path)
    aside = partial.with_suffix(".replaced")
    try:
        partial.mkdir()
        yield partial
        if replace and path.exists():
            path.rename(aside)
        partial.rename(path)
        shutil.rmtree(aside, ignore_errors=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if aside.exists() and not path.exists():
            aside.rename(path)
        raise


def _beside(path: Path) -> Path:
    """A name in the same folder that nothing else has."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.partial")

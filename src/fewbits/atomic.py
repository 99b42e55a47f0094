"""Files and folders that appear whole or not at all.

What is being written has a hidden name beside its destination, ``.NAME.DIGITS.partial``, and is
locked as long as its writer lives. So a later run knows what a killed one left, and removes it.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fewbits.sources import PathLike, filesystem_of, is_remote, store_errors

# Stores whose folders must be made first. Elsewhere that could make a bucket nobody asked for.
_WITH_FOLDERS = ("file", "sftp", "smb", "ftp", "hdfs", "webhdfs")

PARTIAL = ".partial"
REPLACED = ".replaced"  # an older folder, for the moment in which the new one takes its name


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
    with _temporary(target, lambda name: name.touch(exist_ok=False)) as partial:
        with partial.open("r+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)


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

    With ``replace`` an older folder of that name is moved aside then, and removed last;
    ``FileExistsError`` without.
    """
    with _temporary(path, Path.mkdir) as partial, ExitStack() as held:
        if path.exists() and not replace:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        yield partial
        aside = partial.with_suffix(REPLACED)
        try:
            if path.exists():
                with suppress(OSError):
                    held.enter_context(_locked(path))
                path.rename(aside)
            partial.rename(path)
        except BaseException:
            if aside.exists() and not path.exists():
                aside.rename(path)
            raise
        if aside.exists():
            aside.rename(partial)  # removed from here on, now or later, and never put back in part


@contextmanager
def _temporary(target: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """Something made beside ``target`` and locked; removed at the end if it still has its name."""
    _remove_leftovers(target)
    with ExitStack() as held:
        # Named before it is made: a signal in between must not leave a file that nobody knows of.
        partial = _beside(target)
        held.callback(lambda: _remove(partial))
        while True:
            make(partial)
            try:
                held.enter_context(_locked(partial))
            except (BlockingIOError, FileNotFoundError):
                # Another run took it for a leftover in the moment before it was locked.
                partial = _beside(target)
                continue
            except OSError:
                pass  # a file system without locks, where nobody removes leftovers either
            break
        yield partial


def _remove_leftovers(target: Path) -> None:
    """Clear away what killed runs left beside ``target``; put back the folder that one moved aside.

    What cannot be locked or removed is left alone: a run that lives holds it, or another user.
    """
    names = re.compile(re.escape(_prefix(target)) + rf"[0-9a-f]{{8}}({PARTIAL}|{REPLACED})")
    with suppress(OSError):
        for leftover in target.parent.iterdir():
            if not names.fullmatch(leftover.name):
                continue
            with suppress(OSError), _locked(leftover):
                if leftover.suffix == REPLACED and not target.exists():
                    leftover.rename(target)
                else:
                    _remove(leftover)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock that says a file or folder is in use; ``OSError`` if it cannot be had."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.lstat()  # it may have been removed before it was locked
        yield
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _prefix(target: Path) -> str:
    """How names beside a target begin: readable, short enough, and of no other target."""
    return f".{target.name[:40]}.{zlib.crc32(os.fsencode(target.name)):08x}"


def _beside(target: Path) -> Path:
    """A name in the same folder that nothing else has."""
    return target.with_name(f"{_prefix(target)}{secrets.token_hex(4)}{PARTIAL}")

"""Where bytes come from: a local file, mapped into memory, or any path that fsspec can open."""

import errno
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import fsspec

from fewbits.errors import FewbitsError

PathLike = str | Path


class Source(Protocol):
    """Random access to the bytes of a file."""

    @property
    def size(self) -> int:
        """Bytes in the file."""
        ...

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes start..stop, both within the file."""
        ...

    def close(self) -> None:
        """Let the file go; reading is an error afterwards."""
        ...


def is_remote(path: PathLike) -> bool:
    """Whether a path names an fsspec filesystem, as ``s3://`` or ``memory://`` do."""
    return "://" in str(path)


def open_source(path: PathLike) -> Source:
    """Open a path for reading; ``OSError`` as the system gives it."""
    return RemoteFile(str(path)) if is_remote(path) else MappedFile(Path(path))


def filesystem_of(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URL, and the path in it; ``FewbitsError`` if there is none."""
    with store_errors(url):
        filesystem, path = fsspec.core.url_to_fs(url)
        return filesystem, str(path)


@contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Errors of a remote store as ``OSError`` or ``FewbitsError`` that name the URL.

    Each store's library has errors of its own, and some of ``OSError`` come without a file's name.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url) from None
    except (OSError, FewbitsError, MemoryError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise FewbitsError(f"{url}: {reason or type(error).__name__}") from error


class MappedFile:
    """A local file in the page cache; reading copies nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._size = file.seek(0, 2)
            # An empty file cannot be mapped.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self._size else None
        self._view: memoryview | None = memoryview(self._map or b"")

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._size

    def read(self, start: int, stop: int) -> memoryview:
        """A view of bytes start..stop; it keeps the mapping alive."""
        if self._view is None:
            raise ValueError(f"{self._path}: is closed")
        return self._view[start:stop]

    def close(self) -> None:
        """Drop the mapping, which goes when the last view of it does."""
        self._view = None
        self._map = None


class MemoryFile:
    """The bytes of a file that are in memory already; reading copies nothing."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return len(self._view)

    def read(self, start: int, stop: int) -> memoryview:
        """A view of bytes start..stop."""
        return self._view[start:stop]

    def close(self) -> None:
        """Nothing to let go: the bytes are the caller's."""


class RemoteFile:
    """A file behind fsspec; each read fetches just its range."""

    def __init__(self, url: str) -> None:
        self._url = url
        filesystem, path = filesystem_of(url)
        with store_errors(url):
            self._file: Any = filesystem.open(path, "rb")
            self._size = int(self._file.seek(0, 2))
        self._place = threading.Lock()  # the file has one, which readers in many threads share

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._size

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes start..stop, fetched."""
        with store_errors(self._url), self._place:
            self._file.seek(start)
            return memoryview(self._file.read(stop - start))

    def close(self) -> None:
        """Close the connection."""
        self._file.close()

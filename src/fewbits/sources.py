"""Where bytes come from: a local file, mapped into memory, or any path that fsspec can open."""

import errno
import mmap
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

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

    def expect(self, start: int, stop: int) -> None:
        """Bytes start..stop will be read soon: begin to fetch them. Errors wait until then."""
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
    from fsspec.core import (
        url_to_fs,
    )  # takes longer to import than all else that a local file needs

    with store_errors(url):
        filesystem, path = url_to_fs(url)
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

    def expect(self, start: int, stop: int) -> None:
        """Have the system read ahead."""
        start -= start % mmap.PAGESIZE
        if self._map is not None and hasattr(mmap, "MADV_WILLNEED"):
            self._map.madvise(mmap.MADV_WILLNEED, start, stop - start)

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

    def expect(self, start: int, stop: int) -> None:
        """All is there."""

    def close(self) -> None:
        """Nothing to let go: the bytes are the caller's."""


class RemoteFile:
    """A file behind fsspec; each read fetches just its range, or waits for one that was expected.

    It holds the two ranges that were expected last.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        filesystem, path = filesystem_of(url)
        with store_errors(url):
            self._file: Any = filesystem.open(path, "rb")
            self._size = int(self._file.seek(0, 2))
        self._place = threading.Lock()  # the file has one, which readers in many threads share
        self._ahead: deque[tuple[int, int, Future[memoryview]]] = deque(maxlen=2)
        self._fetcher = ThreadPoolExecutor(1)  # starts no thread before it is needed

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._size

    def read(self, start: int, stop: int) -> memoryview:
        """Bytes start..stop, fetched."""
        for begin, end, fetched in tuple(self._ahead):
            if begin <= start and stop <= end:
                return fetched.result()[start - begin : stop - begin]
        return self._fetch(start, stop)

    def expect(self, start: int, stop: int) -> None:
        """Fetch bytes start..stop in a thread."""
        self._ahead.append((start, stop, self._fetcher.submit(self._fetch, start, stop)))

    def _fetch(self, start: int, stop: int) -> memoryview:
        with store_errors(self._url), self._place:
            self._file.seek(start)
            return memoryview(self._file.read(stop - start))

    def close(self) -> None:
        """Close the connection, when what is being fetched has come."""
        self._fetcher.shutdown(cancel_futures=True)
        self._ahead.clear()
        self._file.close()

"""The deltas of an archive: the marks that say so, and the base that they need.

An archive names its base by a plain file name, which is followed only to a file in the archive's
own folder: a file from a stranger must not choose what else is read.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fewbits.delta import Base, DeltaTensor, Mark, Parts, mark_bytes, pack_changes
from fewbits.errors import FewbitsError
from fewbits.frame import pack_parts, unpack
from fewbits.lossless.choose import Lossless
from fewbits.profiles import Profile
from fewbits.sources import PathLike, is_remote

if TYPE_CHECKING:
    from fewbits.archive import Archive

# Where a base is: a file; that, its own base and so on; or an open archive.
BaseLike: TypeAlias = "PathLike | Archive | Sequence[PathLike]"
# Opens a file, given its own base and the files on the way to it.
Opener: TypeAlias = "Callable[[PathLike, BaseLike | None, tuple[str, ...]], Archive]"

# Keys of an archive's metadata: the name of the base's file, and a mark for each tensor.
HINT_KEY, MARKS_KEY = "fewbits.base", "fewbits.deltas"
NO_MARK = "-"  # a tensor that is packed as usual

# Each file of a chain is decoded, and open, at the same time; longer ones are no accident.
MAX_CHAIN = 64


def plain_name(path: PathLike) -> str | None:
    """The name of a file without its folder; None for one that no archive may hold."""
    name = str(path).rpartition("/")[2]
    return name if is_plain(name) else None


def is_plain(name: str) -> bool:
    """Whether a name can only mean a file in the same folder, whatever the system."""
    return (
        name not in ("", ".", "..")
        and not any(
            c in "/\\:*?" or c < " " or c == "\x7f" or "\ud800" <= c < "\ue000" for c in name
        )
        and len(name.encode()) <= 255
    )


class BaseFinder:
    """The base of the archive at ``path``: the ``given`` one, else the file beside it that is named
    ``hint``. It is opened when first asked for, by any of several threads."""

    def __init__(
        self,
        path: PathLike,
        opener: Opener,
        *,
        given: "BaseLike | None" = None,
        hint: str | None = None,
        trail: tuple[str, ...] = (),
    ) -> None:
        self._path, self._open, self._given, self._hint = path, opener, given, hint
        self._trail = (*trail, _identity(path))
        self._lock = Lock()
        self._archive: Archive | None = None

    @property
    def archive(self) -> "Archive":
        """The base; ``FewbitsError`` if it is missing or the chain of bases has no end."""
        with self._lock:
            if self._archive is None:
                self._archive = self._opened()
            return self._archive

    def _opened(self) -> "Archive":
        given = self._given
        if given is None:
            return self._beside()
        elif isinstance(given, str | Path):
            path, further = given, None
        elif isinstance(given, Sequence):
            if not given:
                raise ValueError("base is an empty sequence")
            path, further = given[0], given[1:] or None
        elif hasattr(given, "stored"):
            return given
        else:
            raise TypeError(f"base is a {type(given).__name__}, not a path or an open archive")
        return self._checked(path, further)

    def _checked(self, path: PathLike, further: "BaseLike | None" = None) -> "Archive":
        """The archive at ``path``, if it may follow those that lead to it."""
        if _identity(path) in self._trail:
            raise FewbitsError(f"{self._path}: its chain of bases comes back to {path}")
        if len(self._trail) > MAX_CHAIN:
            raise FewbitsError(f"{path}: is the end of a chain of more than {MAX_CHAIN} bases")
        return self._open(path, further, self._trail)

    def _beside(self) -> "Archive":
        """The file in the same folder that the hint names."""
        path, hint = str(self._path), self._hint
        found: PathLike | None = None
        if hint and is_remote(path):
            found = f"{path.rpartition('/')[0]}/{hint}" if "::" not in path else None
        elif hint and (file := Path(path).with_name(hint)).is_file():
            found = file
        if found is not None and _identity(found) != self._trail[-1]:
            with suppress(FileNotFoundError):  # as a remote one turns out only now
                return self._checked(found)
        what = f"{hint!r}, which is not beside it" if hint else "another file"
        raise FewbitsError(
            f"{path}: holds what changed since {what}; say where that is (--base, base=)"
        )

    def close(self) -> None:
        """Close the base, unless it was open when it was given."""
        with self._lock:
            if self._archive is not None and self._archive is not self._given:
                self._archive.close()
            self._archive = None


def _identity(path: PathLike) -> str:
    return str(path) if is_remote(path) else str(Path(path).resolve())


def marks_in(metadata: Mapping[str, str], names: Sequence[str]) -> dict[str, Mark]:
    """The marks in an archive's metadata, by name; ``ValueError`` if they are damaged."""
    hint, texts = metadata.get(HINT_KEY), metadata[MARKS_KEY].split(" ")
    if hint is not None and not is_plain(hint):
        raise ValueError(f"base {hint[:80]!r} is not the name of a file in the same folder")
    if len(texts) != len(names):
        raise ValueError(f"{len(texts)} marks of deltas for {len(names)} tensors")
    pairs = zip(names, texts, strict=True)
    return {name: Mark.parse(text) for name, text in pairs if text != NO_MARK}


class DeltaPacker:
    """Packs tensors one after another, as changes where that is smaller, and keeps their marks.

    ``find`` gives the base of a name, if there is one; ``hint`` is the name of the base's file.
    """

    def __init__(
        self,
        find: Callable[[str], Base | None],
        hint: str | None,
        codec: Lossless | Profile | None = None,
        threads: int | None = None,
    ) -> None:
        self._find, self._hint, self._codec, self._threads = find, hint, codec, threads
        self.marks: dict[str, Mark | None] = {}

    @property
    def deltas(self) -> int:
        """How many tensors became deltas."""
        return sum(mark is not None for mark in self.marks.values())

    def pack(self, name: str, array: NDArray[Any]) -> Parts:
        """The frame of a tensor, or of what changed in it."""
        base = self._find(name)
        packed = None
        if base is not None and base.fits(array.dtype, array.shape):
            assert not isinstance(self._codec, Profile)  # delta_packer has seen to it
            packed = pack_changes(array, base, self._codec, threads=self._threads)
        if packed is None:
            self.marks[name] = None
            return pack_parts(array, self._codec, threads=self._threads)
        parts, self.marks[name] = packed
        return parts

    def unpack(self, name: str, parts: Parts) -> NDArray[Any]:
        """What the frame that ``pack`` made of this tensor decodes to."""
        mark, base = self.marks[name], self._find(name)
        if mark is not None and base is not None:
            return DeltaTensor.of_parts(parts, mark, base, self._threads).unpack()
        frame = np.concatenate([np.frombuffer(parts[0], np.uint8), parts[1]])
        return unpack(frame, threads=self._threads)

    def metadata(self, names: Iterable[str]) -> dict[str, str]:
        """The archive's metadata about tensors in this order, those yet to be packed at the worst.

        Empty if there is no delta among them.
        """
        texts = [self._text(name) for name in names]
        if all(text == NO_MARK for text in texts):
            return {}
        hint = {HINT_KEY: self._hint} if self._hint is not None else {}
        return {**hint, MARKS_KEY: " ".join(texts)}

    def _text(self, name: str) -> str:
        if name in self.marks:
            return str(self.marks[name] or NO_MARK)
        base = self._find(name)
        return NO_MARK if base is None else NO_MARK * mark_bytes(base.nbytes)


@contextmanager
def delta_packer(
    path: PathLike,
    base: "BaseLike | None",
    opener: Opener,
    codec: Lossless | Profile | None = None,
    threads: int | None = None,
) -> Iterator[DeltaPacker]:
    """What packs tensors against a base for the archive ``path``; without one, as usual.

    ``ValueError`` for a profile with a base: its tables are not for changes.
    """
    if base is None:
        yield DeltaPacker(lambda name: None, None, codec, threads)
        return
    if isinstance(codec, Profile):
        raise ValueError("a profile has no tables for what changed since a base: give one of them")
    finder = BaseFinder(path, opener, given=base)
    try:
        opened = finder.archive

        def find(name: str) -> Base | None:
            return opened.stored(name) if name in opened else None

        yield DeltaPacker(find, plain_name(opened.path), codec, threads)
    finally:
        finder.close()

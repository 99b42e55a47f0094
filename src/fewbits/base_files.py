"""Which file is the base of which, for commands that go through folders."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from fewbits import paths
from fewbits.errors import FewbitsError
from fewbits.folders import INDEX_SUFFIX, Contents, contents
from fewbits.sources import PathLike, is_remote

# One path, or that of a base, then of its own base, and so on; none if empty.
Bases = PathLike | Sequence[PathLike]


def listed(base: Bases) -> list[str]:
    """Bases as a list of paths."""
    return [str(path) for path in ([base] if isinstance(base, str | Path) else base)]


def bases_of(src: PathLike, base: Bases) -> dict[str, tuple[str, ...]]:
    """For each file that ``src`` stands for: its base, then that one's own base, and so on.

    In folders that is the file of the same name, as far as there is one. ``FewbitsError`` if a base
    is missing, is a folder where ``src`` is a file or the other way round, or no name is the same.
    """
    found, chain = contents(src), [_look_up(path) for path in listed(base)]
    folder = found.folder is not None
    for path, one in zip(listed(base), chain, strict=True):
        if (one.folder is not None) != folder:
            wanted = "a folder" if folder else "a file"
            raise FewbitsError(f"{path}: is not {wanted}, as its base must be for {src}")
    if not folder:
        return {found.tensors[0]: tuple(one.tensors[0] for one in chain)}
    names = [(one, set(one.tensors)) for one in chain]
    bases = {}
    for name in found.tensors:
        having = takewhile(lambda pair, name=name: name in pair[1], names)  # type: ignore[misc]
        bases[found.path(name)] = tuple(one.path(name) for one, _ in having)
    if chain and not any(bases.values()):
        raise FewbitsError(f"{chain[0].folder}: has no file of the same name as those of {src}")
    return bases


def refuse_to_replace(base: Bases, dst: PathLike) -> None:
    """``FewbitsError`` if ``dst`` is a base: what replaces it could not be read without it."""
    for path in listed(base):
        place = _look_up(path).folder or path
        if is_remote(place) or is_remote(dst):
            same = place.rstrip("/") == str(dst).rstrip("/")
        else:
            same = Path(dst).exists() and Path(dst).samefile(place)
        if same:
            raise FewbitsError(f"{dst}: is the base, which the result needs")


def _look_up(path: str) -> Contents:
    """What a base is; an index stands for its folder."""
    if not is_remote(path) and not paths.exists(path):
        raise FewbitsError(f"{path}: no such file or folder (the base)")
    is_index = path.endswith(INDEX_SUFFIX) and not paths.is_folder(path)
    return contents(paths.split(path)[0] if is_index else path)

"""Folders that are filled file by file, over several runs if one is cut short.

Finished files wait with their records until all are there. For the local destination ``X`` they are
in ``.X.unfinished/files`` and ``.X.unfinished/records`` beside it, and ``X`` appears in the end, as
a whole. A remote store has no folders that could appear: files get their final names one by one,
each when it is complete, and records are in ``X/.fewbits-unfinished`` until the end.

A record holds what the file was made from (settings, identity of the inputs), what it should be now
(identity of the result) and what was told on the way. A later run keeps the file if all of that is
still so, and makes it again otherwise. Thus it does not matter which run left it, or how it ended.
"""

import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewbits import paths
from fewbits.atomic import atomic_file, atomic_folder
from fewbits.engines import Report
from fewbits.errors import FewbitsError
from fewbits.sources import PathLike, is_remote

UNFINISHED = ".unfinished"
REMOTE_RECORDS = ".fewbits-unfinished"

# Converts inputs to a target, reporting on the way; returns counts that the record keeps.
Convert = Callable[[tuple[str, ...], str, Report], tuple[int, ...]]


@dataclass(frozen=True)
class FileTask:
    """A file to make: from which inputs, under which settings, and where its record goes."""

    inputs: tuple[str, ...]
    target: str
    record: str
    settings: str

    def __str__(self) -> str:
        return self.inputs[0]


@dataclass(frozen=True)
class Stage:
    """Where finished files wait, and their records."""

    files: str
    records: str

    def task(self, name: str, inputs: tuple[str, ...], settings: str) -> FileTask:
        """The task of making file ``name``."""
        record = paths.join(self.records, f"{name}.json")
        return FileTask(inputs, paths.join(self.files, name), record, settings)


def make_once(convert: Convert, task: FileTask, report: Report) -> tuple[int, ...]:
    """Make a file, unless an earlier run has; reports and result are those of that run then."""
    made_from = {"settings": task.settings, "inputs": [paths.identity(p) for p in task.inputs]}
    found = _record(task)
    if found is not None and found["made_from"] == made_from:
        for values in found["reports"]:
            report(*values)
        return tuple(map(int, found["result"]))
    if not is_remote(task.target):
        for path in (task.target, task.record):
            _with_parent(Path(path))
    reports: list[tuple[Any, ...]] = []

    def note(*values: Any) -> None:
        reports.append(values)
        report(*values)

    result = convert(task.inputs, task.target, note)
    made = {"made": paths.identity(task.target), "result": result, "reports": reports}
    with atomic_file(task.record) as file:
        file.write(json.dumps({"made_from": made_from, **made}).encode())
    return result


def _record(task: FileTask) -> dict[str, Any] | None:
    """The record of a file that is as it was left."""
    try:
        found = paths.read_json(task.record)
        same: bool = found["made"] == paths.identity(task.target)
        return {key: found[key] for key in ("made_from", "result", "reports")} if same else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def staged_folder(
    dst: PathLike, names: Sequence[str], copies: Mapping[str, str], *, replace: bool
) -> Iterator[Stage]:
    """A stage for the folder ``dst``, which appears when the block ends without an error.

    ``names``: the files that are made in the block. ``copies``: names of others, and what they are
    copied from in the end. After an error finished files stay for the next run, and the error has a
    note that says so. ``FewbitsError`` if another run fills the same local folder.
    """
    if is_remote(dst):
        stage = Stage(str(dst), paths.join(dst, REMOTE_RECORDS))
        with _telling(lambda: (str(dst), len(paths.names_in(stage.records)))):
            yield stage
            for name, source in copies.items():
                paths.copy(source, paths.join(dst, name))
            paths.remove(stage.records)
        return
    root = unfinished(Path(dst))
    stage = Stage(str(root / "files"), str(root / "records"))
    with _owned(root, str(dst)), _telling(lambda: (str(root), _sweep(root))):
        yield stage
        with atomic_folder(Path(dst), replace=replace) as folder:
            for name in names:
                _place(Path(stage.files, name), _with_parent(folder / name))
            for name, source in copies.items():
                if is_remote(source):
                    paths.copy(source, _with_parent(folder / name))
                else:
                    shutil.copy2(source, _with_parent(folder / name))
        shutil.rmtree(root, ignore_errors=True)


def unfinished(dst: Path) -> Path:
    """Where the finished files of an unfinished local folder wait."""
    name = os.fsencode(dst.name)
    short = dst.name if len(name) <= 200 else f"{dst.name[:40]}.{zlib.crc32(name):08x}"
    return dst.with_name(f".{short}{UNFINISHED}")


@contextmanager
def _owned(root: Path, dst: str) -> Iterator[None]:
    """A folder that is there, and that no other run has as long as the block lasts."""
    root.mkdir(exist_ok=True)
    handle = os.open(root, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FewbitsError(f"{dst}: another run is writing it") from None
        yield
    finally:
        os.close(handle)


@contextmanager
def _telling(kept: Callable[[], tuple[str, int]]) -> Iterator[None]:
    """Add to an error where and how many finished files are kept, if any."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError, FewbitsError):
            place, count = kept()
            files = "1 finished file is" if count == 1 else f"{count} finished files are"
            if count:
                error.add_note(f"{files} kept in {place}; the same command goes on from there")
        raise


def _sweep(root: Path) -> int:
    """Remove files without a record, and the folder if none has one; how many do."""
    files, records = (set(paths.names_in(root / folder)) for folder in ("files", "records"))
    finished = {name for name in files if f"{name}.json" in records}
    for name in files - finished:
        (root / "files" / name).unlink(missing_ok=True)
    for name in records - {f"{name}.json" for name in finished}:
        (root / "records" / name).unlink(missing_ok=True)
    if not finished:
        shutil.rmtree(root, ignore_errors=True)
    return len(finished)


def _with_parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _place(made: Path, path: Path) -> None:
    """Give a finished file its place; a link, so that after a crash it is still on the stage."""
    try:
        path.hardlink_to(made)
    except OSError:
        made.rename(path)

"""Files and folders that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from fewbits.atomic import _beside, atomic_file, atomic_folder


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with atomic_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_permissions_that_open_would_give(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "x") as file:
            file.write(b"")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_after_an_error_the_old_file_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_take_its_name_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    rename = Path.rename

    def fail_into_place(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_into_place)
    with pytest.raises(KeyboardInterrupt), atomic_folder(path, replace=True) as folder:
        (folder / "new").touch()
    assert [p.name for p in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with atomic_folder(path, replace=True) as folder:
        (folder / "new").touch()
    assert [p.name for p in path.iterdir()] == ["new"] and list(tmp_path.iterdir()) == [path]


def test_a_long_name_leaves_room_for_the_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    with atomic_file(path) as file:
        file.write(b"1")
    assert path.read_bytes() == b"1"


def leave_behind(target: Path, *, folder: bool = False, suffix: str = ".partial") -> Path:
    """What a run to ``target`` leaves when it is killed."""
    leftover = _beside(target).with_suffix(suffix)
    if folder:
        leftover.mkdir()
        (leftover / "old").touch()
    else:
        leftover.write_bytes(b"half")
    return leftover


@pytest.mark.parametrize("folder", [False, True])
def test_the_next_run_removes_what_a_killed_one_left(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "x"
    leave_behind(path, folder=folder)
    leave_behind(path, folder=not folder)
    with atomic_folder(path) if folder else atomic_file(path):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_being_written_is_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with atomic_file(path) as slow:
        slow.write(b"slow")
        with atomic_file(path) as quick:
            quick.write(b"quick")
        assert path.read_bytes() == b"quick"
    assert path.read_bytes() == b"slow" and list(tmp_path.iterdir()) == [path]


def test_leftovers_of_other_targets_stay(tmp_path: Path) -> None:
    long = "x" * 200
    others = {leave_behind(tmp_path / name) for name in ("y", "xx", f"{long}2")}
    others.add(tmp_path / ".x.partial")
    (tmp_path / ".x.partial").touch()
    for name in ("x", f"{long}1"):
        with atomic_file(tmp_path / name):
            pass
    assert others < set(tmp_path.iterdir()) and len(list(tmp_path.iterdir())) == len(others) + 2


def test_a_folder_that_a_killed_run_moved_aside_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    leave_behind(path, folder=True, suffix=".replaced")
    with pytest.raises(FileExistsError), atomic_folder(path) as folder:
        folder.touch()
    assert [p.name for p in path.iterdir()] == ["old"] and list(tmp_path.iterdir()) == [path]


def test_a_folder_moved_aside_is_removed_where_the_new_one_is_there(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "new").touch()
    leave_behind(path, folder=True, suffix=".replaced")
    with atomic_folder(path, replace=True) as folder:
        (folder / "newer").touch()
    assert [p.name for p in path.iterdir()] == ["newer"] and list(tmp_path.iterdir()) == [path]

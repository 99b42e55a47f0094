"""Packing on a Ray cluster: one on this machine, which is there as long as the tests."""

import os
import signal
from pathlib import Path

import pytest

import fewbits
from fewbits import engines, files, paths
from test_workers import bytes_of, echo, make_folder

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster():
    finds_tests = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=finds_tests)
    yield
    ray.shutdown()


def kill_first(task, report):
    """A task that kills its worker the first time."""
    mark, number = task
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    report(number)
    return number


def always_kill(task, report):
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order_and_errors_as_they_were_raised():
    told = []
    with engines.open_engine("ray", None, None) as engine:
        assert engine.workers == 2
        results = list(engines.each(engine, echo, range(10), told.append, ahead=3))
        assert [task for _, task in results] == list(range(10)) == sorted(told)
        assert os.getpid() not in {process for process, _ in results}
        with pytest.raises(fewbits.CorruptError, match=r"^file -1: tensor 'x': is damaged$") as e:
            list(engines.each(engine, echo, [3, -1, 4], told.append))
        assert type(e.value) is fewbits.CorruptError
    assert ray.is_initialized()  # it was there before


def test_a_killed_worker_is_replaced(tmp_path):
    tasks, told = [(tmp_path / "mark", number) for number in range(6)], []
    with engines.open_engine("ray", 2, None) as engine:
        assert list(engines.each(engine, kill_first, tasks, told.append)) == list(range(6))
    assert (tmp_path / "mark").exists() and sorted(told) == list(range(6))


def test_a_task_that_kills_every_worker_is_told():
    with (
        pytest.raises(fewbits.FewbitsError, match=r"^a worker died .* at work on something"),
        engines.open_engine("ray", 1, None) as engine,
    ):
        list(engines.each(engine, always_kill, ["something"], print))


def workers_at(folder: Path) -> list[int]:
    """Processes that have a file open in a folder."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()).startswith(str(folder)):
                found.add(int(link.parts[2]))
        except OSError:
            continue
    return sorted(found - {os.getpid()})


def test_a_folder_has_the_same_bytes_though_a_worker_is_killed(tmp_path):
    source, out = make_folder(tmp_path / "src", count=6, elements=4_000_000), tmp_path / "out"
    alone, killed, told = files.pack_path(source, tmp_path / "alone"), [], []

    def kill_one(path, name, plain, packed):
        told.append(name)
        if not killed:
            killed.extend(workers_at(tmp_path / ".out.unfinished" / "files")[:1])
            for worker in killed:
                os.kill(worker, signal.SIGKILL)

    assert files.pack_path(source, out, engine="ray", progress=kill_one) == alone
    assert len(killed) == 1 and len(told) == len(set(told)) == 18
    assert bytes_of(out) == bytes_of(tmp_path / "alone")
    assert sorted(os.listdir(tmp_path)) == ["alone", "out", "src"]


def test_one_file_is_shared_out_by_tensors_and_folders_unpack(tmp_path, monkeypatch):
    source = make_folder(tmp_path / "src", count=1)
    monkeypatch.chdir(tmp_path)
    files.pack_path("src", "packed", engine="ray")
    files.pack_path("src", "alone")
    assert bytes_of(tmp_path / "packed") == bytes_of(tmp_path / "alone")
    assert files.verify_path("packed", engine="ray") == files.verify_path("alone")
    files.unpack_path("packed", "back", engine="ray")
    assert bytes_of(tmp_path / "back") == bytes_of(source)


def test_a_run_that_ends_stops_its_tasks(tmp_path):
    source, out = make_folder(tmp_path / "src", count=6), tmp_path / "out"
    begun = set()

    def stop(path, *_):
        begun.add(path)
        if len(begun) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.pack_path(source, out, engine="ray", progress=stop)
    assert not out.exists()
    assert not list(tmp_path.rglob("*.partial")) and not workers_at(tmp_path)
    kept = paths.names_in(tmp_path / ".out.unfinished" / "files")
    files.pack_path(source, out, engine="ray")
    files.pack_path(source, tmp_path / "alone")
    assert kept and bytes_of(out) == bytes_of(tmp_path / "alone")

"""Workers: the same bytes as without them, and what is left when one of them is stopped."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import fewbits
from fewbits import engines, files, paths, staging
from fewbits.demo import write_plain


def make_folder(folder: Path, count: int = 4, elements: int = 40_000) -> Path:
    """Shards of three tensors each, with other files beside them."""
    rng = np.random.default_rng(5)
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "config.json").write_text("{}")
    for index in range(count):
        tensors = {
            f"{index}.w{k}": rng.normal(0, 0.02, elements).astype(ml_dtypes.bfloat16)
            for k in range(3)
        }
        write_plain(tensors, folder / f"model-{index}.safetensors")
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in paths.names_in(folder)}


def echo(task, report):
    report(task)
    if isinstance(task, int) and task < 0:
        raise fewbits.CorruptError(f"file {task}: tensor 'x': is damaged")
    return os.getpid(), task


def slow(task, report):
    time.sleep(60)


def test_results_come_in_order_and_from_other_processes():
    told = []
    with engines.open_engine("local", 2, None) as engine:
        results = list(engines.each(engine, echo, range(20), told.append, ahead=3))
        assert [task for _, task in results] == list(range(20)) == sorted(told)
        assert os.getpid() not in {process for process, _ in results}
        with pytest.raises(fewbits.CorruptError, match=r"^file -1: tensor 'x': is damaged$"):
            list(engines.each(engine, echo, [3, -1, 4], told.append))
    assert not multiprocessing.active_children()


def test_an_error_stops_workers_that_are_busy():
    with pytest.raises(KeyboardInterrupt), engines.open_engine("local", 2, None) as engine:
        engine.submit(slow, None)
        raise KeyboardInterrupt
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_is_told_with_what_it_did():
    def kill(_):
        for worker in multiprocessing.active_children()[:1]:
            os.kill(worker.pid, signal.SIGKILL)

    with (
        pytest.raises(fewbits.FewbitsError, match=r"^a worker died .* at work on .*"),
        engines.open_engine("local", 2, None) as engine,
    ):
        list(engines.each(engine, echo, range(1000), kill))


def test_engines_that_cannot_be():
    for name, workers in (("local", 0), ("ray", -1), ("cloud", 2)):
        with pytest.raises(ValueError, match=r"workers|unknown engine"):
            engines.open_engine(name, workers, None)


def test_a_missing_ray_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    source = make_folder(tmp_path / "src")
    with pytest.raises(fewbits.FewbitsError, match="needs the package Ray: pip install ray"):
        files.pack_path(source, tmp_path / "out", engine="ray")
    assert os.listdir(tmp_path) == ["src"]


def test_threads_are_shared_among_workers(monkeypatch):
    monkeypatch.setenv("FEWBITS_THREADS", "8")
    assert engines.threads_of("local", None, None) is None
    assert engines.threads_of("local", 3, None) == 2
    assert engines.threads_of("local", 16, None) == 1
    assert engines.threads_of("local", 3, 5) == 5
    assert engines.threads_of("ray", None, None) == 1


def test_folders_and_files_have_the_same_bytes_with_workers(tmp_path, monkeypatch):
    source, told = make_folder(tmp_path / "src"), []
    alone = files.pack_path(source, tmp_path / "alone")
    shared = files.pack_path(
        source, tmp_path / "shared", workers=2, progress=lambda *step: told.append(step[1])
    )
    assert alone == shared and len(told) == len(set(told)) == 12
    assert bytes_of(tmp_path / "shared") == bytes_of(tmp_path / "alone")
    files.unpack_path(tmp_path / "shared", tmp_path / "back", workers=2)
    assert bytes_of(tmp_path / "back") == bytes_of(source)
    assert sorted(os.listdir(tmp_path)) == ["alone", "back", "shared", "src"]


def test_verify_with_workers_goes_on_after_a_damaged_file(tmp_path):
    files.pack_path(make_folder(tmp_path / "src"), tmp_path / "out")
    damaged = tmp_path / "out" / "model-1.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-100] ^= 1
    damaged.write_bytes(data)
    found = list(files.verify_each(tmp_path / "out", workers=2))
    assert [file.tensors for file in found] == [3, 0, 3, 3]
    assert isinstance(found[1].error, fewbits.CorruptError)
    assert str(found[1].error).startswith(f"{damaged}: tensor '1.w2': ")


def test_one_file_is_shared_out_by_tensors(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "GROUP_BYTES", 100_000)
    source, told = make_folder(tmp_path / "src", count=1) / "model-0.safetensors", []
    files.pack_path(source, tmp_path / "alone")
    files.pack_path(
        source, tmp_path / "shared", workers=2, progress=lambda *step: told.append(step[1])
    )
    assert (tmp_path / "shared").read_bytes() == (tmp_path / "alone").read_bytes()
    assert sorted(told) == ["0.w0", "0.w1", "0.w2"]
    files.pack_path(tmp_path / "src", tmp_path / "folder", workers=2)
    assert (tmp_path / "folder" / source.name).read_bytes() == (tmp_path / "alone").read_bytes()


def stop_at_third(monkeypatch, error):
    """Packing fails at the third file; returns the sources that were begun."""
    begun, pack = [], files._pack_file

    def stopping(inputs, *arguments, **options):
        begun.append(Path(inputs[0]).name)
        if len(begun) == 3:
            raise error
        return pack(inputs, *arguments, **options)

    monkeypatch.setattr(files, "_pack_file", stopping)
    return begun


def names(*numbers):
    return [f"model-{number}.safetensors" for number in numbers]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), fewbits.CorruptError("x"), OSError(5, "x")])
def test_the_next_run_goes_on(tmp_path, monkeypatch, error):
    source, out = make_folder(tmp_path / "src"), tmp_path / "out"
    files.pack_path(source, tmp_path / "whole")
    begun = stop_at_third(monkeypatch, error)
    with pytest.raises(type(error)) as raised:
        files.pack_path(source, out)
    waiting = tmp_path / ".out.unfinished"
    assert raised.value.__notes__ == [
        f"2 finished files are kept in {waiting}; the same command goes on from there"
    ]
    assert not out.exists() and sorted(os.listdir(waiting / "files")) == names(0, 1)
    told = []
    totals = files.pack_path(source, out, progress=lambda *step: told.append(step[1]))
    assert begun == names(0, 1, 2, 2, 3)
    assert totals.tensors == len(told) == 12
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
    assert sorted(os.listdir(tmp_path)) == ["out", "src", "whole"]


def test_what_is_not_as_it_was_is_made_again(tmp_path, monkeypatch):
    source, out = make_folder(tmp_path / "src", count=5), tmp_path / "out"
    begun = stop_at_third(monkeypatch, KeyboardInterrupt())
    waiting = tmp_path / ".out.unfinished"

    def stop():
        begun.clear()
        with pytest.raises(KeyboardInterrupt):
            files.pack_path(source, out)
        begun.clear()
        begun.extend("...")  # no stop any more

    stop()  # a source changed, of the same size and time
    file = source / names(0)[0]
    times, data = file.stat(), bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    files.pack_path(source, out)
    assert begun[3:] == names(0, 2, 3, 4)
    files.unpack_path(out, tmp_path / "back")
    assert bytes_of(tmp_path / "back") == bytes_of(source)

    out = tmp_path / "settings"
    waiting = tmp_path / ".settings.unfinished"
    stop()
    files.pack_path(source, out, codec=fewbits.Lossless(rows=8))
    assert begun[3:] == names(0, 1, 2, 3, 4)

    out = tmp_path / "damaged"
    waiting = tmp_path / ".damaged.unfinished"
    stop()
    (waiting / "files" / names(0)[0]).write_bytes(b"half")
    (waiting / "records" / f"{names(1)[0]}.json").write_text("{")
    (waiting / "files" / ".left.partial").write_text("half")
    (source / names(4)[0]).unlink()
    files.pack_path(source, out)
    assert begun[3:] == names(0, 1, 2, 3)
    assert paths.names_in(out) == paths.names_in(source)
    assert sorted(os.listdir(tmp_path)) == ["back", "damaged", "out", "settings", "src"]


def test_a_source_that_is_gone_is_not_in_the_result(tmp_path, monkeypatch):
    source, out = make_folder(tmp_path / "src"), tmp_path / "out"
    stop_at_third(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        files.pack_path(source, out)
    (source / names(0)[0]).unlink()
    files.pack_path(source, out)
    assert paths.names_in(out) == paths.names_in(source)


def test_two_runs_to_the_same_folder_do_not_meet(tmp_path):
    source, out = make_folder(tmp_path / "src"), tmp_path / "out"
    with staging.staged_folder(out, [], {}, replace=False):
        with pytest.raises(fewbits.FewbitsError, match="another run is writing it"):
            files.pack_path(source, out)
        assert (tmp_path / ".out.unfinished").is_dir()
    assert out.is_dir()


def test_a_long_name_leaves_room(tmp_path):
    source = make_folder(tmp_path / "src", count=1)
    files.pack_path(source, tmp_path / ("x" * 255))
    assert sorted(os.listdir(tmp_path)) == ["src", "x" * 255]


def test_a_killed_worker_ends_the_run_and_the_next_goes_on(tmp_path):
    source, out = make_folder(tmp_path / "src", count=8), tmp_path / "out"
    files.pack_path(source, tmp_path / "whole")
    begun = set()

    def kill_in_the_third(path, *_):
        begun.add(path)
        if len(begun) == 3:  # of two workers, so one file at least is finished
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)

    with pytest.raises(fewbits.FewbitsError, match=r"a worker died .* at work on .*model-\d") as e:
        files.pack_path(source, out, workers=2, progress=kill_in_the_third)
    assert "kept in" in e.value.__notes__[0] and not out.exists()
    waiting = tmp_path / ".out.unfinished"
    kept = {f.name: f.stat().st_ino for f in (waiting / "files").iterdir()}
    assert set(paths.names_in(waiting / "records")) == {f"{name}.json" for name in kept}
    files.pack_path(source, out, workers=2)
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
    # What was finished was not made again: it is the same file.
    assert {name: (out / name).stat().st_ino for name in kept} == kept


def children_of(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in found]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_a_signal_stops_all_workers(tmp_path, number):
    source = make_folder(tmp_path / "src", count=12, elements=500_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "fewbits.cli.main", "pack", "src", "-o", "out", "--workers", "2"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background may have handed down an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    records = tmp_path / ".out.unfinished" / "records"
    deadline = time.monotonic() + 60
    while not list(records.glob("*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    workers = children_of(process.pid)
    assert len(workers) >= 2
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], err
        word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
        assert err.startswith(f"fewbits: error: {word}; ") and err.count("\n") == 1
        assert ".out.unfinished; the same command goes on from there" in err
    while any(map(alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not (tmp_path / "out").exists()
    if number != signal.SIGKILL:
        assert not list(tmp_path.rglob("*.partial"))
    files.pack_path(source, tmp_path / "out")
    files.unpack_path(tmp_path / "out", tmp_path / "back")
    assert bytes_of(tmp_path / "back") == bytes_of(source)
    assert sorted(os.listdir(tmp_path)) == ["back", "out", "src"]

"""Every fault is one line that names the file, an exit code, and nothing left behind."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fewbits
from fewbits import _kernels, archive, bases, files
from fewbits.demo import write_plain

from .conftest import Run

Fails = Callable[..., str]
COMMANDS = ("pack", "unpack", "verify", "inspect", "demo")


def destination(command: str, folder: Path) -> list[object]:
    return ["-o", folder / "result"] if command in ("pack", "unpack") else []


def nothing_new(folder: Path, before: set[str]) -> bool:
    return {str(path) for path in folder.rglob("*")} == before


@pytest.fixture
def untouched(tmp_path: Path) -> Callable[[], bool]:
    """Call after the arrangement; the returned function tells whether files were added since."""
    before: set[str] = set()

    def check() -> bool:
        if not before:
            before.update(str(path) for path in tmp_path.rglob("*"))
            return True
        return nothing_new(tmp_path, before)

    return check


@pytest.mark.parametrize("command", COMMANDS)
def test_missing_file(command: str, fails: Fails, tmp_path: Path) -> None:
    path = tmp_path / "missing.safetensors"
    assert str(path) in fails(command, path, *destination(command, tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip file, or something else that is not what it should be",
        (10).to_bytes(8, "little") + b'["a list"]',
        (1 << 62).to_bytes(8, "little") + b"{}",
    ],
)
def test_not_a_safetensors_file(
    command: str, content: bytes, fails: Fails, tmp_path: Path, untouched: Callable[[], bool]
) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    untouched()
    message = fails(command, path, *destination(command, tmp_path))
    assert str(path) in message and "not a safetensors file" in message
    assert untouched()


@pytest.mark.parametrize("command", ["unpack", "inspect"])
@pytest.mark.parametrize("keep", [4, 100, 0.5, -1])
def test_truncated_archive(
    command: str, keep: float, packed: Path, fails: Fails, untouched: Callable[[], bool]
) -> None:
    data = packed.read_bytes()
    packed.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    untouched()
    assert str(packed) in fails(command, packed, *destination(command, packed.parent))
    assert untouched()


def test_a_header_that_promises_terabytes(fails: Fails, tmp_path: Path) -> None:
    header = json.dumps(
        {"huge": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    ).encode()
    path = tmp_path / "huge.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"data")
    assert str(path) in fails("pack", path)
    overflow = header.replace(str(1 << 40).encode(), str(1 << 63).encode())
    path.write_bytes(len(overflow).to_bytes(8, "little") + overflow + b"data")
    message = fails("inspect", path)
    assert str(path) in message and "huge" in message


def test_a_damaged_tensor_is_named(packed: Path, fails: Fails, tmp_path: Path) -> None:
    with archive.open(packed) as opened:
        entry = next(e for e in opened.container.entries if e.name == "quantized")
        place = opened.container.data_start + entry.stop - 200
    data = bytearray(packed.read_bytes())
    data[place] ^= 0x10
    packed.write_bytes(data)
    message = fails("unpack", packed, "-o", tmp_path / "out")
    assert message == f"fewbits: error: {packed}: tensor 'quantized': block 0 is damaged"
    assert not (tmp_path / "out").exists()


def test_every_damaged_byte_is_noticed(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    archive_path = tmp_path / "small.safetensors"
    fewbits.save({"a": np.rint(rng.normal(0, 9, 400)).astype(np.int8)}, archive_path)
    data = archive_path.read_bytes()
    assert run("verify", archive_path).code == 0
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        archive_path.write_bytes(damaged)
        result = run("verify", archive_path)
        assert result.code == 1 and result.out == "", place
        assert result.err.startswith(f"fewbits: error: {archive_path}: "), place
        assert result.err.count("\n") == 1 and "bug in Fewbits" not in result.err, place


def test_a_name_cannot_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_plain({"\x1b[2Jgone\n[red]": np.arange(5)}, path)
    assert run("pack", path).code == 0
    out = run("inspect", tmp_path / "model.fewbits.safetensors").out
    assert "\x1b" not in out and r"\x1b[2Jgone\n[red]" in out


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_to_a_full_disk(packed: Path, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fewbits.cli.main", "inspect", str(packed)],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 1
    assert done.stderr == "fewbits: error: standard output: No space left on device\n"


def test_wrong_version(packed: Path, fails: Fails, tmp_path: Path) -> None:
    data = packed.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].replace(b'"fewbits.version":"1"', b'"fewbits.version":"9"')
    start = text.index(b'"fewbits.checksum":"') + len(b'"fewbits.checksum":"')
    blank = text[:start] + b"0" * 16 + text[start + 16 :]
    checksum = f"{_kernels.xxh3(np.frombuffer(blank, np.uint8)):016x}".encode()
    packed.write_bytes(
        data[:8] + blank[:start] + checksum + blank[start + 16 :] + data[8 + length :]
    )
    assert "version '9'" in fails("unpack", packed, "-o", tmp_path / "out")


def test_destination_exists(model: Path, packed: Path, fails: Fails) -> None:
    before = packed.read_bytes()
    message = fails("pack", model)
    assert f"{packed}: exists already" in message and "--force" in message
    assert packed.read_bytes() == before


def test_source_is_destination(model: Path, packed: Path, fails: Fails) -> None:
    before = model.read_bytes()
    assert "the same" in fails("pack", model, "-o", model, "--force")
    assert model.read_bytes() == before


def test_no_folder_for_the_destination(model: Path, fails: Fails, tmp_path: Path) -> None:
    assert str(tmp_path / "no") in fails("pack", model, "-o", tmp_path / "no" / "x.safetensors")


def test_destination_below_a_file(model: Path, fails: Fails) -> None:
    assert str(model) in fails("pack", model, "-o", model / "x.safetensors")


def test_a_device_is_not_replaced(model: Path, fails: Fails, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert str(pipe) in fails("pack", model, "-o", pipe, "--force")
    assert pipe.is_fifo()


def test_packed_twice_and_unpacked_twice(model: Path, packed: Path, fails: Fails) -> None:
    assert "packed already" in fails("pack", packed, "-o", model.with_name("x"))
    assert "not a packed one" in fails("unpack", model, "-o", model.with_name("x"))
    assert "unpack it first" in fails("demo", packed)
    assert not model.with_name("x").exists()


def raising(error: BaseException) -> Callable[..., None]:
    def call(*arguments: object, **options: object) -> None:
        raise error

    return call


def test_a_full_disk(
    model: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch, untouched: Callable[[], bool]
) -> None:
    untouched()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(archive, "write_archive", raising(full))
    target = model.with_name("full.safetensors")
    message = fails("pack", model, "-o", target)
    assert message == f"fewbits: error: {target}: No space left on device"
    assert untouched()


def test_no_memory(model: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "pack_parts", raising(MemoryError()))
    assert fails("pack", model) == f"fewbits: error: {model}: not enough memory"


def test_an_interrupt_leaves_nothing(
    model: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch, untouched: Callable[[], bool]
) -> None:
    untouched()
    monkeypatch.setattr(files, "_check_round_trip", raising(KeyboardInterrupt()))
    assert fails("pack", model, code=130) == "fewbits: error: interrupted"
    assert untouched()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing(number: int, code: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "model.safetensors"
    one = rng.normal(0, 1, 300_000).astype(np.float32)
    write_plain({f"t{index}": one for index in range(150)}, path)
    process = subprocess.Popen(
        [sys.executable, "-m", "fewbits.cli.main", "pack", str(path), "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background may have handed down an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".*.partial")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert out == "" and "Traceback" not in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "arguments",
    [
        ("pack",),
        ("nonsense",),
        ("pack", ""),
        ("pack", "x", "-o", ""),
        ("pack", "x", "--coder", "zip"),
        ("pack", "x", "--rows", "0"),
        ("pack", "x", "--rows", "many"),
        ("pack", "x", "--count-bits", "20"),
        ("pack", "x", "--threads", "0"),
        ("pack", "s3://bucket/model.safetensors"),
        ("unpack", "x.safetensors"),
        ("inspect", "x", "--plane", "1"),
        ("inspect", "x", "--sort", "colour"),
        ("verify", "x", "--fast"),
    ],
)
def test_wrong_use(arguments: tuple[str, ...], fails: Fails) -> None:
    assert fails(*arguments, code=2).endswith("(see fewbits --help)")


def test_an_unexpected_error_is_one_line_too(
    model: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases, "pack_parts", raising(RuntimeError("two\nlines")))
    result = run("pack", model)
    assert result.code == 1 and result.err.count("\n") == 1
    assert "unexpected RuntimeError: two lines" in result.err


def test_a_reader_that_goes_away(packed: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fewbits.cli.main", "inspect", str(packed), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.wait(timeout=30)
    assert err == b"" and process.returncode == 1

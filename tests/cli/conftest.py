"""Models to give to the commands, and the commands run in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from fewbits.cli.main import main
from fewbits.demo import write_plain


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Result:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def fails(run: Run) -> Callable[..., str]:
    """Runs a command that must fail with one line on standard error, which it returns."""

    def call(*arguments: object, code: int = 1) -> str:
        result = run(*arguments)
        assert result.code == code, result
        assert result.out == ""
        assert result.err.startswith("fewbits: error: ")
        assert result.err.count("\n") == 1 and result.err.endswith("\n")
        assert "Traceback" not in result.err and "bug in Fewbits" not in result.err
        return result.err.strip()

    return call


def tensors() -> dict[str, NDArray]:
    rng = np.random.default_rng(7)
    weights = rng.normal(0, 0.02, (96, 64)).astype(np.float32)
    weights[::9] = 0
    return {
        "layer.0.weight": weights.astype(ml_dtypes.bfloat16),
        "layer.0.bias": rng.normal(0, 1, 64).astype(np.float32),
        "quantized": np.rint(rng.normal(0, 12, (100, 80))).astype(np.int8),
        "half": rng.normal(0, 1, (20, 30)).astype(np.float16),
        "fp8": rng.normal(0, 1, (64, 64)).astype(ml_dtypes.float8_e4m3fn),
        "mask": rng.random((50, 50)) > 0.1,
        "ids": np.arange(300),
        "nothing": np.zeros((0, 4), np.float32),
        "scalar": np.array(2.5, np.float64),
        "noise": rng.integers(0, 256, 3000, np.uint8),
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A plain safetensors file of several types."""
    path = tmp_path / "model.safetensors"
    write_plain(tensors(), path)
    return path


@pytest.fixture
def packed(model: Path, run: Run) -> Path:
    """The model packed, under its default name."""
    assert run("pack", model).code == 0
    return model.with_name("model.fewbits.safetensors")

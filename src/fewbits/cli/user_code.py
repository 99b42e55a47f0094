"""Functions in files of the user: ``model.py:build``."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import typer

from fewbits.cli.errors import about


def call(place: str) -> Any:
    """What a function of a file gives: ``FILE.py:FUNCTION``."""
    from fewbits.errors import FewbitsError

    path, _, name = place.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise typer.BadParameter(f"{place!r}: expected FILE.py:FUNCTION")
    with about(path):
        if not Path(path).is_file():
            raise FewbitsError(f"{path}: No such file or directory")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # As if it were run: files beside it can be imported.
    sys.path.insert(0, str(Path(path).resolve().parent))
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, name, None)):
            raise FewbitsError(f"{path}: has no function {name!r}")
        return getattr(module, name)()
    except (FewbitsError, ModuleNotFoundError):
        raise
    except Exception as error:
        raise fault(place, error) from error
    finally:
        sys.path.pop(0)


def fault(place: str, error: Exception) -> Exception:
    """A line for what the user's own code raised."""
    from fewbits.errors import FewbitsError

    line = (str(error).strip().splitlines() or [""])[0]
    return FewbitsError(f"{place}: {type(error).__name__}: {line}")

"""Models that come with Fewbits, as text."""

from pathlib import Path

_HERE = Path(__file__).parent


def names() -> list[str]:
    """Their names."""
    return sorted(path.stem for path in _HERE.glob("*.txt"))


def path_of(name: str) -> Path:
    """The file of a model that comes with Fewbits."""
    return _HERE / f"{name}.txt"

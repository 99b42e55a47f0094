"""Faults in a text model, with the place they are at."""

from dataclasses import dataclass

from fewbits.errors import FewbitsError


@dataclass(frozen=True)
class Place:
    """A column of a line of a text; both count from 1."""

    file: str
    line: int
    column: int
    text: str

    def at(self, column: int) -> "Place":
        """Another column of the same line."""
        return Place(self.file, self.line, column, self.text)


class ModelError(FewbitsError, ValueError):
    """A model that cannot be read or is not sound; ``excerpt`` shows the place with a caret."""

    def __init__(self, message: str, place: Place | None = None) -> None:
        where = f"{place.file}:{place.line}:{place.column}: " if place else ""
        super().__init__(where + message)
        self.place = place

    @property
    def excerpt(self) -> str:
        """The line and a caret below the fault; empty if there is no place."""
        if self.place is None:
            return ""
        before = self.place.text[: self.place.column - 1]
        blank = "".join(c if c == "\t" else " " for c in before)
        return f"  {self.place.text}\n  {blank}^"

"""The errors that Fewbits raises on purpose."""

from collections.abc import Iterable


class FewbitsError(Exception):
    """Base of every error that Fewbits raises on purpose; its text is one line for a person."""


class CorruptError(FewbitsError, ValueError):
    """Bytes that are damaged, foreign, or of a version this release does not read."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`` (did you mean 'kernel'?)``, or nothing."""
    import difflib

    close = difflib.get_close_matches(wrong, list(known), n=3)
    # Of equally close ones, that of the same letters: they were only swapped.
    close.sort(key=lambda one: sorted(one) != sorted(wrong))
    return f" (did you mean {close[0]!r}?)" if close else ""

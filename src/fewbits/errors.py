"""The errors that Fewbits raises on purpose."""


class FewbitsError(Exception):
    """Base of every error that Fewbits raises on purpose; its text is one line for a person."""


class CorruptError(FewbitsError, ValueError):
    """Bytes that are damaged, foreign, or of a version this release does not read."""

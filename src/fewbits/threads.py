"""How many threads parallel work uses by default."""

import os


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """``FEWBITS_THREADS`` if set to a positive number, else the processors this process may use."""
    asked = os.environ.get("FEWBITS_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return processors()


def resolve_threads(threads: int | None) -> int:
    """The number asked for, or the default for None; ``ValueError`` below 1."""
    if threads is None:
        return default_threads()
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return threads

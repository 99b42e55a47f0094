"""Workers that are processes of this machine.

* They are new ones (``spawn``), since forking a process that has threads is not safe.
* They never see Ctrl-C, which a terminal sends to all of them: SIGINT is blocked while they start,
  and they inherit that. The waiting process stops them, by closing a pipe. So they also end when it
  is killed.
* One that dies ends the run with an error.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any

from fewbits.engines import Engine, Report, Result, Task, Work


@contextmanager
def pool(workers: int) -> Iterator[Engine]:
    """A pool of new processes; they are gone when the block ends, however it does."""
    engine = _Local(workers)
    try:
        yield engine
    except BaseException:
        engine.stop()
        raise
    engine.close()


class _Local:
    """A pool of processes on this machine."""

    died = (BrokenProcessPool,)

    def __init__(self, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.workers = workers
        # Workers hold only the reading end: it ends when this process closes its own, or is gone.
        ends, self._lifeline = context.Pipe(duplex=False)
        self._reports = context.SimpleQueue()
        self._pool = ProcessPoolExecutor(
            workers, context, initializer=_begin, initargs=(ends, self._reports)
        )

    def submit(self, work: Work[Task, Result], task: Task) -> "Future[Result]":
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.submit(_do, work, task)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def reports(self) -> list[tuple[Any, ...]]:
        found = []
        while not self._reports.empty():
            found.append(self._reports.get())
        return found

    def stop(self) -> None:
        """End the workers, whatever they do."""
        self._lifeline.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Let the workers go, which have nothing left to do."""
        self._pool.shutdown(wait=True)
        self._lifeline.close()


_put: Report


def _begin(lifeline: Any, reports: Any) -> None:
    """What a local worker does first."""
    global _put  # noqa: PLW0603
    _put = reports.put
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Any) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)


def _do(work: Work[Task, Result], task: Task) -> Result:
    return work(task, lambda *values: _put(values))

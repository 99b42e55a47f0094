"""Plans that follow what passes: fitted to the data so far, and anew where that pays.

>>> import numpy as np
>>> from fewbits.values.types import layout_of
>>> adaptive = AdaptivePlan(layout_of(np.dtype("uint8")), Lossless())
>>> batches = [np.arange(40_000) % 5, np.arange(40_000) % 5 + 90]
>>> batches = [batch.astype(np.uint8) for batch in batches]
>>> [adaptive.renewed_for(batch) for batch in (batches[0], batches[0], batches[1])]
[True, False, True]
"""

import numpy as np
from numpy.typing import NDArray

from fewbits.lossless.choose import MIN_SAVING, Lossless
from fewbits.lossless.profiling import Tally, untabled
from fewbits.values.types import Layout

# Tables are fitted to all that has passed when it is so many bytes, and again whenever it is so
# many times as much.
FIRST_FIT_BYTES = 2048
REFIT_FACTOR = 4
# What a plan takes, about: a new one must save as much.
PLAN_BITS = 8 * 192
# Histograms of 16-bit values are large; small arrays wait until so much can be counted at once.
COUNTED_BYTES = 1 << 14


class AdaptivePlan:
    """A plan for data that come piece by piece, without tables at first."""

    def __init__(self, layout: Layout, settings: Lossless) -> None:
        self.plan = untabled(layout)
        self._layout, self._settings = layout, settings
        self._tally = Tally(layout)
        self._seen_bytes = self._fitted_bytes = self._recent_bytes = 0
        self._recent: list[NDArray[np.uint8]] = []  # not counted yet

    def renewed_for(self, data: NDArray[np.uint8]) -> bool:
        """Whether ``plan`` is another one from these storage bytes on."""
        self._seen_bytes += data.size
        self._recent_bytes += data.size
        due = self._seen_bytes >= max(FIRST_FIT_BYTES, REFIT_FACTOR * self._fitted_bytes)
        if self._recent_bytes < COUNTED_BYTES and not due:
            self._recent.append(data.copy())
            return False
        tally = self._counted(data)
        if due:
            self._fitted_bytes, tally = self._seen_bytes, self._tally
        elif tally.spare(self.plan) < max(PLAN_BITS, MIN_SAVING * tally.price(self.plan)):
            return False
        plan = tally.plan(self._settings)
        if tally.price(plan) + PLAN_BITS >= tally.price(self.plan):
            return False
        self.plan = plan
        return True

    def _counted(self, data: NDArray[np.uint8]) -> Tally:
        """These and the other recent bytes by themselves; they count among all as well."""
        tally = Tally(self._layout)
        tally.add(np.concatenate((*self._recent, data)) if self._recent else data)
        self._tally.merge(tally)
        self._recent.clear()
        self._recent_bytes = 0
        return tally

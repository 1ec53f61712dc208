"""Whether to look for an answer again and again for a moment, before the processor may sleep.

A processor that sleeps takes longer to wake than the BEAM takes to answer most ops, and costs more
than the looking. Where answers take longer, because of what an op does or because the BEAM has
other work, looking is for nothing: the next ops of that kind sleep at once. Pure but for the clock.
"""

from time import perf_counter_ns

# How long to look, in nanoseconds: three times what an answer takes of a BEAM that has to wake.
MOMENT = 100_000

# How many ops of a kind sleep at once after one that was looked for in vain.
RESTS = 31


class Spin:
    """What is known of each kind of op: by its number, how many are still to sleep at once."""

    def __init__(self) -> None:
        self._rests: dict[int, int] = {}

    def until(self, op: int) -> int:
        """Return the moment (of `perf_counter_ns`) until which to look for an answer; or 0."""
        rests = self._rests.get(op, 0)
        if rests > 0:
            self._rests[op] = rests - 1
            return 0
        return perf_counter_ns() + MOMENT

    def ended(self, op: int, until: int) -> None:
        """Take note that an op has ended which was looked for `until` a moment."""
        if 0 < until < perf_counter_ns():
            self._rests[op] = RESTS

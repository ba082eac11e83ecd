"""How fast a library does one thing over and over, by the same rule for every contestant."""

import time
from collections.abc import Callable

# The copy that a machine's limit is measured by.
COPIED_BYTES = 2**28
# A limit is measured for at least so long.
LEAST_SECONDS = 1.0
# An accelerator is given the next call while it works on one.
CALLS_A_WAIT = 10


def rate(amount: float, calls: Callable[[int], None], *, accelerator: bool) -> float:
  """Amounts a second, behind calls that do not count.

  Args:
    amount: what one call does.
    calls: makes so many calls and waits for the last.
    accelerator: calls are queued, so that one wait is for several.
  """
  together = CALLS_A_WAIT if accelerator else 1
  calls(together)
  made, began = 0, time.perf_counter()
  while (passed := time.perf_counter() - began) < LEAST_SECONDS:
    calls(together)
    made += together
  return amount * made / passed

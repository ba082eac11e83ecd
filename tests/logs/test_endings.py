"""What is said of errors that end a command, where two readings are possible."""

from pathlib import Path

import pytest

from apo_jax.logs.endings import sentence_of

# TensorStore has one name for disks and memories that are full.
FULL_DISK = (
  'RESOURCE_EXHAUSTED: Error writing local file "/run/1/_sharding": Failed to write 8706'
  " bytes to file 6: No space left on device [os_error_code='28']"
)
FULL_MEMORY = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1099511627776 bytes."


@pytest.mark.parametrize(
  ("error", "said"),
  [
    (ValueError(FULL_DISK), "its disk has no space left"),
    (RuntimeError(FULL_MEMORY), "The memory is full (RESOURCE_EXHAUSTED: Out of memory"),
    (MemoryError(), "The memory is full; take smaller batches"),
  ],
  ids=("disk", "device", "host"),
)
def test_a_full_disk_is_no_full_memory(tmp_path, error, said):
  outer = RuntimeError("saving failed")
  outer.__cause__ = error
  assert said in sentence_of(outer, tmp_path)


def test_an_error_of_ours_has_no_sentence():
  assert sentence_of(KeyError("no such thing"), Path()) is None

"""Along which axes is sent, by groups in every form that the compilers write."""

import numpy as np
import pytest

from apo_jax.plan.collectives import sent_along
from apo_jax.plan.hlo import parse

SIZE = 8 * 128 * 4
# Two planes of two by two.
CUBE = np.array([(x, y, z) for x in range(2) for y in range(2) for z in range(2)])


def along(line: str) -> tuple[float, ...]:
  """What a device sends in the instruction `line` on f32[8,128]."""
  text = f"""HloModule m

ENTRY %main (p: f32[8,128]) -> f32[8,128] {{
  %p = f32[8,128]{{1,0}} parameter(0)
  ROOT %r = {line}
}}
"""
  computation = parse(text).computations["main"]
  return sent_along(computation, computation.instructions["r"], CUBE)


@pytest.mark.parametrize(
  ("groups", "axes", "members"),
  [
    ("{}", "xyz", 8),
    ("{{0,4},{1,5},{2,6},{3,7}}", "x", 2),
    ("[4,2]<=[8]", "z", 2),
    ("[4,2]<=[2,4]T(1,0)", "x", 2),
    ("[2,4]<=[2,2,2]T(2,0,1)", "xy", 4),
    ("mesh['a'=2,'b'=4] {'b'}", "yz", 4),
    ("mesh['a'=8] {'a':(2)2}", "y", 2),
    ("mesh['a'=8] {'a':(2)4}", "yz", 4),
    ("mesh['a'=2,'b'=2,'c'=2] {'a','c'}", "xz", 4),
    ("mesh['a'=4,'b'=1,'c'=2], device_ids=([2,4]T(1,0)) {'a'}", "yz", 4),
    ("mesh['a'=4,'b'=1,'c'=2], device_ids=([2,4]T(1,0)) {'c'}", "x", 2),
  ],
)
def test_a_group_sends_along_the_axes_it_lies_on(groups, axes, members):
  sent = along(f"f32[8,128]{{1,0}} all-reduce(%p), replica_groups={groups}, dimensions={{1}}")
  assert "".join(name for name, part in zip("xyz", sent, strict=True) if part) == axes
  assert sum(sent) == pytest.approx(2 * SIZE * (members - 1) / members)
  assert len({part for part in sent if part}) == 1


def test_a_permutation_sends_along_the_axis_of_its_pairs():
  line = "f32[8,128]{1,0} collective-permute(%p), source_target_pairs={{0,2},{2,0}}"
  assert along(line) == (0, SIZE, 0)


@pytest.mark.parametrize(
  "groups",
  [
    "every second",
    "[2,4]<=every second",
    "mesh['a'=8], device_ids=(0,2,4) {'a'}",
    "mesh['a'=8] {'a':(1)2,'a':(4)2}",
  ],
)
def test_groups_in_another_form_are_no_guess(groups):
  with pytest.raises(ValueError, match="groups of r are not understood"):
    along(f"f32[8,128]{{1,0}} all-reduce(%p), replica_groups={groups}")

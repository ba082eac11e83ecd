"""Counts of small programs whose work is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.plan.hlo import parse
from apo_jax.plan.hlo_costs import Costs, convolution_flops, program_costs

WIDTH = 128
# Devices on one axis.
EIGHT = np.array([(n, 0, 0) for n in range(8)])
WEIGHT_BYTES = WIDTH * WIDTH * 4


def costs_of(function, *shapes, unknown_trips=1):
  arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  compiled = jax.jit(function).lower(*arguments).compile()
  return program_costs(parse(compiled.as_text()), unknown_trips, EIGHT), compiled


def stacked_products(x, weights, unroll):
  """x times every weight, one after another."""
  return jax.lax.scan(lambda x, weight: (jnp.tanh(x @ weight), None), x, weights, unroll=unroll)[0]


def test_a_product():
  costs, _ = costs_of(lambda a, b: a @ b, (WIDTH, 64), (64, 96))
  assert costs.flops == 2 * WIDTH * 64 * 96
  assert costs.bytes == 4 * (WIDTH * 64 + 64 * 96 + WIDTH * 96)
  assert costs.sent == 0


def test_a_batched_product():
  equation = "bth,bsh->bts"
  costs, _ = costs_of(functools.partial(jnp.einsum, equation), (3, 16, 32), (3, 24, 32))
  assert costs.flops == 2 * 3 * 16 * 24 * 32


@pytest.mark.parametrize("layers", [2, 7])
def test_a_scan_counts_as_its_unrolled_self(layers):
  shapes = (WIDTH, WIDTH), (layers, WIDTH, WIDTH)
  scanned, compiled = costs_of(functools.partial(stacked_products, unroll=1), *shapes)
  unrolled, _ = costs_of(functools.partial(stacked_products, unroll=True), *shapes)
  assert scanned.flops == unrolled.flops == layers * 2 * WIDTH**3
  # The compiler's own analysis counts the body once.
  assert compiled.cost_analysis()["flops"] < 1.5 * scanned.flops / layers


@pytest.mark.parametrize("layers", [4, 16])
def test_a_scan_reads_one_slice_of_a_stack_at_a_time(layers):
  scanned, _ = costs_of(
    functools.partial(stacked_products, unroll=1), (WIDTH, WIDTH), (layers, WIDTH, WIDTH)
  )
  # At least each weight, x in and x out once; all that copies of them add stays in proportion.
  assert 3 * layers * WEIGHT_BYTES <= scanned.bytes <= 10 * layers * WEIGHT_BYTES


def test_the_gradient_of_a_scan():
  def loss(weights, x):
    return jnp.sum(stacked_products(x, weights, unroll=1))

  costs, _ = costs_of(jax.grad(loss), (5, WIDTH, WIDTH), (64, WIDTH))
  # Forward, the weight's gradient, and the input's.
  assert costs.flops == pytest.approx(3 * 5 * 2 * 64 * WIDTH**2, rel=0.01)


def test_nested_loops_multiply():
  def inner(x, weights):
    return stacked_products(x, weights, unroll=1), None

  def outer(x, weights):
    return jax.lax.scan(inner, x, weights)[0]

  costs, _ = costs_of(outer, (WIDTH, WIDTH), (3, 4, WIDTH, WIDTH))
  assert costs.flops == 12 * 2 * WIDTH**3


@pytest.mark.parametrize("goes_on", [lambda x: jnp.any(x < 10.0), lambda x: jnp.max(x) < 10.0])
def test_a_loop_that_may_end_early_counts_as_often_as_is_said(goes_on):
  """In one place or all, as sampling goes on until no row is left: no number is a counter."""

  def until_large(x, weight):
    return jax.lax.while_loop(goes_on, lambda x: x @ weight, x)

  costs, _ = costs_of(until_large, (WIDTH, WIDTH), (WIDTH, WIDTH), unknown_trips=9)
  assert costs.flops == 9 * 2 * WIDTH**3


def test_of_two_branches_the_dearer_counts():
  def choose(x, weight):
    return jax.lax.cond(jnp.sum(x) > 0, lambda: x @ weight @ weight, lambda: x @ weight)

  costs, _ = costs_of(choose, (WIDTH, WIDTH), (WIDTH, WIDTH))
  assert costs.flops == 2 * 2 * WIDTH**3


# The same product of [4, 128, 64] and [4, 64, 256] over the last axis, as TPUs write it: the batch
# is a spatial axis whose dilation lets each place meet its own kernel alone.
BATCHED = "window={size=4 stride=3 pad=0_0 lhs_dilate=4}, dim_labels=0bf_0io->0bf"


@pytest.mark.parametrize(
  ("left", "right", "output", "attributes", "expected"),
  [
    ((128, 64), (64, 256), (128, 256), ", dim_labels=bf_io->bf", 2 * 128 * 64 * 256),
    ((4, 128, 64), (4, 64, 256), (4, 128, 256), BATCHED, 2 * 4 * 128 * 64 * 256),
    # A contraction over two axes: the kernel covers the whole of one.
    (
      (8, 128, 64),
      (8, 64, 256),
      (1, 128, 256),
      "window={size=8}, dim_labels=0bf_0io->0bf",
      2 * 8 * 128 * 64 * 256,
    ),
    # Three taps with padding: the outermost places read two inputs.
    (
      (5, 1, 1),
      (3, 1, 1),
      (5, 1, 1),
      "window={size=3 pad=1_1}, dim_labels=0bf_0io->0bf",
      2 * (3 * 5 - 2),
    ),
  ],
)
def test_products_as_convolutions(left, right, output, attributes, expected):
  assert convolution_flops(left, right, output, attributes) == expected


def one_instruction(line, more=""):
  """The costs of an entry with a parameter %p = f32[8,128] and this instruction."""
  text = f"""HloModule m, num_partitions=8

{more}
ENTRY %main (p: f32[8,128]) -> f32[8,128] {{
  %p = f32[8,128]{{1,0}} parameter(0)
  ROOT %r = {line}
}}
"""
  return program_costs(parse(text), 1, EIGHT)


SIZE = 8 * 128 * 4


@pytest.mark.parametrize(
  ("line", "sent"),
  [
    ("f32[32,128]{1,0} all-gather(%p), replica_groups=[2,4]<=[8], dimensions={0}", 3 * SIZE),
    ("f32[8,128]{1,0} all-reduce(%p), replica_groups={{0,1},{2,3}}, to_apply=%add", SIZE),
    ("f32[8,128]{1,0} all-reduce(%p), replica_groups={}, to_apply=%add", 2 * SIZE * 7 / 8),
    ("f32[2,128]{1,0} reduce-scatter(%p), replica_groups=[2,4]<=[8]", SIZE * 3 / 4),
    ("f32[8,128]{1,0} all-to-all(%p), replica_groups=[4,2]<=[8]", SIZE / 2),
    ("f32[8,128]{1,0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}", SIZE),
    ("f32[8,128]{1,0} all-reduce(%p), replica_groups=mesh['a'=2,'b'=4] {'b'}", 2 * SIZE * 3 / 4),
    ("f32[8,128]{1,0} all-reduce(%p), replica_groups=mesh['a'=8] {'a':(2)4}", 2 * SIZE * 3 / 4),
    (
      "f32[8,128]{1,0} all-reduce(%p),"
      " replica_groups=mesh['a'=4,'b'=1,'c'=2], device_ids=([2,4]T(1,0)) {'a'}, dimensions={1}",
      2 * SIZE * 3 / 4,
    ),
    ("f32[8,128]{1,0} negate(%p)", 0),
  ],
)
def test_what_a_device_sends(line, sent):
  assert one_instruction(line).sent == sent


def test_a_reduce_scatter_as_tpus_write_it_sends_half_of_an_all_reduce():
  more = """%all-reduce-scatter.1 (q: f32[8,128]) -> f32[1,128] {
  %q = f32[8,128]{1,0} parameter(0)
  %sum = f32[8,128]{1,0} all-reduce(%q), replica_groups=[1,8]<=[8], to_apply=%add
  %zero = s32[] constant(0)
  ROOT %part = f32[1,128]{1,0} dynamic-slice(%sum, %zero, %zero), dynamic_slice_sizes={1,128}
}
"""
  line = "f32[1,128]{1,0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.1"
  assert one_instruction(line, more).sent == SIZE * 7 / 8


def test_a_collective_that_is_spread_over_fusions_counts_once():
  more = """%first (a: f32[8,128]) -> f32[32,128] {
  %a = f32[8,128]{1,0} parameter(0)
  ROOT %g = f32[32,128]{1,0} all-gather(%a), channel_id=5, replica_groups=[2,4]<=[8]
}
%then (b: f32[8,128], c: f32[32,128]) -> (f32[32,128]) {
  %b = f32[8,128]{1,0} parameter(0)
  %c = f32[32,128]{1,0} parameter(1)
  %h = f32[32,128]{1,0} all-gather(%b), channel_id=5, replica_groups=[2,4]<=[8]
  ROOT %t = (f32[32,128]{1,0}) tuple(%h)
}
"""
  line = """f32[32,128]{1,0} fusion(%p), kind=kCustom, calls=%first
  %s = (f32[32,128]{1,0}) fusion(%p, %r), kind=kCustom, calls=%then"""
  costs = one_instruction(line, more)
  assert costs.sent == 3 * SIZE
  assert costs.bytes == SIZE + 4 * SIZE


def test_an_update_in_place_moves_only_the_update():
  more = """%fused (q: f32[8,128], u: f32[1,128]) -> f32[8,128] {
  %q = f32[8,128]{1,0} parameter(0)
  %u = f32[1,128]{1,0} parameter(1)
  %zero = s32[] constant(0)
  ROOT %new = f32[8,128]{1,0} dynamic-update-slice(%q, %u, %zero, %zero)
}
"""
  text = f"""HloModule m

{more}
ENTRY %main (p: f32[8,128], s: f32[1,128]) -> f32[8,128] {{
  %p = f32[8,128]{{1,0}} parameter(0)
  %s = f32[1,128]{{1,0}} parameter(1)
  ROOT %r = f32[8,128]{{1,0}} fusion(%p, %s), kind=kLoop, calls=%fused
}}
"""
  assert program_costs(parse(text), 1, EIGHT) == Costs(bytes=2.0 * 128 * 4)


@pytest.mark.parametrize(("kernel", "products"), [("fwd", 2), ("dq", 3), ("dkv", 4)])
def test_a_splash_kernel_counts_its_causal_blocks(kernel, products):
  """Seven blocks a side: 28 of 49 are at or below the diagonal."""
  text = f"""HloModule step, num_partitions=4

ENTRY %main (a: s8[1,7,7], q: bf16[32,896,128]) -> bf16[32,896,128] {{
  %a = s8[1,7,7]{{2,1,0}} parameter(0)
  %q = bf16[32,896,128]{{2,1,0}} parameter(1)
  ROOT %splash_mha_{kernel}.2 = bf16[1] custom-call(%a, %a, %a, %q), x={{kernel_metadata={{
"xprof_metadata":"{{\\"block_q\\": 128}}"
}}}}, metadata={{op_name="jit(step)"}}
}}
"""
  costs = program_costs(parse(text), 1, EIGHT)
  assert costs.flops == products * 2 * 32 * 128 * (28 * 128**2)


@pytest.mark.parametrize(("stride", "trips"), [(1, 8), (2, 4), (3, 3)])
def test_a_loop_counts_by_what_its_body_adds(stride, trips):
  text = f"""HloModule step, num_partitions=4

%body (c: (s32[], f32[64,64])) -> (s32[], f32[64,64]) {{
  %c = (s32[], f32[64,64]) parameter(0)
  %number = s32[] get-tuple-element(%c), index=0
  %x = f32[64,64]{{1,0}} get-tuple-element(%c), index=1
  %stride = s32[] constant({stride})
  %next = s32[] add(%number, %stride)
  %y = f32[64,64]{{1,0}} dot(%x, %x), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}
  ROOT %t = (s32[], f32[64,64]) tuple(%next, %y)
}}

%condition (c: (s32[], f32[64,64])) -> pred[] {{
  %c = (s32[], f32[64,64]) parameter(0)
  %number = s32[] get-tuple-element(%c), index=0
  %limit = s32[] constant(8)
  ROOT %less = pred[] compare(%number, %limit), direction=LT
}}

ENTRY %main (c: (s32[], f32[64,64])) -> (s32[], f32[64,64]) {{
  %c = (s32[], f32[64,64]) parameter(0)
  ROOT %w = (s32[], f32[64,64]) while(%c), condition=%condition, body=%body
}}
"""
  assert program_costs(parse(text), 1, EIGHT).flops == trips * 2 * 64**3

"""Which layout pays, by counts of hand, and how long its rows are."""

import dataclasses
import functools

import numpy as np
import pytest

from apo_jax.models.row_cost import row_flops
from apo_jax.rows.layouts import RowLayout, choose_layout, shared_lengths, sharing_pays
from apo_jax.rows.rows import Response
from tests import tiny

EOS = tiny.codec().eos
# A token takes 2 * 2 layers * 32 * (4 * 8 + 2 * 2 * 8 + 4 * 8 + 3 * 64) = 36,864 FLOPs in products
# with weights, and a pair of slots 2 * 2 layers * 2 * 4 * 8 = 256 in attention's products. Softmax
# counts as 600 for each of 2 layers * 4 heads.
ARCHITECTURE = tiny.architecture()
TOKEN, PAIR = 36_864, 256 + 4_800
WIDE = dataclasses.replace(ARCHITECTURE, embed_dim=4096, mlp_dim=16_384)
COST, WIDE_COST = (functools.partial(row_flops, one) for one in (ARCHITECTURE, WIDE))


def flops(length):
  """Attention leaves out what is behind each block of queries, of 64 slots or an eighth."""
  blocks = max(1, min(8, length // 64))
  return TOKEN * length + PAIR * length**2 * (blocks + 1) / (2 * blocks)


@pytest.mark.parametrize("length", [1, 54, 1000])
def test_flops_of_a_row_by_hand(length):
  assert row_flops(ARCHITECTURE, length) == pytest.approx(flops(length))


@pytest.mark.parametrize("num_responses", [2, 4, 5])
@pytest.mark.parametrize("query", [1, 8, 64, 256])
@pytest.mark.parametrize("response", [2, 32, 256])
def test_sharing_pays_where_it_takes_fewer_flops(num_responses, query, response):
  separate, shared = query + response, query + num_responses * response
  expected = flops(shared) < num_responses * flops(separate)
  assert sharing_pays(COST, num_responses, separate, shared) == expected


def test_long_responses_to_short_queries_do_not_pay():
  """Attention to all of a row outweighs a query that is read once."""
  assert choose_layout(COST, 4, 256, (288,)).shared
  assert not choose_layout(COST, 4, 8, (512,)).shared
  # A wider model is less occupied with attention.
  assert choose_layout(WIDE_COST, 4, 128, (512,)).shared
  assert not choose_layout(COST, 4, 128, (512,)).shared


def test_one_response_is_a_row_of_its_own():
  assert choose_layout(COST, 1, 256, (128, 300)) == RowLayout(1, False, (128, 300))


def test_what_does_not_pay_keeps_its_lengths():
  assert choose_layout(COST, 4, 8, (64, 512)) == RowLayout(4, False, (64, 512))


def test_lengths_are_shares_of_the_longest():
  # 100 + 5 * 60 = 400: 2.5 times as long.
  assert shared_lengths(400, (40, 81, 160)) == (104, 208, 400)
  assert shared_lengths(160, (40, 160)) == (40, 160)
  # Rounded up they stay within the longest, 31, and two may be equal.
  assert shared_lengths(31, (13, 14, 15)) == (31, 31, 31)


def test_the_longest_shared_row_may_be_given():
  usual = choose_layout(WIDE_COST, 5, 100, (80, 160))
  assert usual == RowLayout(5, True, (200, 400))
  assert choose_layout(WIDE_COST, 5, 100, (80, 160), 480) == RowLayout(5, True, (240, 480))


@pytest.mark.parametrize("num_responses", [1, 2, 5])
def test_tokens_saved(num_responses):
  """All but one of the queries: (R - 1) Q of R (Q + A) tokens."""
  query, response = 256, 128
  layout = choose_layout(WIDE_COST, num_responses, query, (query + response,))
  separate = num_responses * (query + response)
  read = layout.lengths[-1] * (1 if layout.shared else num_responses)
  assert separate - read == (num_responses - 1) * query


def test_every_item_of_the_lengths_fits():
  layout = choose_layout(COST, 3, 40, (20, 48))
  longest = ([1] * 40, [Response([5] * 7)] * 3)
  assert layout.shared and layout.needed(longest) == layout.lengths[-1] == 64
  rows = layout.rows([longest], -1, EOS)
  assert rows.tokens.shape == (1, 64) and np.all(rows.segment_ids > 0)
  assert layout.rows([([1], [None, Response([5])])], 0, EOS).tokens.shape == (1, 32)


def test_separate_rows_of_a_layout():
  layout = RowLayout(3, False, (8, 16))
  item = ([1, 7], [Response([5]), Response([5, 6, 5])])
  assert layout.needed(item) == 6
  assert layout.rows([item], 0, EOS).tokens.shape == (1, 3, 8)


def test_a_fused_kernel_keeps_softmax_out_of_memory():
  fused = dataclasses.replace(ARCHITECTURE, attention="splash")
  assert row_flops(fused, 256) == TOKEN * 256 + 256 * 256**2
  assert row_flops(fused, 64) == flops(64)  # shorter than a block of the kernel

"""Work against counts by hand."""

import pytest

from benchmarks import work
from benchmarks.model import architecture

MODEL = {
  "shape": {
    "layers": 3,
    "embed_dim": 4,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 2,
    "mlp_dim": 8,
    "rope_theta": 1e4,
    "norm_epsilon": 1e-5,
    "tied_embeddings": True,
  },
  "vocab_size": 128,
  "dtype": "float32",
  "remat": "none",
}
SMALL = architecture(MODEL)

# A layer: query and output 4 x 4, key and value 4 x 2, gate, up and down 4 x 8.
LAYERS = 3 * (2 * 16 + 2 * 8 + 3 * 32)
TABLE = 128 * 4
TOKEN = 2 * LAYERS
LOGITS = 2 * TABLE
PAIR = 3 * 2 * (2 * 2 + 2 * 2)  # layers, heads: a dot product of 2, and 2 sums


def test_parameters():
  assert work.parameter_count(SMALL) == LAYERS + TABLE == 944


def test_a_row_reads_its_query_once():
  # Query 3; its tokens see 1, 2 and 3 tokens, the first response's 4 and 5, the second's 4.
  pairs = (1 + 2 + 3) + (4 + 5) + 4
  expected = 6 * TOKEN + pairs * PAIR
  assert work.row_flops(SMALL, 3, [2, 1], logits=False) == expected
  assert work.row_flops(SMALL, 3, [2, 1], logits=True) == expected + 3 * LOGITS


def test_a_training_step_is_three_forward_passes():
  forward = work.row_flops(SMALL, 3, [2, 1], logits=True)
  step = work.training_step(SMALL, 3, [[2, 1], [2, 1]], logits=True)
  assert step.flops == 3 * 2 * forward
  assert step.bytes == 10 * 4 * 944


def test_scoring_is_one():
  assert work.scoring(SMALL, 3, [[2, 1]], logits=False).flops == 6 * TOKEN + 19 * PAIR


def test_sampling():
  # The query's pass gives both first tokens; one response has a second, which sees 4 tokens.
  query = 3 * TOKEN + 6 * PAIR + LOGITS
  second = TOKEN + LOGITS + 4 * PAIR
  needed = work.sampling(SMALL, 3, [[2, 1]], itemsize=4)
  assert needed.flops == query + second
  # Parameters in both passes; in the second, keys and values of 4 tokens: 2 of each a layer.
  assert needed.bytes == 4 * (2 * 944 + 4 * 3 * 2 * 2)


def test_sampling_ends_with_each_response():
  """More responses of one length are as many more passes; shorter ones are fewer."""
  equal = work.sampling(SMALL, 3, [[5, 5]], itemsize=4)
  uneven = work.sampling(SMALL, 3, [[5, 1]], itemsize=4)
  saved = sum(TOKEN + LOGITS + (3 + seen) * PAIR for seen in (1, 2, 3, 4))
  assert equal.flops - uneven.flops == saved


def test_the_limit_is_the_slower_of_computing_and_moving():
  machine = work.Machine(flops=100.0, bandwidth=10.0)
  assert work.limit_seconds(work.Work(1000.0, 50.0), machine) == 10.0
  assert work.limit_seconds(work.Work(100.0, 50.0), machine) == 5.0


def test_smollm2_has_its_parameters():
  shape = MODEL["shape"] | {
    "layers": 30,
    "embed_dim": 576,
    "heads": 9,
    "kv_heads": 3,
    "head_dim": 64,
    "mlp_dim": 1536,
  }
  model = architecture(MODEL | {"shape": shape, "vocab_size": 49152})
  assert work.parameter_count(model) == pytest.approx(134.5e6, rel=1e-3)

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.inference.scoring import (
  layout_items,
  make_logprob_scorer,
  make_reward_scorer,
  usual_responses,
)
from apo_jax.models import row_cost
from apo_jax.models.definition import define_reward_model
from apo_jax.rows.layouts import RowLayout
from apo_jax.rows.rows import Response, make_rows
from tests import batches, tiny

CONFIG = tiny.config()
EOS = tiny.codec().eos


@pytest.fixture(scope="module", autouse=True)
def shared_rows():
  """Responses share rows, which would not pay in a model this small."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(row_cost, "SOFTMAX_FLOPS", 0.0)
    yield


@functools.cache
def player(kind):
  """Definition, parameters and the function that makes a scorer of it."""
  if kind == "policy":
    return *tiny.policy(), make_logprob_scorer
  definition = define_reward_model(tiny.architecture(), "last", tiny.mesh())
  return definition, definition.init(0), make_reward_scorer


@functools.cache
def scorer(kind, batch_size=4, lengths=(batches.LENGTH,)):
  definition, _, make = player(kind)
  return make(
    definition,
    tiny.mesh(),
    batch_size=batch_size,
    query_length=batches.LONGEST_QUERY,
    lengths=lengths,
    eos=EOS,
  )


def score(kind, sequences, batch_size=4, **options):
  return scorer(kind, batch_size)(player(kind)[1], sequences, **options)


def random_sequences(count, seed=0):
  rng = np.random.default_rng(seed)

  def tokens(fewest, most):
    return rng.integers(3, 300, rng.integers(fewest, most)).tolist()

  return [
    ([1, *tokens(2, 7)], Response(tokens(0, 8), bool(rng.random() < 0.7))) for _ in range(count)
  ]


KINDS = pytest.mark.parametrize("kind", ["policy", "reward"])


@KINDS
def test_scores_are_those_of_one_sequence_at_a_time(kind):
  sequences = random_sequences(10)
  together = score(kind, sequences)
  assert together.dtype == np.float32 and together.shape == (10,)
  alone = [score(kind, [sequence])[0] for sequence in sequences]
  np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
  assert len(set(together.tolist())) == 10


@KINDS
def test_scores_depend_neither_on_batch_size_nor_on_order(kind):
  sequences = random_sequences(10)
  expected = score(kind, sequences)
  np.testing.assert_allclose(score(kind, sequences, batch_size=7), expected, rtol=1e-5, atol=1e-6)
  order = np.random.default_rng(1).permutation(10)
  shuffled = score(kind, [sequences[index] for index in order])
  np.testing.assert_allclose(shuffled, expected[order], rtol=1e-5, atol=1e-6)


@KINDS
def test_padded_lengths_change_no_score(kind):
  sequences = random_sequences(12)
  lengths = (8, 12, batches.LENGTH)
  assert len({sum(len(part) for part in (q, r.tokens)) // 4 for q, r in sequences}) > 1
  bucketed = scorer(kind, 4, lengths)(player(kind)[1], sequences)
  np.testing.assert_allclose(bucketed, score(kind, sequences), rtol=1e-5, atol=1e-6)


def test_scores_are_what_the_models_say():
  query, response = [1, 20, 30], Response([40, 50])
  rows = make_rows([(query, [response])], 1, batches.LENGTH, EOS)
  inputs = [jnp.asarray(array[0]) for array in rows.read]
  definition, parameters, _ = player("reward")
  reward = definition.bind(parameters)(*inputs)[:, 0]
  np.testing.assert_allclose(score("reward", [(query, response)]), reward, rtol=1e-5)
  definition, parameters, _ = player("policy")
  policy = definition.bind(parameters)
  hidden, _ = policy(*inputs[:3])
  logits = np.asarray(policy.logits(hidden), np.float64)[0]
  logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  expected = logprobs[2, 40] + logprobs[3, 50] + logprobs[4, EOS]
  np.testing.assert_allclose(score("policy", [(query, response)]), [expected], rtol=1e-5)


@KINDS
def test_equal_responses_to_a_query_are_one(kind):
  """Each was computed for itself, and rounding told them apart."""
  query, (one, other) = [1, 20, 30], (Response([40, 50]), Response([40]))
  sequences = [(query, one), (query, other), (query, Response((40, 50))), (query, other)]
  told = []
  scores = score(kind, [*sequences, ([1, 20], one)], on_batch=told.append)
  assert scores[0] == scores[2] and scores[1] == scores[3]
  assert len(set(scores.tolist())) == 3 and sum(told) == 5
  # Permuted, doubled, in other batches: the same numbers but for rounding, and equals are equal.
  again = score(kind, [sequences[1], *sequences, *sequences])
  np.testing.assert_allclose(again[[1, 0]], scores[:2], rtol=1e-5)
  assert len(set(again.tolist())) == 2


def test_what_is_one_to_a_reward_model_may_be_two_to_a_policy():
  """An eos that a stop string stands for is read by the one, and no token of the other."""
  drawn, stopped = ([1, 20], Response([40])), ([1, 20], Response([40], drew_end=False))
  unfinished = ([1, 20], Response([40], finished=False, drew_end=False))
  rewards = score("reward", [drawn, stopped, unfinished])
  assert rewards[0] == rewards[1] != rewards[2]
  logprobs = score("policy", [drawn, stopped, unfinished])
  assert logprobs[0] < logprobs[1]
  np.testing.assert_allclose(logprobs[1], logprobs[2], rtol=1e-5)


@pytest.mark.parametrize(
  ("count", "expected"), [(0, []), (1, [1]), (4, [4]), (5, [4, 1]), (11, [4, 4, 3])]
)
def test_on_batch_is_told_the_sequences_of_each_batch(count, expected):
  told = []
  scores = score("policy", random_sequences(count), on_batch=told.append)
  assert told == expected and len(scores) == count


def test_every_padded_length_has_its_own_batches():
  # Tokens with eos: 8 and 5 take the shortest rows, 9 and 12 the next, 16 and 13 the longest.
  sequences = [([1, total], Response([6] * (total - 3))) for total in (8, 9, 16, 5, 12, 13)]
  told = []
  make_scores = scorer("policy", 4, (8, 12, batches.LENGTH))
  scores = make_scores(player("policy")[1], sequences, on_batch=told.append)
  assert told == [2, 2, 2]
  np.testing.assert_allclose(scores, score("policy", sequences), rtol=1e-5, atol=1e-6)


@KINDS
def test_a_response_of_no_tokens_has_a_score(kind):
  query = [1, 20, 30]
  finished, unfinished = score(kind, [(query, Response([])), (query, Response([], False))])
  assert np.isfinite([finished, unfinished]).all()
  if kind == "policy":
    # What was cut before its first token claims nothing; an empty response claims its eos.
    assert unfinished == 0.0 and finished < 0.0
  else:
    assert finished == unfinished


def test_a_sequence_that_does_not_fit_raises():
  query = [1, *[5] * 7]
  fits, long = Response([6] * (batches.LENGTH - 9)), Response([6] * (batches.LENGTH - 8))
  assert np.isfinite(score("policy", [(query, fits)])).all()
  with pytest.raises(ValueError, match=f"{batches.LENGTH + 1} tokens, a row at most"):
    score("policy", [(query, fits), (query, long)])


def runs(sizes, seed=0):
  """So many random responses to each of some queries, side by side."""
  found = []
  for size, (query, _) in zip(sizes, random_sequences(len(sizes), seed), strict=True):
    found += [(query, response) for _, response in random_sequences(size, seed + len(found) + 1)]
  return found


@KINDS
@pytest.mark.parametrize(
  "sizes", [[3, 3, 3, 3], [2, 5, 2, 1, 2], [4]], ids=["equal", "mixed", "one query"]
)
def test_responses_that_share_rows_keep_their_scores_and_their_order(kind, sizes):
  sequences = runs(sizes)
  order = np.random.default_rng(2).permutation(len(sequences))
  # Apart from each other, hardly any share a row.
  alone = np.array([score(kind, [sequence])[0] for sequence in sequences])
  np.testing.assert_allclose(score(kind, sequences), alone, rtol=1e-5, atol=1e-5)
  mixed = score(kind, [sequences[index] for index in order])
  np.testing.assert_allclose(mixed, alone[order], rtol=1e-5, atol=1e-5)
  several = scorer(kind, 4, (10, batches.LENGTH))(player(kind)[1], sequences)
  np.testing.assert_allclose(several, alone, rtol=1e-5, atol=1e-5)


def test_calls_hold_as_many_sequences_as_without_sharing():
  told = []
  score("policy", runs([2, 2, 2, 2, 2]), on_batch=told.append)
  assert told == [4, 4, 2]
  made = scorer("policy", 4)
  shared = made.layout(3)
  assert shared == RowLayout(3, True, (7 + 3 * 9,))
  # Two rows hold 6, one would hold 3.
  assert [made.rows_a_call(layout) for layout in (made.layout(1), made.layout(2), shared)] == [
    4,
    2,
    2,
  ]


def test_one_function_is_compiled_a_length_and_number_of_responses():
  made = scorer("policy", 8, (8, batches.LENGTH))
  for seed in range(3):
    made(player("policy")[1], runs([2, 2, 2, 2], seed))
    made(player("policy")[1], runs([3, 3, 3], seed))
  assert 1 < made._score._cache_size() <= 4


@pytest.mark.parametrize(
  ("sizes", "expected"),
  [([], 1), ([1], 1), ([5, 5, 5], 5), ([4, 8, 4, 1], 4), ([2, 3], 3), ([9, 2, 2, 3], 2)],
)
def test_the_usual_number_of_responses(sizes, expected):
  sequences = [([index], Response([5])) for index, size in enumerate(sizes) for _ in range(size)]
  assert usual_responses(sequences) == expected


def test_rows_take_what_they_have_room_for():
  sizes, response = (3, 5, 1), Response([5])
  sequences = [([index], response) for index, size in enumerate(sizes) for _ in range(size)]
  places, items = layout_items(sequences, RowLayout(2, True, (8,)))
  assert places == [[0, 1], [2], [3, 4], [5, 6], [7], [8]]
  assert items[1] == ([0], [response]) and items[2] == ([1], [response, response])
  # A row of 4 has no room for two responses of 2 tokens behind a query.
  places, _ = layout_items(sequences, RowLayout(2, True, (4,)))
  assert places == [[index] for index in range(9)]
  places, _ = layout_items(
    [([1], response), ([2], response), ([1], response)], RowLayout(2, True, (8,))
  )
  assert places == [[0], [1], [2]]

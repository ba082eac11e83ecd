"""The sampler against step-by-step forward passes, closed forms and its own invariances."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from apo_jax.config.schema import SamplerConfig
from apo_jax.inference.decoding import (
  Drawing,
  QueryBatch,
  Samples,
  adjust_logits,
  make_choose,
)
from apo_jax.inference.sampler import Sampler
from apo_jax.inference.scoring import make_logprob_scorer
from apo_jax.models.decoder import Decoder
from apo_jax.rows.rows import Response
from apo_jax.run import seeds
from tests import tiny
from tests.whole_samples import sample

GREEDY = SamplerConfig(
  num_samples=2,
  temperature=0.0,
  top_k=0,
  top_p=1.0,
  repetition_penalty=1.0,
  max_new_tokens=6,
  stop=(),
)
RANDOM = dataclasses.replace(GREEDY, temperature=1.0, num_samples=3)
QUERIES = [[1, 40, 50, 60], [1, 70, 80], [1, 90, 33, 44, 55, 66, 77], [1, 100]]


def keys(count: int, purpose: str = "test") -> np.ndarray:
  return np.stack([seeds.derive_key(0, purpose, index) for index in range(count)])


def make_sampler(
  batch_size: int = 4, buckets: tuple[int, ...] = (8,), cache_dtype: str = "float32"
) -> Sampler:
  definition, _ = tiny.policy()
  mesh = tiny.mesh()
  return Sampler(
    definition,
    tiny.codec(),
    mesh,
    buckets=buckets,
    batch_size=batch_size,
    cache_dtype=cache_dtype,
    gather_weights=False,
  )


def draw(config: SamplerConfig, sampler: Sampler | None = None, queries=QUERIES, seeds_=None):
  sampler = sampler or shared_sampler()
  return sampler(
    tiny.policy()[1], queries, keys(len(queries)) if seeds_ is None else seeds_, config
  )


@functools.cache
def shared_sampler() -> Sampler:
  return make_sampler()


def not_drawn() -> list[int]:
  codec = tiny.codec()
  return [*codec.never_drawn, *range(codec.size, tiny.architecture().vocab_size)]


def tokens(drawn) -> list[list[tuple[int, ...]]]:
  return [[tuple(one.response.tokens) for one in query] for query in drawn]


def test_greedy_follows_the_largest_logit_of_a_plain_forward_pass():
  definition, parameters = tiny.policy()

  @jax.jit
  def next_logits(parameters, ids, length):
    shape = (1, 16)
    segments = (jnp.arange(16) < length).astype(jnp.int32)[None]
    positions = jnp.broadcast_to(jnp.arange(16), shape)
    policy = definition.bind(parameters)
    hidden, _ = policy(ids, segments, positions)
    return policy.logits(hidden)[0, length - 1]

  for query, drawn in zip(QUERIES, draw(GREEDY), strict=True):
    ids = list(query)
    for token in drawn[0].response.tokens:
      padded = jnp.array([ids + [0] * (16 - len(ids))])
      logits = np.array(next_logits(parameters, padded, len(ids)))
      logits[not_drawn()] = -np.inf
      assert token == int(logits.argmax())
      ids.append(token)
    assert drawn[0] == drawn[1]
    assert len(ids) > len(query)


def test_logprobs_are_those_of_scoring():
  definition, parameters = tiny.policy()
  scorer = make_logprob_scorer(
    definition,
    tiny.mesh(),
    batch_size=4,
    query_length=16,
    lengths=(24,),
    eos=tiny.codec().eos,
  )
  drawn = draw(RANDOM)
  sequences = [
    (query, one.response) for query, row in zip(QUERIES, drawn, strict=True) for one in row
  ]
  sampled = [one.logprob for row in drawn for one in row]
  np.testing.assert_allclose(sampled, scorer(parameters, sequences), rtol=1e-4)


def test_a_bfloat16_cache_rounds_keys_and_values_alone():
  exact, rounded = draw(GREEDY), draw(GREEDY, make_sampler(cache_dtype="bfloat16"))
  # The first token is drawn before the cache is read.
  first = [[row[0].response.tokens[0] for row in rows] for rows in (exact, rounded)]
  assert first[0] == first[1]
  pairs = [(row[0].logprob, other[0].logprob) for row, other in zip(exact, rounded, strict=True)]
  close = [one == pytest.approx(other, rel=1e-2) for one, other in pairs]
  assert all(close) and any(one != other for one, other in pairs)


def test_samples_depend_on_query_and_key_alone():
  """Another batch size, order, company and bucket give the same samples."""
  expected = tokens(draw(RANDOM))
  order = [2, 0, 3, 1]
  shuffled = draw(RANDOM, queries=[QUERIES[i] for i in order], seeds_=keys(4)[order])
  assert tokens(shuffled) == [expected[i] for i in order]
  alone = draw(RANDOM, queries=QUERIES[2:3], seeds_=keys(4)[2:3])
  assert tokens(alone) == expected[2:3]
  other = make_sampler(batch_size=2, buckets=(4, 16))
  assert tokens(draw(RANDOM, other)) == expected
  flat = [sample for query in expected for sample in query]
  assert len(set(flat)) == len(flat)  # every query and sample has its own key


def test_other_seeds_give_other_samples():
  assert tokens(draw(RANDOM)) != tokens(draw(RANDOM, seeds_=keys(4, "other")))


def test_two_buckets_compile_twice_however_many_queries():
  sampler = make_sampler(batch_size=2, buckets=(4, 16))
  queries = [[1, *range(40, 40 + n)] for n in (2, 5, 1, 9, 3, 14, 7, 2, 2)]
  draw(RANDOM, sampler, queries)
  draw(RANDOM, sampler, queries[:3])
  functions = sampler._functions(RANDOM)
  assert functions.start._cache_size() == 2
  assert functions.decode._cache_size() == 2


def test_what_is_lowered_without_data_is_what_runs():
  sampler = make_sampler(batch_size=2, buckets=(4,))
  first, steps = sampler.lowered(GREEDY, 4)
  assert first.in_avals[0][1].tokens.shape == (1, 4)
  assert steps.in_avals[0][1].drawing.samples.tokens.shape == (2, 2, 6)
  batch = QueryBatch(np.ones((1, 4), np.int32), np.array([4], np.int32), keys(1))
  state = first.compile()(sampler.form(tiny.policy()[1]), batch)
  assert state.drawing.live.all()


def test_first_token_has_the_distribution_of_the_adjusted_logits():
  """4,000 samples of one token against softmax, within four standard errors."""
  config = dataclasses.replace(RANDOM, num_samples=4000, max_new_tokens=1, temperature=0.7, top_k=8)
  definition, parameters = tiny.policy()
  policy = definition.bind(parameters)
  query = jnp.array([QUERIES[0]])
  hidden, _ = policy(query, jnp.ones_like(query), jnp.arange(4)[None])
  logits = np.array(policy.logits(hidden)[0, -1], np.float64)
  logits[not_drawn()] = -np.inf
  logits[np.argsort(logits)[:-8]] = -np.inf
  probabilities = np.exp(logits / 0.7 - np.max(logits / 0.7))
  probabilities /= probabilities.sum()
  codec = tiny.codec()
  ids = {"ends": codec.ends, "never_drawn": codec.never_drawn, "known_tokens": codec.size}
  samples = jax.jit(lambda queries: sample(policy, queries, config, **ids, table=None))(
    QueryBatch(query, jnp.array([4]), jnp.asarray(keys(1)))
  )
  counts = np.bincount(np.asarray(samples.tokens).ravel(), minlength=len(probabilities))
  frequencies = counts / counts.sum()
  error = np.sqrt(probabilities * (1 - probabilities) / counts.sum())
  assert np.all(np.abs(frequencies - probabilities) <= 4 * error + 1e-12)
  assert (frequencies > 0).sum() == 8


class Scripted(Decoder):
  """A policy that says what the test wants: logits favour `script[position]` of a row."""

  def __init__(self, rngs: nnx.Rngs, script: list[int], calls: list[str]):
    super().__init__(tiny.architecture(), rngs)
    self.script = tuple(script)
    self.count = calls.append

  def __call__(self, tokens, segment_ids, positions, **options):
    jax.debug.callback(self.count, "read")
    _, kept = super().__call__(tokens, segment_ids, positions, **options)
    return positions[..., None].astype(jnp.float32), kept

  def step(self, tokens, place, cache, stacks=None):
    jax.debug.callback(self.count, "step")
    _, cache = super().step(tokens, place, cache, stacks)
    positions = place.prompt_lengths[:, None] + place.ages - 1
    return positions[..., None].astype(jnp.float32), cache

  def logits(self, hidden):
    at = hidden[..., 0].astype(jnp.int32)
    return 50.0 * jax.nn.one_hot(jnp.array(self.script)[at], 16)


def run_script(script, config, *, table=None, lengths=(3,), ends=(9,)):
  calls: list[str] = []
  policy = Scripted(nnx.Rngs(params=0), script, calls)
  batch = len(lengths)
  queries = QueryBatch(
    jnp.ones((batch, 3), jnp.int32), jnp.array(lengths), jnp.asarray(keys(batch))
  )

  @jax.jit
  def run(queries):
    ids = {"ends": ends, "never_drawn": (), "known_tokens": 16}
    return sample(policy, queries, config, **ids, table=table)

  samples = jax.tree.map(np.asarray, run(queries))
  jax.effects_barrier()
  return samples, calls


def test_eos_ends_a_response_and_the_loop_ends_with_the_last_row():
  config = dataclasses.replace(GREEDY, max_new_tokens=12)
  # Positions 0 to 2 are the query's; position 2 predicts the first token.
  samples, calls = run_script([0, 0, 5, 6, 9, 7, 7, 7], config)
  np.testing.assert_array_equal(samples.tokens[0, :, :4], [[5, 6, 9, 0]] * 2)
  np.testing.assert_array_equal(samples.lengths[0], [3, 3])
  assert samples.finished.all()
  assert calls == ["read", "step", "step"]  # two steps instead of eleven


def test_the_limit_ends_a_response_unfinished():
  samples, calls = run_script([0, 0, 5, 6, 5, 6, 5, 6, 5, 6], GREEDY)
  np.testing.assert_array_equal(samples.lengths[0], [6, 6])
  assert not samples.finished.any()
  assert calls == ["read"] + ["step"] * 5


def test_padding_rows_are_done_from_the_start():
  samples, calls = run_script([9, 9, 9], GREEDY, lengths=(3, 0))
  np.testing.assert_array_equal(samples.lengths, [[1, 1], [0, 0]])
  assert calls == ["read"]


def test_stop_strings_end_a_response():
  # Token 5 then 6 is the stop string: state 1 after 5, stopped after 6.
  table = np.zeros((3, 16), np.int32)
  table[:, 5], table[1, 6], table[2] = 1, 2, 2
  samples, calls = run_script([0, 0, 5, 5, 6, 7, 7, 7], GREEDY, table=jnp.asarray(table))
  np.testing.assert_array_equal(samples.tokens[0, 0], [5, 5, 6, 0, 0, 0])
  assert samples.finished.all()
  assert len(calls) == 3


@pytest.mark.parametrize("end", [7, 9])
def test_each_of_several_ends_ends_a_response(end):
  samples, _ = run_script([0, 0, 5, end, 6, 6], GREEDY, ends=(7, 9))
  np.testing.assert_array_equal(samples.tokens[0], [[5, end, 0, 0, 0, 0]] * 2)
  assert samples.finished.all()


@pytest.mark.parametrize("changes", [{"temperature": 0.0}, {"top_k": 1}])
def test_what_is_never_drawn_is_not_drawn_whatever_the_policy_says(changes):
  """<pad> and <bos> have all but a thousandth of the probability, also after the penalty."""
  codec = tiny.codec()
  banned = np.array([codec.tokenizer.pad_token_id, codec.tokenizer.bos_token_id])
  assert codec.never_drawn == set(banned.tolist())
  logits = jnp.zeros((1, 2, codec.size + 16)).at[..., banned].set(14.0)
  logits = logits.at[..., 50].set(1.0)
  config = dataclasses.replace(RANDOM, repetition_penalty=1.5, **changes)
  ids = {"ends": (), "never_drawn": codec.never_drawn, "known_tokens": codec.size}
  choose = jax.jit(make_choose(config, **ids, table=None))
  rows, limit = (1, 2), 4
  none = Samples(
    tokens=jnp.zeros((*rows, limit), jnp.int32),
    logprobs=jnp.zeros((*rows, limit)),
    lengths=jnp.zeros(rows, jnp.int32),
    finished=jnp.zeros(rows, bool),
  )
  drawing = Drawing(
    none,
    live=jnp.ones(rows, bool),
    keys=jnp.arange(4, dtype=jnp.uint32).reshape(*rows, 2),
    stop_state=jnp.zeros(rows, jnp.int32),
    seen=jnp.zeros(logits.shape, bool),
  )
  for _ in range(limit):
    drawing = choose(drawing, logits)
  samples = jax.tree.map(np.asarray, drawing.samples)
  np.testing.assert_array_equal(samples.tokens, 50)
  # The logprob is the policy's own, in which they have their share.
  expected = 1.0 - float(jax.nn.logsumexp(logits[0, 0]))
  np.testing.assert_allclose(samples.logprobs, expected, rtol=1e-6)


def ended(tokens, finished, stop=()):
  """What the sampler makes of drawn tokens, where 9 ends a response beside eos."""
  config = dataclasses.replace(GREEDY, stop=stop)
  sampler = make_sampler()
  sampler.codec = dataclasses.replace(sampler.codec, ends=sampler.codec.ends | {9})
  shape = (1, 1, len(tokens))
  samples = Samples(
    np.reshape(tokens, shape),
    np.ones(shape),
    np.array([[len(tokens)]]),
    np.array([[finished]]),
  )
  return sampler._response(samples, 0, 0, config).response


def test_a_response_says_what_ended_it():
  codec = tiny.codec()
  assert ended([40, 41, codec.eos], True) == Response([40, 41], finished=True, drew_end=True)
  assert ended([40, 41, 9], True) == Response([40, 41], finished=True, drew_end=False)
  assert ended([40, 41], False) == Response([40, 41], finished=False, drew_end=False)
  assert ended([codec.eos], True) == Response([], finished=True, drew_end=True)
  said, stop = codec.encode_responses([" Ann.", "\n\nHuman"])
  drawn = [*said.tokens, *stop.tokens]
  cut = ended(drawn, True, stop=("\nHuman",))
  assert cut == Response(list(said.tokens), finished=True, drew_end=False)
  # Only what a stop string ended is stripped.
  white = codec.encode_responses([" Ann. \n"])[0].tokens
  assert ended(white, False, stop=("\nHuman",)).tokens == white
  assert ended([*white, codec.eos], True, stop=("\nHuman",)).tokens == white


def test_what_is_left_of_a_token_takes_no_more_room_than_there_is():
  codec = tiny.codec()
  texts = codec.texts()
  longest = max(range(codec.size), key=lambda token: len(texts[token]))
  text = texts[longest]
  (left,) = codec.encode_responses([text[:-1]])
  assert len(left.tokens) > 1
  drawn = [40] * (GREEDY.max_new_tokens - 1) + [longest]
  response = ended(drawn, True, stop=(text[-1],))
  assert response.tokens == [*drawn[:-1], left.tokens[0]]


def test_sampler_cuts_the_stop_string_off():
  """With every text a stop string, the first token already ends the response, and is cut."""
  config = dataclasses.replace(GREEDY, stop=("a", "e", "i", "o", " ", "n", "s"))
  plain, cut = draw(GREEDY), draw(config)
  codec = tiny.codec()
  stopped = 0
  for before, after in zip(plain, cut, strict=True):
    whole = codec.decode(before[0].response.tokens)
    text = codec.decode(after[0].response.tokens)
    assert not any(stop in text for stop in config.stop)
    if any(stop in whole for stop in config.stop):
      assert after[0].response.finished
      assert whole.startswith(text)
      stopped += 1
  assert stopped


def test_unknown_ids_are_never_sampled():
  config = dataclasses.replace(RANDOM, temperature=50.0, num_samples=64, max_new_tokens=8)
  drawn = [token for query in tokens(draw(config)) for sample in query for token in sample]
  assert max(drawn) < tiny.codec().size
  assert len(set(drawn)) > 100


@pytest.mark.parametrize("top_p", [0.3, 0.6, 0.9])
def test_top_p_keeps_the_fewest_tokens_that_reach_p(top_p):
  probabilities = np.array([0.05, 0.4, 0.25, 0.2, 0.1])
  config = dataclasses.replace(RANDOM, top_p=top_p)
  kept = np.isfinite(adjust_logits(jnp.log(jnp.array([probabilities])), config, None)[0])
  assert probabilities[kept].sum() >= top_p
  assert probabilities[kept].sum() - probabilities[kept].min() < top_p
  assert probabilities[kept].min() > probabilities[~kept].max()


def test_top_k_and_temperature_by_hand():
  config = dataclasses.replace(RANDOM, top_k=2, temperature=0.5)
  adjusted = adjust_logits(jnp.array([[1.0, 3.0, 2.0, -1.0]]), config, None)
  np.testing.assert_allclose(adjusted, [[-np.inf, 6.0, 4.0, -np.inf]])


@pytest.mark.parametrize("temperature", [1e-19, 1e-30, 1e-38, 1e-40, 1e-300])
@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9}, {"top_k": 2}])
def test_a_tiny_temperature_gives_the_greedy_token(temperature, filters):
  config = dataclasses.replace(RANDOM, temperature=temperature, **filters)
  logits = jnp.array([[-jnp.inf, -2.0, 100.0, 99.9], [5.0, -jnp.inf, -3.0, 4.0]])
  adjusted = jax.jit(lambda logits: adjust_logits(logits, config, None))(logits)
  probabilities = jax.nn.softmax(adjusted, axis=-1)
  np.testing.assert_array_equal(probabilities, jax.nn.one_hot(jnp.array([2, 0]), 4))


def test_repetition_penalty_by_hand():
  config = dataclasses.replace(RANDOM, repetition_penalty=2.0)
  seen = jnp.array([[True, True, False, False]])
  adjusted = adjust_logits(jnp.array([[1.0, -1.0, 2.0, -2.0]]), config, seen)
  np.testing.assert_allclose(adjusted, [[0.5, -2.0, 2.0, -2.0]])


def test_repetition_penalty_knows_query_and_response():
  """A strong penalty: greedy never says a token twice, nor one of the query."""
  config = dataclasses.replace(GREEDY, repetition_penalty=1e6)
  for query, drawn in zip(QUERIES, draw(config), strict=True):
    said = [*query, *drawn[0].response.tokens]
    assert len(set(said)) == len(said)


def test_responses_are_response_records_without_eos():
  for row in draw(RANDOM):
    for one in row:
      assert isinstance(one.response, Response)
      assert tiny.codec().eos not in one.response.tokens


def test_a_query_longer_than_every_bucket_is_refused():
  with pytest.raises(ValueError, match="a query has 9 tokens, the longest bucket 8"):
    draw(GREEDY, queries=[list(range(9))])

"""Which samples stand beside which, how often, and in what batches decides nothing.

Permuting, doubling, padding or re-batching the samples of a query changes no reward, no pair and no
win rate: one response is one number.
"""

import dataclasses
import functools
import types
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest

from apo_jax.data.records import Demonstration
from apo_jax.data.samples import Sample, SampledQuery
from apo_jax.data.tokenised import tokenise_records
from apo_jax.evaluation.win_rate import win_rates
from apo_jax.inference.scoring import NotFinite, make_reward_scorer
from apo_jax.logs.progress import PhaseProgress
from apo_jax.models.definition import define_reward_model
from apo_jax.objectives import DPO, RRHF, RejectionSampling, pairs_from_scores
from apo_jax.phases.batches import ranked_golden
from apo_jax.phases.evaluation import which_equal
from apo_jax.phases.responses import learnable, read_by, with_rewards, with_shaped_rewards
from apo_jax.run.players import Player
from apo_jax.run.run import Run
from tests import tiny

JUDGE = Player("reward", 1)
TEXTS = (" Ann.", " Ben has it.", " Ann has the red box.", " Ben has it.", " In the garden.")
GOLDEN = (" Ann has the red box.", " It is Eve.")
LOSSES = (DPO(), DPO(pairs="best_rest"), DPO(pairs="all"), RRHF(), RejectionSampling())


@functools.cache
def reward_model():
  definition = define_reward_model(tiny.architecture(), "last", tiny.mesh())
  return definition, definition.init(0)


def run_with(batch_size=4, lengths=(54,), reward=None):
  """As much of a run as scores samples; `reward` replaces what the model says."""
  definition, parameters = reward_model()
  eos = tiny.codec().eos
  shape = {"batch_size": batch_size, "query_length": 30, "lengths": lengths, "eos": eos}
  scorer = make_reward_scorer(definition, tiny.mesh(), **shape)
  if reward is not None:
    scorer = mock.Mock(side_effect=lambda parameters, sequences, _: np.full(len(sequences), reward))
  run = mock.Mock(spec=Run)
  run.inference = types.SimpleNamespace(scorer_of=lambda player: scorer)
  run.parameters = types.SimpleNamespace(of=lambda player: parameters)
  return run


def sample(text, place):
  """Some ran into the limit; others were ended by a stop string."""
  (response,) = tiny.codec().encode_responses([text])
  finished = text != " Ann."
  return Sample(text, tuple(response.tokens), finished, -1.0, drew_end=place % 2 == 0)


@functools.cache
def queries():
  """Two queries, the samples of one of which hold a twin of its golden response."""
  records = [
    Demonstration(f"q{place}", "\n\nHuman: Who has it?\n\nAssistant:", golden)
    for place, golden in enumerate(GOLDEN)
  ]
  samples = tuple(sample(text, place) for place, text in enumerate(TEXTS))
  return [SampledQuery(asked, samples) for asked in tokenise_records(tiny.codec(), records)]


def rated(sampled, **settings):
  progress = PhaseProgress(None, lambda _: None, lambda: 0.0)
  return with_rewards(run_with(**settings), sampled, JUDGE, progress)


def reordered(sampled, order):
  return [
    dataclasses.replace(query, samples=tuple(query.samples[place] for place in order))
    for query in sampled
  ]


def rewards_of(sampled):
  """The rewards of each query's different responses, and of its golden one."""
  found = []
  for query in sampled:
    pairs = zip(query.responses, query.samples, strict=True)
    by_key = {}
    for response, one in pairs:
      by_key.setdefault(response.key, set()).add(one.reward)
    by_key.setdefault(query.golden.key, set()).add(query.golden_reward)
    assert all(len(rewards) == 1 for rewards in by_key.values())  # to the bit
    found.append({key: rewards.pop() for key, rewards in by_key.items()})
  return found


def pairs_of(sampled, loss):
  """The pairs that a policy loss learns from, by what is preferred to what."""
  shaped = with_shaped_rewards(sampled, ())
  read = read_by(loss, shaped, learnable(shaped, "never_best"))
  rewards = jnp.array([[one.shaped_reward for one in query.samples] for query in shaped])
  pairs = np.asarray(pairs_from_scores(rewards, jnp.asarray(read), getattr(loss, "pairs", "all")))
  keys = [[response.key for response in query.responses] for query in sampled]
  made = [(b, keys[b][i], keys[b][j]) for b, i, j in np.argwhere(pairs).tolist()]
  assert len(set(made)) == len(made)  # no pair twice
  read_keys = {(b, keys[b][i]) for b, i in np.argwhere(read).tolist()}
  return set(made), read_keys


def golden_pairs_of(sampled):
  """What each golden response is ranked above, as shares of the samples; the rest are twins."""
  shares = []
  for query in sampled:
    ranked = ranked_golden(query)
    item, twins = ranked.item, ranked.twins
    keys = [response.key for response in item[1][1:]]
    assert item[1][0] == query.golden and query.golden.key not in keys
    count = len(keys) + twins
    shares.append({key: keys.count(key) / count for key in keys} | {"twins": twins / count})
  return shares


def win_rates_of(sampled, start):
  rewards = np.array([[one.reward for one in query.samples] for query in sampled])
  golden = np.array([[query.golden_reward] for query in sampled])
  twins = np.array([query.is_twin for query in sampled])[..., None]
  others = np.array([[one.reward for one in query.samples] for query in start])
  against_start = win_rates(rewards, others, which_equal(sampled, start))
  return np.stack([win_rates(rewards, golden, twins), against_start])


@pytest.mark.parametrize(
  ("order", "settings"),
  [
    ((4, 2, 0, 3, 1), {}),
    ((0, 1, 2, 3, 4) * 2, {}),
    ((0, 1, 2, 3, 4), {"lengths": (40, 54, 70)}),
    ((0, 1, 2, 3, 4), {"batch_size": 1}),
  ],
  ids=["permuted", "doubled", "padded", "in other batches"],
)
def test_nothing_but_the_responses_decides(order, settings):
  start = rated(queries())
  other = rated(reordered(queries(), order), **settings)
  for ours, theirs in zip(rewards_of(other), rewards_of(start), strict=True):
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose(
      list(map(ours.get, theirs)), list(theirs.values()), rtol=1e-5, atol=1e-6
    )
  for loss in LOSSES:
    assert pairs_of(other, loss) == pairs_of(start, loss)
  for ours, theirs in zip(golden_pairs_of(other), golden_pairs_of(start), strict=True):
    assert ours == pytest.approx(theirs)
  np.testing.assert_allclose(win_rates_of(other, start), win_rates_of(start, start))
  # Against itself a policy wins as often as it loses, whatever rounding says.
  np.testing.assert_allclose(win_rates_of(other, start)[1], 0.5)


def test_a_reward_that_is_no_number_ends_the_phase_with_a_sentence():
  """It was written as null, and ended in a TypeError of another thread."""
  with pytest.raises(NotFinite) as error:
    rated(queries(), reward=np.nan)
  assert str(error.value).startswith(
    "Of 12 responses, the reward of 01_reward is not a finite number for 12, the first nan for a"
    " response to the query q0."
  )

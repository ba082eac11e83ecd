"""Which answers of earlier rounds a policy step learns from again."""

import dataclasses
import types

import pytest

from apo_jax.data.records import Query
from apo_jax.data.samples import Sample, SampledQuery, write_samples
from apo_jax.data.tokenised import tokenise_records
from apo_jax.logs.run_directory import POLICY_SAMPLES, REPLAYED_SAMPLES, RunDirectory
from apo_jax.phases.replay import policy_samples, replayed_samples, to_replay
from apo_jax.run.run import Run
from tests import tiny

QUERIES = tokenise_records(tiny.codec(), [Query(str(n), f"Who is {n}?") for n in range(8)])


@pytest.fixture
def run(tmp_path):
  """What is read of a run, with scored answers of two rounds."""
  found = object.__new__(Run)
  vars(found).update(
    config=tiny.config(policy__replay=(0.5, 0.25)),
    directory=RunDirectory(tmp_path),
    data=types.SimpleNamespace(policy=types.SimpleNamespace(queries=QUERIES)),
  )
  for round in (1, 2):
    found.directory.round(round).mkdir(parents=True)
    scored = [SampledQuery(one, (answer(round, n),)) for n, one in enumerate(QUERIES)]
    write_samples(found.directory.round(round) / POLICY_SAMPLES, scored)
  return found


def answer(round, number):
  return Sample(f" {round} {number}", (round, number), True, -1.0, -2.0, 0.5, 0.5)


def test_shares_of_earlier_rounds_without_their_scores(run):
  again = to_replay(run, 3)
  rounds = [query.samples[0].tokens[0] for query in again]
  assert rounds == [2] * 4 + [1] * 2
  assert len({(query.asked.record.query_id, *query.samples[0].tokens) for query in again}) == 6
  for query in again:
    (sample,) = query.samples
    assert str(sample.tokens[1]) == query.asked.record.query_id
    assert (sample.reward, sample.shaped_reward, sample.reference_logprob) == (None, None, None)
    assert sample.logprob == -1.0


def test_the_first_round_has_nothing_to_replay(run):
  assert to_replay(run, 1) == replayed_samples(run, 1) == []


def test_what_was_scored_is_read_again(run):
  """Which ones is a matter of the seed and the round alone."""
  scored = [
    dataclasses.replace(query, samples=(dataclasses.replace(query.samples[0], reward=7.0),))
    for query in to_replay(run, 2)
  ]
  write_samples(run.directory.round(2) / REPLAYED_SAMPLES, scored)
  assert replayed_samples(run, 2) == scored
  assert len(scored) == 4
  assert policy_samples(run, 2)[0].samples[0].reward == 0.5

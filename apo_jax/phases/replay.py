"""The samples that a policy step learns from: its round's, and those of earlier rounds again."""

from collections.abc import Sequence

import numpy as np

from apo_jax.data.samples import Asked, SampledQuery, read_samples
from apo_jax.logs.run_directory import POLICY_SAMPLES, REPLAYED_SAMPLES
from apo_jax.run.phase_inputs import replayed_rounds
from apo_jax.run.run import Run
from apo_jax.run.seeds import derive_seed


def asked_of_policy(run: Run) -> Sequence[Asked]:
  """The queries whose answers the policy learns from: its own, or those of golden responses."""
  if run.config.policy.loss.reads_golden:
    return run.data.reward.golden
  return run.data.policy.queries


def policy_samples(run: Run, round: int) -> list[SampledQuery]:
  """The answers of a round's policy, with their scores where they have been given."""
  return read_samples(run.directory.round(round) / POLICY_SAMPLES, asked_of_policy(run))


def to_replay(run: Run, round: int) -> list[SampledQuery]:
  """The answers of earlier rounds that a round learns from again, without their scores."""
  return [
    policy_samples(run, earlier)[index].unscored
    for earlier, indices in _chosen(run, round).items()
    for index in indices
  ]


def replayed_samples(run: Run, round: int) -> list[SampledQuery]:
  """The same with the scores that the round has given them."""
  chosen = _chosen(run, round)
  if not chosen:
    return []
  asked = asked_of_policy(run)
  again = [asked[index] for indices in chosen.values() for index in indices]
  return read_samples(run.directory.round(round) / REPLAYED_SAMPLES, again)


def _chosen(run: Run, round: int) -> dict[int, list[int]]:
  """By earlier round, which of the queries are taken again, in their order."""
  number = len(asked_of_policy(run))

  def draw(earlier: int, share: float) -> list[int]:
    generator = np.random.default_rng(derive_seed(run.config.seed, "replay", round, earlier))
    return sorted(generator.permutation(number)[: int(share * number)].tolist())

  return {
    earlier: draw(earlier, share) for earlier, share in replayed_rounds(run.config, round).items()
  }

"""What shapings read beside the samples' rewards: baselines, and embeddings of the reward model."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from apo_jax.data.samples import SampledQuery, read_samples
from apo_jax.evaluation.whitening import Whitening, whitening
from apo_jax.inference.scoring import TokenSequence
from apo_jax.logs.progress import PhaseProgress
from apo_jax.logs.run_directory import BASELINE_SAMPLES
from apo_jax.phases.batches import ranked_preference
from apo_jax.phases.contrasts import contrasted
from apo_jax.phases.replay import asked_of_policy
from apo_jax.phases.responses import of_samples, rewards_of
from apo_jax.run.players import Player
from apo_jax.run.run import Run

# The ridge of M, as a share of the mean of its eigenvalues.
_RIDGE = 0.01
# Sequences whose embeddings are in memory at once.
_AT_ONCE = 1024


class ShapingInputs(NamedTuple):
  """What `SampledRewards` has beside the samples' own numbers; None where no shaping reads it."""

  baseline_rewards: Float[Array, "Q K"] | None = None
  whitened: Float[Array, "Q S D"] | None = None
  golden_whitened: Float[Array, "G D"] | None = None


def shaping_inputs(
  run: Run,
  round: int,
  sampled: Sequence[SampledQuery],
  reward_model: Player,
  progress: PhaseProgress,
) -> tuple[ShapingInputs, dict[str, float]]:
  """What the config's shapings read of a round's samples, and what the log says of it.

  Raises:
    NotFinite: a reward of a baseline is not a number.
  """
  found, said = ShapingInputs(), {}
  if run.config.policy.reads_baselines:
    rewards = _baseline_rewards(run, sampled, reward_model, progress)
    found = found._replace(baseline_rewards=jnp.asarray(rewards))
    leads = of_samples(sampled, "reward") - rewards.mean(axis=1, keepdims=True)
    said |= {"baseline_lead": float(leads.mean()), "above_baseline": float(np.mean(leads > 0))}
  if run.config.policy.reads_embeddings:
    whitened, golden, numbers = _whitened(run, round, sampled, reward_model, progress)
    found = found._replace(whitened=jnp.asarray(whitened), golden_whitened=jnp.asarray(golden))
    said |= numbers
  return found, said


def num_read_by_shapings(run: Run, round: int, queries: int, samples: int) -> int:
  """How many sequences are scored for the shapings of so many samples to so many queries."""
  policy, total = run.config.policy, 0
  if policy.reads_baselines:
    total += queries * run.config.sampling.baselines
  if policy.reads_embeddings:
    held_out = sum(len(one.responses) for one in run.data.test.preferences)
    total += samples + len(run.data.reward.golden) + held_out + len(_trained_on(run, round))
  return total


def _baseline_rewards(
  run: Run, sampled: Sequence[SampledQuery], reward_model: Player, progress: PhaseProgress
) -> Float[np.ndarray, "Q K"]:
  """Of the answers that the supervised start gave to each query."""
  asked = asked_of_policy(run)
  drawn = read_samples(run.directory.round(0) / BASELINE_SAMPLES, asked)
  by_query = {query.asked.record.query_id: query for query in drawn}
  baselines = [by_query[query.asked.record.query_id] for query in sampled]
  sequences = [(query.asked.query, one) for query in baselines for one in query.responses]
  query_ids = [query.asked.record.query_id for query in baselines for _ in query.responses]
  rewards = rewards_of(run, sequences, query_ids, reward_model, progress)
  return np.asarray(rewards, np.float32).reshape(len(sampled), -1)


def _whitened(
  run: Run,
  round: int,
  sampled: Sequence[SampledQuery],
  reward_model: Player,
  progress: PhaseProgress,
) -> tuple[Float[np.ndarray, "Q S D"], Float[np.ndarray, "G D"], dict[str, float]]:
  """Whitened embeddings of samples and of golden responses, and mean uncertainties."""
  change = _second_moment(run, round, reward_model, progress)

  def whitened(sequences: Sequence[TokenSequence]) -> Float[np.ndarray, "N D"]:
    return np.concatenate([change(some) for some in _embed(run, sequences, reward_model, progress)])

  own = whitened([(query.asked.query, one) for query in sampled for one in query.responses])
  golden = whitened([(one.query, one.responses[0]) for one in run.data.reward.golden])
  held_out = whitened(
    [(one.query, response) for one in run.data.test.preferences for response in one.responses]
  )
  numbers = {
    f"{name}_uncertainty": float(np.linalg.norm(of, axis=-1).mean())
    for name, of in (("sample", own), ("golden", golden), ("preference", held_out))
  }
  shape = len(sampled), len(sampled[0].samples), -1
  return own.reshape(shape), golden, numbers


def _second_moment(
  run: Run, round: int, reward_model: Player, progress: PhaseProgress
) -> Whitening:
  """M of all responses that the round's reward step has read."""
  total = 0.0
  for embeddings in _embed(run, _trained_on(run, round), reward_model, progress):
    of_some = np.asarray(embeddings, np.float64)
    total = total + of_some.T @ of_some
  return whitening(np.asarray(total), _RIDGE)


def _trained_on(run: Run, round: int) -> list[TokenSequence]:
  """All that the round's reward step has read."""
  items = [ranked_preference(one).item for one in run.data.reward.preferences]
  if run.config.reward.mode == "adversarial":
    items += [ranked.item for ranked in contrasted(run, round)]
  return [(query, response) for query, responses in items for response in responses]


def _embed(
  run: Run, sequences: Sequence[TokenSequence], reward_model: Player, progress: PhaseProgress
) -> Iterator[Float[np.ndarray, "N D"]]:
  """The embeddings of sequences, so many at a time."""
  embed, parameters = run.inference.embedding_scorer, run.parameters.of(reward_model)
  for start in range(0, len(sequences), _AT_ONCE):
    yield embed(parameters, sequences[start : start + _AT_ONCE], progress.advance)

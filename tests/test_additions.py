"""A loss, a reward term, a shaping and an evaluation, each added here as a researcher would."""

import dataclasses
import json
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Bool, Float

from apo_jax import game
from apo_jax.config.fields import ConfigError
from apo_jax.data.samples import Sample
from apo_jax.evaluation.judged_round import Evaluation, JudgedRound
from apo_jax.logs.files import read_json, read_jsonl
from apo_jax.logs.metrics import read_metrics
from apo_jax.objectives import (
  PolicyLoss,
  RewardTerm,
  SampledRewards,
  ScoredResponses,
  ScoredRewards,
  Shaping,
  Sums,
)
from apo_jax.objectives.ranges import NonNegativeFloat, PositiveFloat
from tests import tiny


@pytest.fixture(scope="module", autouse=True)
def additions():
  """Adds one of each kind, for this file alone."""
  with pytest.MonkeyPatch.context() as patch:
    for kind in (PolicyLoss, RewardTerm, Shaping, Evaluation):
      patch.setattr(kind, "known", dict(kind.known))

    @dataclasses.dataclass(frozen=True)
    class Advantage(PolicyLoss):
      """-(r - mean r) log pi(y | x) / scale, a mean over responses; reads the two first alone."""

      name: ClassVar[str] = "advantage"
      scale: PositiveFloat = 1.0

      def __call__(self, responses: ScoredResponses) -> Sums:
        valid = responses.valid
        mean = jnp.mean(responses.rewards, axis=1, keepdims=True, where=valid)
        advantage = jnp.where(valid, responses.rewards - mean, 0.0) / self.scale
        count = jnp.sum(valid, dtype=jnp.float32)
        return Sums(-jnp.sum(advantage * responses.logprobs), count, {"seen": count})

      def reads(
        self, rewards: Float[Array, "B R"], valid: Bool[Array, "B R"]
      ) -> Bool[Array, "B R"]:
        return valid & (jnp.arange(valid.shape[1]) < 2)

    @dataclasses.dataclass(frozen=True)
    class Centred(RewardTerm):
      """The square of rewards of preferences, a mean over responses."""

      name: ClassVar[str] = "centred"

      def __call__(self, rewards: ScoredRewards) -> Sums:
        there = rewards.preference_scores >= 0
        squares = jnp.where(there, jnp.square(rewards.preferences), 0.0)
        return Sums(jnp.sum(squares), jnp.sum(there, dtype=jnp.float32), {})

    @dataclasses.dataclass(frozen=True)
    class Short(Shaping):
      """Takes a little for every token."""

      name: ClassVar[str] = "short"
      price: NonNegativeFloat = 0.0

      def __call__(self, samples: SampledRewards) -> Float[Array, "Q S"]:
        return samples.rewards - self.price * samples.lengths

    @dataclasses.dataclass(frozen=True)
    class Words(Evaluation):
      """How many words a sample has: a number a query; and the most, one number alone."""

      name: ClassVar[str] = "words"

      def __call__(self, judged: JudgedRound) -> dict[str, float | Float[np.ndarray, " Q"]]:
        words = np.array([[len(text.split()) for text in texts] for texts in judged.texts])
        return {"words": np.mean(words, axis=1), "most_words": float(np.max(words))}

    yield


CHOSEN = {
  "policy__unfinished": "as_is",
  "policy__loss": "advantage",
  "policy__advantage__scale": 2.0,
  "reward__terms": ("centred",),
  "reward__centred__coefficient": 0.5,
  "policy__shapings": ("short",),
  "policy__short__price": 0.25,
  "evaluation__evaluations": ("words",),
}


def test_a_choice_is_made_once():
  with pytest.raises(ConfigError, match=r"config.policy.shapings is \('short', 'short'\); .* once"):
    tiny.config(**{**CHOSEN, "policy__shapings": ("short", "short")})


@pytest.mark.slow
def test_a_round_with_all_four(tmp_path):
  # What comes before the round is of no interest here, but for the term in it.
  config = tiny.config(rounds=1, supervised__epochs=0, **CHOSEN)
  game.play(config, tmp_path)
  metrics = read_metrics(tmp_path)

  # The term is a part of the loss, and a metric.
  for line in metrics:
    if line["phase"] in ("reward_base", "reward"):
      expected = line["preference_loss"] + 0.5 * line["centred_loss"]
      if line["phase"] == "reward":
        expected += config.reward.apo.golden_coefficient * line["golden_loss"]
      assert line["loss"] == pytest.approx(expected, rel=1e-5)

  # The shaping stands between scoring and the policy step.
  read = []
  for row in read_jsonl(tmp_path / "rounds/01/policy_samples.jsonl"):
    for place, sample in enumerate(row["samples"]):
      sample = Sample(**{**sample, "tokens": tuple(sample["tokens"])})
      assert sample.shaped_reward == pytest.approx(sample.reward - 0.25 * len(sample.tokens))
      # Only what the loss reads has a reference.
      is_read = place < 2 and not sample.is_empty
      assert (sample.reference_logprob is not None) == is_read
      read += [sample.shaped_reward] if is_read else []
  updates = [line for line in metrics if line["phase"] == "policy"]
  assert [line["seen"] for line in updates] == [1.0] * len(updates)  # of responses, over them
  assert np.mean([line["reward"] for line in updates]) == pytest.approx(np.mean(read), rel=0.2)

  evaluation = read_json(tmp_path / "rounds/01/evaluation.json")
  assert evaluation["most_words"] >= evaluation["words"] > 0
  # What has a value a query has a standard error, and is compared with other rounds'.
  assert evaluation["standard_errors"]["words"] > 0
  assert evaluation["standard_errors"]["most_words"] is None
  assert "words" in evaluation["differences"]["start"]
  assert any(line.get("words", 0) > 0 for line in metrics)
  kept = json.loads((tmp_path / "config.json").read_text())
  assert kept["policy"]["advantage"] == {"scale": 2.0} and kept["policy"]["short"]["price"] == 0.25
  assert kept["reward"]["centred"] == {"coefficient": 0.5}

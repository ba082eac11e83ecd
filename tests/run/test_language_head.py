"""Where a reward model's language-model head comes from, and what happens without one."""

import dataclasses

import jax
import numpy as np
import pytest

from apo_jax.config.fields import ConfigError
from apo_jax.models.definition import define_policy, join
from apo_jax.models.hugging_face.checkpoint import Checkpoint
from apo_jax.models.reward_model import REWARD_HEAD
from apo_jax.run.language_head import check_language_heads
from apo_jax.run.models import make_models
from apo_jax.run.origins import Origins
from apo_jax.run.starts import first_reward, frozen_reward
from tests import tiny

UNTIED = tiny.architecture(tied_embeddings=False)
LORA = {
  "model__checkpoint": "somewhere",
  "reward__lora__rank": 2,
  "policy__lora__rank": 2,
}


def origins(**given: object) -> Origins:
  nothing = {"policy_checkpoint": None, "reward_checkpoint": None}
  nothing |= {"testing_reward_checkpoint": None}
  return Origins(
    **{"policy": UNTIED, "reward": UNTIED, "testing_reward": UNTIED, **nothing, **given}
  )


def models(where: Origins | None = None, **overrides: object):
  config = tiny.config(**{"reward__terms": ("grm",), **overrides})
  return make_models(config, where or origins(), tiny.mesh())


def test_it_is_kept_where_a_term_reads_it():
  assert "head" in models().reward.abstract["trunk"]
  assert "head" not in models(reward__terms=()).reward.abstract["trunk"]
  tied = origins(**dict.fromkeys(("policy", "reward", "testing_reward"), tiny.architecture()))
  assert "head" not in models(tied).reward.abstract["trunk"]  # it is the embedding


def test_it_is_the_language_model_s_that_the_trunk_is_of():
  made = models()
  policy = define_policy(UNTIED, tiny.mesh()).init(1)
  started = first_reward(made.origins, made.policy, made.reward, policy, 0)
  np.testing.assert_array_equal(started["trunk"]["head"], policy["head"])
  assert jax.tree.structure(started) == jax.tree.structure(made.reward.abstract)


def test_with_adapters_it_is_frozen_and_shared():
  made = models(**LORA)
  trained, frozen = made.reward.split(made.reward.abstract)
  assert "head" in frozen["trunk"] and REWARD_HEAD in trained
  assert not any("lora" in name for name in frozen["trunk"])
  of_policy = made.policy.split(made.policy.init(0))[1]
  found = frozen_reward(made.origins, made.policy, of_policy, made.reward)
  assert found["trunk"]["head"] is of_policy["head"]
  whole = join(trained, found)
  assert jax.tree.structure(whole) == jax.tree.structure(made.reward.abstract)


def classifier(tmp_path, tied: bool) -> Checkpoint:
  architecture = dataclasses.replace(UNTIED, tied_embeddings=tied)
  return Checkpoint(tmp_path, "llama", architecture, is_reward=True, hf_config={})


@pytest.mark.parametrize("field", ["reward", "testing_reward"])
def test_a_classifier_without_one_is_refused(tmp_path, field):
  config = tiny.config(reward__terms=("grm",))
  found = origins(**{f"{field}_checkpoint": classifier(tmp_path, tied=False)})
  with pytest.raises(ConfigError, match=rf"'grm', .* config.{field}.checkpoint is .* tie_word"):
    check_language_heads(config, found)
  check_language_heads(tiny.config(), found)
  check_language_heads(config, origins(**{f"{field}_checkpoint": classifier(tmp_path, tied=True)}))


def test_a_judge_that_is_not_trained_needs_none(tmp_path):
  untrained = {"testing_reward__checkpoint": str(tmp_path), "testing_reward__training": None}
  config = tiny.config(reward__terms=("grm",), **untrained, reward__base__epochs=1)
  training = dataclasses.replace(config.reward.base, epochs=0)
  judge = dataclasses.replace(config.testing_reward, training=training)
  config = dataclasses.replace(config, testing_reward=judge)
  found = origins(testing_reward_checkpoint=classifier(tmp_path, tied=False))
  check_language_heads(config, found)
  made = make_models(config, found, tiny.mesh())
  assert "head" in made.reward.abstract["trunk"]
  assert "head" not in made.testing_reward.abstract["trunk"]

"""Whether the reward models have the language-model head that a term of their loss reads.

One that is tied to the embedding is always there. One of its own comes from the language model that
a reward model starts from, which a sequence classifier is not.
"""

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config
from apo_jax.run.judge import training_of_judge
from apo_jax.run.origins import Origins


def check_language_heads(config: Config, origins: Origins) -> None:
  """Checks that every reward model that is trained with such a term has a head.

  Raises:
    ConfigError: one starts from a sequence classifier without.
  """
  if not config.reward.needs_language_head:
    return
  found = {"config.reward.checkpoint": origins.reward_checkpoint}
  if training_of_judge(config).epochs:
    found["config.testing_reward.checkpoint"] = origins.testing_reward_checkpoint
  terms = [term.name for term in config.reward.terms if term.needs_logprobs]
  for field, checkpoint in found.items():
    if checkpoint is not None and not checkpoint.architecture.tied_embeddings:
      raise ConfigError(
        f"config.reward.terms has {terms[0]!r}, which reads log-probabilities, but {field} is"
        f" {str(checkpoint.directory)!r}, a sequence classifier that has no language-model head, as"
        " its config.json says tie_word_embeddings false; leave the term out, or let the reward"
        " model start from a language model."
      )

"""The checks of what the reward step learns from, and of how its terms are weighed."""

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config
from apo_jax.objectives import GRM, MinNorm


def check_reward(config: Config) -> None:
  """Checks the contrast, the weighting and the terms against other fields.

  Raises:
    ConfigError: one of them asks for what the game does not have, or cannot do.
  """
  _check_contrast(config)
  _check_subsets(config)
  weighting = config.reward.weighting
  if isinstance(weighting, MinNorm):
    _check_min_norm(config, weighting)
  for term in config.reward.terms:
    mode = config.reward.mode
    if isinstance(term, GRM) and term.data == "golden" and mode != "adversarial":
      raise ConfigError(
        f"config.reward.grm.data is 'golden', but config.reward.mode is {mode!r}, whose reward"
        " steps read no golden responses; it must be 'preferences', or the mode 'adversarial'."
      )


def _check_contrast(config: Config) -> None:
  reward = config.reward
  if reward.contrast == "golden_vs_sample":
    return
  if reward.mode != "adversarial":
    raise ConfigError(
      f"config.reward.contrast is {reward.contrast!r}, but config.reward.mode is {reward.mode!r},"
      " which contrasts nothing; it must be 'golden_vs_sample', or the mode 'adversarial'."
    )
  if not config.model.checkpoint:
    raise ConfigError(
      f"config.reward.contrast is {reward.contrast!r}, but config.model.checkpoint is '': before"
      " its supervised start the policy has random weights, whose samples are noise; name a"
      " checkpoint, or set the contrast to 'golden_vs_sample'."
    )
  if reward.contrast == "supervised_vs_initial" and not config.supervised.epochs:
    raise ConfigError(
      "config.reward.contrast is 'supervised_vs_initial', but config.supervised.epochs is 0, which"
      " makes both one policy; it must be at least 1, or the contrast 'golden_vs_initial'."
    )


def _check_subsets(config: Config) -> None:
  data, weighting = config.data, config.reward.weighting
  if not data.subset_column:
    return
  if not isinstance(weighting, MinNorm):
    raise ConfigError(
      f"config.data.subset_column is {data.subset_column!r}, but config.reward.weighting is"
      f" {weighting.name!r}, which tells no subsets apart; it must be '', or the weighting"
      " 'min_norm'."
    )
  if data.source == "embedded" and data.subset_column != "family":
    raise ConfigError(
      f"config.data.subset_column is {data.subset_column!r}; it must be 'family' or '' with"
      " config.data.source 'embedded'."
    )


def _check_min_norm(config: Config, weighting: MinNorm) -> None:
  reward, name = config.reward, weighting.normalisation
  has_subsets = config.data.subset_column != ""
  if reward.mode == "fixed" or (reward.mode == "preferences_only" and not has_subsets):
    raise ConfigError(
      f"config.reward.weighting is 'min_norm', but config.reward.mode is {reward.mode!r}, whose"
      f" loss has {'none' if reward.mode == 'fixed' else 'one term'}; it must be 'fixed', or the"
      " mode 'adversarial', or 'preferences_only' with config.data.subset_column."
    )
  if reward.apo.reduction != "mean":
    raise ConfigError(
      f"config.reward.apo.reduction is {reward.apo.reduction!r} with config.reward.weighting"
      " 'min_norm', which weighs each term's own mean; it must be 'mean'."
    )
  if name == "l2" and not has_subsets:
    raise ConfigError(
      "config.reward.min_norm.normalisation is 'l2', which weighs two terms always by 1/2 each, as"
      " two gradients of equal length are shortest at their mean; it must be 'none', 'loss' or"
      " 'loss_and_norm', or config.data.subset_column tell subsets of preferences apart."
    )
  if name != "none" and reward.apo.kind == "difference":
    raise ConfigError(
      f"config.reward.min_norm.normalisation is {name!r}, which divides by a loss, but with"
      " config.reward.apo.kind 'difference' that of the golden term may be 0 or below; it must be"
      " 'none'."
    )

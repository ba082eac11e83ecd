"""Whether a branch can learn again from the samples of rounds that it takes over."""

from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import Config
from apo_jax.logs.files import read_jsonl
from apo_jax.logs.run_directory import POLICY_SAMPLES, RunDirectory
from apo_jax.run.phase_inputs import replayed_rounds


def check_replayed(source: RunDirectory, config: Config, round: int) -> None:
  """Checks that what `policy.replay` reads of rounds 1 to `round` fits the config's policy step.

  Raises:
    ConfigError: it does not: the samples answer other queries, are more, or longer.
  """
  sampler, loss = config.sampling.training, config.policy.loss
  for earlier in sorted(_read_again(config, round)):
    rows = read_jsonl(source.round(earlier) / POLICY_SAMPLES)
    said = f"config.policy.replay={config.policy.replay} takes answers of round {earlier}"
    if any((row.get("golden") is not None) != loss.reads_golden for row in rows):
      whose = "data.golden" if loss.reads_golden else "data.queries"
      raise ConfigError(
        f"{said}, but {loss.name!r} learns from answers to queries of {whose}, which those are not;"
        " give config.policy.replay=()."
      )
    samples = [row["samples"] for row in rows]
    longest = max((len(one["tokens"]) for some in samples for one in some), default=0)
    for field, least in (
      ("num_samples", max(map(len, samples), default=0)),
      ("max_new_tokens", longest),
    ):
      if getattr(sampler, field) < least:
        raise ConfigError(
          f"config.sampling.training.{field} is {getattr(sampler, field)}, but"
          f" {said}, which need {least}; give that or more, or config.policy.replay=()."
        )


def _read_again(config: Config, round: int) -> set[int]:
  later = range(round + 1, config.rounds + 1)
  return {one for each in later for one in replayed_rounds(config, each) if one <= round}

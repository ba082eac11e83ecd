"""What the adversarial term of a round's reward step ranks."""

from apo_jax.data.samples import SampledQuery, read_samples
from apo_jax.logs.run_directory import GOLDEN_SAMPLES, INITIAL_SAMPLES, SUPERVISED_SAMPLES
from apo_jax.phases.batches import RankedItem, ranked_golden, ranked_supervised
from apo_jax.run.run import Run


def contrasted(run: Run, round: int) -> list[RankedItem]:
  """What the adversarial term ranks, a query each, as `reward.contrast` says."""
  reward = run.config.reward

  def samples(round: int, name: str) -> list[SampledQuery]:
    return read_samples(run.directory.round(round) / name, run.data.reward.golden)

  if reward.reads_round_samples:
    return list(map(ranked_golden, samples(round, GOLDEN_SAMPLES)))
  initial = samples(0, INITIAL_SAMPLES)
  if not reward.reads_supervised_samples:
    return list(map(ranked_golden, initial))
  return list(map(ranked_supervised, samples(0, SUPERVISED_SAMPLES), initial))

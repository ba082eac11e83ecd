"""What is compared: every config of configs/methods, and which results of it are kept."""

from pathlib import Path

METHODS = Path("configs/methods")
START = "common"  # what the configs start from; no config by itself
# They do not start as the others do, and have a table of their own.
NEED_CHECKPOINT = ("inverse_rl",)
RATE = "policy.training.learning_rate"
# The search, the same for each method: these rates on these seeds, which are in no comparison.
# Where the best is at an end of what was tried, the next one of `ALL_RATES` is tried too.
RATES = ("7e-5", "2e-4", "6e-4")
ALL_RATES = ("2e-5", *RATES, "2e-3")
TUNING_SEEDS = (5, 6)
SEARCH, GAME, INVERSE_RL = "search", "game", "inverse_rl"  # the folders of results
CONTRAST = "reward.contrast"
CONTRASTS = ("golden_vs_sample", "golden_vs_initial", "supervised_vs_initial")
COST = "cost.json"  # what benchmarks.methods wrote


def config_of(method: str) -> Path:
  """The method's config file."""
  return METHODS / f"{method}.py"


def all_methods() -> list[str]:
  """The names of the methods that have one start, by their files."""
  apart = (START, *NEED_CHECKPOINT)
  return sorted(path.stem for path in METHODS.glob("*.py") if path.stem not in apart)

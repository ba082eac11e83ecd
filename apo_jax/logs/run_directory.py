"""Where everything lies in a run directory: the one table of its files."""

import dataclasses

from apo_jax.logs.places import Place

PROVENANCE = "provenance.json"
ADOPTED = "adopted.json"  # which phases of the round another run played, and which run
JUDGE = "judge.json"  # of round 0: how independent the judge is
BASELINE_SAMPLES = "baseline_samples.jsonl"  # of round 0: what shapings hold samples against
GOLDEN_SAMPLES = "golden_samples.jsonl"
# Of round 0, to golden queries: of the policy before its supervised start, and after it.
INITIAL_SAMPLES = "initial_samples.jsonl"
SUPERVISED_SAMPLES = "supervised_samples.jsonl"
POLICY_SAMPLES = "policy_samples.jsonl"
REPLAYED_SAMPLES = "replayed_samples.jsonl"  # of earlier rounds, scored anew
TEST_SAMPLES = "test_samples.jsonl"
SCORE = "score.json"
EVALUATION = "evaluation.json"
CHECKSUMS = "checksums.json"  # of what the round's finished phases left
HEALTH = "health.json"  # what the round's phases are warned of
JUDGEMENTS = "judgements.json"  # what the numbers of evaluation.json are made of, query by query


def _at(name: str, holds: str) -> property:
  return property(lambda directory: directory.path / name, doc=holds)


@dataclasses.dataclass(frozen=True)
class RunDirectory:
  """Paths alone; nothing is made or read.

  Attributes:
    path: of the directory.
  """

  path: Place

  config = _at("config.json", "The config.")
  data = _at("data.json", "The data's hash and sizes, what each source gave and what does not fit.")
  origins = _at("origins.json", "Hashes of the checkpoints that the players start from.")
  preview = _at("preview.txt", "Examples as the models read them, for people.")
  metrics = _at("metrics.jsonl", "A line for every logged update.")
  metrics_segments = _at("metrics", "In a bucket, files of such lines, in the order of names.")
  tensorboard = _at("tensorboard", "The metrics for TensorBoard.")
  wandb_id = _at("wandb_id.txt", "The run's id at Weights & Biases.")
  owner = _at("owner.json", "Who plays in it now.")
  report = _at("report.html", "The report, for a browser.")
  compilation_cache = _at("compilation_cache", "Compiled programs, unless kept elsewhere.")
  tokenizer = _at("tokenizer", "The run's own copy of its tokenizer.")
  tokenizer_finished = _at(
    "tokenizer/finished", "Is there where the tokenizer is the run's; hashes of its files."
  )
  rounds = _at("rounds", "The directories of all rounds.")
  branch = _at("branch.json", "Of a branched run: from which run and round, and what it changed.")
  failed = _at("failed", "Batches whose update gave no number.")
  all_checkpoints = _at("checkpoints", "The directories of all players' checkpoints.")

  def __str__(self) -> str:
    return str(self.path)

  def round(self, number: int) -> Place:
    """The directory of a round's results; round 0 is what comes before the first."""
    return self.rounds / f"{number:02d}"

  def checkpoints(self, player: str) -> Place:
    """The directory of a player's checkpoints, by its name (`Player.name`)."""
    return self.all_checkpoints / player

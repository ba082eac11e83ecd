"""Where everything lies in a run directory: the one table of its files."""

import dataclasses
from pathlib import Path

PROVENANCE = "provenance.json"
GOLDEN_SAMPLES = "golden_samples.jsonl"
POLICY_SAMPLES = "policy_samples.jsonl"
TEST_SAMPLES = "test_samples.jsonl"
SCORE = "score.json"
EVALUATION = "evaluation.json"


@dataclasses.dataclass(frozen=True)
class RunDirectory:
  """Paths alone; nothing is made or read.

  Attributes:
    path: of the directory.
  """

  path: Path

  def __str__(self) -> str:
    return str(self.path)

  @property
  def config(self) -> Path:
    """The config, as JSON."""
    return self.path / "config.json"

  @property
  def data(self) -> Path:
    """What the data is: its hash, its sizes, what each source gave and what is cut."""
    return self.path / "data.json"

  @property
  def origins(self) -> Path:
    """Hashes of the checkpoints that the players start from."""
    return self.path / "origins.json"

  @property
  def preview(self) -> Path:
    """Examples as the models read them, for people."""
    return self.path / "preview.txt"

  @property
  def metrics(self) -> Path:
    """A line for every logged update."""
    return self.path / "metrics.jsonl"

  @property
  def tensorboard(self) -> Path:
    """The metrics for TensorBoard."""
    return self.path / "tensorboard"

  @property
  def wandb_id(self) -> Path:
    """The run's id at Weights & Biases."""
    return self.path / "wandb_id.txt"

  @property
  def report(self) -> Path:
    """The report, for a browser."""
    return self.path / "report.html"

  @property
  def compilation_cache(self) -> Path:
    """Compiled programs, unless they are kept elsewhere."""
    return self.path / "compilation_cache"

  @property
  def tokenizer(self) -> Path:
    """The run's own copy of its tokenizer."""
    return self.path / "tokenizer"

  @property
  def tokenizer_finished(self) -> Path:
    """Is there where the tokenizer is whole."""
    return self.tokenizer / "finished"

  @property
  def rounds(self) -> Path:
    """The directories of all rounds."""
    return self.path / "rounds"

  def round(self, number: int) -> Path:
    """The directory of a round's results; round 0 is what comes before the first."""
    return self.rounds / f"{number:02d}"

  def checkpoints(self, player: str) -> Path:
    """The directory of a player's checkpoints, by its name (`Player.name`)."""
    return self.path / "checkpoints" / player

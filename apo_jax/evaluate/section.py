"""The results: sections of numbers with standard errors, as text and as files."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apo_jax.config.fields import ConfigError
from apo_jax.evaluation.uncertainty import Measured
from apo_jax.logs import files

EVALUATION = "evaluation.json"
JUDGEMENTS = "judgements.json"
TABLE = "evaluation.txt"


@dataclasses.dataclass(frozen=True)
class Section:
  """One result.

  Attributes:
    key: its name in files, such as "preferences".
    title: says what was evaluated on what.
    measured: its numbers.
    plain: what else belongs to it, in JSON's types: counts, bins, further tables.
    notes: sentences for people.
    items: what the numbers were made from, one an item.
  """

  key: str
  title: str
  measured: Measured
  plain: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  notes: Sequence[str] = ()
  items: Sequence[Mapping[str, Any]] = ()

  def text(self) -> str:
    """The numbers as lines."""
    lines = [self.title, "-" * min(len(self.title), 100)]
    for name, estimate in self.measured.estimates.items():
      error = estimate.standard_error
      shown = "-" if math.isnan(estimate.value) else f"{estimate.value:.3f}"
      lines.append(f"{name:<36}{shown:>9}" + ("" if math.isnan(error) else f" ± {error:.3f}"))
    return "\n".join([*lines, *self.notes])

  def record(self) -> dict[str, Any]:
    """What evaluation.json has of it; a number that is not defined is None."""
    return {
      "title": self.title,
      "count": len(self.measured.ids),
      "numbers": {
        name: {"value": one.value, "standard_error": one.standard_error}
        for name, one in self.measured.estimates.items()
      },
      **self.plain,
      "notes": list(self.notes),
    }

  def judgements(self) -> dict[str, Any]:
    """The ids and the pseudo-values behind every number that is defined."""
    return {
      "ids": list(self.measured.ids),
      **{
        name: one.pseudo_values
        for name, one in self.measured.estimates.items()
        if math.isfinite(one.value)
      },
    }


def write_sections(output: Path, asked: Mapping[str, Any], sections: Sequence[Section]) -> None:
  """Writes all files of an evaluation.

  Raises:
    ConfigError: the directory cannot be written.
  """
  try:
    for section in sections:
      if section.items:
        files.write_jsonl(output / f"{section.key}.jsonl", section.items)
    judgements = {section.key: section.judgements() for section in sections}
    files.write_text(output / JUDGEMENTS, files.json_line(judgements) + "\n")
    files.write_text(output / TABLE, "\n\n".join(one.text() for one in sections) + "\n")
    record = {"asked": asked, "sections": {section.key: section.record() for section in sections}}
    files.write_json(output / EVALUATION, record)
  except OSError as error:
    raise ConfigError(f"--output is {str(output)!r}, which cannot be written: {error}.") from error

"""Sampled responses as records, and their files in the run directory.

The ids that were sampled are stored beside the text: they are what is scored and trained on.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from apo_jax.logs.files import read_jsonl, write_jsonl
from apo_jax.rows.rows import Response


@dataclasses.dataclass(frozen=True)
class Sample:
  """One response of a policy.

  Attributes:
    text: the response.
    tokens: its ids, without eos.
    finished: it ended by itself, not by the limit.
    logprob: log pi(y|x) of what was sampled, under the policy that sampled it, in nats.
    reference_logprob: log pi_ref(y|x); None until scored.
    reward: by the reward model; None until scored.
    utility: its true utility; None where there is no such thing.
  """

  text: str
  tokens: tuple[int, ...]
  finished: bool
  logprob: float
  reference_logprob: float | None = None
  reward: float | None = None
  utility: float | None = None

  @property
  def response(self) -> Response:
    """What a row is made from."""
    return Response(self.tokens, self.finished)

  @property
  def is_empty(self) -> bool:
    """Whether it says nothing; such a response is never trained towards."""
    return not self.text.strip()


@dataclasses.dataclass(frozen=True)
class SampledQuery:
  """A query with a policy's samples and, where there is one, the golden response."""

  query_id: str
  query: str
  samples: tuple[Sample, ...]
  golden: str | None = None
  golden_reward: float | None = None
  golden_utility: float | None = None


def write_samples(path: Path, sampled: Iterable[SampledQuery]) -> None:
  """Writes one query a line, atomically."""
  write_jsonl(path, map(dataclasses.asdict, sampled))


def read_samples(path: Path) -> list[SampledQuery]:
  """Reads what `write_samples` wrote."""

  def parse(row: dict) -> SampledQuery:
    samples = tuple(
      Sample(**{**sample, "tokens": tuple(sample["tokens"])}) for sample in row.pop("samples")
    )
    return SampledQuery(**row, samples=samples)

  return [parse(row) for row in read_jsonl(path)]

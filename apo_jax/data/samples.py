"""Sampled responses as records, and their files in the run directory.

The ids that were sampled are stored beside the text: they are what is scored and trained on. In
files of test samples rewards are called `testing_reward`, for the judge's they are; in those of
training samples `reward`, by the game's reward model.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from apo_jax.data.records import Demonstration, Query
from apo_jax.data.tokenised import Tokenised
from apo_jax.logs.files import read_jsonl, write_jsonl
from apo_jax.logs.places import Place
from apo_jax.rows.rows import Response

# What rewards are called in a file: the game's reward model's, or the testing one's.
RewardName = Literal["reward", "testing_reward"]

# What a policy answers: a query, or that of a golden response.
Asked = Tokenised[Query] | Tokenised[Demonstration]


@dataclasses.dataclass(frozen=True)
class Sample:
  """One response of a policy.

  Attributes:
    text: the response.
    tokens: its ids, without eos.
    finished: it ended, by eos or a stop string, not by the limit.
    logprob: log pi(y|x) of all that was sampled, under the policy that sampled it, in nats.
    reference_logprob: log pi_ref(y|x); None until scored, and where no loss reads it.
    reward: by the reward model, of test samples the testing one; None until scored.
    shaped_reward: what the policy learns from in its place; None until scored.
    utility: its true utility; None where there is no such thing.
    drew_end: eos ended it, not a stop string (`rows.Response`).
    earlier_logprob: as `reference_logprob`, under the policy that the reference started from.
  """

  text: str
  tokens: tuple[int, ...]
  finished: bool
  logprob: float
  reference_logprob: float | None = None
  reward: float | None = None
  shaped_reward: float | None = None
  utility: float | None = None
  drew_end: bool = True
  earlier_logprob: float | None = None

  @property
  def response(self) -> Response:
    """What a row is made from."""
    return Response(self.tokens, self.finished, self.drew_end)

  @property
  def length(self) -> int:
    """Tokens, without eos."""
    return len(self.tokens)

  @property
  def is_empty(self) -> bool:
    """Whether it says nothing; such a response is never trained towards."""
    return not self.text.strip()


@dataclasses.dataclass(frozen=True)
class SampledQuery:
  """A query with a policy's samples, and what is said of its golden response, if it has one.

  Attributes:
    asked: the query, or the demonstration that holds the golden response, with its ids.
    samples: the policy's responses.
    golden_reward: None until scored.
    golden_reference_logprob: log pi_ref of it; None until scored, and where no loss reads it.
    golden_utility: None where there is no such thing.
  """

  asked: Asked
  samples: tuple[Sample, ...]
  golden_reward: float | None = None
  golden_utility: float | None = None
  golden_reference_logprob: float | None = None

  @property
  def responses(self) -> tuple[Response, ...]:
    """The samples' ids."""
    return tuple(sample.response for sample in self.samples)

  @property
  def golden(self) -> Response | None:
    """The golden response's ids, if it has one."""
    return self.asked.responses[0] if self.asked.responses else None

  @property
  def is_first(self) -> tuple[bool, ...]:
    """Of each sample, whether it is the first of its kind: equal ids are one response."""
    keys = [response.key for response in self.responses]
    return tuple(keys.index(key) == place for place, key in enumerate(keys))

  @property
  def is_twin(self) -> tuple[bool, ...]:
    """Of each sample, whether it is the golden response itself."""
    golden = None if self.golden is None else self.golden.key
    return tuple(response.key == golden for response in self.responses)

  @property
  def unscored(self) -> "SampledQuery":
    """The same as the policy answered it."""
    asked = SampledQuery(self.asked, (), golden_utility=self.golden_utility)
    nothing = {name: None for name in _SCORES}
    samples = tuple(dataclasses.replace(sample, **nothing) for sample in self.samples)
    return dataclasses.replace(asked, samples=samples)


# What the phase that scores adds to samples.
_SCORES = ("reference_logprob", "earlier_logprob", "reward", "shaped_reward")


def write_samples(
  path: Place, sampled: Iterable[SampledQuery], reward: RewardName = "reward"
) -> None:
  """Writes one query a line, atomically; `reward` is what rewards are called there."""
  names = {"reward": reward, "golden_reward": f"golden_{reward}"}
  write_jsonl(path, (_renamed(_row(query), names) for query in sampled))


def read_test_rows(path: Place) -> list[dict[str, Any]]:
  """The lines of a file of test samples, with rewards called `testing_reward`.

  Files that are older call them `reward`, as files of training samples do.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is not a JSON object; the message names the file and the line.
  """
  names = {"reward": "testing_reward", "golden_reward": "golden_testing_reward"}
  return [_renamed(row, names) for row in read_jsonl(path)]


def _row(query: SampledQuery) -> dict[str, Any]:
  record = query.asked.record
  return {
    "query_id": record.query_id,
    "query": record.query,
    "samples": [dataclasses.asdict(sample) for sample in query.samples],
    "golden": record.response if isinstance(record, Demonstration) else None,
    "golden_reward": query.golden_reward,
    "golden_utility": query.golden_utility,
    "golden_reference_logprob": query.golden_reference_logprob,
  }


def _renamed(row: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
  """A line with other names for fields of it and of its samples."""
  renamed = {names.get(name, name): value for name, value in row.items()}
  samples = renamed.get("samples") or []
  return renamed | {
    "samples": [{names.get(name, name): one[name] for name in one} for one in samples]
  }


def read_samples(path: Place, asked: Sequence[Asked]) -> list[SampledQuery]:
  """Reads what `write_samples` wrote of the samples for these queries, in their order.

  Raises:
    ValueError: the file is of other queries.
  """
  rows = read_jsonl(path)
  theirs, ours = [row["query_id"] for row in rows], [one.record.query_id for one in asked]
  if theirs != ours:
    raise ValueError(f"{path} holds samples for other queries than those of the data, or more.")
  return [_parse(row, one) for row, one in zip(rows, asked, strict=True)]


def _parse(row: dict[str, Any], asked: Asked) -> SampledQuery:
  row = _renamed(row, {"testing_reward": "reward", "golden_testing_reward": "golden_reward"})
  samples = tuple(
    Sample(**{**sample, "tokens": tuple(sample["tokens"])}) for sample in row["samples"]
  )
  golden = (row[f"golden_{name}"] for name in ("reward", "utility", "reference_logprob"))
  return SampledQuery(asked, samples, *golden)

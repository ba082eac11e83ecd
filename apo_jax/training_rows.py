"""The rows that each training phase reads: records as fixed-shape arrays, and their lengths."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from apo_jax.config import PolicyConfig
from apo_jax.data.records import Demonstration, Preference
from apo_jax.data.rows import Response, make_rows, row_length
from apo_jax.data.samples import Sample, SampledQuery
from apo_jax.policy_step import PolicyBatch
from apo_jax.run_context import RunContext

Item = TypeVar("Item")

PADDING_SCORE = -1.0  # below 0: no response there
GOLDEN_SCORE = 1.0
SAMPLE_SCORE = 0.0


def demonstration_lengths(run: RunContext, records: Sequence[Demonstration]) -> list[int]:
  """Tokens of each record's row, eos included."""
  responses = run.codec.encode_responses([record.response for record in records])
  return _lengths(run, records, [[response] for response in responses])


def preference_lengths(run: RunContext, records: Sequence[Preference]) -> list[int]:
  """Tokens of each record's longest row, eos included."""
  flat = iter(run.codec.encode_responses([r for record in records for r in record.responses]))
  return _lengths(run, records, [[next(flat) for _ in record.responses] for record in records])


def golden_lengths(run: RunContext, records: Sequence[SampledQuery]) -> list[int]:
  """Tokens of each query's longest row, golden response or sample, eos included."""
  golden = run.codec.encode_responses([record.golden for record in records])
  samples = [[sample.response for sample in record.samples] for record in records]
  return _lengths(run, records, [[one, *more] for one, more in zip(golden, samples, strict=True)])


def sample_lengths(run: RunContext, records: Sequence[SampledQuery]) -> list[int]:
  """Tokens of each query's longest row among the samples that are trained on, eos included."""
  chosen = [select_samples(record.samples, run.config.policy) for record in records]
  return _lengths(run, records, [[sample.response for sample in samples] for samples in chosen])


def _lengths(
  run: RunContext, records: Sequence[Item], responses: Iterable[Sequence[Response]]
) -> list[int]:
  return [
    row_length(query, among) for query, among in zip(_queries(run, records), responses, strict=True)
  ]


def most_responses(preferences: Sequence[Preference]) -> int:
  """R, the responses that a row of preferences has room for."""
  return max(len(preference.responses) for preference in preferences)


def _queries(run: RunContext, records: Sequence[Item | None]) -> list[list[int]]:
  return run.codec.encode_queries(["" if record is None else record.query for record in records])


def demonstration_batch(
  run: RunContext, records: Sequence[Demonstration | None], length: int
) -> PolicyBatch:
  """Rows [B, 1, T] of demonstrations, without rewards and reference."""
  texts = ["" if record is None else record.response for record in records]
  responses = run.codec.encode_responses(texts)
  present = [record is not None for record in records]
  items = [
    (query, [response if there else None])
    for query, response, there in zip(_queries(run, records), responses, present, strict=True)
  ]
  zeros = np.zeros((len(records), 1), np.float32)
  rows = make_rows(items, 1, length, run.codec.eos)
  return PolicyBatch(rows, zeros, None, np.array(present)[:, None])


def preference_rows(
  run: RunContext, records: Sequence[Preference | None], num_responses: int, length: int
) -> tuple:
  """Rows [B, R, T] and scores [B, R] of preferences."""
  scores = np.full((len(records), num_responses), PADDING_SCORE, np.float32)
  items = []
  for index, (query, record) in enumerate(zip(_queries(run, records), records, strict=True)):
    if record is None:
      items.append((query, []))
      continue
    scores[index, : len(record.scores)] = record.scores
    items.append((query, run.codec.encode_responses(record.responses)))
  return make_rows(items, num_responses, length, run.codec.eos), scores


def golden_rows(run: RunContext, records: Sequence[SampledQuery | None], length: int) -> tuple:
  """Rows [C, 1 + S, T] and scores [C, 1 + S]: each golden response, then its samples."""
  num_samples = run.config.sampling.training.num_samples
  scores = np.full((len(records), 1 + num_samples), PADDING_SCORE, np.float32)
  golden = run.codec.encode_responses(
    ["" if record is None else record.golden for record in records]
  )
  items = []
  for index, query in enumerate(_queries(run, records)):
    record = records[index]
    if record is None:
      items.append((query, []))
      continue
    scores[index] = [GOLDEN_SCORE, *[SAMPLE_SCORE] * num_samples]
    samples = [sample.response for sample in record.samples]
    items.append((query, [golden[index], *samples]))
  return make_rows(items, 1 + num_samples, length, run.codec.eos), scores


def sample_batch(
  run: RunContext, records: Sequence[SampledQuery | None], length: int
) -> PolicyBatch:
  """The responses that the method trains on, with their rewards and reference log-probabilities."""
  config = run.config.policy
  chosen = [[] if record is None else select_samples(record.samples, config) for record in records]
  count = {"rjs": 1, "rrhf": run.config.sampling.training.num_samples}.get(config.method)
  if count is None:
    count = 2 if config.pairs == "best_worst" else run.config.sampling.training.num_samples
  shape = (len(records), count)
  rewards, reference_logprobs = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
  valid = np.zeros(shape, bool)
  for index, samples in enumerate(chosen):
    rewards[index, : len(samples)] = [sample.reward for sample in samples]
    reference_logprobs[index, : len(samples)] = [sample.reference_logprob for sample in samples]
    valid[index, : len(samples)] = True
  items = [
    (query, [sample.response for sample in samples])
    for query, samples in zip(_queries(run, records), chosen, strict=True)
  ]
  rows = make_rows(items, count, length, run.codec.eos)
  return PolicyBatch(rows, rewards, reference_logprobs, valid)


def select_samples(samples: Sequence[Sample], config: PolicyConfig) -> list[Sample]:
  """The samples of a query that the policy's loss reads; empty ones never are.

  Rejection sampling reads the best, DPO on best-vs-worst these two, every other loss all. Of
  equal rewards the first counts as best and as worst.
  """
  spoken = [sample for sample in samples if not sample.is_empty]
  if not spoken:
    return []
  best = max(spoken, key=lambda sample: sample.reward)
  if config.method == "rjs":
    return [best]
  if config.method == "dpo" and config.pairs == "best_worst":
    worst = min(spoken, key=lambda sample: sample.reward)
    return [best] if worst is best else [best, worst]
  return spoken

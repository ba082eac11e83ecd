"""The rows that each training phase reads: records as fixed-shape arrays, and their layouts."""

from collections.abc import Sequence

import numpy as np

from apo_jax.config.schema import Config, PolicyConfig
from apo_jax.data.records import Demonstration, Preference
from apo_jax.data.samples import Sample, SampledQuery
from apo_jax.data.tokens import Codec
from apo_jax.policy_step import PolicyBatch
from apo_jax.rows.layouts import RowLayout
from apo_jax.rows.rows import Item, Response, Rows, distinct_scores
from apo_jax.run.models import Models

PADDING_SCORE = -1.0  # below 0: no response there
GOLDEN_SCORE = 1.0
SAMPLE_SCORE = 0.0


def demonstration_layout(models: Models) -> RowLayout:
  """The layout of demonstrations: one response a query."""
  return models.row_layout(models.policy, 1)


def preference_layout(models: Models, num_responses: int) -> RowLayout:
  """The layout of preferences with at most so many responses."""
  return models.row_layout(models.reward, num_responses)


def golden_layout(models: Models, config: Config) -> RowLayout:
  """The layout of golden responses, each with the policy's samples."""
  return models.row_layout(models.reward, 1 + config.sampling.training.num_samples)


def sample_layout(models: Models, config: Config) -> RowLayout:
  """The layout of the samples that the policy is trained on."""
  return models.row_layout(models.policy, _trained_samples(config))


def most_responses(preferences: Sequence[Preference]) -> int:
  """R, the responses that a row of preferences has room for."""
  return max(len(preference.responses) for preference in preferences)


def _trained_samples(config: Config) -> int:
  """The most samples of a query that `select_samples` selects."""
  method, pairs = config.policy.method, config.policy.pairs
  if method == "rjs":
    return 1
  if method == "dpo" and pairs == "best_worst":
    return 2
  return config.sampling.training.num_samples


def demonstration_items(codec: Codec, records: Sequence[Demonstration | None]) -> list[Item]:
  """Each record's query and response."""
  responses = codec.encode_responses(
    ["" if record is None else record.response for record in records]
  )
  return _items(codec, records, [[response] for response in responses])


def preference_items(codec: Codec, records: Sequence[Preference | None]) -> list[Item]:
  """Each record's query and responses."""
  # A tokenizer wants at least one text, also where all records are padding.
  texts = [("",) if record is None else record.responses for record in records]
  encoded = iter(codec.encode_responses([text for among in texts for text in among]))
  return _items(codec, records, [[next(encoded) for _ in among] for among in texts])


def golden_items(codec: Codec, records: Sequence[SampledQuery | None]) -> list[Item]:
  """Each query, its golden response, and its samples."""
  golden = codec.encode_responses(["" if record is None else record.golden for record in records])
  samples = [() if record is None else record.samples for record in records]
  responses = [
    [first, *(sample.response for sample in more)]
    for first, more in zip(golden, samples, strict=True)
  ]
  return _items(codec, records, responses)


def sample_items(
  config: PolicyConfig, codec: Codec, records: Sequence[SampledQuery | None]
) -> list[Item]:
  """Each query and the samples that are trained on."""
  chosen = _selected(config, records)
  return _items(codec, records, [[sample.response for sample in samples] for samples in chosen])


def _items(codec: Codec, records: Sequence, responses: Sequence[Sequence[Response]]) -> list[Item]:
  """Records' queries with `responses`; where a record is None, an item without any."""
  queries = codec.encode_queries(["" if record is None else record.query for record in records])
  return [
    ((), ()) if record is None else (query, among)
    for record, query, among in zip(records, queries, responses, strict=True)
  ]


def demonstration_batch(
  codec: Codec, layout: RowLayout, records: Sequence[Demonstration | None], bucket: int
) -> PolicyBatch:
  """Rows of demonstrations, without rewards and reference."""
  rows = layout.rows(demonstration_items(codec, records), bucket, codec.eos)
  present = np.array([[record is not None] for record in records])
  return PolicyBatch(rows, np.zeros(present.shape, np.float32), None, present)


def preference_rows(
  codec: Codec, layout: RowLayout, records: Sequence[Preference | None], bucket: int
) -> tuple[Rows, np.ndarray]:
  """Rows and scores [B, R] of preferences."""
  scores = np.full((len(records), layout.num_responses), PADDING_SCORE, np.float32)
  items = preference_items(codec, records)
  for index, record in enumerate(records):
    if record is not None:
      scores[index, : len(record.scores)] = distinct_scores(items[index][1], record.scores)
  return layout.rows(items, bucket, codec.eos), scores


def golden_rows(
  codec: Codec, layout: RowLayout, records: Sequence[SampledQuery | None], bucket: int
) -> tuple[Rows, np.ndarray]:
  """Rows and scores [C, 1 + S]: each golden response, then its samples."""
  scores = np.full((len(records), layout.num_responses), SAMPLE_SCORE, np.float32)
  scores[:, 0] = GOLDEN_SCORE
  scores[[record is None for record in records]] = PADDING_SCORE
  return layout.rows(golden_items(codec, records), bucket, codec.eos), scores


def sample_batch(
  config: PolicyConfig,
  codec: Codec,
  layout: RowLayout,
  records: Sequence[SampledQuery | None],
  bucket: int,
) -> PolicyBatch:
  """The responses that the method trains on, with their rewards and reference log-probabilities."""
  shape = (len(records), layout.num_responses)
  rewards, reference_logprobs = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
  valid = np.zeros(shape, bool)
  for index, samples in enumerate(_selected(config, records)):
    rewards[index, : len(samples)] = [sample.reward for sample in samples]
    reference_logprobs[index, : len(samples)] = [sample.reference_logprob for sample in samples]
    valid[index, : len(samples)] = True
  rows = layout.rows(sample_items(config, codec, records), bucket, codec.eos)
  return PolicyBatch(rows, rewards, reference_logprobs, valid)


def _selected(config: PolicyConfig, records: Sequence[SampledQuery | None]) -> list[list[Sample]]:
  return [[] if record is None else select_samples(record.samples, config) for record in records]


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

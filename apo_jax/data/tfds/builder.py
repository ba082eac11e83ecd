"""A TFDS data set of preference records as ArrayRecord files, written and read without TensorFlow.

A split is a field of config.data: preferences, golden, queries or demonstrations. Every row holds

    query_id, query    texts
    responses          texts: of a preference all, of a demonstration its one, of a query none
    scores             float64, one for each response; a demonstration's is 1

which is the K-wise form that data/formats.py knows, so that `tfds://NAME?split=golden&data_dir=DIR`
gives each field its records back.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from apo_jax.data.candidates import Record
from apo_jax.data.records import Demonstration, Preference


def write_records(directory: Path, name: str, splits: Mapping[str, Sequence[Record]]) -> None:
  """Writes the records below `directory`, for `tfds.data_source(name, data_dir=directory)`.

  Raises:
    FileExistsError: there is a data set of this name already.
  """
  if (directory / name).exists():
    raise FileExistsError(f"{directory / name} is there already")
  tfds.disable_progress_bar()
  _RecordBuilder(name, directory, splits).download_and_prepare()


class _RecordBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Writes records that are in memory; read back, no builder class is needed."""

  VERSION = tfds.core.Version("1.0.0")
  # Beside its code TFDS would look for the checksums of downloads, and there are none.
  code_path = None

  def __init__(self, name: str, directory: Path, splits: Mapping[str, Sequence[Record]]) -> None:
    self.name = name
    self._splits = splits
    super().__init__(data_dir=directory, file_format="array_record")

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    features = {
      "query_id": text,
      "query": text,
      "responses": tfds.features.Sequence(text),
      # As bytes: the list of floats of a tf.train.Example would round them to float32.
      "scores": tfds.features.Tensor(shape=(None,), dtype=np.float64, encoding="bytes"),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description="Preference records of apo_jax.",
      features=tfds.features.FeaturesDict(features),
      disable_shuffling=True,  # the order is part of the data
    )

  def _split_generators(self, download_manager: Any) -> dict[str, Iterator[Any]]:
    return {split: self._generate_examples(records) for split, records in self._splits.items()}

  def _generate_examples(self, records: Sequence[Record]) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, record in enumerate(records):
      yield index, _row(record)


def _row(record: Record) -> dict[str, Any]:
  responses, scores = (), ()
  if isinstance(record, Preference):
    responses, scores = record.responses, record.scores
  elif isinstance(record, Demonstration):
    responses, scores = (record.response,), (1.0,)
  return {
    "query_id": record.query_id,
    "query": record.query,
    "responses": list(responses),
    "scores": np.array(scores, np.float64),
  }

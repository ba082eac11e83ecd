"""Samples of several settings to the same test queries."""

import collections
import html
from collections.abc import Mapping
from typing import Any

from apo_jax.compare.comparison import Comparison
from apo_jax.config.visible import visible
from apo_jax.data.samples import read_test_rows
from apo_jax.logs.run_directory import TEST_SAMPLES, RunDirectory
from apo_jax.report.elements import query_text, response, section
from apo_jax.report.plots import GOLDEN

_NUM_SHOWN_QUERIES = 8
_Rows = Mapping[str, Mapping[str, Any]]


def samples_section(comparison: Comparison, colors: Mapping[str, str]) -> str:
  """Every setting's first sample to the same queries, all of one seed; nothing without samples.

  Raises:
    ValueError: a file of samples is not valid JSON; the message names file and line.
  """
  seed = _seed_of_most(comparison)
  labels = {setting.name: setting.label for setting in comparison.settings}
  samples = {}
  for setting in comparison.settings:
    if seed in setting.by_seed:
      place = RunDirectory(setting.by_seed[seed].path).round(comparison.round) / TEST_SAMPLES
      if place.exists():
        samples[setting.name] = {row["query_id"]: row for row in read_test_rows(place)}
  if not samples:
    return ""
  first, *others = samples.values()
  common = [query for query in first if all(query in rows for rows in others)]
  return section(
    "The same queries, setting by setting",
    f"The first sample of every setting that has seed {seed}, after round {comparison.round}, with "
    "its testing reward, its true utility where one is known, and its length.",
    "".join(_query(query, samples, colors, labels) for query in common[:_NUM_SHOWN_QUERIES]),
  )


def _seed_of_most(comparison: Comparison) -> int:
  """The seed that most settings have, of several the lowest."""
  counts = collections.Counter(seed for one in comparison.settings for seed in one.seeds)
  return min(counts, key=lambda seed: (-counts[seed], seed))


def _query(
  query: str,
  samples: Mapping[str, _Rows],
  colors: Mapping[str, str],
  labels: Mapping[str, str],
) -> str:
  row = next(iter(samples.values()))[query]
  golden = response(row.get("golden"), row.get("golden_testing_reward"), row.get("golden_utility"))
  cards = [_card("golden", GOLDEN, golden)]
  for name, rows in samples.items():
    drawn = rows[query].get("samples") or [{"text": None}]
    shown = response(
      drawn[0]["text"],
      drawn[0].get("testing_reward"),
      drawn[0].get("utility"),
      drawn[0].get("finished", True),
      len(drawn[0]["tokens"]) if "tokens" in drawn[0] else None,
    )
    cards.append(_card(labels[name], colors[name], shown))
  return (
    f'<div class="asked">{query_text(row["query"])}</div><div class="cards">{"".join(cards)}</div>'
  )


def _card(name: str, color: str, shown: str) -> str:
  return f'<div style="border-top-color:{color}"><h4>{html.escape(visible(name))}</h4>{shown}</div>'

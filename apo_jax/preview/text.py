"""The sections of a preview as text for people, at most `histogram.WIDTH` columns wide."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from apo_jax.config.schema import Config
from apo_jax.config.visible import visible
from apo_jax.data.reports import SourceReport
from apo_jax.data.template_check import TemplateCheck
from apo_jax.data.templates import HH, HhForm
from apo_jax.data.tokens import Codec, visible_tokens
from apo_jax.devices.sharding import AXES
from apo_jax.logs.places import Place
from apo_jax.models.architecture import Architecture
from apo_jax.models.hugging_face.config import Checkpoint
from apo_jax.preview.histogram import WIDTH, histogram
from apo_jax.preview.lengths import MOST_TEXTS, Lengths
from apo_jax.preview.memory import Bytes, ModelMemory, total
from apo_jax.run.models import Models

_MIB = 2**20


def section(title: str, lines: Sequence[str]) -> str:
  """A title and the lines below it, long ones wrapped, all visible: names in them are others'."""
  wrapped = [part for line in lines for part in _wrap(visible(line))]
  return "\n".join([title, "=" * len(title), *wrapped])


def sources(reports: Sequence[SourceReport]) -> list[str]:
  """What each source gave: rows by format, columns, what was dropped, what is used."""
  lines = []
  for report in reports:
    formats = report.formats or {report.format: report.rows}
    lines += [
      f"config.data.{report.field} from {report.location}",
      f"  {report.rows:,} rows: {_counts(formats, 'in {} form')}",
    ]
    if report.read:
      lines.append(f"  columns read: {', '.join(report.read)}")
    if report.unread:
      lines.append(f"  columns that nothing reads: {', '.join(report.unread)}")
    for reason, number in report.dropped.items():
      lines.append(f"  dropped: {number:,} {reason}")
      lines += [f"    {_short(example)}" for example in report.examples[reason]]
    for why, number in report.left_out.items():
      lines.append(f"  left out: {number:,} {why}")
    lines.append(f"  used: {sum(report.sides.values()):,} ({_counts(report.sides)})")
  return lines or ["The small world that comes with the package (config.data.source 'embedded')."]


def splits(described: Mapping[str, Any]) -> list[str]:
  """The lists of records, from what data.json holds."""
  rows = [("", "records", "queries that lose their left", "left out")]
  for name, counts in described["lengths"].items():
    why = {key: number for key, number in counts.items() if key not in ("records", "cut_queries")}
    if counts["records"] or why:
      left_out = _counts(why) if why else "0"
      rows.append((name, f"{counts['records']:,}", f"{counts['cut_queries']:,}", left_out))
  return [*_table(rows), f"The data's hash is {described['sha256']}."]


def lengths(found: Sequence[Lengths], config: Config, codec: Codec) -> list[str]:
  """Histograms of queries and responses against the limits that they meet."""
  data, most = config.data, config.sampling.training.max_new_tokens
  room = data.row_length - codec.shortest_query
  lines = [
    "Tokens of each different text: of a query with all that stands around it, of a response with"
    " its end."
  ]
  for one in found:
    is_query = one.of == "queries"
    limits = {"config.data.query_length": data.query_length}
    over = f"longer than config.data.query_length, {data.query_length:,}, and lose their left"
    if not is_query:
      limits = {
        "config.sampling.training.max_new_tokens": most,
        f"room in config.data.row_length {data.row_length:,}": room,
      }
      over = f"longer than a sample can be, {most:,}"
    some = f"; {len(one.tokens):,} of them:" if one.texts > MOST_TEXTS else ":"
    middle, many = np.quantile(one.tokens, (0.5, 0.95))
    longer = float(np.mean(one.tokens > next(iter(limits.values()))))
    said = [f"{longer:.1%} are {over}"]
    if not is_query:
      said.append(f"{float(np.mean(one.tokens > room)):.1%} fit no row and are left out")
    lines += [
      "",
      f"{one.of}, {one.texts:,}{some} half up to {middle:,.0f}, 95% up to {many:,.0f}, longest"
      f" {int(one.tokens.max()):,}",
      *histogram(one.tokens, limits),
      f"  {'; '.join(said)}.",
    ]
  return lines


def template(named: str, codec: Codec, check: TemplateCheck) -> list[str]:
  """Which template writes dialogues, what ends a response, and what the check of it found."""
  where = {"": "the tokenizer's own", HH: "none, as config.data.chat_template is 'hh'"}
  known = where.get(named, f"config.data.chat_template, {_short(named, 60)!r}")
  if isinstance(codec.form, HhForm) and not named:
    known = "none, as the tokenizer has none"
  ends = visible_tokens(codec.tokenizer, sorted(codec.ends))
  numbered = (f"{text!r} ({index})" for text, index in zip(ends, sorted(codec.ends), strict=True))
  return [
    f"The template is {known}.",
    check.sentence(),
    f"A response ends with {', '.join(numbered)}.",
  ]


def models(
  models: Models, memory: Sequence[ModelMemory], sentences: Sequence[str], device_memory: int | None
) -> list[str]:
  """What the players are, and what they take on each device."""
  lines = []
  origins = models.origins
  for field, checkpoint in origins.checkpoints.items():
    lines.append(f"{field}: {_checkpoint(checkpoint)}")
  if origins.policy_checkpoint is None:
    lines.append(f"config.model.shape, random weights: {_shape(origins.policy)}.")
  if origins.testing_reward_checkpoint is None and origins.testing_reward != origins.reward:
    lines.append(f"config.testing_reward.shape, random weights: {_shape(origins.testing_reward)}.")
  shape = models.mesh.shape
  mesh = ", ".join(f"{axis} {shape[axis]}" for axis in AXES)
  devices = models.mesh.devices.size
  kind = models.mesh.devices.flat[0].device_kind
  lines += ["", f"MiB on each of {devices:,} devices ({kind}; mesh {mesh}):"]
  if devices == 1:
    lines[-1] = f"MiB on the device ({kind}; mesh {mesh}):"
  rows = [("", "parameters", "trained", "weights", "optimizer", "frozen", "to train it")]
  for one in memory:
    frozen = _mib(total(one.frozen)) + (" (the policy's)" if one.shares_frozen else "")
    rows.append(
      (
        one.name,
        f"{one.parameters:,}",
        f"{one.trained:,}",
        _mib(total(one.weights)),
        _mib(total(one.optimizer)),
        frozen if one.frozen else "-",
        _mib(one.training),
      )
    )
  lines += _table(rows)
  for one in memory:
    kept = {"weights": one.weights, "optimizer": one.optimizer, "frozen": one.frozen}
    said = "; ".join(f"{name}: {_types(parts)}" for name, parts in kept.items() if parts)
    lines.append(f"{one.name}, by number type: {said}.")
  lines.append(
    "To train it: weights, as many gradients, optimizer state and frozen weights. The reference's"
    " weights, activations and the other player come beside it: python -m apo_jax.plan compiles"
    " the steps and counts all."
  )
  if device_memory:
    lines.append(f"A device has {device_memory / _MIB:,.0f} MiB.")
  return [*lines, *sentences]


def _checkpoint(checkpoint: Checkpoint) -> str:
  files = sorted(checkpoint.directory.glob("*.safetensors"))
  size = sum(path.stat().st_size for path in files)
  kind = "sequence classifier" if checkpoint.is_reward else "language model"
  said = (
    f"{checkpoint.family}, a {kind} in {checkpoint.directory}: {_shape(checkpoint.architecture)}"
  )
  if checkpoint.positions:
    said += f", {checkpoint.positions:,} positions"
  return f"{said}; {len(files)} safetensors file(s) of {size / _MIB:,.1f} MiB."


def _shape(one: Architecture) -> str:
  head = "the embedding's transpose as its head" if one.tied_embeddings else "a head of its own"
  heads = f"{one.heads} heads of {one.head_dim} ({one.kv_heads} of keys and values)"
  return (
    f"{one.layers} layer{'s' if one.layers > 1 else ''}, {one.embed_dim:,} features, {heads},"
    f" MLP of {one.mlp_dim:,}, {one.vocab_size:,} tokens, {head}"
  )


def _types(parts: Bytes) -> str:
  return ", ".join(f"{_mib(size)} {name}" for name, size in sorted(parts.items()))


def _mib(size: float) -> str:
  return f"{size / _MIB:,.2f}" if size < 100 * _MIB else f"{size / _MIB:,.0f}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
  """Columns side by side, the first to the left, the others to the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return [
    "  ".join(
      cell.rjust(width) if number else cell.ljust(width)
      for number, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    for row in rows
  ]


def _counts(numbers: Mapping[str, int], words: str = "{}") -> str:
  return ", ".join(f"{number:,} {words.format(name)}" for name, number in numbers.items())


def _short(example: str, most: int = WIDTH - 4) -> str:
  line = " ".join(example.split())
  return line if len(line) <= most else f"{line[: most - 1]}…"


def _wrap(line: str) -> list[str]:
  if len(line) <= WIDTH:
    return [line]
  indent = " " * (len(line) - len(line.lstrip()))
  return textwrap.wrap(
    line.strip(),
    WIDTH,
    initial_indent=indent,
    subsequent_indent=f"{indent}  ",
    break_on_hyphens=False,
    break_long_words=False,  # a path stays one word
  )


def title_of(config_file: str, directory: Place, goes_on: bool) -> list[str]:
  """The first lines: whose preview it is."""
  kept = f"goes on with the run in {directory}" if goes_on else f"would be kept in {directory}"
  return [f"Preview of {config_file}. A run {kept}. Nothing is trained or written there."]

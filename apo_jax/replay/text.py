"""A replay as lines of text, for a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from apo_jax.data.tokens import Codec
from apo_jax.replay.replaying import Replay
from apo_jax.replay.rows import RowFindings

_SHOWN = 60  # characters of a text
_SHOWN_ARRAYS = 12


def lines(replay: Replay) -> Iterator[str]:
  """All that is known of it."""
  yield from filter(None, [replay.batch_note])
  yield _verdict(replay)
  if replay.found is None:
    return
  yield from _arrays(replay.found.not_finite)
  name, size = replay.found.largest
  yield f"The parameter farthest from 0 is one of {name}, {size:.4g} away."
  yield "Norm of the gradient, by kind of parameter in all layers:"
  width = max(map(len, replay.found.gradients))
  yield from (f"  {name:<{width}}  {norm:.4g}" for name, norm in replay.found.gradients.items())
  yield "Rows, each with its share of the loss:"
  for row in replay.rows:
    yield from _row(row, replay.codec)


def _verdict(replay: Replay) -> str:
  failure = replay.failure
  where = f"update {failure.update} of phase {failure.phase} of round {failure.round}"
  then = "then " + _numbers({name: float(value) for name, value in failure.metrics.items()})
  now = _numbers(replay.metrics)
  if replay.update is None:
    return (
      f"Not reproduced: {where} gives finite numbers: {now} ({then}). Other devices or another"
      " version may have made the difference, or the machine erred; the run's own command tries"
      " again."
    )
  if not replay.reproduced:
    return f"Not reproduced: update {replay.update}, before {where}, gives {now} already ({then})."
  how = "to the bit" if replay.is_exact else f"not to the bit ({then})"
  return f"Reproduced, {how}: {where} gives {now}."


def _numbers(values: Mapping[str, float]) -> str:
  return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _arrays(found: Sequence[tuple[str, int, int]]) -> Iterator[str]:
  if not found:
    yield "All arrays are finite: parameters, optimizer, batch, what the model says, gradients."
    return
  name, bad, size = found[0]
  yield f"First not finite: {name}, in {bad:,} of {size:,} numbers."
  for name, bad, size in found[1:_SHOWN_ARRAYS]:
    yield f"  then {name}, in {bad:,} of {size:,}"
  if len(found) > _SHOWN_ARRAYS:
    yield f"  and {len(found) - _SHOWN_ARRAYS} more arrays"


def _row(row: RowFindings, codec: Codec) -> Iterator[str]:
  yield f"  {row.kind} {row.number}: {row.loss:.4g}  {_text(codec, row.query, tail=True)}"
  for number, response in enumerate(row.responses):
    said = "  ".join(f"{name} {value:.4g}" for name, value in response.numbers.items())
    yield f"    response {number}: {said}  {_text(codec, response.ids)}"


def _text(codec: Codec, ids: Sequence[int], *, tail: bool = False) -> str:
  """The text of ids, short, on one line, with what cannot be seen as escapes."""
  text = codec.tokenizer.decode(ids, skip_special_tokens=False)
  if len(text) > _SHOWN:
    text = f"…{text[-_SHOWN:]}" if tail else f"{text[:_SHOWN]}…"
  return repr(text)

"""The DPO step that is timed (`dpo`) and whose memory is measured (`memory`)."""

from typing import Any

from absl import flags

from benchmarks import data, race, settings

FLAGS = flags.FLAGS

PAIR = 2  # responses

flags.DEFINE_integer("pairs", 4, "Pairs, all in one batch.", lower_bound=1)
flags.DEFINE_integer("query_tokens", 96, "Tokens of a query.", lower_bound=1)
flags.DEFINE_integer("response_tokens", 160, "Tokens of a response, eos included.", lower_bound=2)


def case() -> dict[str, Any]:
  """The flags of this case."""
  return settings.case("pairs", "query_tokens", "response_tokens")


def contestants(*, both_ways: bool) -> list[race.Entry]:
  """All that make the step; ours without recomputation, or both ways (`race.both_ways`)."""
  sizes = FLAGS.query_tokens, FLAGS.response_tokens, FLAGS.vocab_size
  job = {
    "work": "dpo",
    "model": settings.model(),
    "items": data.items(FLAGS.pairs, PAIR, *sizes),
  }
  ours = race.both_ways(job)
  return [
    *(ours if both_ways else ours[:1]),
    race.Entry("TRL", race.TRL, job | {"checkpointing": False}),
    race.Entry("TRL, checkpointing", race.TRL, job | {"checkpointing": True}),
    race.Entry("Tunix", race.TUNIX, job),
  ]

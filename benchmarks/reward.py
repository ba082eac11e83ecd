"""A reward step: ours and TRL's RewardTrainer, with and without recomputing activations.

    python -m benchmarks.reward --trl_python=...

A golden response and some samples share a long query; golden is to be preferred to each sample.
TRL gets each of these pairs as one of its preferences, all in one batch. Tunix trains no reward
models.
"""

from collections.abc import Sequence

from absl import app, flags

from benchmarks import data, race, report, settings, work
from benchmarks.model import architecture

FLAGS = flags.FLAGS

flags.DEFINE_integer("queries", 1, "Queries, each with a golden response.", lower_bound=1)
flags.DEFINE_integer("samples", 4, "Samples a query.", lower_bound=1)
flags.DEFINE_integer("query_tokens", 256, "Tokens of a query.", lower_bound=1)
flags.DEFINE_integer("response_tokens", 128, "Tokens of a response, eos included.", lower_bound=2)


def main(argv: Sequence[str]) -> None:
  """Runs the benchmark."""
  del argv
  model = settings.model()
  case = settings.case("queries", "samples", "query_tokens", "response_tokens")
  responses = 1 + FLAGS.samples
  sizes = FLAGS.query_tokens, FLAGS.response_tokens, FLAGS.vocab_size
  items = data.items(FLAGS.queries, responses, *sizes)
  job = {"work": "reward", "model": model, "items": items}
  entries = [
    *race.both_ways(job),
    race.Entry("TRL", race.TRL, job | {"checkpointing": False}),
    race.Entry("TRL, checkpointing", race.TRL, job | {"checkpointing": True}),
  ]
  result = race.race(entries, FLAGS.repeats)
  lengths = [[FLAGS.response_tokens] * responses] * FLAGS.queries
  needed = work.training_step(architecture(model), FLAGS.query_tokens, lengths, logits=False)
  works = dict.fromkeys(result.runs, needed)
  text = report.comparison(result, works, loss=True)
  report.finish("reward", case, text, report.as_json(result, works))


if __name__ == "__main__":
  app.run(main)

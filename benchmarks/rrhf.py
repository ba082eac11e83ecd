"""Our RRHF step on some samples a query against a plain supervised step on the same responses.

    python -m benchmarks.rrhf

The supervised step reads every response as a demonstration of its own, its query before it.
"""

from collections.abc import Sequence

from absl import app, flags

from benchmarks import data, race, report, settings, work
from benchmarks.model import architecture

FLAGS = flags.FLAGS

flags.DEFINE_integer("queries", 2, "Queries.", lower_bound=1)
flags.DEFINE_integer("samples", 4, "Responses a query.", lower_bound=2)
flags.DEFINE_integer("query_tokens", 96, "Tokens of a query.", lower_bound=1)
flags.DEFINE_integer("response_tokens", 160, "Tokens of a response, eos included.", lower_bound=2)


def main(argv: Sequence[str]) -> None:
  """Runs the benchmark."""
  del argv
  model = settings.model()
  case = settings.case("queries", "samples", "query_tokens", "response_tokens")
  sizes = FLAGS.query_tokens, FLAGS.response_tokens, FLAGS.vocab_size
  items = data.items(FLAGS.queries, FLAGS.samples, *sizes)
  entries = [
    race.Entry("RRHF", race.OURS, {"work": "rrhf", "model": model, "items": items}),
    race.Entry("supervised", race.OURS, {"work": "sft", "model": model, "items": items}),
  ]
  result = race.race(entries, FLAGS.repeats)
  shared = [[FLAGS.response_tokens] * FLAGS.samples] * FLAGS.queries
  single = [[FLAGS.response_tokens]] * (FLAGS.queries * FLAGS.samples)
  works = {
    name: work.training_step(architecture(model), FLAGS.query_tokens, rows, logits=True)
    for name, rows in {"RRHF": shared, "supervised": single}.items()
  }
  text = report.comparison(result, works)
  report.finish("rrhf", case, text, report.as_json(result, works))


if __name__ == "__main__":
  app.run(main)

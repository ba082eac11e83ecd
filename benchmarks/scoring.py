"""Our scoring of samples, rewards and log-probabilities, against the machine's limit.

python -m benchmarks.scoring
"""

from collections.abc import Sequence

from absl import app, flags

from benchmarks import data, race, report, settings, work
from benchmarks.model import architecture

FLAGS = flags.FLAGS

flags.DEFINE_integer("queries", 8, "Queries.", lower_bound=1)
flags.DEFINE_integer("samples", 4, "Responses a query.", lower_bound=1)
flags.DEFINE_integer("query_tokens", 64, "Tokens of a query.", lower_bound=1)
flags.DEFINE_integer("response_tokens", 64, "Tokens of a response, eos included.", lower_bound=2)


def main(argv: Sequence[str]) -> None:
  """Runs the benchmark."""
  del argv
  model = settings.model()
  case = settings.case("queries", "samples", "query_tokens", "response_tokens")
  sizes = FLAGS.query_tokens, FLAGS.response_tokens, FLAGS.vocab_size
  items = data.items(FLAGS.queries, FLAGS.samples, *sizes)
  with_logits = {"reward scores": False, "logprob scores": True}
  entries = [
    race.Entry(name, race.OURS, {"work": name, "model": model, "items": items})
    for name in with_logits
  ]
  result = race.race(entries, FLAGS.repeats)
  lengths = [[FLAGS.response_tokens] * FLAGS.samples] * FLAGS.queries
  works = {
    name: work.scoring(architecture(model), FLAGS.query_tokens, lengths, logits=logits)
    for name, logits in with_logits.items()
  }
  text = report.comparison(result, works)
  report.finish("scoring", case, text, report.as_json(result, works))


if __name__ == "__main__":
  app.run(main)

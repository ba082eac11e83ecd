"""Sampling, tokens/s: ours, `transformers.generate`, Tunix's sampler.

    python -m benchmarks.sampling --trl_python=... --tunix_python=...
    python -m benchmarks.sampling --shortest=8 --tokens=128 --trl_python=... --tunix_python=...
    python -m benchmarks.sampling --queries=32 --batch=8 --shortest=8 --tokens=128 --trl_python=...

Some samples to each of some queries, at temperature 1 with no filter. All responses have `--tokens`
tokens, or with `--shortest` lengths from there to `--tokens` in even steps, in a random order: the
same for all contestants, which are told when a response is over (each says how). With `--batch` the
queries do not all fit: peers take one batch after another, ours fills up as responses end.
"""

from collections.abc import Sequence

from absl import app, flags

from benchmarks import data, race, report, settings, work
from benchmarks.model import architecture

FLAGS = flags.FLAGS

flags.DEFINE_integer("queries", 8, "Queries.", lower_bound=1)
flags.DEFINE_integer("samples", 4, "Responses a query.", lower_bound=1)
flags.DEFINE_integer("batch", 0, "Queries in memory at a time; 0 takes all.", lower_bound=0)
flags.DEFINE_integer("query_tokens", 64, "Tokens of a query.", lower_bound=1)
flags.DEFINE_integer(
  "tokens", 64, "Tokens of a response; with --shortest, of the longest.", lower_bound=1
)
flags.DEFINE_integer(
  "shortest", 0, "Tokens of the shortest response; 0 makes all equal.", lower_bound=0
)
flags.register_multi_flags_validator(
  ["shortest", "tokens"],
  lambda values: values["shortest"] <= values["tokens"],
  "--shortest must be at most --tokens, the longest response's.",
)


def main(argv: Sequence[str]) -> None:
  """Runs the benchmark."""
  del argv
  model = settings.model()
  case = settings.case("queries", "samples", "batch", "query_tokens", "tokens", "shortest")
  shortest = FLAGS.shortest or FLAGS.tokens
  lengths = data.spread(shortest, FLAGS.tokens, FLAGS.queries, FLAGS.samples)
  job = {
    "work": "sampling",
    "model": model,
    "queries": data.queries(FLAGS.queries, FLAGS.query_tokens, FLAGS.vocab_size),
    "lengths": lengths,
    "batch": FLAGS.batch or FLAGS.queries,
  }
  entries = [
    race.Entry("apo_jax", race.OURS, job),
    race.Entry("transformers generate", race.TRL, job),
    race.Entry("Tunix", race.TUNIX, job),
  ]
  result = race.race(entries, FLAGS.repeats)
  wanted = sum(map(sum, lengths))
  for name, runs in result.runs.items():
    if any(run["tokens"] != wanted for run in runs.timed):
      raise SystemExit(f"{name} did not sample {wanted} tokens: {runs.timed}.")
  needed = work.sampling(architecture(model), FLAGS.query_tokens, lengths, settings.itemsize())
  works = dict.fromkeys(result.runs, needed)
  text = report.comparison(result, works, tokens=wanted)
  report.finish("sampling", case | {"lengths": lengths}, text, report.as_json(result, works))


if __name__ == "__main__":
  app.run(main)

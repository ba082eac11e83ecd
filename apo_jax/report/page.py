"""A run as one page: tables, plots and samples, made from what lies in its run directory.

The page has no scripts and loads nothing. A part is left out while its files are not there yet, so
the page can be made at any time of a run.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from apo_jax.config.visible import visible, visible_lines
from apo_jax.logs.files import json_text, write_text
from apo_jax.logs.places import Place
from apo_jax.logs.run_directory import RunDirectory
from apo_jax.report import plots
from apo_jax.report.data import Run, read_run, shown_rounds
from apo_jax.report.elements import (
  document,
  facts_list,
  figure_section,
  legend,
  query_text,
  response,
  section,
)
from apo_jax.report.health import health_section
from apo_jax.report.judge import judge_section
from apo_jax.report.plots import GOLDEN, SAMPLES, Line, Panel, Scored
from apo_jax.report.tables import differences_table, rounds_table, samples_table

_BASELINE = "#8a8f98"
_NUM_SHOWN_QUERIES = 8

_FACTS = (
  ("Policy loss", "policy.loss"),
  ("Policy starts from", "policy.start"),
  ("Reference", "policy.reference"),
  ("Reward mode", "reward.mode"),
  ("Reward starts from", "reward.start"),
  ("Adversarial term", "reward.contrast"),
  ("Reward loss", "reward.apo.kind"),
  ("Weights of its terms", "reward.weighting"),
  ("Samples a query", "sampling.training.num_samples"),
  ("Rounds", "rounds"),
  ("Seed", "seed"),
)


def write_report(run_dir: Place) -> Place:
  """Writes report.html into the run directory and returns its path.

  Args:
    run_dir: the run directory; files that are not there yet leave their part out.

  Raises:
    ValueError: a file of the run is not valid JSON; the message names file and line.
  """
  run = read_run(run_dir)
  path = RunDirectory(run_dir).report
  write_text(path, page(run))
  return path


def page(run: Run) -> str:
  """The whole page as HTML."""
  sections = (
    _branch(run),
    rounds_table(run),
    differences_table(run),
    health_section(run),
    judge_section(run),
    samples_table(run),
    _curves(run),
    _histograms(run),
    _training(run),
    _reliability(run),
    _hacking(run),
    _samples(run),
    _configuration(run),
  )
  name = html.escape(visible(run.name))
  title = f"{name}: adversarial preference optimization"
  return document(title, name, _facts(run), sections)


def _facts(run: Run) -> str:
  facts = [(label, _field(run.config, path)) for label, path in _FACTS]
  if len(run.shown) < len(run.numbers):
    facts.append(("Rounds shown one by one", ", ".join(map(str, run.shown))))
  return facts_list([(label, str(value)) for label, value in facts if value is not None])


def _branch(run: Run) -> str:
  """What the run has from another; nothing where it began by itself."""
  if run.branch is None:
    return ""
  rounds = "Round 0 was" if not run.branch.round else f"Rounds 0 to {run.branch.round} were"
  said = f"{rounds} played there, and the configuration below is that of what came behind."
  return section("Branched", f"{html.escape(run.branch.sentence)} {said}", "")


def _field(config: Mapping[str, Any], path: str) -> Any:
  value: Any = config
  for name in path.split("."):
    value = value.get(name) if isinstance(value, Mapping) else None
  return value


def _round_legend(run: Run, numbers: Sequence[int]) -> str:
  return legend([(f"round {number}", run.colors[number]) for number in numbers])


def _mean(values: Sequence[float | int | None]) -> float | None:
  known = [value for value in values if value is not None]
  return sum(known) / len(known) if known else None


def _golden_means(run: Run, key: str) -> list[float | None]:
  """The golden responses' mean on the test queries, the same for every round."""
  means = [_mean([row.get(key) for row in round.test_samples]) for round in run.rounds]
  return [next((mean for mean in means if mean is not None), None)] * len(run.rounds)


def _curves(run: Run) -> str:
  def line(key: str, label: str = "policy", color: str = SAMPLES, dashed: bool = False) -> Line:
    return Line(label, run.values(key), color, dashed, errors=run.errors(key))

  def golden(key: str) -> Line:
    return Line("golden", _golden_means(run, key), GOLDEN, dashed=True)

  figure = plots.curves(
    run.numbers,
    [
      Panel("True utility", [line("true_utility"), golden("golden_utility")]),
      Panel("Testing reward", [line("testing_reward"), golden("golden_testing_reward")]),
      Panel(
        "Win rate",
        [
          line("win_rate_golden", "against golden", GOLDEN),
          line("win_rate_start", "against start"),
        ],
        level=0.5,
      ),
      Panel("KL to the start, nats", [line("kl_to_start")]),
      Panel(
        "Response length, tokens",
        [line("response_length"), line("golden_length", "golden", GOLDEN, dashed=True)],
      ),
      Panel(
        "Unfinished responses",
        [line("unfinished"), line("golden_unfinished", "golden", GOLDEN, dashed=True)],
      ),
      Panel(
        "Preference accuracy",
        [
          line("reward_accuracy", "training"),
          line("testing_accuracy", "testing", _BASELINE),
          line("longer_wins_accuracy", "longer wins", _BASELINE, dashed=True),
        ],
      ),
      Panel("Calibration error (ECE)", [line("reward_ece")]),
    ],
  )
  return figure_section(
    figure,
    "curves",
    "Over the rounds",
    "Utility and rewards are means over the test queries; bands reach one standard error to both "
    "sides. “Longer wins” is the accuracy of preferring the longer response: a reward model should "
    "beat it.",
    "",
  )


def _sample_values(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
  return [sample.get(key) for row in rows for sample in row.get("samples") or []]


def _histograms(run: Run) -> str:
  rewards = {
    round.number: (
      [row.get("golden_reward") for row in round.golden_samples],
      _sample_values(round.golden_samples, "reward"),
    )
    for round in run.rounds
  }
  return figure_section(
    plots.reward_histograms(rewards),
    "histograms",
    "Rewards of golden responses and samples",
    "By the training reward model after its step in the round; dashed lines are means, the margin "
    "is their difference. Only differences of rewards mean something, not where zero lies.",
    legend([("golden", GOLDEN), ("samples", SAMPLES)]),
  )


def _training(run: Run) -> str:
  phases: dict[str, dict[int, tuple[list[int], list[Any]]]] = {}
  shown = shown_rounds(sorted(run.colors))
  for line in run.metrics:
    if line.get("loss") is not None and line["round"] in shown:
      steps, losses = phases.setdefault(line["phase"], {}).setdefault(line["round"], ([], []))
      steps.append(line["step"])
      losses.append(line["loss"])
  numbers = sorted({number for rounds in phases.values() for number in rounds})
  return figure_section(
    plots.training_curves(phases, run.colors),
    "training",
    "Training losses",
    "One panel a kind of phase, the rounds over each other.",
    _round_legend(run, numbers),
  )


def _reliability(run: Run) -> str:
  diagrams = {}
  for round in run.rounds:
    bins = round.evaluation.get("calibration") or {}
    if sum(bins.get("count") or []):
      ece = round.evaluation.get("reward_ece")
      diagrams[round.number] = (bins["confidence"], bins["accuracy"], bins["count"], ece)
  ends = sorted({min(diagrams), max(diagrams)}) if diagrams else []
  return figure_section(
    plots.reliability({number: diagrams[number] for number in ends}, run.colors),
    "reliability",
    "Calibration of the reward model",
    "How often a response was preferred against the probability the reward model gave it, on test "
    "preferences, in the first and the last round; larger points hold more pairs.",
    "",
  )


def _hacking(run: Run) -> str:
  scored = {
    round.number: [
      [
        Scored(sample["reward"], sample["utility"], sample.get("reference_logprob") is not None)
        for sample in row.get("samples") or []
        if sample.get("reward") is not None and sample.get("utility") is not None
      ]
      for row in round.policy_samples
    ]
    for round in run.rounds
  }
  places = zip(run.numbers, run.values("testing_reward"), run.values("true_utility"), strict=True)
  path = [place for place in places if None not in place and place[0] in run.shown]
  if len(path) < 2:
    path = []
  numbers = {number for number, items in scored.items() if any(items)} | {n for n, _, _ in path}
  return figure_section(
    plots.hacking(scored, path, run.colors),
    "hacking",
    "Does the utility follow the reward?",
    "A reward that is exploited keeps rising where the true utility does not. Samples are those "
    "that the policy step was given, in bins of reward; the chosen one of a query is that of the "
    "highest training reward among those that the policy’s loss reads. Policies are judged on the "
    "test queries.",
    _round_legend(run, sorted(numbers)),
  )


def _samples(run: Run) -> str:
  rounds = [round for round in run.rounds if round.test_samples]
  if not rounds:
    return ""
  by_query = {
    round.number: {row["query_id"]: row for row in round.test_samples} for round in rounds
  }
  shown = [row["query_id"] for row in rounds[0].test_samples][:_NUM_SHOWN_QUERIES]
  head = "".join(f"<th>Round {round.number}</th>" for round in rounds)
  body = "".join(
    _query_rows([by_query[round.number].get(query_id) for round in rounds]) for query_id in shown
  )
  return section(
    "The same queries over the rounds",
    "Test queries with the policies' first response to each, its testing reward and true utility.",
    f'<div class="wide"><table class="samples" style="min-width:{13 * (len(rounds) + 1)}em">'
    f'<thead><tr><th class="golden">Golden</th>{head}</tr></thead>{body}</table></div>',
  )


def _query_rows(rows: Sequence[Mapping[str, Any] | None]) -> str:
  """A query over the whole width, and under it the golden response and one sample a round."""
  known = next(row for row in rows if row is not None)
  golden = response(
    known.get("golden"), known.get("golden_testing_reward"), known.get("golden_utility")
  )
  cells = "".join(f"<td>{_first_sample(row)}</td>" for row in rows)
  return (
    f'<tbody><tr class="query"><td colspan="{len(rows) + 1}">{query_text(known["query"])}</td></tr>'
    f'<tr><td class="golden">{golden}</td>{cells}</tr></tbody>'
  )


def _first_sample(row: Mapping[str, Any] | None) -> str:
  if row is None or not row.get("samples"):
    return "–"
  sample = row["samples"][0]
  return response(
    sample["text"],
    sample.get("testing_reward"),
    sample.get("utility"),
    sample.get("finished", True),
  )


def _configuration(run: Run) -> str:
  if not run.config:
    return ""
  text = html.escape(visible_lines(json_text(run.config)))
  return (
    "<section>\n<h2>Configuration</h2>\n"
    f"<details><summary>config.json</summary><pre>{text}</pre></details>\n</section>"
  )

import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from apo_jax.logs.files import write_json, write_jsonl
from apo_jax.report import occasional, plots, tables
from apo_jax.report.data import MOST_SHOWN, read_run, shown_rounds
from apo_jax.report.elements import document, facts_list, response
from apo_jax.report.page import write_report
from tests.report.test_judge import FACTS

OBJECTS = ("red box", "green lamp", "old book", "blue cup", "small key", "round table")
NAMES = ("Ann", "Ben", "Cleo", "Dan")
SECTIONS = {
  "Rounds",
  "Differences between rounds",
  "Health",
  "The judge",
  "What the players learn from",
  "Over the rounds",
  "Rewards of golden responses and samples",
  "Training losses",
  "Calibration of the reward model",
  "Does the utility follow the reward?",
  "The same queries over the rounds",
  "Configuration",
}

SCORE = {
  "reward_model": "01_reward",
  "sample_reward": 0.5,
  "sample_length": 14.25,
  "sample_unfinished": 0.125,
  "sample_distinct": 3.5,
  "sample_non_canonical": 0.0625,
  "golden_sample_length": 13.5,
  "golden_sample_unfinished": 0.25,
  "golden_sample_distinct": 3.25,
  "equals_golden": 0.375,
  "golden_length": 15.75,
  "golden_unfinished": 0.0,
}

# In the table's order, with the digits after the point.
COLUMNS = {
  "true_utility": 3,
  "testing_reward": 3,
  "win_rate_golden": 3,
  "win_rate_start": 3,
  "kl_to_start": 3,
  "response_length": 1,
  "unfinished": 3,
  "reward_accuracy": 3,
  "reward_ece": 3,
  "distinct_2": 3,
  "distinct_samples": 2,
  "equals_golden": 3,
  "non_canonical": 3,
  "golden_margin": 3,
  "testing_accuracy": 3,
  "longer_wins_accuracy": 3,
  "judge_error_correlation": 3,
}


def evaluation_of(round, known_utility=True):
  evaluation = numbers_of(round, known_utility)
  errors = {
    name: None if value is None else 0.01 + 0.001 * place
    for place, (name, value) in enumerate(evaluation.items())
    if name in COLUMNS
  }
  evaluation["standard_errors"] = errors
  if round:
    evaluation["differences"] = {
      other: {
        name: {"difference": 0.1 * gain, "standard_error": 0.02 if value is not None else None}
        for name, value in errors.items()
      }
      for other, gain in (("previous", 1), ("start", -round))
    }
  return evaluation


def numbers_of(round, known_utility=True):
  trained = round > 0
  confidence = (np.arange(10) + 0.5) / 10
  return {
    "round": round,
    "true_utility": 0.41 + 0.1371 * round - 0.028 * round**2 if known_utility else None,
    "testing_reward": -0.513 + 0.6172 * round,
    "win_rate_golden": 0.12 + 0.111 * round,
    "win_rate_start": 0.5 + 0.127 * round - 0.01 * round**2,
    "kl_to_start": 1.713 * round,
    "response_length": 14.3 + 2.7 * round,
    "golden_length": 15.5,
    "unfinished": 0.25 - 0.03 * round,
    "golden_unfinished": 0.125,
    "distinct_2": 0.612 - 0.043 * round,
    "distinct_samples": 3.75 - 0.2 * round,
    "equals_golden": 0.03 + 0.11 * round,
    "non_canonical": 0.01,
    "reward_accuracy": 0.781 + 0.021 * round if trained else None,
    "reward_ece": max(0.0911 - 0.013 * round, 0.01) if trained else None,
    "reward_ace": 0.08 if trained else None,
    "reward_mce": 0.2 if trained else None,
    "testing_accuracy": 0.843,
    "longer_wins_accuracy": 0.594,
    "golden_margin": 2.217 - 0.51 * round if trained else None,
    "judge_error_correlation": 0.4 if trained else None,
    "calibration": {
      "confidence": [None if index == 4 else value for index, value in enumerate(confidence)],
      "accuracy": [
        None if index == 4 else value for index, value in enumerate(confidence**1.3 / 1.1 + 0.03)
      ],
      "count": [0 if index == 4 else 20 + 8 * abs(index - 4) ** 2 for index in range(10)],
    }
    if trained
    else None,
  }


def sample_rows(random, round, num_queries, num_samples, known_utility, text=""):
  rows = []
  for index in range(num_queries):
    thing = OBJECTS[index % len(OBJECTS)]
    samples = []
    for place in range(num_samples):
      utility = float(np.clip(random.normal(0.4 + 0.12 * round, 0.25), 0, 1))
      reward = 2.0 * utility + 0.5 * round + random.normal(0, 0.3 + 0.25 * round)
      samples.append(
        {
          "text": f" {random.choice(NAMES)} owns the {thing}, and {random.choice(NAMES)} said so"
          f" in round {round}.{text}" + " It stands by the door." * random.integers(0, 4),
          "tokens": [1, 2, 3],
          "finished": bool(random.random() > 0.2),
          "logprob": -3.0,
          "reference_logprob": -2.5 if place in (0, 2) else None,
          "reward": reward,
          "utility": utility if known_utility else None,
        }
      )
    rows.append(
      {
        "query_id": f"q{index}",
        "query": f"\n\nHuman: Who owns the {thing} of house {index}?\n\nAssistant:",
        "golden": f" {NAMES[index % 4]} owns the {thing}.",
        "golden_reward": 2.4 + 0.5 * round + random.normal(0, 0.4),
        "golden_utility": 1.0 if known_utility else None,
        "samples": samples,
      }
    )
  return rows


def make_run(run_dir, num_rounds=3, known_utility=True, text="", updates=60):
  """A run directory with round 0 and `num_rounds` rounds; `text` is added to every sample."""
  random = np.random.default_rng(0)
  training = {"epochs": 1, "batch_size": 64, "learning_rate": 1e-4}
  write_json(
    run_dir / "config.json",
    {
      "seed": 17,
      "rounds": num_rounds,
      "reward": {
        "mode": "adversarial",
        "start": "previous",
        "apo": {"kind": "ranking"},
        "training": training,
      },
      "policy": {"loss": "dpo", "dpo": {"beta": 0.1}, "start": "base", "reference": "round_start"},
      "sampling": {"training": {"num_samples": 4, "temperature": 1.2, "stop": ["\nHuman"]}},
    },
  )
  phases = [(0, "supervised"), (0, "reward base"), (0, "testing reward")]
  for round in range(1, num_rounds + 1):
    phases += [(round, "reward"), (round, "policy")]
  metrics = []
  for round, phase in phases:
    for step in range(1, updates + 1):
      loss = (0.7 + 0.1 * round) * np.exp(-step / 30) + 0.2 + random.normal(0, 0.02)
      metrics.append({"time": 0.0, "round": round, "phase": phase, "step": step, "loss": loss})
  write_jsonl(run_dir / "metrics.jsonl", metrics)
  write_json(run_dir / "rounds/00/judge.json", FACTS)
  for round in range(num_rounds + 1):
    directory = run_dir / "rounds" / f"{round:02d}"
    write_json(directory / "evaluation.json", evaluation_of(round, known_utility))
    write_json(directory / "health.json", {"findings": []})
    rows = sample_rows(random, round, 24, 1, known_utility, text)
    write_jsonl(directory / "test_samples.jsonl", rows)
    if round:
      write_json(directory / "score.json", SCORE)
      for name in ("golden_samples", "policy_samples"):
        rows = sample_rows(random, round, 48, 4, known_utility, text)
        write_jsonl(directory / f"{name}.jsonl", rows)
  return run_dir


def content_of(run_dir):
  path = write_report(run_dir)
  assert path == run_dir / "report.html"
  return path.read_text(encoding="utf-8")


def sections_of(content):
  return set(re.findall(r"<h2>(.*?)</h2>", content))


def tables_of(content):
  """Headings and rows of every table of numbers; each cell a number and its standard error."""
  found = []
  for table in re.findall(r'<table class="rounds">(.*?)</table>', content, re.S):
    head = re.findall(r"<th>(.*?)</th>", table.split("</thead>")[0])
    rows = [
      re.findall(r"<t[hd]>(.*?)</t[hd]>", row)
      for row in re.findall(r"<tr>(.*?)</tr>", table.split("</thead>")[1], re.S)
    ]
    found.append((head, rows))
  return found


def rounds_table(content):
  return tables_of(content)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  return content_of(
    make_run(tmp_path_factory.mktemp("runs") / "dpo-seq", text=" <script>x</script>")
  )


def test_a_whole_run_has_every_section(whole):
  assert sections_of(whole) == SECTIONS
  assert "<h1>dpo-seq</h1>" in whole
  for value in ("dpo", "base", "round_start", "adversarial", "previous", "17"):
    assert f"<dd>{value}</dd>" in whole


def test_what_the_players_learn_from(whole):
  head, rows = tables_of(whole)[2]
  assert head[:3] == ["round", "length", "unfinished"] and len(head) == 11
  expected = ["14.2", "0.125", "3.50", "0.062", "13.5", "0.250", "3.25", "0.375", "15.8", "0.000"]
  assert rows == [[str(round), *expected] for round in (1, 2, 3)]


def cell_of(value, error, digits, sign=""):
  if value is None:
    return "–"
  number = f"{value:{sign}.{digits}f}".replace("-", "−")
  return f"{number} <small>±&#8239;{error:.{digits}f}</small>"


def test_every_number_of_every_round_is_in_the_table_with_its_error(whole):
  head, rows = rounds_table(whole)
  assert head[:5] == ["round", "true utility", "testing reward", "win vs golden", "win vs start"]
  assert [row[0] for row in rows] == ["0", "1", "2", "3"]
  for round, row in enumerate(rows):
    evaluation = evaluation_of(round)
    for (key, digits), cell in zip(COLUMNS.items(), row[1:], strict=True):
      assert cell == cell_of(evaluation[key], evaluation["standard_errors"][key], digits), key
  assert (
    "Golden responses are 15.5 tokens long on average, and a share of 0.125 is unfinished." in whole
  )


def test_differences_to_the_round_before_and_to_the_start(whole):
  head, rows = tables_of(whole)[1]
  assert head[0] == "rounds" and "unfinished" in head and "golden margin" not in head
  # Round 1 has one line: what comes before it is the start.
  assert [row[0] for row in rows] == ["1 − 0", "2 − 1", "2 − 0", "3 − 2", "3 − 0"]
  assert rows[1][1] == cell_of(0.1, 0.02, 3, "+")
  assert rows[2][1] == cell_of(-0.2, 0.02, 3, "+")


def test_a_run_of_an_older_version_has_no_errors(tmp_path):
  old = [name for name in COLUMNS if name not in ("unfinished", "equals_golden")]
  for round in (0, 1):
    kept = {name: numbers_of(round)[name] for name in old}
    write_json(tmp_path / f"rounds/{round:02d}/evaluation.json", kept)
  run = read_run(tmp_path)
  ((head, rows),) = tables_of(tables.rounds_table(run) + tables.differences_table(run))
  assert "unfinished" not in head and rows[1][1] == f"{numbers_of(1)['true_utility']:.3f}"


def test_bands_are_one_error_to_both_sides():
  line = plots.Line("policy", [0.5, None, 0.7], errors=[0.1, None, 0.2])
  figure = plots.curves([0, 1, 2], [plots.Panel("Utility", [line])])
  (band,) = figure.axes[0].collections
  corners = np.concatenate([path.vertices for path in band.get_paths()])
  assert {(x, round(y, 6)) for x, y in corners.tolist()} == {(0, 0.4), (0, 0.6), (2, 0.5), (2, 0.9)}
  (alone,) = plots.curves([0, 1], [plots.Panel("Utility", [plots.Line("policy", [1, 2])])]).axes
  assert not alone.collections


def test_the_chosen_sample_is_the_first_of_the_highest_reward_that_the_loss_reads():
  scored = {
    1: [
      # The highest reward is not read, and of the two highest that are, the first counts.
      [
        plots.Scored(9.0, 0.9, False),
        plots.Scored(2.0, 0.25, True),
        plots.Scored(2.0, 0.75, True),
        plots.Scored(1.0, 0.1, True),
      ],
      [plots.Scored(3.0, 0.5, False)],  # nothing of it is read
    ]
  }
  figure = plots.hacking(scored, [], {1: "#000000"})
  lines = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[1].lines}
  assert lines == {"best": [0.9], "by reward": [0.25], "average": [0.5]}
  unread = {1: [[plots.Scored(3.0, 0.5, False)]]}
  assert len(plots.hacking(unread, [], {1: "#000000"}).axes) == 1


def test_the_page_loads_nothing_and_runs_nothing(whole):
  assert "<script" not in whole
  assert "<link" not in whole and "<img" not in whole and "@import" not in whole
  assert not re.findall(r'(?:src|href)="(?!#)', whole)
  assert not re.findall(r"url\((?!#)", whole)


def test_texts_are_escaped(whole):
  assert "&lt;script&gt;x&lt;/script&gt;" in whole


def test_names_from_the_files_are_escaped(tmp_path):
  run_dir = make_run(tmp_path / "a<b>&c", num_rounds=1)
  line = {"time": 0.0, "round": 1, "phase": "<script>$x$", "step": 1, "loss": 1.0}
  write_jsonl(run_dir / "metrics.jsonl", [line])
  write_json(run_dir / "config.json", {"policy": {"loss": "<script>"}})
  content = content_of(run_dir)
  assert "<script" not in content
  assert "a&lt;b&gt;&amp;c" in content
  assert "&lt;script&gt;$x$" in content


def test_every_figure_is_well_formed_and_identifiers_are_unique(whole):
  figures = re.findall(r"<svg.*?</svg>", whole, re.S)
  assert len(figures) == 5
  identifiers = []
  for figure in figures:
    root = ElementTree.fromstring(figure.replace("<svg", '<svg xmlns="svg"', 1))
    identifiers.append({node.get("id") for node in root.iter() if node.tag.endswith("clipPath")})
  assert not set.intersection(*identifiers)


def test_figures_show_their_panels(whole):
  for title in ("True utility", "Win rate", "KL to the start, nats", "Preference accuracy"):
    assert f">{title}</text>" in whole
  for phase in ("supervised", "reward base", "testing reward", "reward", "policy"):
    assert f">{phase}</text>" in whole
  for round in (1, 2, 3):
    assert re.search(rf">Round {round}, margin [+−-]\d", whole)
  # Calibration shows the first and the last round that has a reward model.
  assert ">Round 1, ECE 0.078</text>" in whole and ">Round 3, ECE 0.052</text>" in whole
  assert ">Round 2, ECE" not in whole


def test_control_characters_of_a_text_are_shown_by_others():
  page = document("a\x00", "b\x1b", "\x7f\x85\uffff", ["\tc\n\r\x08"])
  assert not [c for c in page if (c < " " and c not in "\t\n\r") or "\x7f" <= c < "\xa0"]
  assert "a␀" in page and "b␛" in page and "␡��" in page and "\tc\n\r␈" in page


def test_what_turns_writing_or_is_half_a_character_is_shown_by_others():
  page = document("a", "\u202egnp.exe", "\u2066\ud800", ["x\u200e"])
  assert "\\u202egnp.exe" in page and page.encode()
  assert not set("\u202e\u2066\u200e\ud800") & set(page)


def test_a_browser_is_told_to_load_and_run_nothing(whole):
  assert "Content-Security-Policy\" content=\"default-src 'none'" in whole


def test_long_texts_lose_their_middle():
  shown = response("first " + "<x>" * 100_000 + " last", None, None)
  assert len(shown) < 200_000 and "first &lt;x&gt;" in shown and "&gt; last" in shown
  assert "280,011 characters" in shown
  assert len(facts_list([("name", "A" * 100_000)])) < 1000


def test_samples_of_the_same_queries_side_by_side(whole):
  table = re.search(r'<table class="samples".*?</table>', whole, re.S).group(0)
  assert table.count('<tr class="query">') == 8
  assert "Human: Who owns the red box of house 0?" in table
  assert "Assistant:" not in table
  bodies = re.findall(r"<tbody>.*?</tbody>", table, re.S)
  for body in bodies:
    golden, *cells = re.findall(r"<td(?: class=\"golden\")?><div.*?</td>", body, re.S)
    assert "utility 1.00" in golden
    assert ["in round " + str(round) in cell for round, cell in enumerate(cells)] == [True] * 4
    assert all(re.search(r"reward −?\d+\.\d\d · utility \d\.\d\d", cell) for cell in cells)
  assert "unfinished" in table


def test_unknown_utilities_leave_only_their_part_out(tmp_path):
  content = content_of(make_run(tmp_path / "run", num_rounds=1, known_utility=False))
  assert sections_of(content) == SECTIONS - {"Does the utility follow the reward?"}
  head, _ = rounds_table(content)
  assert "true utility" not in head
  assert ">True utility</text>" not in content


def test_a_run_that_has_not_begun(tmp_path):
  run_dir = tmp_path / "run"
  run_dir.mkdir()
  content = content_of(run_dir)
  assert "No round has finished yet." in content
  assert sections_of(content) == {"Rounds"}
  write_json(run_dir / "config.json", {"seed": 3})
  (run_dir / "metrics.jsonl").write_text('{"time": 0, "round": 0, "phase": "supervised", "st')
  assert sections_of(content_of(run_dir)) == {"Rounds", "Configuration"}


def test_a_branched_run_says_where_its_first_rounds_are_from(tmp_path):
  known = {"round": 2, "code": "0" * 64, "commit": None, "before": None}
  changed = {"config.policy.loss": ["rjs", "dpo"]}
  write_json(tmp_path / "branch.json", {**known, "run": "/runs/<old>", "changed": changed})
  text = write_report(tmp_path).read_text(encoding="utf-8")
  assert "Branched from /runs/&lt;old&gt; after round 2, with config.policy.loss: " in text
  assert "Rounds 0 to 2 were played there" in text


def test_only_the_start_has_been_judged(tmp_path):
  content = content_of(make_run(tmp_path / "run", num_rounds=0))
  # One round makes no curve, and there are no samples of training yet.
  assert sections_of(content) == {
    "Rounds",
    "Health",
    "The judge",
    "Training losses",
    "The same queries over the rounds",
    "Configuration",
  }
  assert [row[0] for row in rounds_table(content)[1]] == ["0"]


def test_an_unfinished_round(tmp_path):
  run_dir = make_run(tmp_path / "run", num_rounds=2)
  for name in ("evaluation.json", "test_samples.jsonl", "policy_samples.jsonl"):
    (run_dir / "rounds" / "02" / name).unlink()
  content = content_of(run_dir)
  _, rows = rounds_table(content)
  assert rows[2] == ["2", *["–"] * len(COLUMNS)]
  assert "Round 2, margin" in content


def test_missing_values_everywhere(tmp_path):
  run_dir = make_run(tmp_path / "run", num_rounds=1)
  path = run_dir / "rounds" / "01" / "test_samples.jsonl"
  row = {"query_id": "other", "query": "?", "golden": None, "samples": []}
  sample = {"text": " ", "reward": None, "utility": None}
  write_jsonl(path, [row, {**row, "query_id": "q0", "samples": [sample]}])
  write_jsonl(run_dir / "rounds" / "01" / "golden_samples.jsonl", [row])
  write_json(run_dir / "rounds" / "01" / "evaluation.json", {"round": 1})
  content = content_of(run_dir)
  assert "<em>empty</em>" in content
  assert "Rewards of golden responses and samples" not in sections_of(content)


@pytest.mark.slow
def test_many_rounds_and_a_long_phase_stay_a_small_page(tmp_path):
  run_dir = make_run(tmp_path / "run", num_rounds=8, updates=1000)
  content = content_of(run_dir)
  assert len(content) < 1_000_000
  assert [row[0] for row in rounds_table(content)[1]] == [str(round) for round in range(9)]


def test_a_broken_file_is_named(tmp_path):
  run_dir = make_run(tmp_path / "run", num_rounds=1)
  path: Path = run_dir / "rounds" / "01" / "test_samples.jsonl"
  path.write_text(json.dumps({"query_id": "q"}) + "\n{broken\n")
  with pytest.raises(ValueError, match=r"test_samples\.jsonl, line 2"):
    write_report(run_dir)


def test_of_many_rounds_the_ends_and_some_between_are_shown(tmp_path):
  assert shown_rounds([0, 1, 2]) == [0, 1, 2]
  shown = shown_rounds(list(range(501)))
  assert len(shown) == MOST_SHOWN and shown[0] == 0 and shown[-1] == 500 and shown == sorted(shown)
  run_dir = make_run(tmp_path / "run", num_rounds=MOST_SHOWN + 2)
  run = read_run(run_dir)
  assert [one.number for one in run.rounds if one.test_samples] == run.shown
  assert [one.number for one in run.rounds if one.evaluation] == list(range(MOST_SHOWN + 3))


def test_reports_between_rounds_take_little_of_the_time(tmp_path, monkeypatch):
  now, written = [0.0], []

  def write(run_dir):
    written.append(now[0])
    now[0] += 2.0

  monkeypatch.setattr(occasional, "write_report", write)
  reports = occasional.OccasionalReports(tmp_path, lambda: now[0])
  for _ in range(100):
    reports.write()
    now[0] += 1.0
  assert written[0] == 0.0 and 2.0 * (len(written) - 1) <= written[-1] / 15
  assert all(later - earlier <= 33.0 for earlier, later in itertools.pairwise(written))

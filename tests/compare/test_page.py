"""The page, and the command that writes it."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from apo_jax.compare import wording
from apo_jax.compare.__main__ import main
from apo_jax.compare.comparison import compare
from apo_jax.compare.page import write
from apo_jax.compare.plots import setting_colors
from apo_jax.objectives import DPO, RejectionSampling
from tests import tiny
from tests.compare.written import config, write_grid, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Three seeds of two settings, and a run that is unfinished."""
  folder = tmp_path_factory.mktemp("runs")
  write_grid(folder, seeds=3)
  write_run(folder / "stopped<b>", config(seed=9, rounds=2), num_rounds=0)
  return folder


@pytest.fixture(scope="module")
def content(folder, tmp_path_factory):
  path = write(compare([folder]), tmp_path_factory.mktemp("out"))
  assert path.name == "comparison.html"
  return path.read_text(encoding="utf-8")


def sections_of(content):
  return re.findall(r"<h2>(.*?)</h2>", content)


def test_the_page_has_every_part(content):
  assert sections_of(content) == [
    "Settings, and how their configs differ",
    "After round 1",
    "Differences to policy.loss=dpo",
    "Differences, drawn",
    "Setting by setting",
    "Over the rounds",
    "Phase policy",
    "The same queries, setting by setting",
  ]
  assert "stopped&lt;b&gt; has not finished round 2" in content


def test_every_number_is_in_a_table_and_has_a_curve(content, folder):
  comparison = compare([folder])
  titles = re.findall(r">([^<>]+)</text>", content)
  assert len(comparison.numbers) > 20
  for number in comparison.numbers:
    assert number.replace("_", " ") in titles, number
  heads = re.findall(r'<table class="rounds"><thead>(.*?)</thead>', content, re.S)
  columns = [column for head in heads for column in re.findall("<th>(.*?)</th>", head)]
  # Both of means and of differences.
  assert len(columns) == 2 * len(comparison.numbers) + len(heads)
  assert "loss" in titles


def test_numbers_of_the_table(content, folder):
  comparison = compare([folder])
  one = comparison.means["policy.loss=rjs", 1, "true_utility"]
  cell = f"{one.value:.3f} <small>±&#8239;{one.standard_error:.3f}</small>"
  assert f"<td>{cell}</td>" in content
  assert "+2.000 <small>±&#8239;0.577</small><small>p&#8239;0.148</small>" in content


def test_the_page_says_what_errors_are_and_how_many_tests_were_made(content):
  assert "the standard error of the mean between seeds (3 a setting)" in content
  assert "2 comparisons are tested, those after round 1 in true_utility" in content
  assert "over the 12 test queries that both runs have" in content


def test_with_one_seed_the_error_is_over_queries_and_no_test_is_made(tmp_path):
  for loss in (DPO, RejectionSampling):
    write_run(tmp_path / loss.name, config(loss))
  comparison = compare([tmp_path])
  assert "says nothing of the game that another seed would play" in wording.errors(comparison)
  assert wording.tests(comparison) == (
    "No test is made: it needs 3 seeds in common with the baseline."
  )
  write_run(tmp_path / "dpo-1", config(DPO, seed=1))
  said = wording.errors(compare([tmp_path]))
  assert "between seeds (2 a setting)" in said and said.endswith("as of policy.loss=rjs.")


def test_samples_of_the_same_queries(content):
  cards = re.findall(r'<div class="cards">(.*?)</div></div></div>', content, re.S)
  assert len(cards) == 8
  for place, card in enumerate(cards):
    assert re.findall("<h4>(.*?)</h4>", card) == ["golden", "dpo", "rjs"]
    assert f"dpo says q{place} in round 1." in card and f"rjs says q{place} in round 1." in card
    assert card.count("3 tokens") == 2 and "utility" in card
  assert "What of &lt;q0&gt;?" in content


def test_the_page_loads_nothing_and_its_figures_are_well_formed(content):
  assert "<script" not in content and "<link" not in content and "<img" not in content
  assert not re.findall(r'(?:src|href)="(?!#)', content)
  clips = []
  for figure in re.findall(r"<svg.*?</svg>", content, re.S):
    root = ElementTree.fromstring(figure.replace("<svg", '<svg xmlns="svg"', 1))
    clips.append({node.get("id") for node in root.iter() if node.tag.endswith("clipPath")})
  assert len(clips) >= 4 and not set.intersection(*clips)
  assert sum(map(len, clips)) == len(set.union(*clips))


def test_every_setting_has_a_colour_of_its_own():
  for count in (2, 10, 25):
    names = [f"{place}" for place in range(count)]
    assert len(set(setting_colors(names).values())) == count


def test_the_command_prints_a_table_and_writes_beside_the_runs(folder, capsys):
  assert main([str(folder), "--baseline=rjs"]) == 0
  text = capsys.readouterr().out
  assert (folder / "comparison/comparison.html").is_file()
  assert text.rstrip().endswith(str(folder / "comparison/comparison.html"))
  assert "Left out:" in text and "  1  policy.loss=dpo (seeds 0, 1, 2)" in text
  mean, error, p = text.split("More than setting 2")[1].splitlines()[3:6]
  assert mean.split()[:2] == ["1", "-2.000"] and error.split()[0] == "±0.577"
  assert p.split() == ["p", "0.148"]
  assert max(map(len, text.splitlines()[2:-1])) <= 100


def test_a_run_alone_has_a_page_beside_it(tmp_path, capsys):
  write_run(tmp_path / "a", config(RejectionSampling))
  assert main([str(tmp_path / "a")]) == 0
  assert "  1  the only setting (seed 0)" in capsys.readouterr().out
  content = (tmp_path / "comparison/comparison.html").read_text(encoding="utf-8")
  assert not any("Differences" in one for one in sections_of(content))


@pytest.mark.parametrize(
  ("arguments", "said"),
  [
    (["missing"], "missing is named, but is no directory"),
    (["empty"], "empty is named, but no run is in it"),
    (["dpo-0", "stopped<b>"], "has not finished round 2; its finished rounds: 0"),
    (["dpo-0", "rjs-0", "--round=5"], "dpo-0 has not finished round 5; its finished rounds: 0, 1"),
    (["dpo-0", "--round=-1"], "--round is -1; it must be 0"),
    (["dpo-0", "--baseline=ppo"], "--baseline is 'ppo'; it must be one of the runs"),
    (["dpo-0", "--output=dpo-0/config.json"], "is no directory"),
    (["dpo-0", "--output=dpo-0/config.json/x"], "is no directory"),
    (["dpo-0", "--round=one"], "invalid int value: 'one'"),
    (["dpo-0", "--bands=2"], "unrecognized arguments: --bands=2"),
    ([], "the following arguments are required: RUN"),
  ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(
  arguments, said, folder, monkeypatch, capsys
):
  monkeypatch.chdir(folder)
  (folder / "empty").mkdir(exist_ok=True)
  try:
    code = main(arguments)
  except SystemExit as exit:
    code = exit.code
  error = capsys.readouterr().err
  assert code == 2 and said in error and error.count("\n") == 1


def test_a_broken_file_of_samples_is_refused(tmp_path, capsys):
  write_run(tmp_path / "a", config())
  (tmp_path / "a/rounds/01/test_samples.jsonl").write_text("{broken\n")
  assert main([str(tmp_path)]) == 2
  assert "test_samples.jsonl, line 1, is not valid JSON" in capsys.readouterr().err
  assert not (tmp_path / "comparison").exists()


@pytest.mark.slow
def test_the_command_as_it_is_typed(tmp_path):
  write_run(tmp_path / "a", config())
  result = subprocess.run(
    [sys.executable, "-m", "apo_jax.compare", tmp_path / "a", tmp_path / "b"],
    cwd=tiny.ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert result.returncode == 2 and result.stdout == ""
  assert result.stderr == (
    f"apo_jax: {tmp_path / 'b'} is named, but is no directory; give a run, or a folder of runs.\n"
  )

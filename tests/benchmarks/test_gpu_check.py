"""The check of a GPU: its table, its processes, and the whole of it on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import costs, table
from benchmarks.gpu.check import main, phases
from benchmarks.gpu.entries import STAGES, Entry, Settings, entries
from benchmarks.gpu.processes import Process
from tests.tiny import ROOT

RUN = ROOT / "benchmarks" / "gpu" / "run.sh"


def settings(tmp_path: Path, *, tiny: bool) -> Settings:
  return Settings(tiny=tiny, torch_python="torch", scratch=tmp_path, smollm2="parts")


def command(*arguments: str) -> Entry:
  return Entry("b", "a command", 60, command=arguments)


@pytest.mark.parametrize("tiny", [True, False])
def test_every_line_has_a_name_of_its_own_and_a_limit(tmp_path, tiny):
  made = [one for stage in STAGES for one in entries(stage, settings(tmp_path, tiny=tiny))]
  assert len({one.name for one in made}) == len(made)
  for one in made:
    assert 0 < one.seconds <= 240
    assert (one.job is None) == bool(one.command)


def test_what_does_not_fit_is_tried_with_less(tmp_path):
  for one in entries("f", settings(tmp_path, tiny=False)):
    sizes = []
    while one is not None:
      sizes.append(len(one.job.get("items") or one.job["queries"]))
      one = one.smaller
    assert sizes == [16, 8, 4]


def test_adapters_spare_a_third_of_the_products():
  job = {"work": "dpo", "items": [([1, 2], [[3, 4], [5, 6]])]}
  tiny = entries("f", settings(Path(), tiny=True))[0].job["model"]
  full = {name: value for name, value in tiny.items() if name != "adapters"}
  full = full | {"fields": {}}
  assert costs.of(job | {"model": tiny})["flops"] == pytest.approx(
    costs.of(job | {"model": full})["flops"] * 2 / 3
  )


def test_a_card_s_peak_is_its_data_sheet_s():
  assert costs.peaks("NVIDIA H100 80GB HBM3")["peak_flops"] == 989e12
  assert costs.peaks("NVIDIA H200")["peak_bandwidth"] == 4800e9
  assert costs.peaks("cpu") == {}


def test_a_process_that_hangs_is_ended_and_what_it_said_is_kept(tmp_path):
  waits = "import time; print('began', flush=True); time.sleep(60)"
  process = Process(command("-c", waits), tmp_path / "one", os.environ)
  row = process.run(1.5)
  assert (row["state"], row["said"]) == ("timed out", ["began"])
  assert row["wall"] < 30


def test_a_process_that_fails_says_why(tmp_path):
  row = Process(command("-c", "raise SystemExit('no card')"), tmp_path / "one", os.environ).run(60)
  assert (row["state"], row["note"]) == ("failed", "no card")


def test_a_worker_without_its_library_is_skipped(tmp_path, monkeypatch):
  (tmp_path / "sitecustomize.py").write_text(
    "import importlib.util as u\nfound = u.find_spec\n"
    "u.find_spec = lambda name, *rest: None if name == 'torch' else found(name, *rest)\n"
  )
  environment = dict(os.environ) | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
  entry = Entry("d", "a peer", 60, {"library": "torch", "work": "dpo"})
  row = Process(entry, tmp_path / "one", environment).run(60)
  assert (row["state"], row["note"]) == ("skipped", "torch is not installed")


def measured(name: str, median: float, **more: float) -> dict:
  return {"stage": "d", "name": name, "state": "ok", "median": median, **more}


def test_targets_are_held_against_the_numbers():
  peaks = {"peak_flops": 1000.0, "peak_bandwidth": 100.0}
  rows = [
    measured("DPO step", 2.0, flops=1000.0, bytes=1.0, **peaks),
    measured("DPO step, PyTorch", 5.0),
    measured("DPO step, TRL", 2.5),
    measured("sampling", 1.0, flops=1.0, bytes=50.0, tokens=64, **peaks),
    measured("sampling, generate", 3.5),
  ]
  said = table.targets(rows)
  assert said[1].endswith("0.50, wanted 0.45: reached")
  assert said[2].endswith("no number, wanted 0.45")
  assert said[3].endswith("1.25, wanted 1.5: MISSED")  # the fastest peer is TRL's
  assert said[4].endswith("0.50, wanted 0.6: MISSED")
  assert said[5].endswith("3.50, wanted 3: reached")
  text = table.text(rows, {"flops": 800.0, "bandwidth": 80.0})
  (line,) = [line for line in text.splitlines() if line.startswith("d  sampling ")]
  assert "64 tokens/s" in line and "50%" in line and "62%" in line  # of the peak, of the measured


def test_a_round_is_held_against_its_stages_by_a_peer():
  log = """round 0 evaluation: 2304 judgements in 18.6 s
round 1 golden samples: 512/512 queries in 2.0 s
round 1 reward: 16/16 updates in 3.5 s (the first after 2.7 s) loss=1.308
round 1 policy samples: 1024/1024 queries in 3.5 s
round 1 scores: 8192/8192 scores in 1.0 s
round 1 policy: stopped at 3/32 after 9.0 s
"""
  ours = {"stage": "e", "name": "SmolLM2, a round", "state": "ok", "phases": phases(log)}
  theirs = {**dict.fromkeys(ours["phases"], 10.0), "policy": 20.0}
  peer = {"stage": "e", "name": "SmolLM2, the stages by PyTorch", "state": "ok", "phases": theirs}
  assert table.targets([ours, peer])[-1].endswith("no number, wanted 5")  # one is not done
  log += "round 1 policy: 32/32 updates in 2.0 s (the first after 1.5 s) loss=0.6328\n"
  ours["phases"] = phases(log)
  assert table.targets([ours, peer])[-1].endswith("5.00, wanted 5: reached")
  said = table.text([ours, peer], {})
  assert "SmolLM2, a round: golden samples 2.0 s, reward 3.5 s, policy samples 3.5 s" in said


@pytest.mark.parametrize(
  ("flag", "fragment"),
  [
    ("--stages=a,x", "'x' is none of a, b, c, d, e, f."),
    ("--seconds=0", "must be greater than 0"),
    ("--smollm2=/nowhere", "there is no such folder"),
  ],
)
def test_wrong_options_are_one_sentence(flag, fragment, capsys):
  assert main([flag]) == 1
  said = capsys.readouterr().err
  assert flag in said and fragment in said and said.count("\n") == 1


def test_wheels_have_to_be_there(tmp_path):
  done = subprocess.run([RUN, f"--wheels={tmp_path}"], capture_output=True, text=True)
  assert done.returncode == 1
  assert done.stderr == f"--wheels={tmp_path}: there is no wheel in this folder.\n"


@pytest.mark.slow
def test_the_whole_check_runs_tiny_on_a_cpu(tmp_path):
  """But for the demo and the tests, which run anyway."""
  environment = dict(os.environ) | {"PYTHON": sys.executable, "TMPDIR": str(tmp_path)}
  done = subprocess.run(
    [RUN, "--platform=cpu", "--tiny", "--stages=a,d,e,f", f"--output={tmp_path / 'out'}"],
    capture_output=True,
    text=True,
    env=environment,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  rows = {row["name"]: row for row in json.loads((tmp_path / "out" / "results.json").read_text())}
  ours = ("DPO step", "reward step", "sampling", "7B, nf4, DPO step, batch 4")
  for name in ours:
    assert rows[name]["state"] == "ok" and rows[name]["median"] > 0, rows[name]
    assert rows[name]["flops"] > 0 and rows[name]["peak_bytes"] > 0
  assert rows["sampling"]["tokens"] == rows["sampling"]["tokens_wanted"]
  assert rows["DPO step"]["kernels"]["kernels"][0]["ms"] > 0
  assert rows["a round on real text"]["state"] == "skipped"
  assert "Targets:" in (tmp_path / "out" / "table.txt").read_text()

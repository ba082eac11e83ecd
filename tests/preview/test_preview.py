"""The preview of a run: what it tells, and that it refuses what a run refuses."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from apo_jax import game
from apo_jax.config.fields import ConfigError
from apo_jax.data.records import Demonstration, GameData, Preference, Query, Split
from apo_jax.logs.files import read_json
from apo_jax.models.parameters import count
from apo_jax.preview import previewing
from apo_jax.preview.histogram import WIDTH, histogram
from apo_jax.preview.lengths import lengths_of
from apo_jax.preview.memory import memory_of, total
from apo_jax.run.models import make_models
from apo_jax.run.origins import find_origins
from tests import checkpoints, tiny


def preview(config, run_dir):
  return previewing.preview(config, "tiny.py", run_dir)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  return checkpoints.write(tmp_path_factory.mktemp("preview") / "model")


def sections(text):
  """The lines below each title."""
  lines = text.splitlines()
  found, title = {}, ""
  for number, line in enumerate(lines):
    following = lines[number + 1] if number + 1 < len(lines) else ""
    if line and following == "=" * len(line):
      title = line
    elif line and line != "=" * len(title):
      found.setdefault(title, []).append(line)
  return found


def test_the_preview_of_the_embedded_data_with_a_trained_tokenizer(tmp_path):
  config, run_dir = tiny.config(), tmp_path / "run"
  found = preview(config, run_dir)
  assert not run_dir.exists() and list(tmp_path.iterdir()) == []
  assert all(len(line) <= WIDTH for line in found.text.splitlines())
  told = sections(found.text)
  for title in ("Run", "Sources", "Splits", "Lengths", "Chat template", "Models"):
    assert told[title], title
  assert any(line.split()[:2] == ["demonstrations", "64"] for line in told["Splits"])
  assert found.data["lengths"]["demonstrations"]["records"] == 64
  assert "written as Human: and Assistant:" in "\n".join(told["Chat template"])
  examples = [title for title in told if title.startswith("Example ")]
  assert [title.split()[2] for title in examples] == ["preference", "golden", "query"]
  policy = next(line.split() for line in told["Models"] if line.startswith("policy "))
  definition = make_models(config, find_origins(config), tiny.mesh()).policy
  numbers = count(definition.abstract)
  assert policy[1:3] == [f"{numbers:,}"] * 2
  assert policy[3:5] == [f"{numbers * size / 2**20:.2f}" for size in (4, 8)]


def written(tmp_path, name, rows):
  path = tmp_path / f"{name}.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def test_files_and_a_checkpoint_are_told(tmp_path, checkpoint):
  rows = [
    {"prompt": f"Where is sea {number}?", "chosen": "North.", "rejected": "In a lake, I think."}
    for number in range(60)
  ]
  location = written(tmp_path, "preferences", [{"prompt": 3}, *rows])
  config = tiny.config(
    model__checkpoint=str(checkpoint),
    data__source="files",
    data__preferences=location,
    data__golden="chosen",
    data__queries="preferences",
    data__on_bad_row="skip",
    supervised__epochs=0,
    policy__lora__rank=2,
    reward__lora__rank=2,
    model__frozen_dtype="bfloat16",
  )
  told = sections(preview(config, tmp_path / "run").text)
  told = {title: "\n".join(lines) for title, lines in told.items()}
  assert f"config.data.preferences from {location} 61 rows" in " ".join(told["Sources"].split())
  assert "dropped: 1 " in told["Sources"] and "row 1" in told["Sources"]
  assert "The template is the tokenizer's own." in told["Chat template"]
  assert "'<eos>' (2)" in told["Chat template"]
  models = " ".join(told["Models"].split())  # a long path wraps lines
  assert "2 layers, 32 features" in models and "256 positions" in models
  assert "(the policy's)" in told["Models"]
  frozen = next(line for line in told["Models"].splitlines() if line.startswith("policy, by"))
  assert "bfloat16" in frozen and "optimizer" in frozen


BAD = {
  "a separator of several tokens": {"data__separator": "<sep>"},
  "a stop string that is not seen": {"sampling__training__stop": ("。",)},
  "rows that are too short": {
    "data__row_length": 6,
    "data__query_length": 4,
    "data__query_buckets": (4,),
    "sampling__training__max_new_tokens": 1,
    "sampling__evaluation__max_new_tokens": 1,
  },
  "a mesh of other devices": {"mesh__data": 3},
  "attention of other devices": {"model__attention": "splash"},
  "a checkpoint that is none": {"model__checkpoint": "{no such directory}"},
  "a template that is none": {"data__chat_template": "nowhere.jinja"},
  "a template that leaves out turns": {"data__chat_template": "{{ messages[0]['content'] }}"},
}


def refusal(act):
  with pytest.raises(ConfigError) as caught:
    act()
  return str(caught.value)


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD)
def test_what_a_run_refuses_the_preview_refuses_in_the_same_words(tmp_path, changes):
  config = tiny.config(**changes)
  said = refusal(lambda: preview(config, tmp_path / "run"))
  assert not (tmp_path / "run").exists()
  assert said == refusal(lambda: game.play(config, tmp_path / "run"))


def test_a_checkpoint_whose_tensors_do_not_fit_is_refused_by_both(tmp_path, checkpoint):
  broken = checkpoints.write(tmp_path / "model")
  given = json.loads((broken / "config.json").read_text())
  (broken / "config.json").write_text(json.dumps({**given, "intermediate_size": 48}))
  config = tiny.config(model__checkpoint=str(broken))
  said = refusal(lambda: preview(config, tmp_path / "run"))
  assert "has shape (64, 32); by its config.json it must be (48, 32)" in said
  assert said == refusal(lambda: game.play(config, tmp_path / "run"))


def test_a_run_directory_that_cannot_be_used_is_refused_by_both(tmp_path):
  file = tmp_path / "file"
  file.write_text("")
  said = refusal(lambda: preview(tiny.config(), file / "below"))
  assert said.startswith("--run_dir is ") and "is no directory" in said
  assert said == refusal(lambda: game.play(tiny.config(), file / "below"))
  other = tmp_path / "other"
  other.mkdir()
  (other / "config.json").write_text("{damaged")
  said = refusal(lambda: preview(tiny.config(), other))
  assert said == refusal(lambda: game.play(tiny.config(), other))
  assert [path.name for path in other.iterdir()] == ["config.json"]


def test_an_output_that_is_no_directory_is_refused_before_any_work(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ConfigError, match=r"--output is .*file', which cannot be used"):
    previewing.check_output(str(tmp_path / "file"))
  with pytest.raises(ConfigError, match=r"--output is 'gs://bucket'"):
    previewing.check_output("gs://bucket")


def command(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "apo_jax.preview", *map(str, arguments)],
    cwd=tiny.ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )


def test_a_refusal_is_a_sentence_and_exit_code_1():
  """The same flags end a run with 2 (tests/test_main.py)."""
  result = command("--config=configs/demo.py", "--config.policy.dpo.beta=-1")
  assert result.returncode == 2 and not result.stdout
  assert result.stderr == "apo_jax: config.policy.dpo.beta is -1.0; it must be a float above 0.\n"


@pytest.mark.slow
def test_the_command_writes_what_it_shows(tmp_path):
  output = tmp_path / "told"
  before = set(tiny.ROOT.iterdir())
  result = command(*tiny.flags(), f"--output={output}")
  assert result.returncode == 0, result.stderr
  assert {path.name for path in output.iterdir()} == {"data.json", "preview.txt"}
  assert result.stdout.startswith((output / "preview.txt").read_text())
  assert read_json(output / "data.json")["demonstrations"] == 64
  assert set(tiny.ROOT.iterdir()) == before


def test_a_histogram_counts_each_length_once():
  """Bars end every 4 tokens and at each limit, and double behind the last."""
  lines = histogram(np.array([0, 8, 9, 20, 21, 33, 70]), {"short": 20, "long": 32})
  bars = [line.split()[:2] for line in lines if "---" not in line]
  assert bars == [
    ["0-4", "1"],
    ["5-8", "1"],
    ["9-12", "1"],
    ["13-16", "0"],
    ["17-20", "1"],
    ["21-24", "1"],
    ["25-28", "0"],
    ["29-32", "0"],
    ["33-64", "1"],
    ["65-128", "1"],
  ]
  marks = [
    (lines[n - 1].split()[0], line.split()[1]) for n, line in enumerate(lines) if "--" in line
  ]
  assert marks == [("17-20", "short,"), ("29-32", "long,")]


def test_lengths_are_those_before_anything_is_cut():
  codec = dataclasses.replace(tiny.codec(), query_length=8)
  query = "\n\nHuman: Who has it, and why is it not here?\n\nAssistant:"
  none = Split((), (), ())
  golden = (Demonstration("g", query, " Ann."), Demonstration("h", query, " Ann."))
  preference = Preference("p", query, (" Ann.", " Ben has it now."), (1.0, 0.0))
  data = GameData((), Split((preference,), golden, (Query("q", query),)), none, none)
  found = {one.of: one for one in lengths_of(codec, data)}
  (ids,) = codec.form.query_ids([query])
  assert found["queries"].tokens.tolist() == [len(ids)] and len(ids) > 8
  slots = [one.num_slots for one in codec.encode_responses(preference.responses)]
  assert found["responses of config.data.preferences"].tokens.tolist() == slots
  assert found["responses of config.data.golden"].tokens.tolist() == slots[:1]
  assert "responses of config.data.demonstrations" not in found


def test_memory_is_counted_by_number_type():
  """The shares of several devices are in tests/multi_device/test_mesh.py."""
  config = tiny.config(policy__training__mean_dtype="bfloat16")
  whole = memory_of(config, make_models(config, find_origins(config), tiny.mesh()))
  assert [one.name for one in whole] == ["policy", "reward model"]
  policy = whole[0]
  assert policy.weights == {"float32": 4.0 * policy.trained}
  assert policy.optimizer == {"float32": 4.0 * policy.trained, "bfloat16": 2.0 * policy.trained}
  assert total(policy.frozen) == 0 and policy.training == 14.0 * policy.trained

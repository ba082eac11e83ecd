import json
import subprocess
import sys

import pytest

from apo_jax.config.command_line import parse_flags
from apo_jax.config.fields import ConfigError
from apo_jax.data.reading import read_records
from apo_jax.data.records import Demonstration, Preference, Query
from apo_jax.data.tfds.build import build
from apo_jax.data.tfds.builder import write_records
from tests import tiny

PREFERENCES = tuple(
  Preference(f"é{i}", f"\n\nHuman: {i}?\n\nAssistant:", (" a", " b\u2028b", " c")[:count], scores)
  for i, (count, scores) in enumerate(
    [(2, (0.1, 1 / 3)), (3, (1.0, 0.0, 1e-9)), (2, (5.0, 0.0))] * 4
  )
)
GOLDEN = tuple(Demonstration(p.query_id, p.query, " best") for p in PREFERENCES)
QUERIES = tuple(Query(p.query_id, p.query) for p in PREFERENCES)


def read(directory, split, kind, name="records"):
  location = f"tfds://{name}?split={split}&data_dir={directory}"
  return read_records("config.data.golden", location, kind, "error").records


def test_records_come_back_as_they_were_and_in_their_order(tmp_path):
  splits = {"preferences": PREFERENCES, "golden": GOLDEN, "queries": QUERIES}
  write_records(tmp_path, "records", splits)
  assert read(tmp_path, "preferences", "preferences") == PREFERENCES
  assert read(tmp_path, "golden", "demonstrations") == GOLDEN
  assert read(tmp_path, "queries", "queries") == QUERIES
  assert read(tmp_path, "preferences[:3]", "preferences", "records:1.0.0") == PREFERENCES[:3]
  with pytest.raises(ConfigError, match=r"config.data.golden is 'tfds://.*cannot be read: .*train"):
    read(tmp_path, "train", "preferences")


def test_a_data_set_is_not_overwritten(tmp_path):
  write_records(tmp_path, "records", {"queries": QUERIES})
  with pytest.raises(FileExistsError):
    write_records(tmp_path, "records", {"queries": QUERIES[:1]})
  assert read(tmp_path, "queries", "queries") == QUERIES


def write(path, rows):
  path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  return str(path)


@pytest.fixture
def source(tmp_path):
  rows = [
    {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
    {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant:"},
  ]
  return write(tmp_path / "preferences.jsonl", rows)


def test_the_command_says_what_it_wrote(tmp_path, source):
  # In a process of its own: no other test may have imported TensorFlow or set the flags.
  program = (
    "import runpy, sys; sys.argv = ['build', *sys.argv[1:]]\n"
    "try: runpy.run_module('apo_jax.data.tfds.build', run_name='__main__')\n"
    "finally: assert 'tensorflow' not in sys.modules"
  )
  output = tmp_path / "output"
  command = [sys.executable, "-c", program, f"--source={source}", f"--output={output}"]
  done = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  uri = f"tfds://apo_records?split=preferences&data_dir={output}"
  assert done.stdout.splitlines()[-1] == (
    f"{uri}: 1 of 2 rows in HH-RLHF form, 1 dropped: empty response"
  )
  (record,) = read_records("config.data.preferences", uri, "preferences", "error").records
  assert (record.query, record.responses) == ("\n\nHuman: Q\n\nAssistant:", (" A", " B"))
  again = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True, check=False)
  assert again.returncode == 2
  assert again.stderr == (
    f"apo_jax: --output is {str(output)!r}, where apo_records is already; give another --name.\n"
  )


def test_golden_responses_find_their_queries(tmp_path, source):
  sources = {
    "preferences": source,
    "queries": write(tmp_path / "queries.jsonl", [{"query_id": "q", "query": "Q"}]),
    "golden": write(tmp_path / "golden.jsonl", [{"query_id": "q", "golden": "A"}]),
  }
  build(sources, str(tmp_path), "set_2")
  expected = (Demonstration("q", "\n\nHuman: Q\n\nAssistant:", " A"),)
  assert read(tmp_path, "golden", "demonstrations", "set_2") == expected


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"name": "My-Set"}, "--name is 'My-Set'; it must be of small letters"),
    ({"preferences": "nowhere.jsonl"}, "--source is 'nowhere.jsonl', which cannot be read"),
    ({"output": "gs://bucket/sets"}, "--output is 'gs://bucket/sets'; it must be a directory"),
    ({"golden": "nowhere.jsonl"}, "--golden is 'nowhere.jsonl', which cannot be read"),
  ],
)
def test_what_cannot_be_built_is_named(tmp_path, monkeypatch, source, changes, words):
  monkeypatch.chdir(tmp_path)
  sources = {"preferences": source} | changes
  output, name = sources.pop("output", "output"), sources.pop("name", "records")
  before = sorted(tmp_path.iterdir())
  with pytest.raises(ConfigError) as error:
    build(sources, output, name)
  assert words in str(error.value)
  assert sorted(tmp_path.iterdir()) == before


def test_an_unknown_flag_is_named_in_one_sentence(capsys):
  with pytest.raises(SystemExit) as error:
    parse_flags(["build", "--sauce=here"])
  assert error.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("apo_jax: Unknown command line flag 'sauce'")
  assert line.endswith("(given: --sauce=here).")


@pytest.mark.parametrize("name", ["evil_features.Text", "os.path.Text", 5])
def test_a_prepared_data_set_names_no_module(tmp_path, monkeypatch, name):
  """TFDS imports the module of any class that a features.json names."""
  write_records(tmp_path / "data", "records", {"queries": QUERIES})
  ran = tmp_path / "ran"
  (tmp_path / "evil_features.py").write_text(f"open({str(ran)!r}, 'w')")
  monkeypatch.syspath_prepend(tmp_path)
  (file,) = (tmp_path / "data").glob("records/*/features.json")
  features = json.loads(file.read_text())
  inner = features["featuresDict"]["features"]
  inner["query"]["pythonClassName"] = name
  file.write_text(json.dumps(features))
  with pytest.raises(ConfigError, match=rf"names '{name}', which is none of TFDS's own features"):
    read(tmp_path / "data", "queries", "queries")
  assert not ran.exists()


def test_a_name_of_code_elsewhere_is_refused(tmp_path):
  with pytest.raises(ConfigError, match=r"its name must be NAME, .*; others run code"):
    read(tmp_path, "train", "queries", "huggingface:records")

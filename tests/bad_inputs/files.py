"""The files that bad inputs name: broken configs and data, runs of the wrong kind."""

import gzip
import json
import shutil
from pathlib import Path

from apo_jax.config.base import to_json
from apo_jax.objectives import DPO
from tests import tiny
from tests.compare.written import config as written_config
from tests.compare.written import write_run
from tests.data.source_files import rows_of_files

DEEP = "[" * 100_000
_RETURNS = "def get_config():\n  return "
_BASE = "from apo_jax.config.base import base_config\ndef get_config():\n  config = base_config()\n"

CONFIGS = {
  "syntax": "def get_config(:\n  return 3\n",
  "indent": "def get_config():\nreturn 3\n",
  "no_function": "rounds = 3\n",
  "not_called": "get_config = 3\n",
  "raises": "def get_config():\n  raise RuntimeError('no\\nidea')\n",
  "asserts": "def get_config():\n  assert False\n",
  "imports": "import not_a_module_of_this_world\n",
  "divides": "rounds = 1 / 0\n",
  "exits": "import sys\nsys.exit(0)\n",
  "recurses": "def get_config():\n  return get_config()\n",
  "parses": f"import json\n{_RETURNS}json.loads('{{')\n",
  "nothing": "def get_config():\n  pass\n",
  "number": f"{_RETURNS}3\n",
  "dict": f"{_RETURNS}{{'rounds': 3}}\n",
  "empty": f"import ml_collections\n{_RETURNS}ml_collections.ConfigDict()\n",
  "foreign": f"import ml_collections\n{_RETURNS}ml_collections.ConfigDict({{'lr': 1e-3}})\n",
  "arguments": "def get_config(a, b):\n  return 3\n",
  "unknown": f"{_BASE}  config.rouns = 3\n  return config\n",
  "misspelt": f"{_BASE}  config.policy.training.learning_rat *= 2\n  return config\n",
  "wrong_type": f"{_BASE}  config.rounds = 'three'\n  config.unlock()\n  return config\n",
  "no_group": f"{_BASE}  config.policy = 5\n  return config\n",
}

DATA = {
  "empty.jsonl": b"",
  "blank.jsonl": b"\n\n",
  "binary.jsonl": bytes(range(256)) * 9,
  "other.jsonl": b'{"a": 1}\n{"a": 2}\n',
  "lists.jsonl": b"[1, 2]\n[3]\n",
  "deep.jsonl": DEEP.encode() + b"\n",
  "page.jsonl": b"<!DOCTYPE html><html>404</html>",
  "pointer.jsonl": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
  "utf16.jsonl": '{"query": "a"}'.encode("utf-16"),
  "nan.jsonl": b'{"query_id": "1", "query": "q?", "responses": ["a", "b"], "scores": [NaN, 0]}\n',
  "huge.jsonl": b'{"query_id": "1", "query": "q?", "responses": ["a", "b"], "scores": [1e999, 0]}',
  "no_text.jsonl": b'{"query_id": "1", "query": "", "responses": ["a", "b"], "scores": [1, 0]}\n',
  "not.jsonl.gz": b'{"query": "a"}\n',
  "cut.jsonl.gz": gzip.compress(b'{"query": "a"}\n' * 99)[:40],
  "not.jsonl.xz": b"hello",
  "not.parquet": b"hello",
  "empty.parquet": b"",
  "table.csv": b"a,b\n1,2\n",
  "words.txt": b"hello",
  "packed.zip": b"PK\x03\x04",
}

# What a run's file becomes, and what is said of it.
WRONG = {
  "gone": None,
  "list": "[1, 2]",
  "null": "null",
  "cut": '{"a": ',
  "empty": "",
  "binary": b"\xff\xfe\x00",
  "deep": DEEP,
}


def write(place: Path) -> None:
  """Writes all of it below a folder."""
  for name, text in CONFIGS.items():
    _put(place / "configs" / f"{name}.py", text)
  _put(place / "configs" / "binary.py", b"\x00\x01\xff")
  _put(place / "configs" / "closed.py", "").chmod(0)
  for name, content in DATA.items():
    _put(place / "data" / name, content)
  for name, rows in rows_of_files().items():
    _put(place / "data" / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
  shutil.copy(place / "data" / "preferences.jsonl", place / "data" / "closed.jsonl")
  (place / "data" / "closed.jsonl").chmod(0)
  (place / "data" / "folder").mkdir()
  (place / "data" / "dangling.jsonl").symlink_to("/nonexistent.jsonl")
  _put(place / "data" / "mixed" / "a.jsonl", "{}")
  _put(place / "data" / "mixed" / "b.csv", "a\n1")
  _write_folders(place / "folders")
  _write_runs(place / "runs")
  _write_checkpoints(place / "checkpoints")


def _write_folders(place: Path) -> None:
  _put(place / "file", "x")
  _put(place / "full" / "notes.txt", "x")
  (place / "dangling").symlink_to("/nonexistent/folder")
  (place / "circle").symlink_to(place / "circle")
  for name, mode in (("read_only", 0o555), ("closed", 0)):
    (place / name).mkdir()
    (place / name).chmod(mode)


def _write_runs(place: Path) -> None:
  """Runs of `tiny.flags(rounds=1)` that began, and finished ones to compare."""
  config = to_json(tiny.config(rounds=1))

  def begun(name: str) -> Path:
    run = place / name
    _put(run / "config.json", json.dumps(config))
    _put(run / "data.json", json.dumps({"sha256": "0" * 64}))
    _put(run / "origins.json", "{}")
    _put(run / "rounds" / "00" / "supervised.json", "{}")
    return run

  tiny.codec().tokenizer.save_pretrained(begun("begun") / "tokenizer")
  for file in ("config.json", "data.json", "origins.json"):
    stem = file.partition(".")[0]
    for kind, content in WRONG.items():
      (begun(f"{stem}_{kind}") / file).unlink()
      if content is not None:
        _put(place / f"{stem}_{kind}" / file, content)
    begun(f"{stem}_folder")
    (place / f"{stem}_folder" / file).unlink()
    (place / f"{stem}_folder" / file).mkdir()
    (begun(f"{stem}_dangling") / file).unlink()
    (place / f"{stem}_dangling" / file).symlink_to("/nonexistent.json")
  for kind, changed in (
    ("old", {"format": 3}),
    ("lacking", {"policy": None}),
    ("unknown", {"news": 1}),
    ("group", {"policy": 3}),
  ):
    _put(begun(f"config_{kind}") / "config.json", json.dumps(config | changed))
  _put(begun("data_nameless") / "data.json", "{}")
  shutil.rmtree(begun("rounds_file") / "rounds")
  _put(place / "rounds_file" / "rounds", "x")
  _put(place / "exported" / "config.json", '{"model_type": "llama"}')
  for name, seed in (("finished", 0), ("finished_too", 1), ("damaged", 2)):
    write_run(place / name, written_config(DPO, seed))
  _put(place / "damaged" / "rounds" / "01" / "judgements.json", "[]")


def _write_checkpoints(place: Path) -> None:
  _put(place / "no_config" / "model.safetensors", "x")
  for name, content in (("list", "[]"), ("cut", "{"), ("deep", DEEP), ("foreign", '{"a": 1}')):
    _put(place / name / "config.json", content)
  _put(place / "file", "x")


def _put(path: Path, content: str | bytes) -> Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content.encode() if isinstance(content, str) else content)
  return path

"""Whatever is typed wrong is refused in one sentence, with exit code 2, and nothing is written."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.bad_inputs import files
from tests.bad_inputs.table import AT, BadInput, table

TABLE = table()
# Of the others the default run tries one in so many.
SHARE = 3
# Tried once more as a user starts them, each with an interpreter of its own.
TYPED = ("config syntax", "run_dir config_gone")


class Server:
  """The process that runs the commands, and the folder of the files that they name."""

  def __init__(self, place: Path):
    self.place = place
    files.write(place / "at")
    (place / "silence").touch()
    self._process = subprocess.Popen(
      [sys.executable, Path(__file__).with_name("server.py")],
      cwd=tiny.ROOT,
      env=tiny.users_environment() | {"PYTHONPATH": str(tiny.ROOT), "HF_HUB_OFFLINE": "1"},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def run(self, case: BadInput) -> dict[str, Any]:
    """The exit code, and what was said."""
    said = {name: tempfile.mktemp(dir=self.place, prefix=name) for name in ("stdout", "stderr")}
    request = {
      "command": case.command,
      "arguments": self.arguments(case),
      "folder": str(tiny.ROOT),
      "stdin": str(self.place / "silence"),
      "ordinary_user": case.ordinary_user,
      **said,
    }
    self._process.stdin.write(json.dumps(request) + "\n")
    self._process.stdin.flush()
    answer = json.loads(self._process.stdout.readline())
    return answer | {name: Path(path).read_text() for name, path in said.items()}

  def arguments(self, case: BadInput) -> list[str]:
    """A command's arguments, with the folder of the files in its place."""
    return [one.replace(AT, str(self.place / "at")) for one in case.arguments]

  def close(self) -> None:
    """Ends the process."""
    self._process.stdin.close()
    self._process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
  with tempfile.TemporaryDirectory(prefix="apo_jax_bad_inputs_") as place:
    made = Server(Path(place))
    yield made
    made.close()


def contents(place: Path) -> dict[str, str]:
  """What lies below a folder: every name, with the bytes of a file and the aim of a link."""
  found = {}
  for folder, folders, names in os.walk(place):
    for name in (*folders, *names):
      path = Path(folder, name)
      if path.is_symlink():
        found[str(path)] = f"to {os.readlink(path)}"
      elif path.is_file():
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
      else:
        found[str(path)] = ""
  return found


def check(case: BadInput, code: int, stdout: str, stderr: str) -> None:
  """Checks that a command was refused as it should."""
  assert code == 2, f"{code}: {stdout}{stderr}"
  assert not stdout.strip()
  (line,) = stderr.strip().splitlines()
  for word in case.words:
    assert word.replace(AT, "") in line, line
  assert len(line) < 2000 and line.endswith((".", "?"))


def marked() -> list[Any]:
  """The cases, of which most are for slow runs."""
  slow = (case.costly or number % SHARE for number, case in enumerate(TABLE))
  return [
    pytest.param(case, id=case.name, marks=[pytest.mark.slow] if is_slow else [])
    for case, is_slow in zip(TABLE, slow, strict=True)
  ]


@pytest.mark.parametrize("case", marked())
def test_it_is_refused_in_one_sentence_and_nothing_is_written(server, case):
  runs = tiny.ROOT / "runs"
  before, known = contents(server.place / "at"), runs.exists() and sorted(os.listdir(runs))
  answer = server.run(case)
  check(case, answer["code"], answer["stdout"], answer["stderr"])
  assert contents(server.place / "at") == before
  assert (runs.exists() and sorted(os.listdir(runs))) == known


def test_the_table_is_large_and_has_every_command():
  assert len(TABLE) >= 100
  assert len({case.name for case in TABLE}) == len(TABLE)
  assert len({case.command for case in TABLE}) == 10


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPED)
def test_a_user_sees_the_same(server, name):
  (case,) = (one for one in TABLE if one.name == name)
  result = subprocess.run(
    [sys.executable, "-m", case.command, *server.arguments(case)],
    cwd=tiny.ROOT,
    env=tiny.users_environment(),
    capture_output=True,
    text=True,
  )
  check(case, result.returncode, result.stdout, result.stderr)

import dataclasses
import subprocess
import sys

import pytest

from apo_jax.config import command_line
from apo_jax.config.fields import write_fields
from apo_jax.config.help import config_help, field_docs
from apo_jax.config.schema import Config, SupervisedConfig
from tests.tiny import ROOT


def paths(values, path="config"):
  for name, value in values.items():
    if isinstance(value, dict):
      yield from paths(value, f"{path}.{name}")
    else:
      yield f"{path}.{name}"


def test_every_field_is_there_with_its_default():
  lines = config_help(Config()).splitlines()
  fields = {line.strip().split("=")[0]: line.partition("=")[2] for line in lines if "  --" in line}
  for path in paths(write_fields(Config(), all_choices=True)):
    section = any(field.startswith(f"--{path}.") for field in fields)  # one that may be left out
    assert f"--{path}" in fields or section, path
  assert fields["--config.policy.loss"] == "dpo" and fields["--config.policy.dpo.beta"] == "0.1"
  assert fields["--config.data.golden"] == "''"
  # Defaults are the config's, not those of the class of a section.
  assert fields["--config.sampling.training.num_samples"] == "4"
  assert fields["--config.sampling.evaluation.num_samples"] == "1"
  assert fields["--config.testing_reward.shape.layers"] == ""
  assert "--config.testing_reward.training.batch_size" in fields
  assert max(map(len, lines)) <= 90


def test_what_a_field_means_is_said_in_the_words_of_its_source():
  @dataclasses.dataclass
  class Fields:
    """Some fields.

    Attributes:
      third: of two
        lines.
    """

    first: int = 1  # behind it
    # Above it,
    # in two lines.
    second: tuple[  # and behind
      int, ...
    ] = ()
    third: int = 3
    fourth: int = 4

  assert field_docs(Fields) == {
    "first": "behind it",
    "second": "Above it, in two lines. and behind",
    "third": "of two lines.",
    "fourth": "",
  }
  docs = field_docs(SupervisedConfig)  # with the fields of what it is derived from
  assert docs["batch_size"] == "items an update" and "mean over all tokens" in docs["over_tokens"]


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull"])
def test_help_ends_well_wherever_it_stands(flag, capsys):
  with pytest.raises(SystemExit) as end:
    command_line.parse_flags(["command", "--nonsense=1", flag])
  assert end.value.code == 0
  assert "Flags:" in capsys.readouterr().out


def test_a_command_says_its_flags_and_the_fields_of_a_config():
  command = [sys.executable, "-m", "apo_jax.plan", "--help"]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
  assert "Flags:\n  --" in result.stdout and not result.stderr
  assert str(ROOT) not in result.stdout
  assert "--topology" in result.stdout and "  --config.rounds=3\n" in result.stdout

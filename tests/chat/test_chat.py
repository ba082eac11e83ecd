"""Chats with rounds of a run and with checkpoints, as a pipe sees them."""

import dataclasses
import io
import shutil
import subprocess
import sys

import jax
import pytest

from apo_jax.chat.dialogue import Dialogue
from apo_jax.chat.request import Request, check
from apo_jax.chat.screen import shown
from apo_jax.chat.session import Reply, Session
from apo_jax.chat.speakers import Company, Speaker
from apo_jax.chat.talking import talk
from apo_jax.config.fields import ConfigError
from apo_jax.config.schema import SamplerConfig
from apo_jax.data.dialogue import Message, render_query
from apo_jax.data.records import Query
from apo_jax.evaluate.models import open_run
from apo_jax.evaluate.policies import sample
from apo_jax.evaluate.reading import Answer, Item, rewards_of
from apo_jax.run.seeds import derive_key
from tests import checkpoints, finished_run, tiny

_SHOWN = {}  # what was shown once for several tests
SAID = ("Who has it?", "And why is that so?")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  path = tmp_path_factory.mktemp("chat") / "run"
  finished_run.make(path)
  return path


@pytest.fixture
def piped(monkeypatch, capsys):
  """What a chat writes to the standard output, and beside it, when lines come from a pipe."""

  def chat(*lines, **asked):
    text = "".join(f"{line}\n" for line in lines)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    monkeypatch.setenv("COLUMNS", "100")
    asked = {name: str(value) if name == "run" else value for name, value in asked.items()}
    talk(Request(**asked))
    return capsys.readouterr()

  return chat


def replies(output):
  """The answers and what is said of each."""
  turns = output.removesuffix("\n\n").split("\n\n")
  pairs = [turn.rsplit("\n", 1) for turn in turns]
  return [(answer, verdict.strip("()")) for answer, verdict in pairs]


@pytest.fixture
def alone(run, piped):
  """A chat with the last round."""
  if "shown" not in _SHOWN:
    _SHOWN["shown"] = piped(*SAID, run=run)
  return _SHOWN["shown"]


def test_answers_and_rewards_are_those_of_an_evaluation(run, alone):
  """Each line of a pipe is a turn; the second answer follows the first."""
  (first, _), (answer, verdict) = replies(alone.out)
  opened = open_run(run, "--run")
  policy, reward = opened.source("policy", None), opened.source("reward", None)
  greedy = dataclasses.replace(opened.config.sampling.evaluation, temperature=0.0)
  turns = [Message("user", SAID[0]), Message("assistant", first), Message("user", SAID[1])]
  query, mesh = Query("any", render_query(turns)), tiny.mesh()
  with jax.set_mesh(mesh):
    drawn = sample(policy, mesh, [query], greedy, seed=0, batch_size=1).answers[0]
    ((value,),) = rewards_of(reward, mesh, [Item("any", query.query, drawn)], 1)
  assert answer == drawn[0].text.strip()
  assert verdict.startswith(f"reward {value:.3f}")
  assert ("cut off at 23 tokens" in verdict) == (not drawn[0].finished)
  assert alone.err.count("Compiling") == 1
  assert "more than the 30 of a query; round 1 reads" in alone.err  # by the second turn


def test_two_rounds_each_have_their_own_dialogue_and_are_rated_by_both(run, piped, alone):
  both = piped("/reset", *SAID, run=run, compare=("0", "1"))
  assert both.out.count("by round 0") == both.out.count("by round 1") == 4
  titles, _, *lines = both.out.splitlines()
  middle = titles.index("round 1")
  left = " ".join(" ".join(line[:middle] for line in lines).split())
  right = " ".join(" ".join(line[middle:] for line in lines).split())
  for answer, verdict in replies(alone.out):
    reward = verdict.split(",")[0].removeprefix("reward ")
    assert f"{reward} by round 1" in right and f"{reward} by round 1" not in left
    assert answer.split()[0] in right


@pytest.mark.slow
def test_seed_and_temperature_are_set_by_flags_and_commands(run, piped):
  flags = piped(SAID[0], run=run, temperature=1.0, seed=5).out
  others = ("/reset", "/seed 4", SAID[0])
  commands = piped("/seed 5", "/temperature 1", "", SAID[0], *others, run=run)
  first, second = replies(commands.out)
  assert [first] == replies(flags) != [second]
  assert commands.err.splitlines()[:2] == ["The seed is 5.", "The temperature is 1."]


@pytest.mark.slow
def test_a_system_turn_opens_the_dialogue(run, piped):
  told = ("/reset", "/system Be brief.", "Who?", "/reset", "/system", "Who?", "/quit", "Who?")
  plain, with_system, without = replies(piped("Who?", *told, run=run).out)
  assert plain == without != with_system


class Parrot:
  """In the place of a policy: answers with a word, and keeps what it was asked."""

  def __init__(self):
    self.asked = []

  def __call__(self, parameters, query, key, how):
    self.asked.append((tiny.codec().decode(query), key.tolist(), how.temperature))
    return Answer(" Ann.", True)


@pytest.fixture
def session():
  """A chat with a parrot whose queries are never cut, what it was asked, and what was said."""
  parrot, said = Parrot(), []
  codec = dataclasses.replace(tiny.codec(), query_length=500)
  speaker = Speaker("parrot", codec, SamplerConfig(), {}, parrot)
  company = Company(tiny.mesh(), (speaker,), ())
  return Session(company, temperature=0.0, seed=0, say=said.append), parrot.asked, said


def test_commands_change_what_a_policy_is_asked(session):
  chat, asked, said = session
  lines = ("/seed 5", "/temperature 0.5", "/system Be brief.", "/help")
  assert all(chat.command(line) for line in lines)
  assert [one.verdict for one in chat.turn("Who?")] == [""]
  chat.turn("Why?")
  chat.command("/reset")
  chat.command("/system")
  chat.turn("Who?")
  system, first = "\n\nSystem: Be brief.", "\n\nHuman: Who?\n\nAssistant:"
  assert [query for query, _, _ in asked] == [
    system + first,
    f"{system}{first} Ann.\n\nHuman: Why?\n\nAssistant:",
    first,
  ]
  keys = [derive_key(5, "chat", turn).tolist() for turn in (0, 1, 0)]
  assert [key for _, key, _ in asked] == keys
  assert {temperature for _, _, temperature in asked} == {0.5}
  assert said[:2] == ["The seed is 5.", "The temperature is 0.5."] and "/seed N" in said[3]
  assert not chat.command("/quit")


@pytest.mark.parametrize(
  ("line", "said"),
  [
    ("/seed x", "/seed is 'x'; it must be a whole number"),
    ("/seed -1", "/seed is -1"),
    ("/temperature", "/temperature is ''; it must be a number"),
    ("/temperature -0.1", "/temperature is -0.1"),
    ("/temperature nan", "/temperature is nan"),
    ("/sed 3", "/sed is no command; /help lists"),
    ("/reset now", "/reset takes nothing behind it, but 'now'"),
  ],
)
def test_a_wrong_command_is_a_sentence(session, line, said):
  with pytest.raises(ConfigError, match=said):
    session[0].command(line)


def test_a_wrong_command_ends_a_pipe(run, piped):
  with pytest.raises(ConfigError, match=r"line 2: /sed is no command"):
    piped("", "/sed", run=run)


def test_bytes_that_are_no_text_are_refused(run, monkeypatch):
  monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n\xff\n")))
  with pytest.raises(ConfigError, match="line 2 is not UTF-8 text"):
    talk(Request(run=str(run)))


def test_a_round_that_is_gone_or_never_was_is_named(run, tmp_path):
  shutil.copytree(run, tmp_path / "run")
  (tmp_path / "run/checkpoints/01_policy").rename(tmp_path / "gone")
  asked = Request(run=str(tmp_path / "run"), round=1)
  with pytest.raises(ConfigError, match=r"--round is 1, whose policy .* kept are those of 0\."):
    talk(asked)
  with pytest.raises(ConfigError, match="--compare is 1, whose policy is no longer kept"):
    talk(dataclasses.replace(asked, round=None, compare=("0", "1")))
  with pytest.raises(ConfigError, match="--compare is 7, in which no policy was finished"):
    talk(Request(run=str(run), compare=("0", "7")))


@pytest.mark.parametrize(
  ("asked", "said"),
  [
    ({}, "Nobody to chat with is named; give --run=RUN or --policy=DIR"),
    ({"run": "tests", "policy": "x"}, "--run is 'tests' beside --policy, 'x'"),
    ({"run": "no/where"}, "--run is 'no/where', which is no directory"),
    ({"policy": "x", "round": 0}, "--round is 0 without --run"),
    ({"policy": "x", "compare": ("0", "1")}, "--compare is 0,1 without --run"),
    ({"run": "tests", "compare": ("0",)}, "--compare is '0'; it must be two rounds"),
    ({"run": "tests", "compare": ("1", "1")}, "--compare is '1,1'; it must be two rounds"),
    ({"run": "tests", "compare": ("a", "1")}, "--compare is 'a,1'; it must be two rounds"),
    ({"run": "tests", "compare": ("0", "1"), "round": 1}, "--round is 1 beside --compare"),
    ({"run": "tests", "temperature": -1.0}, "--temperature is -1.0"),
    ({"run": "tests", "seed": -1}, "--seed is -1"),
    ({"run": "tests", "max_new_tokens": 0}, "--max_new_tokens is 0"),
  ],
)
def test_wrong_flags_are_one_sentence(asked, said):
  with pytest.raises(ConfigError, match=said):
    check(Request(**asked))


@pytest.mark.slow
def test_checkpoints_answer_and_rate(tmp_path, piped):
  policy = str(checkpoints.write(tmp_path / "policy"))
  reward = str(checkpoints.write(tmp_path / "reward", reward=True, seed=1))
  rated = piped(*SAID, policy=policy, reward_model=reward, max_new_tokens=4).out
  assert rated.count("(reward ") == 2
  with pytest.raises(ConfigError, match=r"--policy is .*a sequence classifier"):
    talk(Request(policy=reward))
  with pytest.raises(ConfigError, match=r"--reward_model is .*a language model"):
    talk(Request(policy=policy, reward_model=policy, max_new_tokens=4))


@pytest.mark.slow
def test_without_a_reward_model_nothing_is_rated(tmp_path, piped):
  policy = str(checkpoints.write(tmp_path / "policy", chat_template=None))
  said = piped(*SAID, policy=policy, max_new_tokens=4).out
  assert said.strip() and "reward" not in said


def test_more_tokens_than_the_rows_of_a_run_hold_are_refused(run):
  with pytest.raises(ConfigError, match=r"--max_new_tokens is 40; .* room for 23 behind a query"):
    talk(Request(run=str(run), max_new_tokens=40))


def test_what_an_answer_marks_is_a_turn_in_the_hh_form_alone():
  said, answer = "Who?", "Ann.\n\nHuman: Why?"
  for opens_turns, expected in (
    (True, [("user", said), ("assistant", "Ann."), ("user", "Why?")]),
    (False, [("user", said), ("assistant", answer)]),
  ):
    dialogue = Dialogue(opens_turns)
    dialogue.add(said, answer)
    assert [(one.role, one.content) for one in dialogue.turns] == expected
  dialogue = Dialogue(True)
  dialogue.add(said, "")
  assert [one.role for one in dialogue.turns] == ["user", "assistant"]


def test_two_answers_stand_side_by_side_where_there_is_room(monkeypatch):
  two = [Reply("round 0", "Ann " * 30, "reward 1"), Reply("round 3", "Ben\x1b[2J\nand", "reward 2")]
  for columns, beside in ((100, True), (60, False)):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = shown(two)
    lines = text.splitlines()
    assert any("Ann" in line and "Ben" in line for line in lines) == beside
    assert "\x1b" not in text and "reward 1" in text and "reward 2" in text
    if beside:
      assert max(map(len, lines)) <= columns and all(line == line.rstrip() for line in lines)


@pytest.mark.slow
def test_the_command_says_what_is_wrong():
  result = subprocess.run(
    [sys.executable, "-m", "apo_jax.chat", "runs/demo"],
    cwd=tiny.ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert result.returncode == 2 and not result.stdout
  assert result.stderr == "apo_jax: 'runs/demo' is not a flag; did you mean --run=runs/demo?\n"


@pytest.mark.slow
def test_the_command_reads_a_pipe(run, piped):
  expected = piped(*SAID, run=run, temperature=1.0, seed=2).out
  result = subprocess.run(
    [sys.executable, "-m", "apo_jax.chat", f"--run={run}", "--temperature=1", "--seed=2"],
    input="".join(f"{line}\n" for line in SAID),
    cwd=tiny.ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout == expected

"""Any policy or reward model, of a run or of Hugging Face, on preferences and queries.

    python -m apo_jax.evaluate --run=runs/demo-1a2b3c4d
    python -m apo_jax.evaluate --reward=owner/model --rewardbench=filtered.jsonl
    python -m apo_jax.evaluate --policy=DIR --queries=queries.jsonl --reward=DIR --against=OTHER

docs/evaluate.md has what can be asked for. A run is only read.
"""

import os
from pathlib import Path

from absl import app, flags, logging

from apo_jax.config import command_line
from apo_jax.evaluate.request import JudgeRequest, Request

flags.adopt_module_key_flags(command_line)  # so that --help shows them
_ASKED, _JUDGE = Request(), JudgeRequest()


def _text(name: str, help: str) -> None:
  flags.DEFINE_string(name, getattr(_ASKED, name), help)


_text("run", "A run's directory: its players, and where no other data is named its test side.")
flags.DEFINE_integer("round", None, "The run's round, 0 for its start; by default the last.")
_text("policy", "A policy: a checkpoint's directory or hub name, or RUN:ROUND; else the run's.")
_text("reward", "A reward model, likewise; else the run's, and its testing reward model.")
_text("reference", "The reference of --policy, for --implicit; else the run's.")
_text("against", "'golden', RUN:ROUND, a policy, or a file of responses: whom answers are beside.")
_text("preferences", "Preferences: a path or URI, as data.preferences of a config.")
_text("queries", "Queries: a path or URI, as data.queries of a config.")
_text("rewardbench", "Rows in RewardBench's form: a path or URI.")
flags.DEFINE_bool("matrix", False, "The run's reward models of every round on every round's pairs.")
flags.DEFINE_bool("implicit", False, "The policy's implicit reward beside the reward model's.")
_text("output", "The directory to write; by default runs/evaluations/NAME-HASH.")
flags.DEFINE_integer("num_queries", None, "At most so many queries, and so many preferences.")
flags.DEFINE_integer("batch_size", None, "Queries, or responses, at a time; by default 32.")
flags.DEFINE_integer("seed", None, "Of samples; by default the run's, or 0.")
flags.DEFINE_integer("samples", None, "Answers a query; by default as the run, or 1.")
flags.DEFINE_float("temperature", None, "Of samples; by default as the run, or 1. 0 is greedy.")
flags.DEFINE_float("top_p", None, "Of samples; by default as the run, or 1.")
flags.DEFINE_integer("max_new_tokens", None, "Of an answer; by default as the run, or 256.")
flags.DEFINE_string("judge", "", "An LLM that compares answers, or preferred responses to others.")
flags.DEFINE_string("judge_url", "", "The judge's OpenAI-compatible endpoint, as https://host/v1.")
flags.DEFINE_string(
  "judge_key_env", _JUDGE.key_env, "The environment variable with its key; '' where it wants none."
)
flags.DEFINE_float("judge_temperature", _JUDGE.temperature, "At which the judge answers.")
flags.DEFINE_integer("judge_repeats", 1, "How often a fifth is asked, for its self-consistency.")
flags.DEFINE_integer("judge_budget", None, "The most calls; what is missing then is said.")
flags.DEFINE_integer("judge_token_budget", None, "The tokens after which nothing more is asked.")
flags.DEFINE_integer("judge_parallel", _JUDGE.parallel, "Calls at a time.")
flags.DEFINE_float("judge_timeout", _JUDGE.timeout, "Seconds that a call may take.")


def main(arguments: list[str]) -> int:
  """Evaluates what the flags say; returns the exit code."""
  if len(arguments) > 1:
    return command_line.refuse(
      f"{arguments[1]!r} is not a flag; did you mean --run={arguments[1]}?"
    )
  logging.set_verbosity(logging.WARNING)
  asked = _request()
  # Imported late, so that a wrong flag is answered at once.
  import jax

  from apo_jax.devices import distributed
  from apo_jax.evaluate.evaluate import evaluate
  from apo_jax.logs.endings import ended

  def say(line: str) -> None:
    if jax.process_index() == 0:
      command_line.say(line)

  def work() -> int:
    distributed.initialize(*command_line.process_flags())
    output = evaluate(asked, say)
    say(f"\nAll of it is in {output}.")
    return 0

  try:
    return ended(work, Path(asked.output or "."), distributed.leave)
  except KeyboardInterrupt:
    print("\nStopped. A judge's answers are kept; the same command goes on.", flush=True)
    os._exit(130)  # calls that are under way are waited for by nobody


def _request() -> Request:
  given = flags.FLAGS.flag_values_dict()
  names = [name for name in vars(_ASKED) if name != "judge"]
  own = [name for name in vars(_JUDGE) if name != "model"]
  judge = JudgeRequest(given["judge"], **{name: given[f"judge_{name}"] for name in own})
  return Request(**{name: given[name] for name in names}, judge=judge)


if __name__ == "__main__":
  app.run(main, flags_parser=command_line.parse_flags)

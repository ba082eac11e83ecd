"""The table of bad inputs: what is typed, and what the sentence that refuses it must hold."""

import dataclasses
from collections.abc import Iterator

from tests import tiny
from tests.bad_inputs.files import CONFIGS, DATA, WRONG

# Stands for the folder of the files; NEW below it is a place that must stay free.
AT = "{at}"
NEW = f"{AT}/new"
_LONG = "a" * 300


@dataclasses.dataclass(frozen=True)
class BadInput:
  """A command that must be refused.

  Attributes:
    name: what the test calls it.
    command: a module, or a file, that is run.
    arguments: of it; `AT` in them is the folder of the files.
    words: all of which its sentence must hold.
    ordinary_user: whether it needs a user whom modes of files bind, which root is not.
    costly: whether much is read before it is refused.
  """

  name: str
  command: str
  arguments: tuple[str, ...]
  words: tuple[str, ...]
  ordinary_user: bool = False
  costly: bool = False


MAIN = "apo_jax.main"
DEMO = "--config=configs/demo.py"
_TINY = tuple(tiny.flags(rounds=1))


# What is refused only when the embedded world, a tokenizer or a plan's programs have been made.
_COSTLY = (
  "tokenizer.path=/nonexistent",
  "data.num_golden=100000000",
  "data.chat_template=/nonexistent.jinja",
  "data.chat_template={{",
  "run_dir runs/begun",
  "plan --only=nothing",
  "export --run=runs/begun --output=new",
  "export --run=runs/begun --output=new --round=99",
  "export --run=runs/begun --output=new --round=-1",
  "export --run=runs/rounds_file --output=new",
  "evaluate --run=runs/begun",
  "chat --run=runs/begun",
  "chat --run=runs/begun --round=99",
)


def table() -> list[BadInput]:
  """All of them."""
  parts = (_configs(), _fields(), _flags(), _data(), _checkpoints(), _run_directories())
  others = (_previews(), _plans(), _exports(), _evaluations(), _chats(), _comparisons())
  listed = [one for part in (*parts, *others, _sweeps(), _builds(), _launches()) for one in part]
  return [dataclasses.replace(one, costly=one.name in _COSTLY) for one in listed]


def _short(text: str) -> str:
  """Of arguments, for the name of a test."""
  return text.replace(_LONG, "LONG").replace(f"{AT}/", "")[-60:]


def _configs() -> Iterator[BadInput]:
  """Files that --config names."""
  fails = "which fails in line"
  words = {
    "syntax": ("fails in line 1", "SyntaxError: invalid syntax"),
    "indent": ("fails in line 2", "IndentationError"),
    "no_function": ("no function get_config()",),
    "not_called": ("TypeError", "not callable"),
    "raises": ("fails in line 2", "RuntimeError: no idea"),
    "asserts": ("fails in line 2", "AssertionError"),
    "imports": ("fails in line 1", "not_a_module_of_this_world"),
    "divides": (fails, "ZeroDivisionError: division by zero"),
    "exits": ("fails in line 2", "SystemExit"),
    "recurses": (fails, "RecursionError"),
    "parses": ("fails in line 3", "JSONDecodeError"),
    "nothing": ("get_config() returns nothing", "ConfigDict"),
    "number": ("get_config() returns int", "ConfigDict"),
    "dict": ("get_config() returns dict", "ConfigDict"),
    "empty": ("config.seed is missing",),
    "foreign": ("config.lr is 0.001", "no such field"),
    "arguments": ("TypeError", "get_config()"),
    "unknown": ("config.rouns is 3", "did you mean config.rounds?"),
    "misspelt": ("fails in line 4", "learning_rat", "learning_rate"),
    "wrong_type": ("fails in line 4", "rounds", "three"),
    "no_group": ("fails in line 4", "policy"),
  }
  for name in CONFIGS:
    path = f"{AT}/configs/{name}.py"
    named = () if name in ("empty", "foreign", "unknown") else (f"{name}.py",)
    yield BadInput(f"config {name}", MAIN, (f"--config={path}",), (*named, *words[name]))
  for path, *said in (
    (f"{AT}/configs/binary.py", "fails", "SyntaxError"),
    ("nowhere.py", "nowhere.py", "there is no such file"),
    ("configs", "'configs'", "there is no such file"),
    ("", "--config is ''", "there is no such file"),
    (f"{_LONG}.py", "there is no such file"),
    ("README.md", "README.md", "fails in line"),
    ("configs/demo.py:small", "configs/demo.py:small", "TypeError"),
    ("configs/paper/reward_base.py:big", "reward_base.py:big", "must be toy"),
  ):
    yield BadInput(f"config {_short(path)}", MAIN, (f"--config={path}",), tuple(said))
  closed = f"--config={AT}/configs/closed.py"
  yield BadInput("config closed", MAIN, (closed,), ("closed.py", "Permission denied"), True)
  for command in ("apo_jax.plan", "apo_jax.preview", "apo_jax.sweep"):
    for name in ("syntax", "number", "empty"):
      arguments = (f"--config={AT}/configs/{name}.py",)
      yield BadInput(f"{command} {name}", command, arguments, words[name][:1])
  yield BadInput("no config", MAIN, (), ("--config is missing",))
  yield BadInput("config alone", MAIN, ("configs/demo.py",), ("--config=configs/demo.py",))


def _fields() -> Iterator[BadInput]:
  """Fields of a config."""
  for field, value, *said in (
    ("rounds", "-1", "at least 0"),
    ("rounds", "100000000", "at most 10,000"),
    ("rounds", "1e8", "'1e8'", "an int"),
    ("rounds", "", "''", "an int"),
    ("rounds", "nan", "'nan'", "an int"),
    ("rounds", "None", "'None'", "an int"),
    ("rounds.deeper", "3", "config.rounds is no group"),
    ("seed", "-1", "at least 0"),
    ("roundss", "3", "did you mean config.rounds?"),
    ("policy.losss", "dpo", "did you mean config.policy.loss?"),
    ("polcy.loss", "dpo", "did you mean config.policy?"),
    ("policy.loss", "ppo", "'rrhf'"),
    ("policy.loss", "", "'rrhf'"),
    ("policy.dpo", "x", "a ConfigDict"),
    ("policy.dpo.beta", "0", "above 0"),
    ("policy.dpo.beta", "1e300", "float32"),
    ("policy.training.learning_rate", "nan", "above 0"),
    ("policy.training.learning_rate", "inf", "above 0"),
    ("policy.training.learning_rate", "1e-300", "float32"),
    ("policy.training.learning_rate", "fast", "'fast'", "a float above 0"),
    ("policy.training.batch_size", "0", "at least 1"),
    ("policy.training.batch_size", "1000000000000", "at most 1,000,000"),
    ("supervised.epochs", "1000000000000", "at most 100,000"),
    ("sampling.batch_size", "1000000000000", "at most 1,000,000"),
    ("sampling.training.num_samples", "1000000000", "at most 10,000"),
    ("sampling.training.max_new_tokens", "1000000000", "at most 10,000,000"),
    ("sampling.training.temperature", "-1", "at least 0"),
    ("sampling.training.temperature", "1e-300", "float32"),
    ("sampling.training.top_p", "1.5", "at most 1"),
    ("sampling.training.stop", "('',)", "not empty"),
    ("evaluation.num_queries", "1000000000000", "at most 2,147,483,647"),
    ("model.shape.layers", "1000000000", "at most 10,000"),
    ("model.shape.head_dim", "7", "even"),
    ("model.shape.embed_dim", "1000000000000", "at most 1,000,000"),
    ("tokenizer.vocab_size", "100", "at least 259"),
    ("data.row_length", "1", "at least"),
    ("data.query_buckets", "(30, 10)", "ascend"),
    ("data.num_golden", "100000000", "10444"),
    ("mesh.data", "0", "at least 1"),
    ("mesh.tensor", "1000000", "devices"),
    ("logging.tensorboard", "yes", "True or False"),
    ("policy.lora.modules", "('nope',)", "'nope'"),
    ("reward.terms", "('nope',)", "'nope'"),
    ("tokenizer.path", "/nonexistent", "/nonexistent"),
    ("data.chat_template", "/nonexistent.jinja", "No such file"),
    ("data.chat_template", "{{", "template"),
  ):
    shown = f"config.{field.split('.')[0]}"
    arguments = (*_TINY, f"--config.{field}={value}")
    yield BadInput(f"{field}={value}", MAIN, arguments, (shown, *said))
  group = (
    "--config=configs/smollm2_hh.py",
    "--config.model.shape.layers=3",
  )
  words = ("config.model.shape.layers is '3'", "leaves its group of fields out")
  yield BadInput("a field of a group that is not there", MAIN, group, words)
  apart = (DEMO, "--config.rounds", "many")
  yield BadInput("a value apart", MAIN, apart, ("config.rounds is 'many'", "an int"))
  both = (DEMO, "--config.policy.dpo.beta=1", "--config.policy=3")
  yield BadInput("a group behind its field", MAIN, both, ("--config.policy ",))


def _flags() -> Iterator[BadInput]:
  """Flags of the run's command."""
  for flag, *said in (
    ("--confg=x", "'confg'", "config"),
    ("--run_dirr=x", "run_dirr", "Did you mean: run_dir"),
    ("--repair=maybe", "--repair is 'maybe'", "true or false"),
    ("--run_dir", "Missing value", "run_dir"),
    ("extra", "'extra' is not a flag"),
    ("--num_processes=x", "--num_processes is 'x'", "a whole number"),
    ("--num_processes=2", "coordinator_address and process_id"),
    ("--flagfile=/nonexistent", "/nonexistent"),
    ("--distributed", "no cluster"),
    (f"--compilation_cache={AT}/folders/file", "--compilation_cache", "is no directory"),
    (f"--compilation_cache={AT}/folders/dangling", "--compilation_cache", "a link to"),
    (f"--share={AT}/folders/file", "--share", "is no directory"),
    ("--share=gs://bucket/share", "--share", "file system"),
    ("--run_dir=s3://bucket/run", "--run_dir", "or gs://BUCKET/DIRECTORY"),
    ("--run_dir=gs:/bucket/run", "--run_dir", "write gs://bucket/run"),
    ("--run_dir=gs://bucket", "--run_dir", "gs://BUCKET/DIRECTORY"),
  ):
    yield BadInput(f"flag {flag}", MAIN, (DEMO, flag), tuple(said))
  for address, count, number, *said in (
    ("localhost:1", 2, 2, "process_id is 2"),
    ("localhost", 2, 0, "coordinator_address is 'localhost'"),
    ("localhost:1", 0, 0, "num_processes is 0"),
  ):
    names = ("coordinator_address", "num_processes", "process_id")
    given = zip(names, (address, count, number), strict=True)
    flags = (DEMO, *(f"--{name}={value}" for name, value in given))
    yield BadInput(f"processes {address} {count} {number}", MAIN, flags, tuple(said))
  # A folder that another flag names is not made for a command that is refused.
  flags = (DEMO, "--config.mesh.tensor=3", f"--share={NEW}", f"--compilation_cache={NEW}/cache")
  yield BadInput("a mesh beside new folders", MAIN, flags, ("config.mesh", "devices"))


def _files(**changes: str) -> tuple[str, ...]:
  """The flags of a run on files, of which some are others."""
  fields = ("preferences", "golden", "queries", "demonstrations")
  named = {field: f"{AT}/data/{field}.jsonl" for field in fields} | changes
  sizes = (f"--config.data.num_{field}=0" for field in (*fields, "test"))
  given = (f"--config.data.{field}={location}" for field, location in named.items())
  return (*_TINY, "--config.data.source=files", *sizes, *given)


def _data() -> Iterator[BadInput]:
  """Locations of data."""
  words = {
    "empty.jsonl": "holds no record",
    "blank.jsonl": "holds no record",
    "binary.jsonl": "not valid JSON",
    "other.jsonl": "columns (a)",
    "lists.jsonl": "it must be a JSON object",
    "deep.jsonl": "not valid JSON",
    "page.jsonl": "web page",
    "pointer.jsonl": "git-lfs",
    "utf16.jsonl": "UTF-16",
    "nan.jsonl": "finite number",
    "huge.jsonl": "finite number",
    "no_text.jsonl": "not empty",
    "not.jsonl.gz": "gzip",
    "cut.jsonl.gz": "ended before",
    "not.jsonl.xz": "not supported",
    "not.parquet": "Parquet",
    "empty.parquet": "it is empty",
    "table.csv": "columns (a, b)",
    "words.txt": "its suffix is '.txt'",
    "packed.zip": "unpack an archive",
  }
  places = {f"{AT}/data/{name}": words[name] for name in DATA} | {
    f"{AT}/data/folder": "holds nothing",
    f"{AT}/data/mixed": "several kinds",
    f"{AT}/data/dangling.jsonl": "a file that exists",
    f"{AT}/data/*.nothing": "no file matches",
    "/nonexistent.jsonl": "a file that exists",
    f"{_LONG}.jsonl": "a file that exists",
    "nosuch://x": "its scheme is 'nosuch'",
    "hf://": "names no data set",
    "tfds://nothing?split=train": "nothing not found",
  }
  for place, said in places.items():
    arguments = _files(preferences=place)
    yield BadInput(
      f"preferences {_short(place)}", MAIN, arguments, ("config.data.preferences", said)
    )
  for field in ("golden", "queries", "demonstrations"):
    arguments = _files(**{field: f"{AT}/data/other.jsonl"})
    yield BadInput(f"{field} other", MAIN, arguments, (f"config.data.{field}", "columns (a)"))
  closed = _files(preferences=f"{AT}/data/closed.jsonl")
  yield BadInput("preferences closed", MAIN, closed, ("closed.jsonl", "Permission denied"), True)


def _checkpoints() -> Iterator[BadInput]:
  for place, said in {
    f"{AT}/checkpoints/no_config": "has no config.json",
    f"{AT}/checkpoints/list": "config.json",
    f"{AT}/checkpoints/cut": "config.json",
    f"{AT}/checkpoints/deep": "config.json",
    f"{AT}/checkpoints/foreign": "config.json",
    f"{AT}/checkpoints/file": "not a directory",
    f"{AT}/data/folder": "has no config.json",
    "/nonexistent": "not a directory",
    "a/b/c": "not a directory",
  }.items():
    arguments = (*_TINY, f"--config.model.checkpoint={place}")
    words = ("config.model.checkpoint", place, said)
    yield BadInput(f"checkpoint {_short(place)}", MAIN, arguments, words)


def _run_directories() -> Iterator[BadInput]:
  for file in ("config", "data", "origins"):
    for kind in (*WRONG, "folder", "dangling"):
      name = f"{file}_{kind}"
      arguments = (*_TINY, f"--run_dir={AT}/runs/{name}")
      yield BadInput(f"run_dir {name}", MAIN, arguments, (f"runs/{name}", f"{file}.json"))
  for name, *said in (
    ("runs/config_old", "format 3"),
    ("runs/config_lacking", "config.policy"),
    ("runs/config_unknown", "config.news"),
    ("runs/config_group", "config.policy"),
    ("runs/data_nameless", "data.json", "sha256"),
    ("runs/begun", "The data has changed"),
    ("runs/exported", "config.json", "format"),
    ("folders/file", "no directory"),
    ("folders/file/below", "no directory"),
    ("folders/dangling", "a link to '/nonexistent/folder'"),
    ("folders/dangling/below", "a link to '/nonexistent/folder'"),
    ("folders/circle", "a link to"),
    (f"folders/full/{_LONG}", "File name too long"),
    (f"folders/full/new/{_LONG}", "File name too long"),
  ):
    flags = (*_TINY, f"--run_dir={AT}/{name}")
    yield BadInput(f"run_dir {_short(name)}", MAIN, flags, ("run", *said))
  for name in ("read_only", "read_only/new", "closed", "closed/new"):
    flags = (*_TINY, f"--run_dir={AT}/folders/{name}")
    yield BadInput(f"run_dir {name}", MAIN, flags, ("--run_dir", "cannot be"), True)
  yield BadInput("run_dir /dev/null", MAIN, (*_TINY, "--run_dir=/dev/null/x"), ("/dev/null",))


def _previews() -> Iterator[BadInput]:
  command = "apo_jax.preview"
  for name in ("config_gone", "config_null", "data_list", "origins_list"):
    flags = (*_TINY, f"--run_dir={AT}/runs/{name}")
    words = (f"runs/{name}", f"{name.split('_')[0]}.json")
    yield BadInput(f"preview {name}", command, flags, words)
  for flags, *said in (
    (_files(preferences="/nonexistent"), "config.data.preferences is '/nonexistent'"),
    (_files(golden=f"{AT}/data/deep.jsonl"), "config.data.golden", "not valid JSON"),
    ((DEMO, "--config.rounds=100000000"), "config.rounds is 100000000"),
    ((DEMO, f"--output={AT}/folders/file"), "--output", "no directory"),
    ((DEMO, f"--output={AT}/folders/dangling"), "--output", "a link to"),
    ((DEMO, "--output=gs://bucket/x"), "--output", "file system"),
  ):
    yield BadInput(f"preview {said[0]} {_short(flags[-1])}", command, flags, tuple(said))


def _plans() -> Iterator[BadInput]:
  for flag, *said in (
    ("--topology=nothing", "--topology is 'nothing'"),
    ("--topology=h100:0", "--topology is 'h100:0'", "how many"),
    ("--topology=h100:x", "--topology is 'h100:x'", "how many"),
    ("--topology=h100:-1", "--topology is 'h100:-1'", "how many"),
    ("--topology=", "--topology is ''"),
    ("--only=nothing", "--only", "nothing"),
    ("--config.mesh.tensor=3", "config.mesh"),
    ("--config.model.checkpoint=/nonexistent", "config.model.checkpoint"),
    (f"--config.model.checkpoint={AT}/checkpoints/deep", "config.json"),
    ("extra", "'extra' is not a flag"),
  ):
    yield BadInput(f"plan {flag}", "apo_jax.plan", (*_TINY, flag), tuple(said))


def _exports() -> Iterator[BadInput]:
  run, output = f"--run={AT}/runs/begun", f"--output={NEW}"
  for flags, *said in (
    ((), "--run is missing"),
    ((run,), "--output is missing"),
    ((run, output, "--round=99"), "--round is 99"),
    ((run, output, "--round=-1"), "--round is -1"),
    ((run, output, "--round=last"), "--round is 'last'", "a whole number"),
    ((run, output), "no round is finished"),
    ((run, output, "--player=nobody"), "nobody", "policy"),
    ((run, output, "--dtype=float16"), "float16", "bfloat16"),
    ((run, output, "--adapter"), "--adapter", "lora.rank is 0"),
    ((run, f"--output={AT}/folders/file"), "--output", "no directory"),
    ((run, f"--output={AT}/folders/full"), "--output", "there already"),
    ((run, f"--output={AT}/folders/dangling"), "--output", "a link to"),
    ((run, f"--output={AT}/folders/full/{_LONG}"), "--output", "File name too long"),
    ((run, f"--output={AT}/runs/begun"), "--output", "there already"),
    (("--run=/nonexistent", output), "--run is '/nonexistent'"),
    ((f"--run={AT}/folders/file", output), "--run", "folders/file"),
    ((f"--run={AT}/folders/full", output), "--run", "folders/full"),
    ((f"--run={AT}/runs/exported", output), "runs/exported", "format"),
    ((f"--run={AT}/runs/config_old", output), "format 3"),
    ((f"--run={AT}/runs/config_deep", output), "--run", "config.json"),
    ((f"--run={AT}/runs/config_list", output), "config.json", "[1, 2]"),
    ((f"--run={AT}/runs/config_group", output), "config.policy is 3"),
    ((f"--run={AT}/runs/origins_list", output), "origins.json"),
    ((f"--run={AT}/runs/rounds_file", output), "tokenizer"),
  ):
    yield BadInput(f"export {_short(' '.join(flags))}", "apo_jax.export", flags, tuple(said))


def _evaluations() -> Iterator[BadInput]:
  run, output = f"--run={AT}/runs/begun", f"--output={NEW}"
  judge = ("--judge=m", "--judge_url=http://127.0.0.1:1/v1")
  for flags, *said in (
    ((), "Nothing to evaluate"),
    (("--run=/nonexistent",), "--run is '/nonexistent'"),
    ((f"--run={AT}/runs/config_list",), "config.json"),
    ((f"--run={AT}/runs/config_gone",), "config.json"),
    ((run,), "whose data has changed"),
    ((run, "--num_queries=0"), "--num_queries is 0", "at least 1"),
    ((run, "--batch_size=1000000000000"), "--batch_size", "at most 1,000,000"),
    ((run, "--temperature=nan"), "--temperature is nan"),
    ((run, "--top_p=nan"), "--top_p is nan"),
    ((run, "--max_new_tokens=1000000000"), "--max_new_tokens", "at most"),
    ((run, "--seed=-1"), "--seed is -1"),
    ((run, *judge[:1]), "--judge_url is ''"),
    ((run, *judge[:1], "--judge_url=ftp://x"), "--judge_url is 'ftp://x'"),
    ((run, *judge, "--judge_timeout=nan"), "--judge_timeout is nan"),
    ((run, *judge, "--judge_temperature=nan"), "--judge_temperature is nan"),
    ((run, *judge, "--judge_parallel=100000"), "--judge_parallel is 100000"),
    ((run, *judge, "--judge_budget=0"), "--judge_budget is 0"),
    (("--reward=/nonexistent", f"--preferences={AT}/data/deep.jsonl"), "deep.jsonl"),
    (("--reward=/nonexistent", f"--preferences={AT}/data/preferences.jsonl"), "/nonexistent"),
    (("--reward=/nonexistent", f"--rewardbench={AT}/data/other.jsonl"), "other.jsonl"),
    (("--policy=x",), "Nothing to evaluate on"),
  ):
    name = f"evaluate {_short(' '.join(flags))}"
    yield BadInput(name, "apo_jax.evaluate", (*flags, output), tuple(said))
  for place, said in (("file", "no directory"), ("dangling", "a link to")):
    flags = (run, f"--output={AT}/folders/{place}")
    yield BadInput(f"evaluate to {place}", "apo_jax.evaluate", flags, ("--output", said))


def _chats() -> Iterator[BadInput]:
  run = f"--run={AT}/runs/begun"
  for flags, *said in (
    ((), "Nobody to chat with"),
    ((run, "--policy=x"), "--run", "--policy"),
    (("--run=/nonexistent",), "--run is '/nonexistent'"),
    ((f"--run={AT}/runs/config_null",), "config.json"),
    ((f"--run={AT}/folders/full",), "folders/full"),
    ((run,), "no round is finished"),
    ((run, "--round=99"), "--round is 99"),
    ((run, "--compare=0"), "--compare is '0'"),
    ((run, "--compare=0,0"), "--compare is '0,0'"),
    ((run, "--temperature=nan"), "--temperature is nan"),
    ((run, "--seed=-1"), "--seed is -1"),
    ((run, "--max_new_tokens=1000000000000"), "--max_new_tokens", "at most"),
    (("--policy=/nonexistent",), "/nonexistent"),
  ):
    yield BadInput(f"chat {_short(' '.join(flags))}", "apo_jax.chat", flags, tuple(said))


def _comparisons() -> Iterator[BadInput]:
  runs, output = (f"{AT}/runs/finished", f"{AT}/runs/finished_too"), f"--output={NEW}"
  for flags, *said in (
    ((), "RUN"),
    (("/nonexistent", output), "/nonexistent", "no directory"),
    ((f"{AT}/folders/file", output), "no directory"),
    ((f"{AT}/data/folder", output), "no run is in it"),
    ((runs[0], f"{AT}/runs/begun", output), "has not finished round 1"),
    ((runs[0], f"{AT}/runs/config_list", output), "config.json"),
    ((runs[0], f"{AT}/runs/config_deep", output), "config.json"),
    ((runs[0], f"{AT}/runs/damaged", output), "damaged"),
    ((*runs, output, "--round=99"), "has not finished round 99"),
    ((*runs, output, "--round=-1"), "-1"),
    ((*runs, output, "--round=last"), "--round", "'last'"),
    ((*runs, output, "--baseline=nobody"), "nobody"),
    ((*runs, f"--output={AT}/folders/file"), "--output", "no directory"),
    ((*runs, f"--output={AT}/folders/dangling"), "--output", "a link to"),
    ((*runs, "--nothing"), "--nothing"),
  ):
    yield BadInput(f"compare {_short(' '.join(flags))}", "apo_jax.compare", flags, tuple(said))


def _sweeps() -> Iterator[BadInput]:
  for flag, *said in (
    ("--set=nothing=1", "config.nothing is '1'", "no such field"),
    ("--set=policy.losss=dpo", "did you mean config.policy.loss?"),
    ("--set=policy.loss", "--set is 'policy.loss'"),
    ("--set=policy.loss=", "config.policy.loss is ''"),
    ("--set=policy.loss=rjs,rjs", "'rjs' twice"),
    ("--set=policy.loss=ppo", "config.policy.loss is 'ppo'"),
    ("--set=config.policy.loss=rjs", "without 'config.'"),
    ("--set=rounds=1,100000000", "config.rounds is 100000000"),
    ("--set=policy.training.learning_rate=nan", "learning_rate is nan"),
    ("--set=a,b=1:2:3", "2 values"),
    ("--seeds=0", "--seeds is '0'"),
    ("--seeds=-1", "--seeds is '-1'"),
    ("--seeds=1,1", "--seeds is '1,1'"),
    ("--seeds=1000000", "--seeds", "at most"),
    ("--seeds=1000000000000", "--seeds", "at most"),
    ("--jobs=0", "--jobs is 0"),
    ("--jobs=100000", "--jobs is 100000"),
    ("--jobs=many", "--jobs is 'many'"),
  ):
    flags = (DEMO, flag, f"--sweep_dir={NEW}")
    yield BadInput(f"sweep {flag}", "apo_jax.sweep", flags, tuple(said))
  twice = (DEMO, "--set=policy.loss=rjs", "--set=policy.loss=dpo", f"--sweep_dir={NEW}")
  yield BadInput("sweep a field twice", "apo_jax.sweep", twice, ("policy.loss more than once",))
  seeds = (DEMO, "--set=seed=1,2", "--seeds=2", f"--sweep_dir={NEW}")
  yield BadInput("sweep seeds twice", "apo_jax.sweep", seeds, ("--seeds and --set name seed",))
  for place, said in (("file", "no directory"), ("dangling", "a link to")):
    flags = (DEMO, f"--sweep_dir={AT}/folders/{place}")
    yield BadInput(f"sweep in {place}", "apo_jax.sweep", flags, ("--sweep_dir", said))


def _builds() -> Iterator[BadInput]:
  source, output = f"--source={AT}/data/preferences.jsonl", f"--output={NEW}"
  for flags, *said in (
    ((output,), "--source is missing"),
    ((source,), "--output is missing"),
    (("--source=/nonexistent.jsonl", output), "--source is '/nonexistent.jsonl'"),
    ((f"--source={AT}/data/deep.jsonl", output), "--source", "not valid JSON"),
    ((source, output, "--golden=/nonexistent.jsonl"), "--golden"),
    ((source, output, f"--queries={AT}/data/empty.jsonl"), "--queries", "no record"),
    ((source, output, "--name=A-b"), "--name is 'A-b'"),
    ((source, output, "--name="), "--name is ''"),
    ((source, output, f"--name={_LONG}"), "File name too long"),
    ((f"{source}?split=test", output), "--source", "split"),
    ((source, f"--output={AT}/folders/file"), "--output", "no directory"),
    ((source, f"--output={AT}/folders/dangling"), "--output", "a link to"),
    ((source, "--output=gs://bucket/x"), "--output", "file system"),
  ):
    name = f"build {_short(' '.join(flags))}"
    yield BadInput(name, "apo_jax.data.tfds.build", flags, tuple(said))


def _launches() -> Iterator[BadInput]:
  for flags, *said in (
    ((), "--processes"),
    (("--processes=0",), "--processes", "at least 1"),
    (("--processes=-1",), "--processes", "at least 1"),
    (("--processes=two",), "--processes", "'two'"),
    (("--processes=100000", "--", DEMO), "--processes", "at most"),
    (("--processes=2", "--devices_per_process=0"), "--devices_per_process", "at least 1"),
    (("--processes=2", "--devices_per_process=1000000"), "--devices_per_process", "at most"),
    (("--processes=2", DEMO), DEMO),
    (("--processes=2", "--module=not.a_module", "--", DEMO), "--module", "not.a_module"),
  ):
    yield BadInput(f"launch {_short(' '.join(flags))}", "launch/local.py", flags, tuple(said))

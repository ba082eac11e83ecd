"""What the check runs: for each stage its entries in order, at full size or tiny.

Nothing heavy is imported: the check has to start, and to write its table, whatever is broken.
"""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks import data

STAGES = ("a", "b", "c", "d", "e", "f")
ROOT = Path(__file__).resolve().parents[2]

ONE_B = {"layers": 16, "embed_dim": 2048, "heads": 32, "kv_heads": 8, "head_dim": 64}
ONE_B |= {"mlp_dim": 8192, "rope_theta": 1e5, "norm_epsilon": 1e-5, "tied_embeddings": True}
SEVEN_B = {"layers": 32, "embed_dim": 4096, "heads": 32, "kv_heads": 32, "head_dim": 128}
SEVEN_B |= {"mlp_dim": 11008, "rope_theta": 1e4, "norm_epsilon": 1e-6, "tied_embeddings": False}
TINY = {"layers": 2, "embed_dim": 64, "heads": 4, "kv_heads": 2, "head_dim": 16}
TINY |= {"mlp_dim": 128, "rope_theta": 1e4, "norm_epsilon": 1e-6, "tied_embeddings": True}

TESTS_AT_ONCE = 6

# What is tried at 7B with each type of frozen weights, what matters most first.
SEVEN_B_WORKS = {
  "nf4": ("DPO step", "reward step", "sampling"),
  "bfloat16": ("DPO step", "sampling"),
  "float32": ("DPO step",),
  "int8": ("DPO step",),
}
# What configs/llama_7b_hh.py adapts.
ADAPTERS = {"rank": 16, "alpha": 32.0, "modules": ["query", "value"]}

# A game of the demo's shape in which every phase has an update or two.
TINY_GAME = {
  "rounds": 1,
  "data.num_demonstrations": 64,
  "data.num_preferences": 32,
  "data.num_golden": 16,
  "data.num_queries": 16,
  "data.num_test": 16,
  "supervised.epochs": 1,
  "supervised.batch_size": 16,
  "reward.base.epochs": 1,
  "reward.base.batch_size": 16,
  "reward.training.batch_size": 8,
  "reward.preference_batch_size": 8,
  "policy.training.batch_size": 8,
  "sampling.batch_size": 16,
  "evaluation.num_queries": 16,
}
# Of a round, as its log calls them.
ROUND_STAGES = ("golden samples", "reward", "policy samples", "scores", "policy")
# A round on real text that fits the time: the config's batches, fewer of them.
SMOLLM2_ROUND = {
  "rounds": 1,
  "model.remat": "dots",
  "data.num_preferences": 1024,
  "data.num_golden": 160,
  "data.num_queries": 256,
  "data.num_test": 256,
  "data.query_buckets": "(255,)",  # one shape each: compiling is most of a short round
  "data.row_buckets": "()",
  "evaluation.num_queries": 128,
}
_SMOLLM2_BATCHES = ("reward.base.", "reward.training.", "reward.preference_")
_SMOLLM2_BATCHES += ("policy.training.", "sampling.")


class Entry(NamedTuple):
  """One line of the table: a process of its own.

  Attributes:
    stage: a letter of `STAGES`.
    name: in the table; no two of a check are equal.
    seconds: after so many, once it has its turn, it is ended.
    job: what `benchmarks.gpu.worker` is to do; None for a command.
    command: arguments of a Python.
    python: which one.
    run_dir: of a game, whose last evaluation is kept.
    environment: variables of this process alone.
    smaller: the same with less in a batch, for a card that has too little memory.
  """

  stage: str
  name: str
  seconds: float
  job: dict[str, Any] | None = None
  command: tuple[str, ...] = ()
  python: str = sys.executable
  run_dir: str = ""
  environment: Mapping[str, str] = MappingProxyType({})
  smaller: "Entry | None" = None


class Settings(NamedTuple):
  """What the command line says of the work.

  Attributes:
    tiny: shapes that a CPU computes in no time.
    torch_python: the Python that has torch; the peers' interpreter.
    scratch: where games and weights lie.
    smollm2: a checkpoint's folder or one with both parts of the package that holds it; "" is none.
  """

  tiny: bool
  torch_python: str
  scratch: Path
  smollm2: str


def entries(stage: str, settings: Settings) -> list[Entry]:
  """Those of one stage, in order."""
  return {
    "a": _machine,
    "b": _tests,
    "c": _demo,
    "d": _one_billion,
    "e": _smollm2,
    "f": _seven_billion,
  }[stage](settings)


def _machine(settings: Settings) -> list[Entry]:
  dtype = {"dtype": "bfloat16"}
  return [
    Entry("a", "limits by jax", 60, {"library": "jax", "work": "limits", "model": dtype}),
    Entry(
      "a",
      "limits by torch",
      45,
      {"library": "torch", "work": "limits", "model": dtype},
      python=settings.torch_python,
    ),
  ]


def _tests(settings: Settings) -> list[Entry]:
  # Without the options of pyproject.toml: no plugin that may be missing.
  options = ("-o", "addopts=", "-q", "-rs", "--durations=5", "-p", "no:cacheprovider")
  if not settings.tiny and importlib.util.find_spec("xdist"):
    # Most of their time is compilation, which takes one core each.
    options += ("-n", str(TESTS_AT_ONCE), "--dist", "load")
  # Processes that share the card must not each set most of its memory aside.
  shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
  command = ("-m", "pytest", "tests/gpu", *options)
  return [Entry("b", "tests", 200, command=command, environment=shared)]


def _demo(settings: Settings) -> list[Entry]:
  overrides = TINY_GAME if settings.tiny else {}
  return [_game("c", "demo", 150, "configs/demo.py", overrides, settings)]


def _one_billion(settings: Settings) -> list[Entry]:
  tiny = settings.tiny
  model = _model(TINY, 512, "dots") if tiny else _model(ONE_B, 128256, "dots")
  vocab = model["vocab_size"]
  pairs, query, response = (2, 8, 16) if tiny else (16, 256, 256)
  items = data.items(pairs, 2, query, response, vocab)
  golden = data.items(max(pairs // 2, 1), 5, query, response, vocab)
  queries, samples, prompt, new = (2, 2, 8, 16) if tiny else (32, 4, 128, 128)
  scored = data.items(queries, samples, prompt, new, vocab)
  drawn = {
    "queries": data.queries(queries, prompt, vocab),
    "lengths": [[new] * samples] * queries,
    "batch": queries,
  }

  def ours(name: str, work: str, seconds: float, **job: Any) -> Entry:
    whole = {"library": "jax", "work": work, "model": model, "zero_reference": True}
    return Entry("d", name, seconds, whole | job)

  def theirs(name: str, work: str, seconds: float, **job: Any) -> Entry:
    whole = {"library": "torch", "work": work, "model": model} | job
    return Entry("d", name, seconds, whole, python=settings.torch_python)

  halved = ours("DPO step, half a batch", "dpo", 90, items=items[: max(pairs // 2, 1)])
  again = theirs(
    "DPO step, PyTorch, in halves", "dpo", 60, items=items, masters="float32", accumulation=2
  )
  first = [
    ours("DPO step", "dpo", 100, items=items, profile=True)._replace(smaller=halved),
    theirs("DPO step, PyTorch", "dpo", 60, items=items, masters="float32")._replace(smaller=again),
    ours("sampling", "sampling", 100, profile=True, **drawn),
    theirs("sampling, generate", "sampling", 75, repeats=2, **drawn),
    ours("reward step", "reward", 100, items=golden, profile=True),
  ]
  if tiny:  # what follows is no other code
    return first
  by_xla = model | {"attention": "xla"}
  return [
    *first,
    ours("DPO step, attention by XLA", "dpo", 100, items=items, model=by_xla),
    ours("rewards", "reward scores", 60, items=scored),
    ours("log-probabilities", "logprob scores", 60, items=scored),
    theirs("DPO step, PyTorch, bfloat16 weights", "dpo", 60, items=items, masters="bfloat16"),
    theirs("DPO step, TRL", "trl dpo", 100, items=items, checkpointing=False, repeats=3),
  ]


def _smollm2(settings: Settings) -> list[Entry]:
  if not settings.smollm2:
    return []
  checkpoint = settings.scratch / "smollm2"
  overrides = SMOLLM2_ROUND | {
    f"data.{name}": settings.scratch / "hh" / f"{name}.jsonl.gz"
    for name in ("preferences", "golden", "queries")
  }
  overrides["model.checkpoint"] = checkpoint
  if settings.tiny:
    overrides |= {f"data.num_{name}": 16 for name in ("preferences", "golden", "queries")}
    overrides |= {"sampling.training.max_new_tokens": 8, "sampling.evaluation.max_new_tokens": 8}
    overrides |= {"evaluation.num_queries": 8, "data.num_test": 64, "evaluation.batch_size": 4}
    overrides |= {f"{name}batch_size": 4 for name in _SMOLLM2_BATCHES}
  weights = ("-m", "benchmarks.gpu.smollm2", settings.smollm2, str(settings.scratch))
  ours = _game("e", "SmolLM2, a round", 240, "configs/smollm2_hh.py:full", overrides, settings)
  # As configs/smollm2_hh.py has it.
  theirs = {
    "library": "torch",
    "work": "round",
    "checkpoint": str(checkpoint),
    "dialogues": str(settings.scratch / "hh"),
    "run_dir": ours.run_dir,
    "stages": ROUND_STAGES,
    "longest_query": 255,
    "samples": 4,
    "new_tokens": 8 if settings.tiny else 256,
    "batch": 4 if settings.tiny else 32,
    "reward_rate": 1e-4,
    "policy_rate": 2e-4,
  }
  return [
    Entry("e", "SmolLM2's weights", 120, command=weights, python=settings.torch_python),
    ours,
    Entry("e", "SmolLM2, the stages by PyTorch", 240, theirs, python=settings.torch_python),
  ]


def _seven_billion(settings: Settings) -> list[Entry]:
  tiny = settings.tiny
  found = []
  works = {"nf4": ("DPO step",)} if tiny else SEVEN_B_WORKS
  for frozen, names in works.items():
    model = _model(TINY, 512, "full") if tiny else _model(SEVEN_B, 32000, "full")
    model |= {"adapters": ADAPTERS, "fields": {"frozen_dtype": frozen}}
    sizes = (4, 2) if tiny else (16, 8, 4)
    for name in names:
      entry = None
      for size in reversed(sizes):
        job = {"library": "jax", "model": model, "zero_reference": True, "repeats": 2}
        job |= _seven_billion_work(name, size, model["vocab_size"], tiny=tiny)
        entry = Entry("f", f"7B, {frozen}, {name}, batch {size}", 120, job, smaller=entry)
      found.append(entry)
  return found


def _seven_billion_work(name: str, size: int, vocab: int, *, tiny: bool) -> dict[str, Any]:
  """Rows of 512 tokens: a query and two responses, or a golden one and its samples."""
  query, pair, few = (8, 12, 8) if tiny else (128, 192, 96)
  if name == "sampling":
    queries = data.queries(size, query, vocab)
    lengths = [[query] * 4] * size
    return {"work": "sampling", "queries": queries, "lengths": lengths, "batch": size}
  if name == "reward step":
    return {"work": "reward", "items": data.items(size, 4, query, few, vocab)}
  return {"work": "dpo", "items": data.items(size, 2, query, pair, vocab)}


def _model(shape: dict[str, Any], vocab_size: int, remat: str) -> dict[str, Any]:
  """As `settings.model` has it."""
  return {"shape": shape, "vocab_size": vocab_size, "dtype": "bfloat16", "remat": remat}


def _game(
  stage: str, name: str, seconds: float, config: str, overrides: dict[str, Any], settings: Settings
) -> Entry:
  run_dir = str(settings.scratch / f"run_{stage}")
  fields = [f"--config.{field}={value}" for field, value in overrides.items()]
  flags = (f"--config={config}", f"--run_dir={run_dir}", *fields)
  command = ("-m", "apo_jax.main", *flags)
  return Entry(stage, name, seconds, command=command, run_dir=run_dir)

"""Under which names a checkpoint's files hold its tensors, where tools wrapped the model.

Trainers save a model inside others: `module.` (DDP), `_orig_mod.` (torch.compile), `policy.` or
`actor.`, `base_model.model.` (PEFT), `pretrained_model.` (TRL), or `model.` once more. What all of
a model's names share is passed over, whatever it is. Heads of reward models have other names in
other tools.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from apo_jax.models.hugging_face.weight_files import Fail

# Parts of a name that a wrapper adds, wherever it stands: some wrap single layers.
_WRAPPERS = frozenset(
  ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
)
# A reward model's head: transformers, OpenRLHF, TRL, and what others call it.
HEADS = (
  "score",
  "value_head",
  "v_head",
  "v_head.summary",
  "classifier",
  "rm_head",
  "reward_head",
  "regression_head",
)
# The statistics by which OpenRLHF normalises rewards when it is asked to.
STATISTICS = ("mean", "std")
# What quantised weights are stored as: GPTQ and AWQ, bitsandbytes, FP8 and compressed tensors.
_QUANTISED = (
  *("qweight", "qzeros", "g_idx", "SCB", "absmax", "quant_map", "quant_state"),
  *("weight_scale", "weight_scale_inv", "weight_packed", "input_scale"),
)


class StoredNames(NamedTuple):
  """How a checkpoint's tensors are called in its files.

  Attributes:
    of: the stored name of each tensor that is wanted and there.
    others: what else is stored, by the name that it has without wrappers.
    wrapper: what the stored names have before those of transformers, "" for nothing.
    bare: the names are those of a model without a head, which lack its first part.
  """

  of: dict[str, str]
  others: dict[str, str]
  wrapper: str
  bare: bool


def find_stored_names(present: Collection[str], wanted: Sequence[str], fail: Fail) -> StoredNames:
  """The stored name of every tensor that is wanted, as far as they are there.

  Args:
    present: the names in the files.
    wanted: those of transformers, the embedding's first.
    fail: raises an error that ends in the given words; for files that hold more than one model.
  """
  plain: dict[str, str] = {}
  for name in sorted(present):
    other = plain.setdefault(_without_wrappers(name), name)
    if other != name:
      fail(_several(other, name))
  base, _, embedding = wanted[0].partition(".")
  prefix = f"{base}."
  if wanted[0] not in plain:
    found = [name for name in plain if f".{name}".endswith(f".{embedding}")]
    if len(found) > 1:
      fail(_several(*(plain[name] for name in found[:2])))
    prefix = found[0].removesuffix(embedding) if found else prefix
  bare = not f".{prefix}".endswith(f".{base}.")
  outer = prefix if bare else prefix.removesuffix(f"{base}.")
  of, used = {}, set()
  for name in wanted:
    rest = name.removeprefix(f"{base}.")
    # A head stands beside the trunk, whose wrapper may be around the trunk alone.
    places = (prefix + rest,) if rest != name else (outer + name, name)
    place = next((place for place in places if place in plain), None)
    if place is not None:
      of[name] = plain[place]
      used.add(place)
  others = {name.removeprefix(outer): stored for name, stored in plain.items() if name not in used}
  wrapper = outer or next((_wrapper_in(name) for name in of.values() if _wrapper_in(name)), "")
  return StoredNames(of, others, wrapper, bare)


def find_head(others: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
  """The names, without wrappers, of what can be a reward model's head: a row of weights."""
  return [
    f"{head}.weight"
    for head in HEADS
    if f"{head}.weight" in others and shapes[others[f"{head}.weight"]][:1] == (1,)
  ]


def is_head_bias(name: str) -> bool:
  """Whether it is what a reward model's head adds to every reward alike."""
  return name in {f"{head}.bias" for head in HEADS}


def is_value_head(name: str) -> bool:
  """Whether it belongs to a head of TRL's or LLaMA-Factory's language model with a value head."""
  return name.startswith(("v_head.", "value_head."))


def what_it_is(names: Collection[str]) -> str | None:
  """What names that no model of transformers has say of a checkpoint, in a few words."""
  for name in sorted(names):
    parts = name.split(".")
    if any(part.startswith("lora_") or part == "base_layer" for part in parts):
      return (
        f"which holds adapters beside its weights ({name}); merge them with merge_and_unload of "
        "peft, or give the folder that save_pretrained of peft writes"
      )
    if any(part in _QUANTISED for part in parts):
      return (
        f"which holds quantised weights ({name}); give the model in float32, bfloat16 or float16"
      )
  return None


def _several(one: str, other: str) -> str:
  return f"which holds both {one} and {other}; it must hold one model"


def _without_wrappers(name: str) -> str:
  return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _wrapper_in(name: str) -> str:
  return next((f"{part}." for part in name.split(".") if part in _WRAPPERS), "")

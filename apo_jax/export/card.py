"""The README.md of an exported model: what it is, and how it is used."""

import dataclasses
import textwrap
from pathlib import Path

from apo_jax.config.schema import Config
from apo_jax.data.templates import ChatForm, HhForm
from apo_jax.data.tokens import Codec
from apo_jax.run.branched import Branch


@dataclasses.dataclass(frozen=True)
class Origin:
  """What was exported.

  Attributes:
    run: the run's name.
    config: the run's.
    round: the round that left the player so.
    player: "policy", "reward" or "testing_reward".
    base: the checkpoint that the player started from; "" for random weights.
    is_adapter: only the adapters were exported.
    branch: what the run was branched from; None where it began by itself.
  """

  run: str
  config: Config
  round: int
  player: str
  base: str
  is_adapter: bool
  branch: Branch | None = None

  @property
  def is_policy(self) -> bool:
    """Whether the player is the policy."""
    return self.player == "policy"


def model_card(origin: Origin, codec: Codec, padding: int) -> str:
  """The text of README.md, with the hub's metadata at its top."""
  use = _policy_use(origin, codec) if origin.is_policy else _reward_use(origin, codec, padding)
  return f"{_metadata(origin)}\n\n{_what(origin)}\n\n## Use\n\n{use}\n"


def _metadata(origin: Origin) -> str:
  lines = [
    f"library_name: {'peft' if origin.is_adapter else 'transformers'}",
    f"pipeline_tag: {'text-generation' if origin.is_policy else 'text-classification'}",
    "tags: [apo_jax, adversarial-preference-optimization]",
  ]
  if origin.base and not Path(origin.base).is_absolute():  # a name on the hub
    lines.append(f"base_model: {origin.base}")
  return "\n".join(["---", *lines, "---"])


def _what(origin: Origin) -> str:
  config = origin.config
  start = f"It started from {origin.base}." if origin.base else "Its weights started at random."
  name = {"policy": "policy", "reward": "reward model", "testing_reward": "testing reward model"}[
    origin.player
  ]
  is_judge = origin.player == "testing_reward"  # which is trained before the first round alone
  if is_judge:
    preferences = {
      "all": "all human preferences of the run",
      "policy": "the policy side's preferences",
    }
    trained_on = preferences[config.testing_reward.preferences]
    how = f"It was trained on {trained_on} and judges its policies."
  elif origin.branch is not None and 0 < origin.round <= origin.branch.round:
    how = f"It is as round {origin.round} left it, in the run that this one was branched from."
  elif origin.round == 0:
    how = "It is as it was before the first round."
  elif origin.is_policy:
    loss = config.policy.loss.name.upper()
    how = f"It is as round {origin.round} left it, its policy step {loss}."
  else:
    how = f"It is as round {origin.round} left it, its reward step {config.reward.mode!r}."
  if origin.branch is not None:
    how = f"{how} {origin.branch.sentence}"
  files = "These are its adapters alone. " if origin.is_adapter else ""
  return (
    f"# {origin.run}: {name}{'' if is_judge else f', round {origin.round}'}\n\n"
    f"The {name} of a game of Adversarial Preference Optimization (arXiv 2311.08045), played by "
    f"apo_jax. {start} {how} {files}".rstrip()
  )


def _policy_use(origin: Origin, codec: Codec) -> str:
  name = "AutoPeftModelForCausalLM" if origin.is_adapter else "AutoModelForCausalLM"
  # A whole model finds its generation config by itself.
  sampler = ', generation_config=GenerationConfig.from_pretrained(".")' if origin.is_adapter else ""
  code = f"""
    {_imports(origin, name)}

    tokenizer = AutoTokenizer.from_pretrained(".")
    model = {name}.from_pretrained(".").eval()
    query = [{{"role": "user", "content": "How do plants grow?"}}]
    text = tokenizer.apply_chat_template({_template_arguments(codec)})
    batch = tokenizer([text], add_special_tokens=False, return_tensors="pt")
    ids = model.generate(**batch{sampler})[0, batch["input_ids"].shape[1] :]
    print(tokenizer.decode(ids, skip_special_tokens=True))
    """
  stop = ", ".join(map(repr, origin.config.sampling.evaluation.stop))
  cut = (
    f" The run also cut responses before the first of {stop}, and stripped them." if stop else ""
  )
  return (
    f"{_block(code)}\n\ngeneration_config.json holds the sampler of the run's evaluation. Queries "
    f"had at most {codec.query_length} tokens in the run; longer ones lost their beginning.{cut}"
  )


def _reward_use(origin: Origin, codec: Codec, padding: int) -> str:
  eos = codec.tokenizer.convert_ids_to_tokens(codec.eos)
  is_last = origin.config.reward.pooling == "last"
  name, given = "AutoModelForSequenceClassification", ""
  if origin.is_adapter:
    name = "AutoPeftModelForSequenceClassification"
    given = f", num_labels=1, pad_token_id={padding}"
  opening = " " if isinstance(codec.form, HhForm) else codec.form.opening
  closing = codec.form.closing
  parts = [repr(opening)] * bool(opening) + ["response"] + [repr(closing)] * bool(closing)
  parts += [repr(eos)] * (not is_last)
  code = f"""
    {_imports(origin, name)}

    tokenizer = AutoTokenizer.from_pretrained(".")
    model = {name}.from_pretrained("."{given}).eval()
    query = [{{"role": "user", "content": "How do plants grow?"}}]
    response = "They turn light into sugar."
    text = tokenizer.apply_chat_template({_template_arguments(codec)})
    text += {" + ".join(parts)}
    batch = tokenizer([text], add_special_tokens=False, padding=True, return_tensors="pt")
    reward = model(**batch).logits[:, 0]
    """
  if is_last:
    rule = (
      "The reward is read at the response's last token, the one before eos: the sequence is given "
      f"without its eos. Padding is eos itself (token {codec.eos}, {eos!r}), which is passed over, "
      "so that a sequence that ends in eos is read at the same place."
    )
  else:
    rule = (
      f"The reward is read at the eos token (token {codec.eos}, {eos!r}): the sequence ends with "
      f"it, and padding is another token ({padding}, "
      f"{codec.tokenizer.convert_ids_to_tokens(padding)!r}), which is passed over."
    )
  return (
    f"{_block(code)}\n\n{rule} Nothing may stand behind the end. Only differences between "
    "rewards of responses to one query have a meaning."
  )


def _imports(origin: Origin, name: str) -> str:
  if not origin.is_adapter:
    return f"from transformers import {name}, AutoTokenizer"
  others = "AutoTokenizer, GenerationConfig" if origin.is_policy else "AutoTokenizer"
  # The second line is indented as the code that both stand in.
  return f"from peft import {name}\n    from transformers import {others}"


def _template_arguments(codec: Codec) -> str:
  knows_thinking = isinstance(codec.form, ChatForm) and "enable_thinking" in codec.form.template
  thinking = ", enable_thinking=False" if knows_thinking else ""
  return f"query, add_generation_prompt=True, tokenize=False{thinking}"


def _block(code: str) -> str:
  return f"```python\n{textwrap.dedent(code).strip()}\n```"

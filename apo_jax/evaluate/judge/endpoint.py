"""An OpenAI-compatible endpoint, asked by OpenAI's own client, which also retries with back-off.

The key comes from the environment and goes to the endpoint alone: whatever comes back, a reply or
the text of an error, is shown and kept without it.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from apo_jax.config.fields import ConfigError
from apo_jax.evaluate.judge.cache import Reply
from apo_jax.evaluate.request import JudgeRequest

# The client waits 0.5 s before the first retry, twice as long before each further one, at most 8 s,
# or what the endpoint says. It retries time-outs, lost connections, and the statuses 408, 409, 429
# and 500 and above.
RETRIES = 4
_HIDDEN = "(key)"


class AskingFailed(Exception):
  """A question without an answer; the message has the reason, in a few words.

  Attributes:
    is_final: whether no other question would be answered either.
  """

  def __init__(self, reason: str, *, is_final: bool):
    super().__init__(reason)
    self.is_final = is_final


class Endpoint:
  """Where a judge is asked; several threads may use it.

  Raises:
    ConfigError: the client is not installed, or the key's variable is not set.
  """

  def __init__(self, judge: JudgeRequest):
    try:
      import openai  # an extra, which takes a second
    except ImportError as error:
      raise ConfigError(
        f"--judge is {judge.model!r}, which is asked by OpenAI's client; install it with pip"
        " install 'apo_jax[judge]'."
      ) from error
    self._errors = openai
    self._judge = judge
    self._key = _key(judge)
    self._client = openai.OpenAI(
      api_key=self._key or "none",
      base_url=judge.url,
      timeout=judge.timeout,
      max_retries=RETRIES,
    )

  def ask(self, messages: Sequence[Mapping[str, str]]) -> Reply:
    """The reply to chat messages.

    Raises:
      AskingFailed: there is none.
    """
    errors = self._errors
    try:
      answer = self._client.chat.completions.create(
        model=self._judge.model, messages=list(messages), temperature=self._judge.temperature
      )
      return self._reply(answer)
    except errors.APITimeoutError as error:
      raise AskingFailed("no answer in time", is_final=False) from error
    except errors.APIConnectionError as error:
      reason = f"no connection ({self.without_key(str(error.__cause__ or error))})"
      raise AskingFailed(reason, is_final=False) from None
    except errors.APIStatusError as error:
      said = " ".join(self.without_key(str(error.message)).split())[:200]
      # The key, the model's name or the address is wrong: so it would be the next time.
      is_final = error.status_code in (401, 403, 404)
      reason = said if str(error.status_code) in said else f"status {error.status_code}: {said}"
      raise AskingFailed(reason, is_final=is_final) from None
    # What does not speak the protocol fails in the client's ways.
    except (errors.OpenAIError, ValueError, TypeError, AttributeError, LookupError):
      raise AskingFailed("an answer in another form than the protocol's", is_final=False) from None

  def without_key(self, text: str) -> str:
    """The text with the key, should it hold it, left out."""
    return text.replace(self._key, _HIDDEN) if self._key else text

  def _reply(self, answer: Any) -> Reply:
    text = answer.choices[0].message.content
    tokens = answer.usage.total_tokens if answer.usage else 0
    return Reply(self.without_key(text or ""), int(tokens or 0))


def _key(judge: JudgeRequest) -> str:
  if not judge.key_env:
    return ""
  key = os.environ.get(judge.key_env, "").strip()
  if not key:
    raise ConfigError(
      f"--judge_key_env is {judge.key_env!r}, a variable of the environment that is not set; set it"
      " to the endpoint's key, or give --judge_key_env= where the endpoint wants none."
    )
  return key

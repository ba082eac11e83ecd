"""Stop strings as an automaton over tokens, so that the sampler can end rows inside a jitted loop.

A stop string may begin or end in the middle of a token. A Knuth-Morris-Pratt automaton reads
characters; composed with each token's text it becomes a table [state, token] -> state.
"""

from collections.abc import Sequence

import numpy as np

from apo_jax.data.tokens import Codec


def stop_table(texts: Sequence[str], stops: Sequence[str]) -> np.ndarray | None:
  """The table Int32[states, tokens] for the stop strings, or None where there are none.

  State 0 is the start; the last state means that a stop string has been read, and stays. With
  several stop strings the automaton is Aho and Corasick's (1975).
  """
  if not stops:
    return None
  trie: list[dict[str, int]] = [{}]
  ends: set[int] = set()
  for stop in stops:
    state = 0
    for character in stop:
      if character not in trie[state]:
        trie.append({})
        trie[state][character] = len(trie) - 1
      state = trie[state][character]
    ends.add(state)
  fallback = [0] * len(trie)
  queue = list(trie[0].values())
  while queue:
    state = queue.pop(0)
    for character, child in trie[state].items():
      queue.append(child)
      back = fallback[state]
      while back and character not in trie[back]:
        back = fallback[back]
      fallback[child] = trie[back].get(character, 0)
      if fallback[child] in ends:
        ends.add(child)

  def step(state: int, character: str) -> int:
    while state and character not in trie[state]:
      state = fallback[state]
    return trie[state].get(character, 0)

  stopped = len(trie)
  table = np.full((stopped + 1, len(texts)), stopped, np.int32)
  for state in range(stopped):
    for token, text in enumerate(texts):
      current = state
      for character in text:
        current = step(current, character)
        if current in ends:
          current = stopped
          break
      table[state, token] = current
  return table


def tokens_before_stop(
  codec: Codec, tokens: Sequence[int], texts: Sequence[str], stops: Sequence[str]
) -> list[int]:
  """The tokens of the text before the first stop string, its trailing white space stripped.

  Golden text is stripped on its way to ids, so what a stop string leaves must be, or a line break
  would tell the two apart. What a template writes between a text and its end comes behind both.
  Tokens that are wholly kept stay as they were drawn. Of one that is cut, as ".\\n\\n" is before
  "Human", the text that is left is tokenised behind them.

  Args:
    codec: of the tokens.
    tokens: as drawn.
    texts: the text of every id (`Codec.texts`), in which the stop strings were seen.
    stops: the stop strings.
  """
  whole = "".join(texts[token] for token in tokens)
  cuts = [place for place in (whole.find(stop) for stop in stops) if place >= 0]
  if not cuts:
    return list(tokens)
  cut, end, rest = min(cuts), 0, ""
  kept: list[int] = []
  for token in tokens:
    begin, end = end, end + len(texts[token])
    if end > cut:
      rest = texts[token][: cut - begin]
      break
    kept.append(token)
  # Decoded together, as a white space may be a character of several tokens.
  text = (codec.decode(kept) + rest).rstrip() + codec.form.closing
  while not text.startswith(codec.decode(kept)):
    kept.pop()
  rest = text[len(codec.decode(kept)) :]
  if not rest:
    return kept
  made = [*kept, *codec.form.continuation_ids(kept, rest)]
  if codec.decode(made) == text:
    return made
  # Some tokenizers put a blank before a text that they read alone.
  return [*kept, texts.index(rest)] if rest in texts else kept

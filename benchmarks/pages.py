"""Pages of docs/ whose tables a script makes of committed results: cells, tables, markers."""

import argparse
import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from apo_jax.compare.statistics import Estimate
from apo_jax.config.command_line import refuse
from apo_jax.config.fields import ConfigError

NONE = "—"
_BLOCK = re.compile(r"(<!-- begin (\S+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


class Parser(argparse.ArgumentParser):
  """Says what is wrong in one sentence, without a usage."""

  def error(self, message: str) -> NoReturn:
    """Ends the command."""
    sys.exit(refuse(f"{message}; see --help."))


def filled(page: str, blocks: Mapping[str, str]) -> str:
  """The page with every marker's text: what stands between `<!-- begin NAME -->` and its end.

  Raises:
    ConfigError: the page has a marker that nothing is known of, or lacks one.
  """
  named = [match[2] for match in _BLOCK.finditer(page)]
  for name in sorted(set(named) ^ set(blocks)):
    said = "has markers" if name in named else "lacks the markers"
    raise ConfigError(f"The page {said} of {name!r}; they must be those of: {', '.join(blocks)}.")
  return _BLOCK.sub(lambda match: f"{match[1]}\n{blocks[match[2]]}\n\n{match[3]}", page)


def signed(estimate: Estimate, digits: int) -> str:
  """A difference, with its sign."""
  return cell(estimate, digits, "+")


def cell(estimate: Estimate, digits: int, sign: str = "") -> str:
  """The value with its standard error between seeds, where there are two."""
  if not estimate.count:
    return NONE
  value = f"{estimate.value:{sign}.{digits}f}".replace("-", "−")
  if math.isnan(estimate.standard_error):
    return value
  return f"{value} ± {estimate.standard_error:.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table in Markdown."""
  lines = [header, ["---"] * len(header), *rows]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)

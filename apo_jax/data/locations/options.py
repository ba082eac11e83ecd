"""What follows the "?" of a location: split=train&name=CONFIG."""

import re
import urllib.parse

from apo_jax.data.locations.errors import LocationError

# What follows a path; a glob may hold a "?" too.
_SPLIT = re.compile(r"\?split=([^?&/]*)$")


def name_and_options(rest: str, known: tuple[str, ...]) -> tuple[str, dict[str, str]]:
  """The name and the parameters of a URI's part behind "://".

  Raises:
    LocationError: it names nothing, or a parameter is unknown, given twice, or without a value.
  """
  name, _, query = rest.partition("?")
  options: dict[str, str] = {}
  for parameter in filter(None, query.split("&")):
    option, separator, value = parameter.partition("=")
    # "+" joins splits here; in the form of a web page it would be a blank.
    option, value = urllib.parse.unquote(option), urllib.parse.unquote(value)
    if option not in known:
      raise LocationError(
        f"its parameter {option} is {value!r}, but there is none of that name; known are"
        f" {', '.join(known)}"
      )
    if option in options:
      hint = "; split=train+test joins two" if option == "split" else ""
      raise LocationError(
        f"its parameter {option} is given twice, as {options[option]!r} and {value!r}{hint}"
      )
    if not separator or not value:
      raise LocationError(f"its parameter {option} has no value; write {option}=VALUE")
    if option == "split" and "," in value:
      raise LocationError(f"its split is {value!r}; '+' joins splits, as in split=train+test")
    options[option] = value
  if not name.strip("/"):
    raise LocationError("it names no data set")
  return name, options


def path_and_split(path: str) -> tuple[str, str]:
  """A path and the split that "?split=" behind it names, "" for none."""
  found = _SPLIT.search(path)
  return (path[: found.start()], urllib.parse.unquote(found[1])) if found else (path, "")

"""hf://: data sets of the hub and local directories, and what addresses of the hub's pages mean."""

import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from apo_jax.data.locations.errors import LocationError, first_line
from apo_jax.data.locations.options import name_and_options
from apo_jax.data.locations.rows import Row
from apo_jax.data.locations.saved import is_saved, saved_rows

_OPTIONS = ("split", "name", "data_dir", "streaming")
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_VIEWS = ("blob", "resolve", "raw", "tree", "viewer", "embed", "discussions", "commits", "edit")
_PARQUET = {"~parquet": "refs/convert/parquet"}
_A_FILE = re.compile(r"\.(jsonl?|ndjson|parquet|arrow|csv|tsv)(\.\w+)?$", re.IGNORECASE)


def hub_address(address: str) -> str:
  """What a web address means: hf://… for a page of the hub, else the address itself.

  Raises:
    LocationError: the page holds no data set, or a part of one; the message has what would work.
  """
  url = urllib.parse.urlsplit(address)
  if url.scheme not in ("http", "https"):
    return address
  parts = [part for part in url.path.split("/") if part]
  if url.netloc == "datasets-server.huggingface.co":
    asked = dict(urllib.parse.parse_qsl(url.query))
    raise LocationError(
      "it is the hub viewer's, which gives at most 100 rows and cuts long texts;"
      f" hf://{asked.get('dataset', 'OWNER/NAME')}?name={asked.get('config', 'CONFIG')}"
      f"&split={asked.get('split', 'train')} reads all"
    )
  if url.netloc == "github.com" and parts[2:3] in (["blob"], ["raw"]):
    raw = "/".join([*parts[:2], *parts[3:]])
    raise LocationError(f"it is a web page; https://raw.githubusercontent.com/{raw} is the file")
  if url.netloc not in _HOSTS or parts[:1] == ["api"]:
    return address
  if parts[:1] != ["datasets"] or len(parts) < 2:
    raise LocationError("it is no data set's page of the hub; hf://OWNER/NAME reads a data set")
  # Some old data sets have no owner.
  length = 1 if parts[2:3] == [] or parts[2] in _VIEWS else 2
  name, view, rest = "/".join(parts[1 : 1 + length]), *_view(parts[1 + length :])
  if view == "viewer":
    config, split = (*rest, "", "")[:2]
    options = {"name": config, "split": split}
    query = "&".join(f"{option}={value}" for option, value in options.items() if value)
    return f"hf://{name}?{query}" if query else f"hf://{name}"
  if view in ("blob", "resolve", "raw", "tree") and rest:
    revision, *path = rest
    at = f"hf://datasets/{name}@{revision}"
    return f"{at}/{urllib.parse.unquote('/'.join(path))}" if path else at
  if view:
    raise LocationError(f"it is a page beside the data set; hf://{name} reads the data set")
  return f"hf://{name}"


def _view(parts: list[str]) -> tuple[str, list[str]]:
  """What a page of a data set shows, and the rest of its path."""
  view, *rest = parts[1:] if parts[:1] == ["embed"] else parts or [""]
  return view, rest


def is_hub_path(rest: str) -> bool:
  """Whether what follows hf:// is a file, a folder or a glob in a data set of the hub."""
  name = rest.partition("?split=")[0]
  if Path(name).expanduser().exists() or not name.startswith("datasets/"):
    return False
  parts = [part for part in name.split("/") if part]
  return len(parts) > 3 or (len(parts) == 3 and bool(_A_FILE.search(parts[2])))


def hub_rows(rest: str) -> Iterator[Row]:
  """The rows of what follows hf://: OWNER/NAME[@REVISION][?OPTIONS], or a local directory."""
  name, options = name_and_options(rest, _OPTIONS)
  streaming = options.pop("streaming", "false")
  if streaming not in ("true", "false"):
    raise LocationError(f"its streaming is {streaming!r}; it must be true or false")
  split, revision, local = options.pop("split", ""), "", Path(name).expanduser()
  if local.exists():
    name = str(local)
    if is_saved(lambda file: (local / file).is_file()):
      return saved_rows(name, split)
  else:
    name, _, revision = name.rstrip("/").removeprefix("datasets/").partition("@")
    revision = _PARQUET.get(revision, urllib.parse.unquote(revision))
    _check_name(name)
  # Whole splits alone come as streams, one at a time.
  splits = [split or "train"]
  if streaming == "true":
    splits = [part.strip() for part in splits[0].split("+")]
    if "[" in split:
      raise LocationError(
        f"its split is {split!r} and streaming reads whole splits; give one alone"
      )
  return _loaded(
    name, splits, {"revision": revision or None, "streaming": streaming == "true", **options}
  )


def _check_name(name: str) -> None:
  if name.startswith(("/", ".", "~")):
    raise LocationError(f"there is no directory {name}")
  parts = name.split("/")
  if name.startswith(("models/", "spaces/")) or len(parts) > 2:
    where = "/".join(parts[:2])
    file = "/".join(parts[2:])
    hint = f"hf://datasets/{where}/{file} reads a file of one" if file else "name OWNER/NAME"
    raise LocationError(f"{name} is neither a directory nor the name of a data set; {hint}")


def _loaded(name: str, splits: list[str], options: dict[str, object]) -> Iterator[Row]:
  import datasets  # takes seconds, which no other source should cost

  # Whatever goes wrong on the hub, in a file of it or on the way, comes as some exception of
  # `datasets`, of the libraries below it, or of Python.
  try:
    for split in splits:
      yield from datasets.load_dataset(name, split=split, **options)
  except Exception as error:
    raise LocationError(
      f"{first_line(error)}; it must be a data set of the hub, which must be reached, or a local"
      " directory"
    ) from error

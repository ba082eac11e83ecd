"""From a path, a folder or a glob to the files it means."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

import fsspec

from apo_jax.data.locations.errors import LocationError
from apo_jax.data.locations.texts import COMPRESSIONS

# What a suffix says: how rows are read.
_KINDS = {
  ".json": "json",
  ".jsonl": "jsonl",
  ".ndjson": "jsonl",
  ".jsonlines": "jsonl",
  ".parquet": "parquet",
  ".pq": "parquet",
  ".arrow": "arrow",
  ".feather": "arrow",
  ".csv": "csv",
  ".tsv": "tsv",
}
TABLES = ("parquet", "arrow", "csv", "tsv")
_TEXTS = ("json", "jsonl", "csv", "tsv")
_SUFFIXES = (
  "it must end in .json, .jsonl, .parquet, .arrow, .csv or .tsv, text also with .gz, .bz2, .xz or"
  " .zst"
)
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar.zst")
# Beside the data of a folder, and none of it.
_BESIDE = ("dataset_info.json", "dataset_infos.json")
_GLOB = re.compile(r"[*?\[]")
# How files are named for their split, as `datasets` reads names.
_SHARD = re.compile(r"^(?P<split>.+)-\d{5}-of-\d{5}$")
_SPLIT_WORDS = {
  "train": "train",
  "training": "train",
  "test": "test",
  "testing": "test",
  "eval": "test",
  "evaluation": "test",
  "validation": "validation",
  "valid": "validation",
  "val": "validation",
  "dev": "validation",
}


@dataclasses.dataclass(frozen=True)
class File:
  """A file of rows.

  Attributes:
    name: as messages show it, within its folder.
    kind: "json", "jsonl", "parquet", "arrow", "csv" or "tsv".
    compression: the suffix that names it, "" for none.
    open: opens it for reading, in bytes.
  """

  name: str
  kind: str
  compression: str
  open: Callable[[], Any]


def kind_of(name: str) -> tuple[str, str]:
  """The kind that a file's name says and its compression; ("", …) where it says none."""
  suffixes = PurePosixPath(name.lower()).suffixes
  compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
  kind = _KINDS.get(suffixes[-1], "") if suffixes else ""
  return ("" if compression and kind not in _TEXTS else kind), compression


def is_glob(path: str) -> bool:
  """Whether a path holds a character of globs."""
  return bool(_GLOB.search(path))


def one_file(name: str, open: Callable[[], Any]) -> File:
  """The file of this name.

  Raises:
    LocationError: its suffix says no kind that is read.
  """
  kind, compression = kind_of(name)
  if not kind:
    suffix = "".join(PurePosixPath(name.lower()).suffixes[-2 if compression else -1 :])
    instead = "; unpack an archive first" if suffix in _ARCHIVES else ""
    raise LocationError(f"its suffix is {suffix!r}; {_SUFFIXES}{instead}")
  return File(name, kind, compression, open)


def glob_files(fs: fsspec.AbstractFileSystem, pattern: str) -> list[File]:
  """The files that a glob matches, in the order of their names.

  Raises:
    LocationError: it matches nothing, files of several kinds, or one that is not read.
  """
  found = fs.glob(pattern, detail=True)
  paths = sorted(path for path, facts in found.items() if facts["type"] == "file")
  base = _GLOB.split(pattern, maxsplit=1)[0].rpartition("/")[0]
  if not paths and found:
    raise LocationError(f"it matches folders alone, as {min(found)}; end it in /*.parquet, say")
  if not paths:
    raise LocationError(f"no file matches it; {_held(fs, base)}")
  # Names are shown from the folder on in which they begin to differ.
  prefix = f"{base}/" if base else ""
  names = {path: _within(path, prefix) for path in paths}
  unknown = [name for name in names.values() if not kind_of(name)[0]]
  if unknown:
    raise LocationError(f"it matches {_some(unknown)} too; of each, {_SUFFIXES}")
  return _of_one_kind(_files(fs, names))


def folder_files(fs: fsspec.AbstractFileSystem, folder: str, split: str) -> list[File]:
  """The files of a folder and of the folders in it, in the order of their names.

  Where their names say splits, those of `split`, by default "train".

  Raises:
    LocationError: it holds none, files of several kinds, or no such split.
  """
  prefix = folder.rstrip("/") + "/"
  names = {path: _within(path, prefix) for path in sorted(fs.find(folder))}
  names = {path: name for path, name in names.items() if _is_data(name)}
  if not names:
    raise LocationError(f"it is a folder without data; {_held(fs, folder)}; of a file, {_SUFFIXES}")
  by_split: dict[str, list[str]] = {}
  for path, name in names.items():
    by_split.setdefault(_split_of(name), []).append(path)
  known = ", ".join(filter(None, by_split))
  if split or len(by_split) > 1:
    if "" in by_split and len(by_split) > 1:
      lost = _some([names[path] for path in by_split[""]])
      raise LocationError(
        f"its files are named for splits ({known}), but {lost} for none; name the files, as"
        " FOLDER/*.jsonl"
      )
    wanted = [part.strip() for part in (split or "train").split("+")]
    missing = [part for part in wanted if part not in by_split]
    if missing:
      hint = f"its files are of {known}" if known else "its files are named for no splits"
      end = "; hf://FOLDER?split=… reads a part of one" if "[" in split else ""
      raise LocationError(f"its split is {missing[0]!r}, but {hint}{end}")
    names = {path: names[path] for part in wanted for path in by_split[part]}
  return _of_one_kind(_files(fs, names))


def _files(fs: fsspec.AbstractFileSystem, names: dict[str, str]) -> list[File]:
  return [
    File(name, *kind_of(name), open=lambda path=path: fs.open(path, "rb"))
    for path, name in names.items()
  ]


def _of_one_kind(files: list[File]) -> list[File]:
  """The files, if they are read as one.

  Raises:
    LocationError: they are of several kinds, or one is there in two compressions.
  """
  kinds = {file.kind: file.name for file in files}
  if len(kinds) > 1:
    raise LocationError(
      f"its files are of several kinds, as {' and '.join(kinds.values())}; name those of one, as"
      " FOLDER/*.jsonl"
    )
  seen: dict[str, str] = {}
  for file in files:
    other = seen.setdefault(file.name.removesuffix(file.compression), file.name)
    if other != file.name:
      raise LocationError(f"it has {other} and {file.name}, which would be read twice; keep one")
  return files


def _is_data(name: str) -> bool:
  """Whether a file of a folder is one of rows; hidden ones and those of no known kind are not."""
  parts = name.split("/")
  hidden = any(part.startswith((".", "_")) for part in parts)
  return not hidden and parts[-1] not in _BESIDE and bool(kind_of(name)[0])


def _split_of(name: str) -> str:
  """The split that a file's name, or else the name of a folder it is in, says; "" for none."""
  *folders, file = name.split("/")
  stem = file.partition(".")[0]
  shard = _SHARD.match(stem)
  for part in (stem, *reversed(folders)):
    words = [
      _SPLIT_WORDS[word] for word in re.split("[^a-z]+", part.lower()) if word in _SPLIT_WORDS
    ]
    if words and shard and part is stem:
      return _SPLIT_WORDS.get(shard["split"], shard["split"])
    if words:
      return words[0]
  return ""


def _within(path: str, prefix: str) -> str:
  return path.removeprefix(prefix) if path.startswith(prefix) else path


def _held(fs: fsspec.AbstractFileSystem, folder: str) -> str:
  """What a folder holds, to choose from."""
  try:
    names = sorted(PurePosixPath(path).name for path in fs.ls(folder, detail=False))
  except (OSError, ValueError):
    return f"there is no folder {folder}"
  return f"{folder or 'the folder'} holds {_some(names) if names else 'nothing'}"


def _some(names: Sequence[str]) -> str:
  return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

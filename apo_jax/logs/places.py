"""Where a run directory may be: in the file system, or in a bucket of Google Cloud Storage.

Paths of the file system stay `pathlib`'s. gs://BUCKET/DIRECTORY is `etils.epath`'s, as Orbax takes
it. A bucket has no directories, only objects by name: nothing is made before a file is written, a
file is there whole or not at all, and no rename is one act. What the two kinds of paths do
differently is told apart here.
"""

import atexit
import contextlib
import functools
import importlib.util
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
from etils import epath

from apo_jax.config.fields import ConfigError

# A path of either kind.
Place = Path | epath.Path

_SCHEME = "gs://"
_EXTRA = "gcsfs"
# How long an answer of a bucket is waited for, retries included, before any work is done.
_SECONDS_TO_ANSWER = 30.0
# They mean something else in patterns, to fsspec, or to whoever reads a path.
_UNUSABLE = re.compile(r"[*?\[\]#\\\x00-\x1f]|(^|/)\.\.?(/|$)")
# What somebody meant as a URI, well written or not.
_IS_URI = re.compile(r"[a-z][a-z0-9+.-]*:/|(gs|gcs|s3|az|abfs|hdfs|file|https?):", re.IGNORECASE)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]*")


def find_place(text: str | os.PathLike[str], flag: str) -> Place:
  """The path that a flag gives; a bucket that it names was found to answer.

  Args:
    text: a path of the file system, or gs://BUCKET/DIRECTORY.
    flag: what gave it, for errors.

  Raises:
    ConfigError: it is neither, or the bucket cannot be read; in one sentence.
  """
  text = os.fspath(text)
  if not text.startswith(_SCHEME):
    if _IS_URI.match(text):
      raise ConfigError(
        f"{flag} is {text!r}; it must be a path of the file system, or gs://BUCKET/DIRECTORY"
        f"{_as_bucket(text)}."
      )
    return Path(text)
  bucket, _, name = text.removeprefix(_SCHEME).partition("/")
  if not _BUCKET.fullmatch(bucket) or not name.strip("/") or _UNUSABLE.search(name):
    raise ConfigError(
      f"{flag} is {text!r}; in a bucket it must be gs://BUCKET/DIRECTORY, with a bucket's name of"
      " small letters, digits, '-', '_' and '.', and a directory without '*', '?', '[', ']', '#',"
      " '\\' and '..'."
    )
  _prepare(text, flag)
  try:
    next(iter(_objects(bucket, name.strip("/") + "/", 1)), None)
  # What credentials, the network and the bucket raise is each its own.
  except Exception as error:
    raise ConfigError(f"{flag} is {text!r}, which cannot be read: {reason_of(error)}.") from error
  return epath.Path(text)


def find_path(
  text: str | os.PathLike[str],
  flag: str,
  reason: str = "only run directories may lie in a bucket",
) -> Path:
  """The path that a flag gives, which must be of the file system.

  Raises:
    ConfigError: it is not; gives the reason.
  """
  text = os.fspath(text)
  if _IS_URI.match(text):
    raise ConfigError(f"{flag} is {text!r}; it must be a path of the file system: {reason}.")
  return Path(text)


def place_of(text: str) -> Place:
  """The path that a flag gives, of either kind, not checked: for what is said of it."""
  return epath.Path(text) if is_bucket(text) else Path(text)


def is_bucket(path: Place | str) -> bool:
  """Whether a path is of a bucket."""
  return os.fspath(path).startswith(_SCHEME)


def absolute(path: Place) -> Place:
  """The whole path; one of a bucket is so as it is."""
  return path if is_bucket(path) else path.absolute()


def resolved(path: Place) -> Place:
  """The whole path without links, by which two are found to be one."""
  return path if is_bucket(path) else path.resolve()


def remove_tree(directory: Place) -> None:
  """Deletes a directory, if it is there."""
  if is_bucket(directory):
    directory.rmtree(missing_ok=True)
    return
  with contextlib.suppress(FileNotFoundError):
    shutil.rmtree(directory)


def local_copy(directory: Place) -> Path:
  """A directory of the file system with these files: itself, or a copy that goes with the process.

  For what reads files by their names, such as tokenizers. Only the directory's own files are there.
  """
  if not is_bucket(directory):
    return directory
  copy = Path(tempfile.mkdtemp(prefix="apo_jax_"))
  atexit.register(shutil.rmtree, copy, ignore_errors=True)
  copy_files(directory, copy)
  return copy


def copy_files(source: Place, target: Place) -> None:
  """Copies a directory's own files to another one; to itself, nothing is done."""
  if source == target or not source.exists():
    return
  for file in source.iterdir():
    if not file.is_file():
      continue
    if is_bucket(target):
      write_object(target / file.name, file.read_bytes())
    else:
      (target / file.name).write_bytes(file.read_bytes())


def write_object(path: epath.Path, content: bytes) -> None:
  """Writes a file of a bucket, which appears whole; the bucket checks a sum of it.

  Not by gcsfs: it ends a content with a fixed line and a line feed alone, so that of one that ends
  with a carriage return that is lost, and of one that has the line in it all behind it.
  """
  from google.cloud.storage.retry import DEFAULT_RETRY

  bucket, name = bucket_and_name(path)
  client = _shared_client(os.environ.get("STORAGE_EMULATOR_HOST"))
  client.bucket(bucket).blob(name).upload_from_string(
    content, content_type="application/octet-stream", checksum="crc32c", retry=DEFAULT_RETRY
  )


def read_objects(paths: Sequence[Place]) -> list[bytes]:
  """What files of one directory hold; those of a bucket are asked for at once."""
  if not paths or not is_bucket(paths[0]):
    return [path.read_bytes() for path in paths]
  names = ["/".join(bucket_and_name(path)) for path in paths]
  found = fsspec.filesystem("gcs").cat(names)
  return [found[name] for name in names]


def directories_below(folder: Place) -> Iterator[tuple[Place, list[str]]]:
  """A folder and all below it; what is taken out of a list of names is not gone into."""
  if not is_bucket(folder):
    for name, inner, _ in os.walk(folder):
      yield Path(name), inner
    return
  inner = [path.name for path in folder.iterdir() if path.is_dir()]
  yield folder, inner
  for name in inner:
    yield from directories_below(folder / name)


def sizes_below(directory: Place) -> dict[Place, int]:
  """The files below a directory, each with its bytes; none where it is not there.

  What goes while it looks, as what an ended process left there does, is left out.
  """
  if not is_bucket(directory):
    return dict(_sizes_here(directory))
  found = fsspec.filesystem("gcs").find("/".join(bucket_and_name(directory)), detail=True)
  # A name that ends with a slash is how consoles show an empty directory.
  files = {name: info for name, info in found.items() if not name.endswith("/")}
  return {epath.Path(_SCHEME + name): info["size"] for name, info in files.items()}


def _sizes_here(directory: Path) -> Iterator[tuple[Path, int]]:
  for folder, _, names in os.walk(directory):  # passes over directories that are gone
    for name in names:
      path = Path(folder, name)
      with contextlib.suppress(FileNotFoundError):
        yield path, path.stat().st_size


def copy_here(source: Place, target: Path) -> None:
  """Copies what is below a directory of a bucket to a new one of the file system.

  Raises:
    FileNotFoundError: nothing is there.
  """
  found = sizes_below(source)
  if not found:
    raise FileNotFoundError(f"{source} is gone")
  targets = [target / path.relative_to(source) for path in found]
  for folder in {path.parent for path in targets}:
    folder.mkdir(parents=True, exist_ok=True)
  names = ["/".join(bucket_and_name(path)) for path in found]
  fsspec.filesystem("gcs").get(names, [os.fspath(path) for path in targets])


def bucket_client() -> Any:
  """The client of Google Cloud Storage, a `google.cloud.storage.Client`, for conditional writes."""
  from google.cloud import storage  # of the extra `gcs`

  return storage.Client(project=None)  # objects are of no project


@functools.cache
def _shared_client(emulator: str | None) -> Any:
  """A client that is kept, as making one looks for credentials; `emulator` says where it goes."""
  return bucket_client()


def bucket_and_name(path: epath.Path) -> tuple[str, str]:
  """A path's bucket and the name of the object in it."""
  bucket, _, name = os.fspath(path).removeprefix(_SCHEME).partition("/")
  return bucket, name


def reason_of(error: BaseException) -> str:
  """What an error of a bucket says, as the end of a sentence without its stop."""
  if type(error).__name__ == "DefaultCredentialsError":
    return "there are no credentials; gcloud auth application-default login makes them"
  code = getattr(error, "code", None)
  if code == 404:
    return "there is no such bucket"
  if code in (401, 403):
    return f"these credentials may not ({code})"
  if type(error).__name__ == "RetryError":  # its own words are about itself
    return f"it does not answer; {reason_of(error.cause)}" if error.cause else "it does not answer"
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return f"{type(error).__name__}: {lines[0]}"[:300].rstrip(".: ")


def _as_bucket(text: str) -> str:
  """What a misspelt path of a bucket was to be, as the end of a sentence."""
  scheme, _, rest = text.partition(":")
  return f"; write gs://{rest.lstrip('/')}" if scheme.lower() in ("gs", "gcs") else ""


def _objects(bucket: str, prefix: str, most: int) -> Iterator[Any]:
  from google.cloud.storage.retry import DEFAULT_RETRY

  retry = DEFAULT_RETRY.with_timeout(_SECONDS_TO_ANSWER)
  return bucket_client().list_blobs(bucket, prefix=prefix, max_results=most, retry=retry)


def _prepare(text: str, flag: str) -> None:
  """Raises ConfigError where the packages for gs:// are not installed; else makes them ready."""
  if importlib.util.find_spec(_EXTRA) is None:
    raise ConfigError(
      f"{flag} is {text!r}, but the package {_EXTRA} is not installed: pip install 'apo_jax[gcs]'."
    )
  prepare_buckets()


def prepare_buckets() -> None:
  """Sets what the libraries that read buckets are to do, before they are first used."""
  # Other processes write to the same directory: what was listed once is not what is there.
  fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
  # Its retries are told of by what comes of them. That a bucket may be of another kind is asked for
  # with every file otherwise.
  logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
  os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
  os.environ.setdefault("EPATH_USE_TF", "false")
  emulator = os.environ.get("STORAGE_EMULATOR_HOST")
  if emulator:  # TensorStore has another name for the same
    if "://" not in emulator:
      emulator = f"http://{emulator}"
    os.environ.setdefault("TENSORSTORE_GCS_HTTP_URL", emulator)

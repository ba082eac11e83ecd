"""Compiled programs kept for the next start: JAX's persistent cache, by default in the run."""

import os
from pathlib import Path

import jax

from apo_jax.config.folders import check_folder


def use_compilation_cache(given: str | None, default: os.PathLike[str]) -> None:
  """Says where compiled programs are kept and looked for; called before anything is compiled.

  Several processes may share it: JAX lets the first one alone write, and what one of them cannot
  read, such as an entry that a kill cut short, it compiles. On CPUs JAX's keys differ between
  processes, so that there the first alone finds what it wrote.

  Args:
    given: a directory, a URI that JAX knows, or "" for none. None leaves it to JAX's own setting
      (JAX_COMPILATION_CACHE_DIR), and where that says nothing takes `default`.
    default: a directory of the run, by its whole path.

  Raises:
    ConfigError: the given directory cannot be used.
  """
  if given is None:
    if not jax.config.jax_compilation_cache_dir:
      jax.config.update("jax_compilation_cache_dir", os.fspath(default))
    return
  if given and "://" not in given:
    check_folder("--compilation_cache", Path(given))  # JAX makes it when it has something for it
  jax.config.update("jax_compilation_cache_dir", given or None)

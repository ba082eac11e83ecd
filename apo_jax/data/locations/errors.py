"""What is said of a location that cannot be read."""


class LocationError(Exception):
  """A location that cannot be read; the message says what would be right."""


def first_line(error: Exception) -> str:
  """What an exception says, as one part of a sentence."""
  lines = str(error).strip().splitlines()
  return lines[0].strip().rstrip(".:") if lines else type(error).__name__

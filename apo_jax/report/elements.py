"""What the parts of the page are made of."""


def section(title: str, text: str, body: str) -> str:
  """A part of the page; title and text are HTML."""
  return f"<section>\n<h2>{title}</h2>\n<p>{text}</p>\n{body}\n</section>"


def rounded(value: float | int | None, digits: int) -> str:
  """A number with so many digits after the point, "–" where it is unknown."""
  return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")

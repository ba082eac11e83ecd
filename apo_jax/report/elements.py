"""What the parts of a page are made of."""

import html
from collections.abc import Sequence

from matplotlib.figure import Figure

from apo_jax.config.visible import visible, without_middle
from apo_jax.report.figures import svg
from apo_jax.report.style import STYLE

# Characters of a text that a page shows; of a longer one its middle is left out.
_MOST_OF_A_TEXT = 20_000
_MOST_OF_A_LABEL = 300

# What no HTML or XML may hold: ASCII's control characters, shown by their pictures, and others.
# Signs that turn the direction of writing would turn the page's own words too.
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n\r"}
_CONTROLS |= {0x7F: 0x2421} | dict.fromkeys([*range(0x80, 0xA0), 0xFFFE, 0xFFFF], 0xFFFD)
_CONTROLS |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS |= {code: f"\\u{code:04x}" for code in _DIRECTIONS}


# For the browser, should a text get through after all: nothing is loaded, nothing runs.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def document(title: str, heading: str, facts: str, sections: Sequence[str]) -> str:
  """A whole page; all parts are HTML, and empty sections are left out.

  Control characters, which texts of people and samples may hold, are shown by others. No script of
  a text runs in a browser, whatever it holds.
  """
  page = (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    f"<title>{title}</title>\n<style>{STYLE}</style>\n"
    "</head>\n<body>\n<main>\n<header><p>Adversarial preference optimization</p>"
    f"<h1>{heading}</h1>{facts}</header>\n"
    + "\n".join(section for section in sections if section)
    + "\n</main>\n</body>\n</html>\n"
  )
  return page.translate(_CONTROLS)


def facts_list(facts: Sequence[tuple[str, str]]) -> str:
  """Labels and values in a row; nothing where there are none."""
  items = "".join(
    f"<div><dt>{label}</dt><dd>{html.escape(visible(value, _MOST_OF_A_LABEL))}</dd></div>"
    for label, value in facts
  )
  return f"<dl>{items}</dl>" if items else ""


def section(title: str, text: str, body: str) -> str:
  """A part of the page; title and text are HTML."""
  return f"<section>\n<h2>{title}</h2>\n<p>{text}</p>\n{body}\n</section>"


def figure_section(figure: Figure | None, name: str, title: str, text: str, above: str) -> str:
  """A figure with what is said of it and what stands above it; nothing where it has no panel.

  `name` is different for every figure of a page; `title` is what those hear who cannot see it.
  """
  return "" if figure is None else section(title, text, above + svg(figure, name, title))


def legend(entries: Sequence[tuple[str, str]]) -> str:
  """Labels and their colours."""
  items = "".join(
    f'<li><i style="background:{color}"></i>{html.escape(visible(label, _MOST_OF_A_LABEL))}</li>'
    for label, color in entries
  )
  return f'<ul class="legend">{items}</ul>'


def rounded(value: float | int | None, digits: int) -> str:
  """A number with so many digits after the point, "–" where it is unknown."""
  return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def query_text(query: str) -> str:
  """A query as it is shown, without the template's call for an answer."""
  shown = query.strip().removesuffix("Assistant:").strip().replace("\n\n", "\n")
  return html.escape(without_middle(shown, _MOST_OF_A_TEXT))


def response(
  text: str | None,
  testing_reward: float | int | None,
  utility: float | int | None,
  finished: bool = True,
  tokens: int | None = None,
) -> str:
  """A response's text, and under it its scores; "–" where there is none."""
  if text is None:
    return "–"
  body = html.escape(without_middle(text.strip(), _MOST_OF_A_TEXT)) or "<em>empty</em>"
  scores = [
    f"{label} {rounded(value, 2)}"
    for label, value in (("testing reward", testing_reward), ("utility", utility))
    if value is not None
  ]
  if tokens is not None:
    scores.append(f"{tokens} tokens")
  note = " · ".join(scores if finished else [*scores, "unfinished"])
  return f'<div class="text">{body}</div><div class="scores">{note}</div>'

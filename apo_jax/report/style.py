"""The style sheet of the report."""

from apo_jax.report.plots import GOLDEN

STYLE = f"""
:root {{ color-scheme: light; --ink: #23272e; --quiet: #626975; --line: #e3e5e8; }}
body {{ margin: 0; background: #fff; color: var(--ink); font: 15px/1.5 system-ui, -apple-system,
  "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }}
main {{ max-width: 1080px; margin: 0 auto; padding: 40px 24px 80px; }}
header > p {{ margin: 0; color: var(--quiet); }}
h1 {{ margin: 0 0 16px; font-size: 28px; line-height: 1.25; overflow-wrap: anywhere; }}
h2 {{ margin: 0 0 4px; font-size: 18px; }}
section {{ margin-top: 44px; }}
section > p {{ margin: 0 0 14px; max-width: 78ch; color: var(--quiet); font-size: 14px; }}
dl {{ display: flex; flex-wrap: wrap; gap: 10px 32px; margin: 0; padding: 14px 0;
  border: solid var(--line); border-width: 1px 0; }}
dt {{ color: var(--quiet); font-size: 12.5px; }}
dd {{ margin: 0; font-weight: 600; }}
svg {{ display: block; max-width: 100%; height: auto; overflow: visible; }}
svg text {{ font-family: inherit !important; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 14px; }}
th, td {{ padding: 6px 10px; border-bottom: 1px solid var(--line); }}
th {{ font-weight: 600; }}
.rounds {{ width: 100%; font-variant-numeric: tabular-nums; }}
.rounds th, .rounds td {{ text-align: right; }}
.rounds thead th {{ color: var(--quiet); font-size: 12.5px; line-height: 1.3;
  vertical-align: bottom; }}
.rounds small {{ display: block; color: var(--quiet); font-size: 11.5px; white-space: nowrap; }}
.rounds th:first-child {{ text-align: left; padding-left: 0; }}
.health th, .health td {{ vertical-align: top; text-align: left; }}
.health thead th {{ color: var(--quiet); font-size: 12.5px; }}
.health th:first-child {{ padding-left: 0; }}
.health td:nth-child(2) {{ white-space: nowrap; }}
.samples {{ table-layout: fixed; width: 100%; font-size: 13.5px; }}
.samples th {{ text-align: left; }}
.samples td {{ vertical-align: top; overflow-wrap: anywhere; }}
.samples th:first-child, .samples td:first-child {{ padding-left: 0; }}
.samples .query td {{ padding-top: 18px; border-bottom: none; font-weight: 600;
  white-space: pre-wrap; }}
.samples th.golden {{ color: {GOLDEN}; }}
.text {{ max-height: 13em; overflow-y: auto; white-space: pre-wrap; }}
.scores {{ margin-top: 4px; color: var(--quiet); font-size: 12.5px;
  font-variant-numeric: tabular-nums; }}
.legend {{ display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 8px; padding: 0;
  list-style: none; font-size: 13px; }}
.legend i {{ display: inline-block; width: 10px; height: 10px; margin-right: 6px;
  border-radius: 50%; }}
.named {{ position: relative; display: block; padding-left: 16px; }}
.named i {{ position: absolute; left: 0; top: 0.4em; width: 9px; height: 9px;
  border-radius: 50%; }}
.settings th, .settings td {{ text-align: left !important; vertical-align: top; }}
.settings td {{ white-space: nowrap; }}
.asked {{ margin: 22px 0 8px; font-weight: 600; font-size: 14px; white-space: pre-wrap; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 10px; }}
.cards > div {{ flex: 0 1 223px; padding: 8px 12px 10px;
  border: 1px solid var(--line); border-top-width: 3px; font-size: 13.5px;
  overflow-wrap: anywhere; }}
.cards h4 {{ margin: 0 0 4px; font-size: 12.5px; font-weight: 600; color: var(--quiet); }}
h3 {{ margin: 26px 0 8px; font-size: 15px; }}
details {{ margin-top: 12px; }}
summary {{ cursor: pointer; color: var(--quiet); }}
pre {{ margin: 12px 0 0; padding: 14px; overflow-x: auto; background: #f6f7f8; font-size: 13px;
  line-height: 1.45; }}
"""

"""Every number of the five papers that can be derived, beside what this code gives for it.

python experiments/ledger.py --out docs/ledger.md
"""

from collections import Counter
from pathlib import Path

from jsonargparse import auto_cli
from papers import adafm, fastgan, slimgan, spectral_style, width_wise
from papers.entry import Entry

from gansharing.files import write_atomically

PAPERS = (spectral_style, width_wise, adafm, slimgan, fastgan)
_HEAD = """\
# The papers' numbers, and this code's

Written by `python experiments/ledger.py --out docs/ledger.md`. Only the papers' own numbers are typed in;
every other one is computed by the command, from networks without weights and the files in `experiments/`.
*exact*: equal in all digits that the paper prints; in brackets what these hide. Where "original code" stands,
the paper is silent, and the number is that of the authors' published code.
"""


def section(title: str, entries: list[Entry]) -> tuple[list[str], Counter[str]]:
    """The lines of one paper's table, and how many rows have which verdict."""
    lines = [f"## {title}", "", "| what | where | paper | here | | remark |", "|---|---|---|---|---|---|"]
    verdicts: Counter[str] = Counter()
    for entry in entries:
        found, verdict = entry.judged()
        verdicts[verdict] += 1
        shown = verdict if verdict == "exact" else f"**{verdict}**"
        cells = (entry.what, entry.where, entry.paper, found, shown, entry.note)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return lines, verdicts


def ledger() -> str:
    """The page."""
    tables, total = [], Counter[str]()
    for paper in PAPERS:
        lines, verdicts = section(paper.TITLE, paper.ENTRIES)
        tables.append("\n".join(lines))
        total += verdicts
    counted = ", ".join(f"{count} {verdict}" for verdict, count in total.most_common())
    return "\n\n".join([f"{_HEAD}\n{total.total()} rows: {counted}.", *tables]) + "\n"


def main(out: Path | None = None) -> None:
    """Print the ledger.

    Args:
        out: Also write it to this Markdown file.
    """
    text = ledger()
    print(text)
    if out is not None:
        write_atomically(out, lambda file: file.write(text.encode()))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)

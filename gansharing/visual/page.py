"""Tables and pictures on one page: HTML that needs no other file and no network, or Markdown."""

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from string import Template

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222 }
body { margin: 2rem auto; max-width: 78rem; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th { border-bottom: 2px solid #222 }
th:first-child, td:first-child { text-align: left }
.wide { overflow-x: auto }
.row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start }
figure { margin: 0; max-width: 100% }
img { max-width: 100%; height: auto }
.notes { color: #555; max-width: 50rem }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


@dataclass(frozen=True)
class Table:
    """A table of text; a cell that ends in ``**best**`` is set in bold.

    Attributes:
        title: What stands above it.
        header: Titles of the columns; the first names the rows.
        rows: As many cells each.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG with what is said below it."""

    caption: str
    png: bytes


@dataclass(frozen=True)
class Section:
    """A part of a page: a table, and pictures side by side below it."""

    table: Table
    pictures: Sequence[Picture] = field(default_factory=tuple)


def html_page(title: str, sections: Sequence[Section], notes: Sequence[str]) -> str:
    """One HTML file, pictures inside. It can fetch nothing: its policy forbids it, and it holds no script."""
    parts = []
    for section in sections:
        parts.append(f"<h2>{html.escape(section.table.title)}</h2>\n{_html_table(section.table)}")
        parts.append(
            f'<div class="row">{"".join(map(_figure, section.pictures))}</div>' if section.pictures else ""
        )
    parts.append(f'<ul class="notes">{"".join(f"<li>{html.escape(note)}</li>" for note in notes)}</ul>')
    return _PAGE.substitute(title=html.escape(title), body="\n".join(filter(None, parts)))


def markdown_page(
    title: str, sections: Sequence[Section], notes: Sequence[str], keep: Callable[[Picture], str]
) -> str:
    """The same as Markdown.

    Args:
        title: Of the page.
        sections: Its parts.
        notes: What stands at its end, a line each.
        keep: Writes a picture somewhere and gives the address to link.
    """
    parts = [f"# {_plain(title)}"]
    for section in sections:
        table = section.table
        lines = [f"## {_plain(table.title)}", "", _line(table.header), "|---" * len(table.header) + "|"]
        parts.append("\n".join([*lines, *map(_line, table.rows)]))
        parts += [f"![{_plain(picture.caption)}]({keep(picture)})" for picture in section.pictures]
    return "\n\n".join([*parts, "\n".join(f"- {_plain(note)}" for note in notes)]) + "\n"


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    rows = "".join(f"<tr>{''.join(map(_html_cell, row))}</tr>\n" for row in table.rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>'


def _html_cell(text: str) -> str:
    if text.endswith(" **best**"):
        return f"<td><strong>{html.escape(text.removesuffix(' **best**'))} best</strong></td>"
    return f"<td>{html.escape(text)}</td>"


def _figure(picture: Picture) -> str:
    data, caption = base64.b64encode(picture.png).decode(), html.escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    # A name from a file must not become a cell, a tag or a line of its own.
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())

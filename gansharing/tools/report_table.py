"""Tables of runs: a row per method, a column per data set, marked where seeds cannot tell methods apart."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gansharing.errors import UserError
from gansharing.tools.report_names import data_labels, method_labels
from gansharing.tools.report_runs import Division, Run
from gansharing.tools.seed_noise import cell, interval, significance
from gansharing.visual.page import Table

# What must be one in a table, as results.json calls it and as a person does.
_SAME = {
    "extractor": "extractors",
    "extractor_fingerprint": "extractors' weights",
    "resize": "resizing",
    "input_size": "input sizes",
    "n_fake": "numbers of generated images",
    "seed": "seeds of the scores",
    "kid_subset_size_asked": "subset sizes of KID",
    "is_splits": "splits of IS",
}
_REAL = {"n_real": "numbers of real images", "real_fingerprint": "real images"}
_FID = "fid"
#: Scores by name, in the order of columns: whether more is better.
SCORES = {
    **{_FID: False, "kid": False, "is": True, "precision": True, "recall": True, "density": True},
    **{"coverage": True, "mic": False, "lpips": True, "intra_lpips": True, "copied": False},
}
_NOISE = 0.05
_DASH = "–"


@dataclass
class Entry:
    """One run seen as one column: a data set, a width or a domain.

    Attributes:
        run: The run.
        suffix: What follows the names of its scores.
        step: Where FID is lowest; None where no FID is finite.
        scores: All scores at that step, by plain name; of FID also its ``low`` and ``high``.
        end: FID after the last step.
    """

    run: Run
    suffix: str
    step: int | None = field(init=False)
    scores: dict[str, float] = field(init=False)
    end: float | None = field(init=False)

    def __post_init__(self) -> None:
        curve = self.run.curve(_FID, self.suffix)
        self.step = min(curve, key=curve.__getitem__) if curve else None
        self.end = curve[max(curve)] if curve else None
        names = [*SCORES, f"{_FID}_low", f"{_FID}_high"]
        found = {name: self.run.curve(*_ended(name, self.run.extractor, self.suffix)) for name in names}
        self.scores = {n: c[self.step] for n, c in found.items() if self.step is not None and self.step in c}


Rows = dict[str, dict[str, list[Entry]]]  # method, column: seeds


def check_protocols(runs: Sequence[Run]) -> None:
    """See that all runs were scored in one way, and those on the same data against the same images.

    Raises:
        UserError: They were not, so no table may hold them all; or no run has scores.
    """
    scored = [run for run in runs if run.curve(_FID)]
    scored = scored or [run for run in runs if any(run.curve(_FID, s) for s in run.views.values())]
    if not scored:
        raise UserError(f"none of the {len(runs)} runs has an FID yet; wait for their first validation")
    _check(scored, _SAME, "all runs")
    for key in {run.data_key for run in scored}:
        _check([run for run in scored if run.data_key == key], _REAL, "runs on the same data")


def arrange(runs: Sequence[Run]) -> Rows:
    """Sort runs into methods and columns: same options are one method, other seeds of which are one cell.

    Raises:
        UserError: Two runs of a method on the same data have the same seed: they are no two seeds.
    """
    methods: dict[str, list[Run]] = {}
    seeds: dict[tuple[str, str, int], Run] = {}
    for run in runs:
        options = str(sorted(run.identity.items()))
        methods.setdefault(options, []).append(run)
        twin = seeds.setdefault((options, run.data_key, run.seed), run)
        if twin is not run:
            raise UserError(
                f"{twin.folder} and {run.folder} have the same options, data and seed {run.seed}, so they "
                "are not two seeds: name one of them, or train one again with another --seed_everything"
            )
    data = data_labels(runs)
    rows: Rows = {}
    for name, members in zip(method_labels(list(methods.values())), methods.values(), strict=True):
        for run in members:
            for view, suffix in run.views.items():
                title = view if run.results.get("domains") else f"{data[run.data_key]} {view}".strip()
                rows.setdefault(name, {}).setdefault(title, []).append(Entry(run, suffix))
    return rows


def columns(rows: Rows) -> list[str]:
    """The columns that any method has, in order of appearance."""
    return list(dict.fromkeys(column for cells in rows.values() for column in cells))


def overview(rows: Rows) -> Table:
    """Method by data: the best FID, as papers table it."""
    titles = columns(rows)
    body = {name: [name, *(_marked(rows, name, title, _FID) for title in titles)] for name in rows}
    return Table("Best FID", ["method", *titles], list(body.values()))


def details(rows: Rows, column: str) -> Table:
    """Everything about one column: a row per method."""
    members = {name: cells[column] for name, cells in rows.items() if column in cells}
    found = [s for s in SCORES if any(s in e.scores for entries in members.values() for e in entries)]
    sampled = any(f"{_FID}_low" in e.scores for entries in members.values() for e in entries)
    header = ["method", "seeds", "best FID", "95 % over seeds", *(["95 % over samples"] if sampled else [])]
    header += ["at step", "FID at the end", *(_TITLES.get(s, s) for s in found if s != _FID), *_COSTS]
    body = []
    for name, entries in members.items():
        good = [entry for entry in entries if entry.step is not None]
        values = [entry.scores[_FID] for entry in good]
        line = [
            name,
            _seeds(entries),
            _marked(rows, name, column, _FID),
            _ends(interval(values) if good else None),
        ]
        if sampled:
            line.append(_ends(_sampled(good)))
        line += [", ".join(f"{e.step:,}" for e in good) or _DASH, _mean([e.end for e in good])]
        line += [_marked(rows, name, column, score) for score in found if score != _FID]
        body.append([*line, *_costs(entries, column)])
    return Table(column, header, body)


def tidy(rows: Rows) -> list[dict[str, Any]]:
    """A line per run and column, with the protocol: what a spreadsheet wants."""
    lines = []
    for method, cells in rows.items():
        for column, entries in cells.items():
            for entry in entries:
                run, split = entry.run, Division.of(entry.run)
                about = {"method": method, "data": column, "seed": run.seed, "status": run.results["status"]}
                about |= {"steps": run.results["steps"], "best_step": entry.step, "fid_end": entry.end}
                about |= {score: entry.scores.get(score) for score in (*SCORES, "fid_low", "fid_high")}
                about |= {
                    "learn_ratio": split.learn_ratio,
                    "domain": split.domain,
                    "delta_bytes": split.delta_bytes,
                }
                about |= dict(zip(("generator", "discriminator"), _sizes(run), strict=True))
                about |= {"macs": _operations(run, column), "seconds": run.results.get("wall_seconds")}
                about |= {key: run.protocol.get(key) for key in ("extractor", "resize", "n_fake", "n_real")}
                lines.append(about | {"git": run.results.get("git"), "run": str(run.folder)})
    return lines


def notes(rows: Rows) -> list[str]:
    """What must be said below the tables: the protocol, the marks, and runs that are not what they seem."""
    entries = [entry for cells in rows.values() for members in cells.values() for entry in members]
    runs = list({entry.run.folder: entry.run for entry in entries}.values())
    how = next(run.protocol for run in runs if run.protocol.get("n_fake"))
    real = sorted({run.protocol["n_real"] for run in runs if run.protocol.get("n_real")})
    said = [
        f"Extractor {how['extractor']}, {how['resize']} resizing to {how['input_size']} px, "
        f"{how['n_fake']:,} generated images against {' or '.join(map('{:,}'.format, real))} real ones.",
        "Mean ± sample standard deviation over seeds; 95 % over seeds by Student's t; all scores are those "
        "of the step with the lowest FID, which is an optimistic choice.",
        f"≈ best: within seed noise of the best mean (Welch's t-test, p ≥ {_NOISE:g}, not corrected for the "
        "number of methods); best?: for want of a second seed nobody can tell.",
    ]
    if "inception" != how["extractor"]:
        said.append(f"Figures of the extractor {how['extractor']} cannot stand beside a paper's.")
    for run in runs:
        if run.results["status"] != "finished":
            said.append(
                f"{run.folder.name} is not finished: {run.results['status']}, step {run.results['steps']:,}."
            )
    return said


def _ended(name: str, extractor: str, suffix: str) -> tuple[str, str]:
    # The end of an interval follows the extractor: fid_lite_low/0.5.
    score, _, end = name.rpartition("_")
    return (score, f"_{end}{suffix}") if end in ("low", "high") and score else (name, suffix)


def _check(runs: Sequence[Run], keys: Mapping[str, str], which: str) -> None:
    for key, title in keys.items():
        given = [(run, run.protocol[key]) for run in runs if run.protocol.get(key) is not None]
        for run, value in given[1:]:
            first, other = given[0]
            if value != other:
                raise UserError(
                    f"{title} differ: {first.folder} has {str(other)[:40]}, {run.folder} has "
                    f"{str(value)[:40]}; {which} in a table must have the same, so report them apart"
                )


def _marked(rows: Rows, method: str, column: str, score: str) -> str:
    """Mean and deviation of a cell; whether it is the best of its column, or within the noise of the best."""
    everyone = {
        name: [entry.scores[score] for entry in cells.get(column, []) if score in entry.scores]
        for name, cells in rows.items()
    }
    values, entries = everyone[method], rows[method].get(column, [])
    if not values:
        return "failed" if entries and score == _FID else _DASH
    failed = len(entries) - len(values) if score == _FID else 0
    text = cell(values) + (f", {failed} failed" if failed else "")
    sign = -1 if SCORES[score] else 1
    rivals = {name: found for name, found in everyone.items() if found}
    best = min(rivals, key=lambda name: sign * statistics.mean(rivals[name]))
    if len({statistics.mean(found) for found in rivals.values()}) == 1:
        return text
    if len(rivals[best]) < 2:  # nothing can be told apart from a single seed
        return f"{text} best?" if best == method else text
    if best == method:
        return f"{text} **best**"
    if len(values) < 2:
        return f"{text} best?"
    p = significance(values, rivals[best])
    return f"{text} ≈ best" if p >= _NOISE else text


_TITLES = {"kid": "KID", "is": "IS", "mic": "mIC", "lpips": "LPIPS", "intra_lpips": "intra-LPIPS"}
_COSTS = ["λ_D", "delta, bytes", "parameters G + D", "MMACs", "min"]


def _costs(entries: Sequence[Entry], column: str) -> list[str]:
    run = entries[0].run
    split, operations = Division.of(run), _operations(run, column)
    seconds = [entry.run.results.get("wall_seconds") for entry in entries]
    minutes = [value / 60 for value in seconds if value is not None]
    return [
        _DASH if split.learn_ratio is None else f"{split.learn_ratio:.2%}",
        _DASH if split.delta_bytes is None else f"{split.delta_bytes:,}",
        " + ".join(f"{count:,}" for count in _sizes(run)),
        _DASH if operations is None else f"{operations / 1e6:,.{1 if operations > 1e6 else 3}f}",
        f"{statistics.mean(minutes):.1f}" if minutes else _DASH,
    ]


def _sizes(run: Run) -> tuple[int, int]:
    """Parameters of both players; of several domains' what is stored: shared once, a domain's for each."""
    counts: Mapping[str, int] = run.results["parameters"]
    sizes = []
    for part in ("generator", "discriminator"):
        split = (run.results.get("sharing") or {}).get(part, {})
        domains = run.results.get("domains")
        many = split.get("shared", 0) + len(domains or ()) * split.get("domain", 0)
        sizes.append(many if domains else counts.get(part, 0))
    return sizes[0], sizes[1]


def _operations(run: Run, column: str) -> int | None:
    known = run.operations
    return next((count for view, count in known.items() if not view or column.endswith(view)), None)


def _seeds(entries: Iterable[Entry]) -> str:
    return ", ".join(str(seed) for seed in sorted(entry.run.seed for entry in entries))


def _sampled(entries: Sequence[Entry]) -> tuple[float, float] | None:
    """The bootstrapped interval over generated images, averaged over the seeds."""
    found = [(e.scores["fid_low"], e.scores["fid_high"]) for e in entries if "fid_low" in e.scores]
    return (statistics.mean(a for a, _ in found), statistics.mean(b for _, b in found)) if found else None


def _ends(pair: tuple[float, float] | None) -> str:
    return _DASH if pair is None else f"{pair[0]:.4g} – {pair[1]:.4g}"


def _mean(values: Iterable[float | None]) -> str:
    found = [value for value in values if value is not None]
    return cell(found) if found else _DASH

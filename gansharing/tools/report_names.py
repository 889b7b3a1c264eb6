"""What methods and data are called in a report."""

from collections.abc import Mapping, Sequence

from gansharing.tools.report_runs import Run


def method_labels(methods: Sequence[Sequence[Run]]) -> list[str]:
    """A name for each set of runs: what their folders share, and where two agree, options that differ."""
    labels = []
    for runs in methods:
        stems = [stem.split("-") for stem in dict.fromkeys(run.stem for run in runs)]
        heads, tails = _common(stems), _common([stem[::-1] for stem in stems])[::-1]
        labels.append("-".join(tails or heads) or " / ".join("-".join(stem) for stem in stems))
    for label in {label for label in labels if labels.count(label) > 1}:
        same = [number for number, other in enumerate(labels) if other == label]
        for number, text in zip(same, _differences([methods[n][0].identity for n in same]), strict=True):
            labels[number] = f"{label} ({text})"
    return labels


def _common(parts: Sequence[Sequence[str]]) -> list[str]:
    taken = []
    for words in zip(*parts, strict=False):
        if len(set(words)) > 1:
            break
        taken.append(words[0])
    return taken


def _differences(options: Sequence[Mapping[str, str]]) -> list[str]:
    """For each of several sets of options the first that tell it from the others."""
    keys = dict.fromkeys(key for one in options for key in one)
    telling = [key for key in keys if len({one.get(key) for one in options}) > 1][:3]
    return [
        ", ".join(f"{key.rpartition('.')[2]}={one.get(key, 'none')}" for key in telling)[:80]
        for one in options
    ]


def data_labels(runs: Sequence[Run]) -> dict[str, str]:
    """A name for the images of every ``data_key``: as much of the path's end as tells it from the others."""
    labels: dict[str, str] = {}
    paths = list(dict.fromkeys(_path(run) for run in runs))
    for run in runs:
        path, tail = _path(run), 1
        while (
            any(p != path and _tail(p, tail) == _tail(path, tail) for p in paths)
            and tail < path.count("/") + 1
        ):
            tail += 1
        share = run.data.get("fraction") or 1
        labels[run.data_key] = _tail(path, tail) + (f" {share:.0%}" if share < 1 else "")
    for key, label in list(labels.items()):
        if [*labels.values()].count(label) > 1:
            run = next(run for run in runs if run.data_key == key)
            labels[key] = f"{label} {run.data.get('resolution')} px {run.data.get('subset') or ''}".strip()
    return labels


def _path(run: Run) -> str:
    path = run.data.get("path")
    return str(path).rstrip("/") if path else "domains" if run.data.get("domains") else "data"


def _tail(path: str, parts: int) -> str:
    return "/".join(path.split("/")[-parts:])

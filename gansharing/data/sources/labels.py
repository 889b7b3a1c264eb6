"""Labels as StyleGAN's data tool writes them: ``dataset.json`` with ``{"labels": [[name, class], ...]}``."""

import json
from typing import Any

from gansharing.errors import UserError

FILE = "dataset.json"
_MOST_CLASSES = 1_000_000


def read_labels(text: bytes, names: list[str], where: str) -> dict[str, int] | None:
    """Class number of every image.

    Args:
        text: The content of ``dataset.json``.
        names: Relative paths of all images; each must have a label.
        where: The data's location, for messages.

    Returns:
        Labels by name, or ``None`` where the file says that there are none.

    Raises:
        UserError: The file is no such list, an image has no label, or a label is no class number.
    """
    pairs = _parse(text, where)
    if pairs is None:
        return None
    labels: dict[str, int] = {}
    for pair in pairs:
        name, label = _checked(pair, where)
        labels[name] = label
    missing = [name for name in names if name not in labels]
    if missing:
        raise UserError(
            f"{where}: {FILE} has no label for {missing[0]} ({len(missing)} without); list every image"
        )
    return {name: labels[name] for name in names}


def _parse(text: bytes, where: str) -> list[Any] | None:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {FILE} is no JSON ({error}); write it again or remove it") from error
    pairs = content.get("labels") if isinstance(content, dict) else ()
    if pairs is None or isinstance(pairs, list):
        return pairs
    raise UserError(f'{where}: {FILE} must hold {{"labels": [[name, class], ...]}} or {{"labels": null}}')


def _checked(pair: Any, where: str) -> tuple[str, int]:
    match pair:
        case [str(name), int(label)] if not isinstance(label, bool) and 0 <= label < _MOST_CLASSES:
            return name.replace("\\", "/"), label
    raise UserError(
        f"{where}: {FILE} holds {str(pair)[:80]}; each entry must be [name, class number from 0 on]"
    )

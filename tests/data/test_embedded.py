"""The emoji sets: counts of the packages, pairs, and pictures that are no blanks."""

import numpy as np
import pytest

from gansharing.data import open_source
from gansharing.data.decode import Recipe, decode
from gansharing.data.sources.embedded import code_points, embedded_source, has_skin_tone


def names(source_name: str, skin_tones: bool = False) -> set[str]:
    return {item.name for item in embedded_source(source_name, skin_tones).items}


def test_the_counts_are_those_of_the_packages() -> None:
    assert len(names("twemoji", skin_tones=True)) == 4009
    assert len(names("twemoji", skin_tones=True) & names("openmoji", skin_tones=True)) == 3979
    assert len(names("twemoji")) == 1949 and len(names("twemoji") & names("openmoji")) == 1944


def test_skin_tones_are_dropped_and_nothing_else() -> None:
    dropped = names("twemoji", skin_tones=True) - names("twemoji")
    assert "1f44d-1f3fd.png" in dropped and "1f44d.png" not in dropped  # thumbs up, medium and plain
    assert all(has_skin_tone(name.removesuffix(".png")) for name in dropped)


@pytest.mark.parametrize(
    ("stem", "points"),
    [("0023-FE0F-20E3", "23-20e3"), ("1F468-200D-1F469", "1f468-200d-1f469"), ("2764-fe0f", "2764")],
)
def test_code_points_have_one_form_in_all_sets(stem: str, points: str) -> None:
    assert code_points(stem) == points


@pytest.mark.parametrize("name", ["twemoji", "openmoji"])
def test_pictures_are_in_colour_centred_and_different(name: str) -> None:
    source = open_source(name)
    pixels = np.stack([decode(source.read(item), Recipe(32)) for item in source.items[::97]]).astype(int)
    assert np.all(pixels.min((1, 2, 3)) < 200), "a picture is blank"
    assert (pixels.max(3) - pixels.min(3)).max() > 100, "all is grey"
    assert len({p.tobytes() for p in pixels}) == len(pixels)
    ink = (255 - pixels).mean(3).mean(0)
    centre = [(ink.sum(axis) * np.arange(32)).sum() / ink.sum() for axis in (0, 1)]
    assert np.abs(np.array(centre) - 15.5).max() < 1.5


def test_the_same_emoji_have_alike_colours_in_both_sets() -> None:
    # Pairs must be pairs: a set is nearer to its partner than to the partner of another emoji.
    shared = sorted(names("twemoji") & names("openmoji"))[::60]
    stacks = []
    for name in ("twemoji", "openmoji"):
        source = open_source(name)
        items = {item.name: item for item in source.items}
        stacks.append(
            np.stack([decode(source.read(items[n]), Recipe(8)).ravel() for n in shared]).astype(float)
        )
    distance = ((stacks[0][:, None] - stacks[1][None]) ** 2).mean(2)
    assert np.mean(distance.diagonal() < np.median(distance, axis=1)) > 0.8


def test_a_drawing_does_not_depend_on_the_thread_or_the_time() -> None:
    source, again = open_source("openmoji"), open_source("openmoji")
    item = source.items[1000]
    assert source.read(item) == source.read(item) == again.read(item)
    assert source.digest is not None and again.digest is not None
    assert source.digest(item) == again.digest(item) != source.digest(source.items[1001])

"""The cache: whole or absent, found by content, shared by processes, and honest about what it left out."""

import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gansharing.data import CachedImages, Recipe, cache_root, open_source, prepare
from gansharing.errors import UserError
from tests.data.helpers import encoded, fill, noise, pack, png


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANSHARING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ready(path: Path, resolution: int = 16, share: float = 0.01) -> CachedImages:
    return prepare(open_source(path), Recipe(resolution), max_bad_share=share, progress=False)


def folders(cache: Path) -> list[Path]:
    """What lies in the cache beside locks and reports."""
    images = cache / "images"
    return sorted(p for p in images.iterdir() if p.is_dir()) if images.exists() else []


def spoiled(root: Path, good: int) -> Path:
    root.mkdir()
    fill(root, [f"good{i:02}.png" for i in range(good)])
    (root / "cut.png").write_bytes(png(1)[:-30])
    (root / "text.jpg").write_bytes(b"no image at all")
    (root / "tiny.png").write_bytes(png(0, 4))
    return root


def test_it_holds_the_sources_pixels_labels_and_names(tmp_path: Path, cache: Path) -> None:
    fill(tmp_path / "x", ["b/1.png", "a/0.png", "b/0.png"])
    images = ready(tmp_path / "x")
    assert images.names == ["a/0.png", "b/0.png", "b/1.png"] and images.labels.tolist() == [0, 1, 1]
    assert images.num_classes == 2 and images.resolution == 16 and len(images) == 3
    for row, name in enumerate(images.names):
        assert np.array_equal(images.images[row], np.asarray(Image.open(tmp_path / "x" / name)))
    assert cache_root() == cache and isinstance(images.images, np.memmap)


def test_it_keeps_the_sizes_that_images_had(tmp_path: Path) -> None:
    folder = fill(tmp_path / "x", ["0.png", "2.png"], side=20)
    (folder / "1.png").write_bytes(encoded(noise(5, 40).resize((40, 30))))
    images = ready(folder)
    assert images.sizes is not None and images.sizes.tolist() == [[20, 20], [40, 30], [20, 20]]
    part = images.subset([1, 2])
    assert part.sizes is not None and part.sizes.tolist() == [[40, 30], [20, 20]]
    batch = part.batch([1, 0])
    assert batch["index"].tolist() == [1, 0]
    assert torch.equal(batch["image"], images.batch([2, 1])["image"])


def test_a_batch_equals_single_reads_and_lies_in_channels_last(tmp_path: Path) -> None:
    images = ready(fill(tmp_path / "x", [f"{i}.png" for i in range(6)]))
    batch = images.batch([4, 0, 4])
    assert (
        batch["image"].is_contiguous(memory_format=torch.channels_last)
        and batch["image"].dtype == torch.uint8
    )
    for place, row in enumerate([4, 0, 4]):
        assert torch.equal(
            batch["image"][place], torch.from_numpy(images.images[row].transpose(2, 0, 1).copy())
        )
        assert torch.equal(batch["image"][place], images[row]["image"])
        assert torch.equal(batch["image"][place], images.__getitems__([row])[0]["image"])


def test_a_second_start_decodes_and_reads_nothing(tmp_path: Path, cache: Path) -> None:
    root = fill(tmp_path / "x", [f"{i}.png" for i in range(4)])
    first = ready(root)
    # Same sizes and times, other bytes: had anything been read again, the images would change or fail.
    for file in root.iterdir():
        found = file.stat()
        file.write_bytes(bytes(found.st_size))
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    second = ready(root)
    assert second.fingerprint == first.fingerprint and np.array_equal(second.images, first.images)


def test_a_changed_file_is_seen_and_a_moved_folder_is_found(tmp_path: Path, cache: Path) -> None:
    first = ready(fill(tmp_path / "x", ["0.png", "1.png"]))
    shutil.copytree(tmp_path / "x", tmp_path / "y")
    moved = ready(tmp_path / "y")
    assert len(folders(cache)) == 1 and moved.fingerprint == first.fingerprint
    (tmp_path / "y" / "1.png").write_bytes(png(7))
    changed = ready(tmp_path / "y")
    assert len(folders(cache)) == 2 and changed.fingerprint != first.fingerprint
    assert np.array_equal(changed.images[1], np.asarray(Image.open(tmp_path / "y" / "1.png")))


def test_the_fingerprint_is_of_pixels_in_order(tmp_path: Path) -> None:
    images = ready(fill(tmp_path / "x", ["0.png", "1.png", "2.png"]))
    zipped = ready(pack(tmp_path / "x.zip", {f"{i}.png": png(i) for i in range(3)}))
    assert zipped.fingerprint == images.fingerprint
    swapped = images.subset([1, 0, 2])
    assert len({images.fingerprint, swapped.fingerprint, images.subset([0, 1]).fingerprint}) == 3
    assert swapped.subset([1, 0, 2]).batch([0])["image"].equal(images.batch([0])["image"])
    assert ready(tmp_path / "x", resolution=8).fingerprint != images.fingerprint


def test_a_subset_is_the_same_images_by_other_numbers(tmp_path: Path) -> None:
    images = ready(fill(tmp_path / "x", [f"{i % 2}/{i}.png" for i in range(8)]))
    part = images.subset([5, 2, 7]).subset([2, 0])
    assert part.names == [images.names[7], images.names[5]] and part.num_classes == 2
    assert np.array_equal(part.images, images.images[[7, 5]])
    assert part.batch([1])["label"].tolist() == [images.labels[5]]
    assert images.subset(range(8)) is images


def test_it_travels_to_another_process_as_a_path(tmp_path: Path) -> None:
    images = ready(fill(tmp_path / "x", [f"{i}.png" for i in range(50)]))
    data = pickle.dumps(images)
    assert len(data) < images.images.nbytes / 5
    assert np.array_equal(pickle.loads(data).images, images.images)


def test_what_is_left_out_is_listed_by_path_and_counted(tmp_path: Path, cache: Path) -> None:
    root = spoiled(tmp_path / "x", good=20)
    (root / "twin.png").write_bytes((root / "good00.png").read_bytes())
    (root / "notes.txt").write_text("x")
    for _ in range(2):  # the second start says it again
        with pytest.warns(UserWarning, match=r"3 of 24 images cannot be used .* listed in (\S+)") as caught:
            images = ready(root, share=0.2)
    assert len(images) == 21 and not {"cut.png", "text.jpg", "tiny.png"} & set(images.names)
    report = Path(str(caught[0].message).split()[-1]).read_text()
    for line in ("images used: 21 of 24", "earlier image (used all the same): 1", "by their name: 1"):
        assert line in report
    for name, why in (("cut.png", "Error"), ("text.jpg", "no image"), ("tiny.png", "4 x 4")):
        assert any(name in line and why in line for line in report.splitlines())


def test_too_many_bad_files_stop_it_and_leave_only_the_report(tmp_path: Path, cache: Path) -> None:
    root = spoiled(tmp_path / "x", good=20)
    with pytest.raises(UserError, match=r"3 of 23 images .*max_bad_share=0.01.*listed in \S+") as error:
        ready(root)
    assert "cut.png" in Path(str(error.value).split()[-1]).read_text() and folders(cache) == []
    with pytest.warns(UserWarning, match="3 of 23"):
        ready(root, share=0.2)
    with pytest.raises(UserError, match="3 of 23"):  # stricter than the cache that is there
        ready(root)


def test_files_that_cannot_be_opened_are_listed_too(tmp_path: Path) -> None:
    root = fill(tmp_path / "x", [f"{i}.png" for i in range(5)])
    (root / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.warns(UserWarning, match="1 of 6"):
        assert len(ready(root, share=0.5)) == 5


def test_damaged_zip_entries_are_listed_too(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", {f"{i}.png": png(i) for i in range(5)})
    data = bytearray(path.read_bytes())
    data[data.index(png(2)) + 60] ^= 255  # the entry's checksum no longer holds
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="1 of 5"):
        assert ready(path, share=0.5).names == ["0.png", "1.png", "3.png", "4.png"]


def test_only_bad_files_are_never_enough(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 of 3"):
        ready(spoiled(tmp_path / "x", good=0), share=1.0)


def test_a_damaged_cache_is_built_again(tmp_path: Path, cache: Path) -> None:
    root = fill(tmp_path / "x", ["0.png", "1.png"])
    before = ready(root).images.copy()
    for damage in ("images.bin", "manifest.json"):
        os.truncate(folders(cache)[0] / damage, 10)
        with pytest.warns(UserWarning, match="damaged"):
            assert np.array_equal(ready(root).images, before)
    for index in (cache / "index").iterdir():
        index.write_text('{"x": 3')
    assert np.array_equal(ready(root).images, before)


def test_too_large_for_the_disk_is_refused_before_it_starts(tmp_path: Path, cache: Path) -> None:
    root = fill(tmp_path / "x", ["0.png", "1.png"])
    side = int((shutil.disk_usage(tmp_path).free / 6) ** 0.5) * 2
    with pytest.raises(UserError, match="full .*nothing was kept.*GANSHARING_CACHE"):
        ready(root, resolution=side)
    assert folders(cache) == []


PREPARE = """
import os, resource, sys
from gansharing.data import Recipe, open_source, prepare
path, resolution, processes, limit = sys.argv[1], *map(int, sys.argv[2:])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for _ in range(processes - 1):
    if os.fork() == 0:
        break
images = prepare(open_source(path), Recipe(resolution), progress=False)
print(images.fingerprint + chr(10), end="", flush=True)
"""


def start(path: Path, resolution: int, processes: int = 1, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARE, str(path), *map(str, (resolution, processes, limit))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    # The kernel refuses the write halfway, as it does on a full disk or quota.
    root = fill(tmp_path / "x", [f"{i}.png" for i in range(40)])
    process = start(root, 64, limit=40 * 64 * 64 * 3 // 2)
    _, error = process.communicate(timeout=60)
    last = error.strip().splitlines()[-1]
    assert process.returncode != 0 and "UserError" in last and "full" in last and "nothing was kept" in last
    assert folders(cache) == []
    assert len(ready(root, 64)) == 40


def test_processes_at_once_share_one_cache(tmp_path: Path, cache: Path) -> None:
    root = fill(tmp_path / "x", [f"{i}.png" for i in range(60)], side=64)
    output, error = start(root, 96, processes=4).communicate(timeout=60)
    assert len(folders(cache)) == 1, error
    assert output.split() == [ready(root, 96).fingerprint] * 4, error


def test_a_killed_process_leaves_no_half_cache(tmp_path: Path, cache: Path) -> None:
    root = fill(tmp_path / "x", [f"{i:03}.png" for i in range(300)], side=128)
    process = start(root, 256)
    while process.poll() is None and not any(p.name.startswith(".") for p in folders(cache)):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert all(p.name.startswith(".") for p in folders(cache)), "it was killed too late to show anything"
    images = ready(root, 256)
    assert len(images) == 300 and [p.name.startswith(".") for p in folders(cache)] == [False]


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, cache: Path) -> None:
    root = fill(tmp_path / "x", ["0.png", "1.png"])
    ready(root)
    found = (root / "1.png").stat()
    (root / "1.png").write_bytes(png(9)[: found.st_size].ljust(found.st_size, b"\0"))
    os.utime(root / "1.png", ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(UserError, match="1.png changed while it was read"):
        ready(root, resolution=8)
    assert len(folders(cache)) == 1


def test_a_cache_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("GANSHARING_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set GANSHARING_CACHE"):
        ready(fill(tmp_path / "x", ["0.png"]))


def test_the_manifest_tells_how_it_was_made(tmp_path: Path, cache: Path) -> None:
    import json

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = ready(spoiled(tmp_path / "x", good=4), share=0.9)
    manifest = json.loads((folders(cache)[0] / "manifest.json").read_text())
    assert manifest["recipe"] == {
        "resolution": 16,
        "crop": "none",
        "background": "white",
        "resample": "lanczos",
    }
    assert manifest["names"] == images.names and len(manifest["bad"]) == 3
    digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((tmp_path / "x").iterdir())]
    assert manifest["source_hash"] == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert {"python", "pillow", "numpy"} <= manifest["versions"].keys()

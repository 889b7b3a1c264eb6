import csv
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch import Tensor

from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.visual import curves, grid, read_metrics, save_animation, save_png, strip, to_uint8


def pictures(number: int, height: int = 8, width: int = 8, channels: int = 3) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, 255, (number, channels, height, width), dtype=torch.uint8, generator=source)


def colours(path: Path) -> set[tuple[int, ...]]:
    image = np.asarray(Image.open(path).convert("RGB"))
    return set(map(tuple, image.reshape(-1, 3).tolist()))


@given(hnp.arrays(np.float32, (1, 3, 4, 4), elements=st.floats(-2, 2, width=32)))
def test_to_uint8_rounds_to_the_nearest_level(values: np.ndarray) -> None:
    exact = (np.clip(values.astype(np.float64), -1, 1) + 1) * 127.5
    assert np.abs(to_uint8(torch.from_numpy(values)).numpy() - exact).max() <= 0.5 + 1e-4


def test_to_uint8_inverts_the_usual_scaling_of_all_levels() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(levels / 127.5 - 1), levels)
    assert torch.equal(to_uint8(levels), levels)


def test_to_uint8_reads_half_precision_and_drops_the_graph() -> None:
    images = torch.zeros(1, 3, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    out = to_uint8(images)
    assert out.dtype == torch.uint8 and not out.requires_grad and out.unique().tolist() == [128]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_diverged_generator_is_named(bad: float) -> None:
    images = torch.zeros(2, 3, 4, 4)
    images[1, 0, 2, 2] = bad
    with pytest.raises(UserError, match="diverged"):
        to_uint8(images)


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))
def test_grid_holds_every_image_at_its_place(
    number: int, columns: int, height: int, width: int, channels: int
) -> None:
    images = pictures(number, height, width, channels)
    sheet = grid(images, columns)
    used = min(columns, number)
    rows = -(-number // used)
    assert sheet.shape == (channels, rows * (height + 2) - 2, used * (width + 2) - 2)
    rest = sheet.clone()
    for index, image in enumerate(images):
        top, left = index // used * (height + 2), index % used * (width + 2)
        assert torch.equal(sheet[:, top : top + height, left : left + width], image)
        rest[:, top : top + height, left : left + width] = 255
    assert (rest == 255).all()


def test_grid_is_square_by_default_and_strip_is_a_row() -> None:
    assert grid(pictures(16)).shape == (3, 38, 38)
    assert strip(pictures(5)).shape == (3, 8, 48)
    assert torch.equal(grid(torch.zeros(1, 3, 4, 4)), torch.full((3, 4, 4), 128, dtype=torch.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_comes_back_with_its_metadata(channels: int, tmp_path: Path) -> None:
    image = pictures(1, 7, 9, channels)[0]
    path = tmp_path / "new" / "folder" / "a.png"
    save_png(image, path, {"seed": 7, "model": "größer"})
    with Image.open(path) as read:
        assert read.text == {"seed": "7", "model": "größer"}  # type: ignore[attr-defined]
        back = torch.from_numpy(np.asarray(read).copy()).view(7, 9, channels).permute(2, 0, 1)
    assert torch.equal(back, image)
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_gif_shows_every_frame_for_its_time(tmp_path: Path) -> None:
    frames = torch.stack([torch.full((3, 8, 8), level, dtype=torch.uint8) for level in (0, 100, 200)])
    save_animation(frames, tmp_path / "walk.gif", fps=20)
    with Image.open(tmp_path / "walk.gif") as gif:
        assert gif.n_frames == 3 and gif.info["loop"] == 0  # type: ignore[attr-defined]
        for index, level in enumerate((0, 100, 200)):
            gif.seek(index)
            assert gif.info["duration"] == 50
            assert np.asarray(gif.convert("RGB")).reshape(-1, 3).tolist()[0] == [level] * 3


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 48), (1, 33, 31)])
def test_mp4_plays_back(channels: int, height: int, width: int, tmp_path: Path) -> None:
    import imageio_ffmpeg

    levels = (20, 120, 220)
    frames = torch.stack([torch.full((channels, height, width), v, dtype=torch.uint8) for v in levels])
    save_animation(frames, tmp_path / "walk.MP4", fps=10)
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(tmp_path / "walk.MP4"), "-f", "rawvideo"]
    decoded = subprocess.run([*decode, "-pix_fmt", "gray", "-"], capture_output=True, check=True)
    size = (width + width % 2, height + height % 2)
    assert f"{size[0]}x{size[1]}" in decoded.stderr.decode() and "10 fps" in decoded.stderr.decode()
    shown = np.frombuffer(decoded.stdout, np.uint8).reshape(3, -1).mean(1)
    np.testing.assert_allclose(shown, levels, atol=4)


def test_mp4_without_its_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"gansharing\[video\]"):
        save_animation(pictures(2), tmp_path / "walk.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("frames", "name", "fps", "hint"),
    [
        (pictures(2), "walk.avi", 25, r"\.gif or \.mp4"),
        (pictures(0), "walk.gif", 25, "T > 0"),
        (pictures(2)[0], "walk.gif", 25, "shape"),
        (pictures(2), "walk.gif", 0, "1 to 50"),
        (pictures(2), "walk.gif", 60, "1 to 50"),
        (pictures(2, channels=4), "walk.gif", 25, "1 or 3"),
    ],
)
def test_bad_animations_leave_nothing(frames: Tensor, name: str, fps: int, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=hint):
        save_animation(frames, tmp_path / name, fps)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("images", [pictures(0), pictures(1)[0]])
def test_a_grid_of_nothing_is_refused(images: Tensor) -> None:
    with pytest.raises(UserError, match="N > 0"):
        grid(images)
    with pytest.raises(UserError, match="column"):
        grid(pictures(2), 0)


def test_a_full_disk_keeps_the_old_file_and_leaves_no_part(tmp_path: Path) -> None:
    target = tmp_path / "grid.png"
    target.write_bytes(b"old")
    limit = 4096
    program = f"""
import resource, signal
from pathlib import Path
from gansharing.errors import UserError
from gansharing.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, -1))
try:
    write_atomically(Path({str(target)!r}), lambda file: file.write(b"x" * {limit * 4}))
except UserError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "cannot write" in result.stdout and "File too large" in result.stdout
    assert target.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]


def test_a_failing_writer_leaves_nothing_and_a_killed_ones_part_is_swept(tmp_path: Path) -> None:
    def fail(file: io.BufferedIOBase) -> None:
        file.write(b"half")
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        write_atomically(tmp_path / "a[1].bin", fail)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    (tmp_path / ".a[1].bin.partial-killed").write_bytes(b"half")
    write_atomically(tmp_path / "a[1].bin", lambda file: file.write(b"whole"))
    assert [file.name for file in tmp_path.iterdir()] == ["a[1].bin"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot write .*file/a.png"):
        save_png(pictures(1)[0], tmp_path / "file" / "a.png")


def drawn(rows: list[dict[str, object]], path: Path) -> np.ndarray:
    curves(rows, path)
    return np.asarray(Image.open(path).convert("RGB"))


def test_curves_show_losses_and_fid(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"step": s, "loss_g": 1 + s % 3, "train/loss_d": 0.5} for s in range(50)]
    losses_only = drawn(rows, tmp_path / "losses.png")
    both = drawn([*rows, {"step": 49, "val/fid_lite": 80.0}], tmp_path / "both.png")
    assert both.shape[0] > 1.5 * losses_only.shape[0]
    assert {(0, 114, 178), (213, 94, 0)} <= colours(tmp_path / "losses.png")  # one colour a loss


def test_curves_take_the_last_value_of_a_step(tmp_path: Path) -> None:
    clean: list[dict[str, object]] = [{"step": s, "loss_g": float(s)} for s in range(6)]
    lost: list[dict[str, object]] = [{"step": s, "loss_g": 100.0} for s in range(3, 6)]
    resumed = [*clean[:3], *lost, *clean[3:]]
    first = drawn(clean, tmp_path / "clean.png")
    assert np.array_equal(first, drawn(resumed, tmp_path / "resumed.png"))
    assert not np.array_equal(first, drawn([*clean[:3], *lost], tmp_path / "lost.png"))


def test_curves_read_what_lightning_logs(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(tmp_path, name="run", version="")
    for step in range(4):
        logger.log_metrics({"loss_g": 1.0 / (step + 1), "loss_d": 0.7}, step=step)
    logger.log_metrics({"fid_lite": 50.0}, step=3)
    logger.save()
    table = Path(logger.log_dir) / "metrics.csv"
    assert {row["fid_lite"] for row in read_metrics(table)} == {"", "50.0"}
    curves(table, tmp_path / "curves.png")
    assert {(0, 114, 178), (213, 94, 0)} <= colours(tmp_path / "curves.png")


def test_curves_live_through_a_diverged_run_and_a_torn_line(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "loss_g", "fid"])
        writer.writerows([[0, 1.0, ""], [1, "nan", 30.5], [2, "inf", "nan"], [3, 2.0, 20.25]])
        file.write("4,-")
    curves(table, tmp_path / "curves.png")
    assert (0, 114, 178) in colours(tmp_path / "curves.png")


def test_curves_without_anything_to_draw_say_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'loss' or 'fid'"):
        curves([{"step": 0, "epoch": 1}], tmp_path / "curves.png")
    with pytest.raises(UserError, match="metrics.csv"):
        curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    (tmp_path / "metrics.csv").write_text("epoch,loss_g\n1,2\n")
    with pytest.raises(UserError, match="no column 'step'.*epoch, loss_g"):
        curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()

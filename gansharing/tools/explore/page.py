"""The page: controls in, pictures out. What they do is the explorer's."""

import itertools
import logging
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import torch
from torch import Tensor

from gansharing.errors import UserError
from gansharing.tools.explore.explorer import (
    MOST_BYTES,
    MOST_IMAGES,
    MOST_SEED,
    MOST_STEPS,
    PSI,
    Explorer,
    Setting,
)
from gansharing.visual import grid, save_animation, save_png, strip

_FPS = 12
_KEPT = 64  # pictures of the page on disk; the oldest goes first
_BLOCKY = 128  # px up to which pixels are shown as squares instead of being blurred

_NOT_FOR_PROGRAMS = "private"  # these have the library

_LOG = logging.getLogger(__name__)

CSS = """
footer { display: none !important }
main.fillable { max-width: 1180px !important; margin: 0 auto }
.picture img { width: 100%; height: 100%; object-fit: contain; padding: 8px }
.blocky img { image-rendering: pixelated }
.message textarea { border: none !important; box-shadow: none !important; background: none !important }
.wrong textarea { color: #b3261e !important; font-weight: 600 }
.about { opacity: .8 }
"""


class Shot(NamedTuple):
    """What a control gives: a picture, its name on disk, and what is said below it.

    Attributes:
        picture: uint8 ``(3, H, W)``, or frames ``(T, 3, H, W)`` of an animation.
        name: Without suffix.
        caption: One line; kept in a PNG, too.
    """

    picture: Tensor
    name: str
    caption: str


class Page:
    """The page of an explorer; :attr:`blocks` is what gradio serves.

    Args:
        explorer: The generators.
        folder: For pictures; the newest stay.
    """

    def __init__(self, explorer: Explorer, folder: Path) -> None:
        self.explorer, self.folder = explorer, folder
        self._written: list[Path] = []
        self._look = ["picture", *(["blocky"] if explorer.resolution <= _BLOCKY else [])]
        self._common: dict[str, Any] = {}
        self.blocks = gr.Blocks(
            title="gansharing explore", analytics_enabled=False, delete_cache=(600, 3600), fill_width=True
        )
        with self.blocks:
            with gr.Row():
                with gr.Column(scale=1, min_width=260):
                    self._sidebar()
                with gr.Column(scale=3, min_width=420), gr.Tabs():
                    self._image_tab()
                    self._walk_tab()
                    if explorer.layers:
                        self._mix_tab()
                    if len(explorer.names) > 1:
                        self._domains_tab()
                    self._invert_tab()

    def _sidebar(self) -> None:
        explorer, base = self.explorer, self.explorer.menu.base
        numbers = sum(parameter.numel() for parameter in base.parameters())
        gr.Markdown("## gansharing explore")
        gr.Markdown(
            f"{type(base).__name__}, {explorer.resolution} px, {numbers:,} parameters", elem_classes="about"
        )
        if len(explorer.names) > 1:
            self._common["domain"] = gr.Dropdown(
                explorer.names, value=explorer.names[0], label="Domain", elem_id="domain"
            )
        if explorer.widths:
            self._common["width"] = gr.Slider(
                explorer.widths[0], 1, value=1, step=_step(explorer.widths), label="Width", elem_id="width"
            )
        if explorer.truncates:
            self._common["truncation"] = gr.Slider(
                *PSI, value=1, step=0.05, label="Truncation ψ", elem_id="truncation"
            )
        if explorer.classes:
            choices = list(range(explorer.classes))
            self._common["label"] = gr.Dropdown(choices, value=0, label="Class", elem_id="label")

    def _image_tab(self) -> None:
        with gr.Tab("Images", id="images"):
            with gr.Row():
                seed = gr.Number(0, label="Seed", elem_id="seed", min_width=120)
                count = gr.Slider(
                    1, MOST_IMAGES, value=4, step=1, label="Images", elem_id="count", min_width=120
                )
            with gr.Row():
                draw = gr.Button("Show", variant="primary", elem_id="show")
                dice = gr.Button("Random seed", elem_id="random")
            show = self._shown("images", self._images, seed, count)
        draw.click(**show)
        seed.submit(**show)
        dice.click(lambda: random.randrange(MOST_SEED), None, seed, api_visibility=_NOT_FOR_PROGRAMS).then(
            **show
        )
        self.blocks.load(**show)
        for name, control in (*self._common.items(), ("count", count)):
            event = control.release if name in ("width", "truncation", "count") else control.change
            event(**show, trigger_mode="always_last")

    def _walk_tab(self) -> None:
        explorer = self.explorer
        with gr.Tab("Walk", id="walk"):
            with gr.Row():
                seeds = gr.Textbox("1,7,3", label="Seeds, the stations", elem_id="stations", max_lines=1)
                steps = gr.Slider(1, 60, value=12, step=1, label="Frames per stretch", elem_id="frames")
            with gr.Row():
                space = gr.Radio(
                    explorer.walks, value=explorer.walks[-1], label="Space", elem_id="walk-space",
                    visible=len(explorer.walks) > 1,
                )  # fmt: skip
                loop = gr.Checkbox(True, label="Back to the first", elem_id="loop")
            draw = gr.Button("Walk", variant="primary", elem_id="walk")
            show = self._shown("walk", self._walk, seeds, steps, space, loop)
        draw.click(**show)

    def _mix_tab(self) -> None:
        layers = list(range(self.explorer.layers))
        with gr.Tab("Mix", id="mix"):
            with gr.Row():
                first = gr.Number(0, label="Seed", elem_id="first", min_width=120)
                second = gr.Number(1, label="Seed that gives layers", elem_id="second", min_width=120)
            taken = gr.CheckboxGroup(
                layers, value=self.explorer.coarse, label="Layers of the second seed, from coarse to fine",
                elem_id="layers",
            )  # fmt: skip
            draw = gr.Button("Mix", variant="primary", elem_id="mix")
            show = self._shown("mix", self._mix, first, second, taken)
        draw.click(**show)

    def _domains_tab(self) -> None:
        with gr.Tab("Domains", id="domains"):
            seeds = gr.Textbox("0-5", label="Seeds, one a column", elem_id="columns", max_lines=1)
            draw = gr.Button("Show all domains", variant="primary", elem_id="grid")
            show = self._shown("domains", self._domains, seeds)
        draw.click(**show)

    def _invert_tab(self) -> None:
        spaces = self.explorer.spaces
        with gr.Tab("Your image", id="invert"):
            with gr.Row():
                file = gr.File(
                    label=f"PNG, JPEG or WebP, up to {MOST_BYTES // 1_000_000} MB",
                    elem_id="upload",
                    height=140,
                )
                with gr.Column():
                    steps = gr.Slider(1, MOST_STEPS, value=100, step=1, label="Steps", elem_id="steps")
                    space = gr.Radio(
                        spaces, value=spaces[0], label="Space", elem_id="space", visible=len(spaces) > 1
                    )
            draw = gr.Button("Look for it", variant="primary", elem_id="invert")
            show = self._shown("invert", self._invert, file, steps, space)

            def with_progress(*values: Any, progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008
                filled: tuple[Any, ...] = show["fn"](*values, progress=progress)
                return filled

        draw.click(**{**show, "fn": with_progress})

    def _shown(self, name: str, act: Callable[..., Shot], *controls: Any) -> dict[str, Any]:
        """Places for a picture, its download and its message; what an event takes to fill them."""
        image = gr.Image(
            label="Picture", show_label=False, interactive=False, format="png", height=440,
            elem_id=f"picture-{name}", elem_classes=self._look, buttons=["fullscreen"],
        )  # fmt: skip
        message = gr.Textbox(
            show_label=False, container=False, interactive=False, lines=1, max_lines=4,
            elem_id=f"message-{name}", elem_classes=["message"],
        )  # fmt: skip
        download = gr.DownloadButton(
            "Download GIF" if name == "walk" else "Download PNG",
            interactive=False,
            elem_id=f"download-{name}",
        )

        def handler(*values: Any, **options: Any) -> tuple[Any, ...]:
            try:
                setting = Setting(**dict(zip(self._common, values, strict=False)))
                shot = act(setting, *values[len(self._common) :], **options)
                path = self._write(shot)
            except UserError as error:
                return gr.skip(), gr.skip(), gr.update(value=str(error), elem_classes=["message", "wrong"])
            except Exception:
                _LOG.exception("the page could not show %s", name)
                text = "this went wrong here, not with you; the terminal says more"
                return gr.skip(), gr.skip(), gr.update(value=text, elem_classes=["message", "wrong"])
            said = gr.update(value=shot.caption, elem_classes=["message"])
            return str(path), gr.update(value=str(path), interactive=True), said

        inputs = [*self._common.values(), *controls]
        for control in inputs:
            if not isinstance(control, gr.File):  # of an upload gradio checks that it is one
                # The explorer has the same bounds and says so on the page; gradio in a traceback.
                control.preprocess = lambda value: value
        return {
            "fn": handler,
            "inputs": inputs,
            "outputs": [image, download, message],
            "show_progress_on": image,
            "api_visibility": _NOT_FOR_PROGRAMS,
        }

    def _write(self, shot: Shot) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        if shot.picture.ndim == 4:
            path = folder / f"{shot.name}.gif"
            save_animation(shot.picture, path, _FPS)
        else:
            path = folder / f"{shot.name}.png"
            save_png(shot.picture, path, {"gansharing": shot.caption})
        self._written.append(path)
        while len(self._written) > _KEPT:
            self._written.pop(0).unlink(missing_ok=True)
        return path

    def _images(self, setting: Setting, seed: Any, count: Any) -> Shot:
        images = self.explorer.images(setting, seed, count)
        last = int(seed) + len(images) - 1
        said = f"seed {int(seed)}" if len(images) == 1 else f"seeds {int(seed)} to {last}"
        return Shot(grid(images), f"seed{int(seed):07d}", f"{said}{self._told(setting)}")

    def _walk(self, setting: Setting, seeds: Any, steps: Any, space: Any, loop: Any) -> Shot:
        frames = self.explorer.walk(setting, seeds, steps, space, loop)
        return Shot(frames, "walk", f"{len(frames)} frames in {space}, seeds {seeds}{self._told(setting)}")

    def _mix(self, setting: Setting, first: Any, second: Any, layers: list[Any]) -> Shot:
        images = self.explorer.mix(setting, first, second, layers)
        taken = ", ".join(map(str, sorted(layers)))
        said = f"seed {int(first)} | seed {int(second)} | layers {taken} of the second in the first"
        return Shot(strip(images), "mix", f"{said}{self._told(setting)}")

    def _domains(self, setting: Setting, seeds: Any) -> Shot:
        rows = self.explorer.domains(setting, seeds)
        told = self._told(Setting(None, setting.width, setting.truncation, setting.label))
        said = f"rows from the top: {', '.join(self.explorer.names)}; columns: seeds {seeds}{told}"
        return Shot(grid(rows.flatten(0, 1), rows.shape[1]), "domains", said)

    def _invert(self, setting: Setting, path: Any, steps: Any, space: Any, progress: gr.Progress) -> Shot:
        def on_step(step: int, distance: float) -> None:
            progress((step, int(steps)), desc=f"distance {distance:.4f}")

        target, found = self.explorer.invert(setting, path, steps, space, on_step)
        told = self._told(Setting(setting.domain, setting.width, None, setting.label))
        said = (
            f"your image | what was found in {space}: distance {found.start:.4f}, then {found.end:.4f}{told}"
        )
        said += f"; {target.note}" if target.note else ""
        return Shot(strip(torch.cat([target.image, found.image])), f"{target.name}_found", said)

    def _told(self, setting: Setting) -> str:
        """What is set beside the seeds, for captions."""
        width, psi = self.explorer.width(setting.width), setting.truncation
        parts = [
            setting.domain,
            f"width {width:g}" if width is not None else None,
            f"ψ {psi:g}" if psi is not None else None,
            f"class {setting.label}" if setting.label is not None else None,
        ]
        return "".join(f", {part}" for part in parts if part)


def _step(widths: list[float]) -> float:
    """The slider's: the distance of widths that lie evenly, else a hundredth."""
    gaps = {round(b - a, 6) for a, b in itertools.pairwise(widths)}
    return gaps.pop() if len(gaps) == 1 else 0.01

"""Every control of the page in Chromium, and what it answers to nonsense; ``make test-browser``."""

import json
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.explore.browser import PATIENCE, Served, Visitor, serve, visit
from tests.explore.files import FILES, png
from tests.explore.models import write_models

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def served(paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(
        tmp_path_factory.mktemp("served"), *(paths[name] for name in ("base", "cats", "dogs"))
    ) as running:
        yield running


@pytest.fixture
def visitor(served: Served) -> Iterator[Visitor]:
    with visit(served.address) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    across, down = np.meshgrid(np.arange(96), np.arange(64))
    pixels = np.stack([across * 2, down * 3, 255 - across * 2], 2).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_every_control(visitor: Visitor, served: Served, photo: Path) -> None:
    assert visitor.says("images", "^seed") == "seeds 0 to 3, base, ψ 1, class 0"
    visitor.shot("1-images")
    visitor.choose("domain", "cats")
    visitor.says("images", "seeds 0 to 3, cats, ψ 1, class 0")
    visitor.number("truncation", "0.5")
    visitor.says("images", "cats, ψ 0.5, class 0")
    visitor.choose("label", "2")
    visitor.says("images", "cats, ψ 0.5, class 2")
    visitor.number("count", "1")
    visitor.says("images", "^seed 0, cats")
    visitor.number("seed", "7")
    visitor.press("show")
    visitor.says("images", "^seed 7, cats, ψ 0.5, class 2")
    with Image.open(visitor.download("images")) as image:
        assert (image.format, image.size) == ("PNG", (32, 32))
        assert image.info["gansharing"] == "seed 7, cats, ψ 0.5, class 2"
        shown = np.asarray(image).copy()
    visitor.press("random")
    visitor.says("images", r"^seed (?!7,)\d+, cats")
    with Image.open(visitor.download("images")) as image:
        assert not np.array_equal(np.asarray(image), shown)
    visitor.shot("2-one-domain")

    visitor.tab("Walk")
    visitor.text("stations", "2,5")
    visitor.number("frames", "3")
    visitor.press("walk")
    visitor.says("walk", "^6 frames in w, seeds 2,5, cats")
    visitor.page.get_by_label("z", exact=True).first.check()
    visitor.page.get_by_label("Back to the first").uncheck()
    visitor.press("walk")
    visitor.says("walk", "^4 frames in z")
    with Image.open(visitor.download("walk")) as image:
        assert (image.format, getattr(image, "n_frames", 1), image.size) == ("GIF", 4, (32, 32))
    visitor.shot("3-walk")

    visitor.tab("Mix")
    visitor.number("first", "3")
    visitor.number("second", "4")
    visitor.page.locator("#layers").get_by_label("7").check()
    visitor.page.locator("#layers").get_by_label("0").uncheck()
    visitor.press("mix")
    visitor.says("mix", r"^seed 3 \| seed 4 \| layers 1, 2, 3, 7 of the second")
    with Image.open(visitor.download("mix")) as image:
        assert image.size == (3 * 32 + 2 * 2, 32)
    visitor.shot("4-mix")

    visitor.tab("Domains")
    visitor.text("columns", "0-2,9")
    visitor.press("grid")
    visitor.says("domains", "^rows from the top: base, cats, dogs; columns: seeds 0-2,9, ψ 0.5, class 2")
    with Image.open(visitor.download("domains")) as image:
        assert image.size == (4 * 34 - 2, 3 * 34 - 2)
    visitor.shot("5-domains")

    visitor.tab("Your image")
    visitor.upload(photo)
    visitor.number("steps", "4")
    visitor.page.locator("#space").get_by_label("w+").check()
    visitor.press("invert")
    said = visitor.says("invert", r"^your image \| what was found in w\+: distance")
    assert "photo.jpg is 96 x 64; its middle square is resized to 32 x 32" in said
    with Image.open(visitor.download("invert")) as image:
        assert image.size == (2 * 32 + 2, 32)
    visitor.shot("6-your-image")

    own = served.address + "/"
    assert not visitor.errors
    assert all(asked.startswith((own, "data:", "blob:")) for asked in visitor.asked)
    assert "WENT OUT" not in served.log.read_text()


def test_a_network_has_the_controls_it_can_use(paths: dict[str, Path], tmp_path: Path) -> None:
    with serve(tmp_path, paths["slim"]) as running, visit(running.address) as visitor:
        visitor.number("width", "0.4")
        visitor.says("images", "^seeds 0 to 3, width 0.5$")
        visitor.shot("7-width")
        for missing in ("domain", "truncation", "label", "mix", "grid"):
            assert visitor.page.locator(f"#{missing}").count() == 0
        for hidden in ("Walk", "Your image"):
            visitor.tab(hidden)
        assert visitor.page.get_by_role("tab").all_inner_texts() == ["Images", "Walk", "Your image"]
        assert not visitor.page.locator("#space, #walk-space").is_visible()


NAN = float("nan")
Deed = Callable[[Visitor], None]


def seed(value: str) -> Deed:
    def deed(visitor: Visitor) -> None:
        visitor.number("seed", value)
        visitor.press("show")

    return deed


def stations(value: str) -> Deed:
    def deed(visitor: Visitor) -> None:
        visitor.tab("Walk")
        visitor.text("stations", value)
        visitor.press("walk")

    return deed


def walk_of(frames: str) -> Deed:
    def deed(visitor: Visitor) -> None:
        visitor.tab("Walk")
        visitor.text("stations", "0-9")
        visitor.number("frames", frames)
        visitor.press("walk")

    return deed


def without_layers(visitor: Visitor) -> None:
    visitor.tab("Mix")
    for box in visitor.page.locator("#layers input").all():
        box.uncheck()
    visitor.press("mix")


def no_second(visitor: Visitor) -> None:
    visitor.tab("Mix")
    visitor.number("second", "")
    visitor.press("mix")


def columns(value: str) -> Deed:
    def deed(visitor: Visitor) -> None:
        visitor.tab("Domains")
        visitor.text("columns", value)
        visitor.press("grid")

    return deed


def file(name: str, steps: str = "2") -> Deed:
    def deed(visitor: Visitor) -> None:
        visitor.tab("Your image")
        visitor.number("steps", steps)
        path = visitor.folder / name
        path.write_bytes(FILES[name][0] if name in FILES else png(64, 48))
        visitor.upload(path)
        visitor.press("invert")

    return deed


def no_file(visitor: Visitor) -> None:
    visitor.tab("Your image")
    visitor.press("invert")


# What is done, the part of the page that answers, and its answer.
NONSENSE: list[tuple[str, Deed, str, str]] = [
    ("seed empty", seed(""), "images", "^seed is missing"),
    ("seed negative", seed("-1"), "images", "^seed is -1; give a whole number"),
    ("seed half", seed("1.5"), "images", r"^seed is 1\.5"),
    ("seed huge", seed("1e300"), "images", r"^seed is 1e\+300"),
    ("psi", lambda visitor: visitor.number("truncation", "1e9"), "images", "^truncation is|ψ 1.5"),
    ("count", lambda visitor: visitor.number("count", "-3"), "images", "^number of images is|^seed 14,"),
    ("letters", stations("a,b"), "walk", "'a' is neither a number nor a range"),
    ("no stations", stations(""), "walk", "^seeds are missing"),
    ("one station", stations("4"), "walk", "at least two seeds"),
    ("many stations", stations("0-99999"), "walk", "at most 12"),
    ("huge station", stations("1,99999999999999999999"), "walk", "none above 4294967295"),
    ("long text", stations("1," * 5000), "walk", r"^seeds are 1,1,.*\.\.\.; write at most 12"),
    ("script", stations("<img src=x onerror=alert(1)>"), "walk", "'<img src=x onerror=alert"),
    ("many frames", walk_of("60"), "walk", "more than 240; choose fewer"),
    ("no second seed", no_second, "mix", "^second seed is missing"),
    ("no layers", without_layers, "mix", "^no layer is chosen"),
    ("many columns", columns("0-99"), "domains", "at most 16"),
    ("no file", no_file, "invert", "^no image"),
    *((name, file(name), "invert", f"^{re.escape(name)}.*{said}") for name, (_, said) in FILES.items()),
    ("steps", file("fine.png", "-7"), "invert", "^steps is|was found"),
]


def test_nonsense_is_answered_in_a_line_and_harms_nothing(
    visitor: Visitor, served: Served, tmp_path: Path
) -> None:
    assert len(NONSENSE) >= 20
    visitor.folder = tmp_path
    for number, (name, deed, part, said) in enumerate(NONSENSE):
        deed(visitor)
        visitor.says(part, said)
        if name in ("seed negative", "script", "no layers", "torn.jpg"):
            visitor.shot(f"8-{name.replace(' ', '-')}")
        again = str(10 + number)
        visitor.tab("Images")
        visitor.number("seed", again)
        visitor.press("show")
        visitor.says("images", f"^seeds? {again}.*, base")
    assert not visitor.errors
    assert "Traceback" not in served.log.read_text(), served.log.read_text()


def posted(address: str, path: str, content: bytes, kind: str = "application/json") -> str:
    request = urllib.request.Request(address + path, content, {"Content-Type": kind, "X-Gradio-User": "app"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["base", 1, 0, NAN, 4], "seed is nan; give a whole number"),
        (["base", 1, 0, "7", 4], "seed is 7; give a whole number"),
        (["base", 1, 0, {"deep": [1]}, 4], "seed is {'deep': [1]}"),
        (["base", NAN, 0, 1, 4], "truncation is nan"),
        ([["base"], 1, 0, 1, 4], "is none of base, cats, dogs"),
        (["base", 1, 99, 1, 4], "class is 99; give a whole number from 0 to 2"),
        (["base", 1, 0, 1, 1e308], r"number of images is 1e+308"),
        (["cats", 1, 0, 1, 2], "seeds 1 to 2, cats"),
    ],
)
def test_values_that_no_browser_sends_are_answered_too(
    served: Served, values: list[object], said: str
) -> None:
    with urllib.request.urlopen(f"{served.address}/config", timeout=PATIENCE) as answer:
        config = json.load(answer)
    by_name = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    show = next(call for call in config["dependencies"] if [by_name["show"], "click"] in call["targets"])
    body = {"data": values, "fn_index": show["id"], "session_hash": "nonsense", "event_data": None}
    posted(served.address, "/gradio_api/queue/join", json.dumps(body).encode())
    with urllib.request.urlopen(
        f"{served.address}/gradio_api/queue/data?session_hash=nonsense", timeout=PATIENCE
    ) as stream:
        lines = [
            json.loads(line[6:]) for line in stream.read().decode().splitlines() if line.startswith("data:")
        ]
    done = next(line for line in lines if line["msg"] == "process_completed")
    assert said in json.dumps(done["output"], ensure_ascii=False)


def test_only_this_machine_and_only_the_page(served: Served, tmp_path: Path) -> None:
    port = int(served.address.rpartition(":")[2])
    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in own - {"127.0.0.1"}:
        with socket.socket() as caller:
            assert caller.connect_ex((str(address), port)) != 0
    for request, code in (
        (urllib.request.Request(served.address, headers={"Host": "elsewhere.example"}), 400),
        (f"{served.address}/gradio_api/file=/etc/passwd", 403),
        (f"{served.address}/gradio_api/file={Path(__file__)}", 403),
        (f"{served.address}/docs", 404),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=PATIENCE)
        assert refused.value.code == code
        refused.value.close()
    edge = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    with pytest.raises(urllib.error.HTTPError) as refused:
        content = edge + bytes(41_000_000) + b"\r\n--b--\r\n"
        posted(served.address, "/gradio_api/upload", content, "multipart/form-data; boundary=b")
    assert refused.value.code == 413
    refused.value.close()


def test_ctrl_c_ends_it_and_leaves_nothing(paths: dict[str, Path], tmp_path: Path) -> None:
    with serve(tmp_path, paths["other"]) as running:
        with urllib.request.urlopen(running.address, timeout=PATIENCE) as answer:
            page = answer.read().decode()
            policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page)
        assert list(tmp_path.glob("gansharing-explore-*"))
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(PATIENCE) == 0
    assert not list(tmp_path.glob("gansharing-explore-*"))
    assert "Traceback" not in running.log.read_text()

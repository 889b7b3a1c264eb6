"""Follow docs/howto/own_folder.md to the letter, with an installed wheel in an empty folder, and take times.

    python tests/packaging/newcomer.py FOLDER

FOLDER holds ``venv``, in which the wheel is installed; everything is written to ``FOLDER/work``.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.extending.pages import ROOT, commands, files  # noqa: E402

PAGE = ROOT / "docs/howto/own_folder.md"
LEFT = (
    *("report.html", "generator.onnx", "samples/grid.png", "interpolation/walk.gif"),
    *("runs/demo-001/results.json", "runs/demo-001/images/step_0003000.png", "experiments/demo.yaml"),
)


EXPLORER = "http://127.0.0.1:7860/"


def explored(words: list[str], work: Path, environment: dict[str, str]) -> int:
    """Start the page, look at it as soon as it answers, and end it as Ctrl-C does; its status."""
    with subprocess.Popen(words, cwd=work, env=environment) as program:
        for _ in range(240):
            try:
                with urllib.request.urlopen(EXPLORER) as page:
                    assert b"gradio" in page.read()
                break
            except urllib.error.URLError:
                if program.poll() is not None:
                    return program.returncode or 1
                time.sleep(0.5)
        else:
            program.kill()
            return 1
        program.send_signal(signal.SIGINT)
        return program.wait(60)


def main(folder: Path) -> None:
    """Run what the page shows; stop at what fails or leaves less than it says."""
    work, programs = folder / "work", folder.resolve() / "venv/bin"
    work.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "PATH": f"{programs}:{environment['PATH']}",
        "GANSHARING_CACHE": str(work.resolve() / "cache"),
    }
    for name, text in files(PAGE).items():
        (work / name).write_text(text)
    begun = time.monotonic()
    for words in [["python", "photos.py"], *commands(PAGE)]:
        started = time.monotonic()
        serves = words[:2] == ["gansharing", "explore"]
        status = (
            explored(words, work, environment)
            if serves
            else subprocess.run(words, cwd=work, env=environment).returncode
        )
        print(f"-- {time.monotonic() - started:6.1f} s  {' '.join(words)}", flush=True)
        if status:
            raise SystemExit(f"newcomer: failed with status {status}: {' '.join(words)}")
    missing = [name for name in LEFT if not (work / name).is_file()]
    if missing or len(list((work / "photos").iterdir())) != 200:
        raise SystemExit(f"newcomer: {', '.join(missing) or '200 images'} missing in {work}")
    print(f"from an empty folder to an ONNX file and the explorer in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

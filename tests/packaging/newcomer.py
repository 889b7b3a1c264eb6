"""Follow docs/howto/own_folder.md to the letter, with an installed wheel in an empty folder, and take times.

    python tests/packaging/newcomer.py FOLDER

FOLDER holds ``venv``, in which the wheel is installed; everything is written to ``FOLDER/work``.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.extending.pages import ROOT, commands, files  # noqa: E402

PAGE = ROOT / "docs/howto/own_folder.md"
LEFT = (
    *("report.html", "generator.onnx", "samples/grid.png", "interpolation/walk.gif"),
    *("runs/demo-001/results.json", "runs/demo-001/images/step_0003000.png", "experiments/demo.yaml"),
)


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
        done = subprocess.run(words, cwd=work, env=environment)
        print(f"-- {time.monotonic() - started:6.1f} s  {' '.join(words)}", flush=True)
        if done.returncode:
            raise SystemExit(f"newcomer: failed with status {done.returncode}: {' '.join(words)}")
    missing = [name for name in LEFT if not (work / name).is_file()]
    if missing or len(list((work / "photos").iterdir())) != 200:
        raise SystemExit(f"newcomer: {', '.join(missing) or '200 images'} missing in {work}")
    print(f"from an empty folder to an ONNX file in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

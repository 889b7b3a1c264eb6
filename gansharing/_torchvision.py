"""Make ``import torchvision`` work where its compiled operators cannot be loaded.

torchvision's wheels are linked against CUDA; beside a CPU build of torch the shared object does not
load, and torchvision (hence lightning, torchmetrics and torch-fidelity, which import it) then fails
with "operator torchvision::nms does not exist". The project uses none of these operators: declaring
their names is enough.
"""

import importlib.util
from pathlib import Path

import torch

# The two operators whose fake kernels torchvision registers without checking that they exist.
_UNGUARDED = ("nms", "qnms")
_SCHEMA = "{}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _extension_loads(package: Path) -> bool:
    try:
        for library in package.glob("_C*.so"):
            torch.ops.load_library(str(library))
            return True
    except (ImportError, OSError):
        return False
    return False


def declare_missing_operators() -> "torch.library.Library | None":
    """Declare torchvision's unguarded operators if its extension cannot be loaded.

    Returns:
        The library that holds the declarations (they live as long as it does), or ``None`` where
        torchvision is absent or whole.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _extension_loads(Path(spec.origin).parent):
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _UNGUARDED:
        library.define(_SCHEMA.format(name))
    return library


_library = declare_missing_operators()

"""ONNX files written by the real program and run by onnxruntime."""

import json
import tempfile
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor

from gansharing.checkpoints import save_network
from gansharing.networks.base import build_network
from tests.cli.program import run
from tests.tools.generators import GENERATORS, labels_of, lively


def session_of(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def images_of(session: Any, latents: Tensor, labels: Tensor | None) -> Tensor:
    given = {"latent": latents.numpy()} | ({} if labels is None else {"labels": labels.numpy()})
    (images,) = session.run(["images"], given)
    return torch.from_numpy(images)


def same_images_in_onnxruntime(name: str, noise: str | None = None) -> None:
    """Export a tiny generator; compare at one image and at five, and read what the file says of itself."""
    network = lively(GENERATORS[name])
    options = {} if noise is None else {"noise": noise}
    with tempfile.TemporaryDirectory() as folder:
        model, out = Path(folder) / "model.safetensors", Path(folder) / "model.onnx"
        save_network(network, model, "generator")
        done = run(
            "export", model, "--format=onnx", f"--out={out}", *(f"--{k}={v}" for k, v in options.items())
        )
        assert done.code == 0, done.err
        session, content = session_of(out), onnx.load(out)
    for count in (1, 5):
        latents = network.sample_latent(count, torch.Generator().manual_seed(count))
        labels = labels_of(network, count)
        expected = network(latents, labels, **options)
        torch.testing.assert_close(images_of(session, latents, labels), expected, atol=1e-4, rtol=1e-4)
    assert float(expected.std(0).mean()) > 5e-3  # the latents matter
    assert [slot.shape[0] for slot in session.get_inputs()] == ["batch"] * (1 if labels is None else 2)
    assert [opset.version for opset in content.opset_import if opset.domain == ""] == [18]
    (about,) = (json.loads(prop.value) for prop in content.metadata_props if prop.key == "gansharing")
    assert type(build_network(about["network"])) is type(network)
    assert (about["latent_dim"], about["resolution"]) == (8, network.resolution)
    assert about["value_range"] == [-1, 1] and about["num_classes"] == (0 if labels is None else 3)
    assert about["choices"].get("noise", "const") == (noise or "const")
    assert about["origin"] == {"source": "model.safetensors"}

"""Every generator of the project as an archive of torch.export."""

from pathlib import Path

import pytest
import torch

from gansharing.checkpoints import save_network
from tests.cli.program import run
from tests.tools.archives import inputs_of, loaded
from tests.tools.generators import CLASSES, GENERATORS, lively


@pytest.mark.parametrize("name", GENERATORS)
def test_an_archive_makes_the_networks_images(tmp_path: Path, name: str) -> None:
    network = lively(GENERATORS[name])
    model, out = tmp_path / "model.safetensors", tmp_path / "g.pt2"
    save_network(network, model, "generator")
    done = run("export", model, "--format", "torch-export", "--out", out)
    assert done.code == 0, done.err
    graph, about = loaded(out)
    for count in (1, 5):
        given = inputs_of(network, count)
        torch.testing.assert_close(graph(*given), network(*given), atol=1e-4, rtol=1e-4)
    assert about["network"] == network.config
    assert about["num_classes"] == (CLASSES if "classes" in name else 0)

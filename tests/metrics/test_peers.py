"""The scores against torch-fidelity and clean-fid, on the same two folders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_fidelity
from cleanfid.fid import frechet_distance, get_folder_features, kernel_distance
from torch import Tensor
from torch_fidelity import feature_extractor_inceptionv3 as fidelity_inception

from gansharing.metrics import (
    FeatureExtractor,
    FrechetDistance,
    KernelDistance,
    RealFeatures,
    ScoreSuite,
    build_extractor,
)
from gansharing.metrics.frechet import moments

Folders = tuple[Any, Any]


def scores(extractor: FeatureExtractor, folders: Folders) -> dict[str, float]:
    fake, real = (folder.images for folder in folders)
    suite = ScoreSuite(extractor, kid_subsets=7, kid_subset_size=10)
    features = extractor(real).features
    suite.set_real(RealFeatures(features, moments(features), "folder", extractor.fingerprint))
    for batch in fake.split(7):
        suite.update(batch)
    return suite.compute()


def test_legacy_scores_are_those_of_torch_fidelity(inception_file: Path, folders: Folders) -> None:
    theirs = torch_fidelity.calculate_metrics(
        input1=str(folders[0].path),
        input2=str(folders[1].path),
        fid=True,
        kid=True,
        isc=True,
        prc=True,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(inception_file),
        kid_subsets=7,
        kid_subset_size=10,
        batch_size=6,
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
    )
    ours = scores(build_extractor("inception", inception_file, "legacy"), folders)
    pairs = {
        "fid": "frechet_inception_distance",
        "kid": "kernel_inception_distance_mean",
        "kid_std": "kernel_inception_distance_std",
        "is": "inception_score_mean",
        "is_std": "inception_score_std",
        "precision": "precision",
        "recall": "recall",
    }
    assert {name: ours[name] for name in pairs} == pytest.approx(
        {name: theirs[other] for name, other in pairs.items()}, rel=1e-3
    )
    assert ours["is"] > 1.05  # a score of 1 would be equal whatever was computed


@pytest.fixture
def unresized(inception_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.nn.Module]:
    """torch-fidelity's own network for the float images that clean-fid's resizing gives."""
    monkeypatch.setattr(fidelity_inception, "vassert", lambda *_: None)
    yield fidelity_inception.FeatureExtractorInceptionV3("inception", ["2048"], str(inception_file))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # clean-fid: Pillow's mode=, SciPy's disp=
@pytest.mark.filterwarnings("ignore::scipy.linalg.LinAlgWarning")  # 12 samples in 256 dimensions
def test_clean_scores_are_those_of_clean_fid(
    inception_file: Path, folders: Folders, unresized: torch.nn.Module
) -> None:
    def model(batch: Tensor) -> Tensor:
        return unresized(batch)[0]

    fake, real = (
        get_folder_features(
            str(folder.path),
            model,
            num_workers=0,
            batch_size=6,
            device=torch.device("cpu"),
            mode="clean",
            verbose=False,
        )
        for folder in folders
    )
    extractor = build_extractor("inception", inception_file, "clean")
    ours = [extractor(folder.images).features for folder in folders]
    for mine, theirs in zip(ours, (fake, real), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-3, atol=1e-3)

    # The root of a 2048 x 2048 matrix takes SciPy a minute on a busy machine: a part of the features does.
    fid, part = FrechetDistance(256), slice(0, 256)
    fid.update(ours[0][:, part], real=False)
    fid.update(ours[1][:, part], real=True)
    mine = float(fid.compute())
    moments = [(side[:, part].mean(0), np.cov(side[:, part], rowvar=False)) for side in (fake, real)]
    assert mine == pytest.approx(frechet_distance(*moments[0], *moments[1]), rel=1e-3)

    kid = KernelDistance(2048, subsets=1)
    kid.update(ours[0], real=False)
    kid.update(ours[1][:11], real=True)
    # Both take whole sets where subsets would be larger, so neither draws.
    assert float(kid.compute()[0]) == pytest.approx(kernel_distance(fake, real[:11], num_subsets=1), rel=1e-3)

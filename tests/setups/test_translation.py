"""StarGAN v2's training against the same steps written out, and what is translated for a seed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.nn import functional as F

from gansharing.data import ImageData
from gansharing.errors import UserError
from gansharing.networks import StarGANv2Discriminator, StarGANv2Translator
from gansharing.setups import Translation
from tests.support import quiet_trainer

NAMES, STEPS, EACH, SIDE = ["left", "right"], 3, 2, 32
STYLE, DIVERSITY, DECAY, CYCLE, R1 = 0.7, 2.0, 2, 1.3, 0.9
SLOW, FAST = 1e-3, 1e-2  # learning rates of the mapping network and of the others


def nets(domains: int = 2) -> tuple[StarGANv2Translator, StarGANv2Discriminator]:
    torch.manual_seed(0)
    translator = StarGANv2Translator(SIDE, domains, 3, 5, hidden=8, channel_base=128, channel_max=8)
    return translator, StarGANv2Discriminator(SIDE, domains, channel_base=128, channel_max=8)


def sgd(rate: float) -> Any:
    return lambda parameters: torch.optim.SGD(parameters, lr=rate)


def setup(**options: Any) -> Translation:
    rates: dict[str, Any] = {"optimizer_g": sgd(FAST), "optimizer_d": sgd(FAST), "mapping_rate": SLOW / FAST}
    weights = {"style": STYLE, "diversity": DIVERSITY, "diversity_steps": DECAY, "cycle": CYCLE, "r1": R1}
    return Translation(*nets(), NAMES, **(rates | weights | options))


def batches(count: int = 3 * EACH) -> list[dict[str, dict[str, Tensor]]]:
    source = torch.Generator().manual_seed(1)
    return [
        {n: {"image": torch.rand(count, 3, SIDE, SIDE, generator=source).double() * 2 - 1} for n in NAMES}
        for _ in range(STEPS)
    ]


class Loader:
    def __init__(self, count: int = 3 * EACH) -> None:
        self.count = count

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Any]:
        return iter(batches(self.count))


def step(parameters: Any, loss: Tensor, rate: float, keep: bool = False) -> None:
    held = list(parameters)
    slopes = torch.autograd.grad(loss, held, retain_graph=keep)
    with torch.no_grad():
        for parameter, slope in zip(held, slopes, strict=True):
            parameter -= rate * slope


def entropy(scores: Tensor, real: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, float(real)))


def written_out() -> tuple[StarGANv2Translator, StarGANv2Discriminator]:
    """The same steps in plain torch, with the same draws."""
    translator, d = nets()
    for network in (translator, d):
        network.double()
    g, f, e = translator.generator, translator.mapping, translator.style_encoder
    torch.manual_seed(5)
    for number, batch in enumerate(batches()):
        thirds = [batch[name]["image"].split(EACH) for name in NAMES]
        x, first, second = (torch.cat([third[part] for third in thirds]) for part in range(3))
        own = torch.tensor([0, 0, 1, 1])
        order = torch.randperm(4)
        wanted, references = own[order], (first[order], second[order])
        latents = torch.randn(4, 3).double(), torch.randn(4, 3).double()

        def styled(guides: tuple[Tensor, Tensor], at: int, wanted: Tensor = wanted) -> Tensor:
            return (f if guides[0].ndim == 2 else e)(guides[at], wanted)

        for guides in (latents, references):
            with torch.no_grad():
                fake = g(x, styled(guides, 0))
            real = x.clone().requires_grad_(True)
            scores = d(real, own)
            (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
            penalty = 0.5 * slope.pow(2).sum((1, 2, 3)).mean()
            loss = entropy(scores, True) + entropy(d(fake, wanted), False) + R1 * penalty
            step(d.parameters(), loss, FAST)
        for guides in (latents, references):
            style = styled(guides, 0)
            fake, other = g(x, style), g(x, styled(guides, 1)).detach()
            loss = entropy(d(fake, wanted), True) + STYLE * (e(fake, wanted) - style).abs().mean()
            loss = loss - DIVERSITY * max(0, 1 - number / DECAY) * (fake - other).abs().mean()
            loss = loss + CYCLE * (g(fake, e(x, own)) - x).abs().mean()
            trained = [*g.parameters()]
            if guides is references:
                step(trained, loss, FAST)
                continue
            slow = torch.autograd.grad(loss, list(f.parameters()), retain_graph=True)
            step([*trained, *e.parameters()], loss, FAST)
            with torch.no_grad():
                for parameter, slope in zip(f.parameters(), slow, strict=True):
                    parameter.sub_(SLOW * slope)
    return translator, d


def test_training_is_the_originals_loop(tmp_path: Path) -> None:
    trained = setup()
    trainer = quiet_trainer(tmp_path, max_steps=STEPS, precision="64-true")
    torch.manual_seed(5)
    trainer.fit(trained, Loader())
    assert trainer.global_step == STEPS == trained.batches and trained.images == STEPS * 2 * EACH
    translator, discriminator = written_out()
    start = nets()[0].mapping.double().state_dict()
    for network, expected in ((trained.generator, translator), (trained.discriminator, discriminator)):
        found = network.state_dict()
        for name, tensor in expected.state_dict().items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-8, atol=1e-10, msg=name)
    assert any(not torch.equal(start[name], t) for name, t in translator.mapping.state_dict().items())


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"generator is of 3 domains but model.domains names 2"):
        Translation(nets(3)[0], nets()[1], NAMES)
    with pytest.raises(UserError, match="discriminator.num_domains=2"):
        Translation(nets()[0], nets(3)[1], NAMES)
    with pytest.raises(UserError, match="diversity_steps is 0"):
        setup(diversity_steps=0)
    with pytest.raises(UserError, match="a multiple of 3"):
        quiet_trainer(tmp_path, max_steps=1, precision="64-true").fit(setup(), Loader(4))


def test_a_translator_is_made_of_its_parts() -> None:
    translator, _ = nets()
    images, labels = torch.randn(2, 3, SIDE, SIDE), torch.tensor([1, 0])
    latents, others = translator.sample_latent(2), torch.randn(2, 3, SIDE, SIDE)
    by_latent = translator.generator(images, translator.mapping(latents, labels))
    assert torch.equal(translator(images, labels, latents), by_latent)
    by_image = translator.generator(images, translator.style_encoder(others, labels))
    assert torch.equal(translator(images, labels, others), by_image)
    staged = [id(p) for stage in translator.stages().values() for p in stage.parameters()]
    assert sorted(staged) == sorted(id(p) for p in translator.parameters())
    modules = dict(translator.named_modules())
    assert all(modules[name] is layer for name, layer in translator.style_layers().items())


class Images:
    """A domain of as many images as ``levels``, each of one grey level."""

    def __init__(self, *levels: int) -> None:
        self.levels = torch.tensor(levels, dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.levels)

    def batch(self, indices: list[int]) -> dict[str, Tensor]:
        return {"image": self.levels[indices][:, None, None, None].expand(-1, 3, SIDE, SIDE)}


class Data(LightningDataModule):
    """Three domains, of 3, 2 and 1 images."""

    names = ["a", "b", "c"]

    def __init__(self) -> None:
        super().__init__()
        self.references = {"a": Images(0, 1, 2), "b": Images(10, 11), "c": Images(20)}
        self.members = dict.fromkeys(self.names, ImageData(path="none", resolution=SIDE, flip=True))


def test_a_seeds_source_is_of_the_other_domains_in_turn() -> None:
    setup = Translation(nets(3)[0], nets(3)[1], Data.names)
    setup.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    setup.trainer.datamodule = Data()  # type: ignore[attr-defined]
    sources = setup.sources("b", list(range(7)))
    levels = ((sources + 1) * 127.5).round()
    assert (levels == levels[:, :1, :1, :1]).all()
    assert levels[:, 0, 0, 0].tolist() == [0, 20, 1, 20, 2, 20, 0]
    rows = setup.eval().guided([0, 1, 2])
    assert list(rows)[3:6] == ["b sources", "b references", "b translations"]
    assert rows["b references"][:, 0, 0, 0].tolist() == [10, 11, 10]
    alone, together = (setup.generate_in("c", seeds) for seeds in ([4], [2, 4]))
    assert (alone[0].int() - together[1].int()).abs().max() <= 1
    assert alone.dtype == torch.uint8 and (alone[0] != setup.generate_in("a", [4])[0]).any()

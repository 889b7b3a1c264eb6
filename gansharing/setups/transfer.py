"""A trained pair of networks taken to another domain, with as many weights as a sharing allows."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from gansharing.checkpoints import find_checkpoint, load
from gansharing.errors import UserError
from gansharing.networks import Discriminator, Generator, Network, build_network
from gansharing.networks.seeded import seeded_latents
from gansharing.setups.adversarial import Adversarial
from gansharing.setups.start import Init, fitting, start
from gansharing.sharing import Full, Sharing, Split, described, split_of
from gansharing.visual import to_uint8


class Transfer(Adversarial):
    """Train the generator and the discriminator of another run on new data.

    A sharing says which weights of each network the new domain owns. Only those are trained: the others get
    neither gradients nor optimiser state and stay what they were, bit for bit, in the averaged generator too.
    The discriminator counts for no learn ratio: after training it is thrown away.

    With a target the transfer goes into another network: its stages of the source's names and shapes start
    from the source, the others from the weights they were made with. So classes are removed (``fc`` alone
    differs), or a head is replaced (Zhao et al. 2020, section 3.2). The run lists both at its start and in
    ``results.json``.

    Args:
        source: What to start from: a run's folder, a checkpoint, or a ``.safetensors`` generator of
            ``gansharing import`` or ``export``.
        source_discriminator: The discriminator; that of ``source`` when omitted. A ``.safetensors`` holds one
            network only, so it needs this option.
        sharing: Which weights of the generator are trained.
        sharing_discriminator: Which weights of the discriminator are trained; ``FreezeLower`` is FreezeD.
        target: The generator to train, where it is another than the source's.
        target_discriminator: The discriminator to train, where it is another than the source's.
        init: What weights start from that a domain owns whole: the source where it has them
            (``pretrained``), or ``fresh``, as Zhao et al. write (section 3.1); their code has the former.
        options: As for ``Adversarial``, without the networks.

    Raises:
        UserError: A source is missing, damaged or holds no such network, the two do not fit each other, a
            target has nothing in common with its source, or a sharing leaves nothing to train or freezes
            what the source does not have.
    """

    def __init__(
        self,
        source: str,
        source_discriminator: str | None = None,
        sharing: Sharing = Full(),  # noqa: B008  (stateless; shows up in --print_config)
        sharing_discriminator: Sharing = Full(),  # noqa: B008
        target: Generator | None = None,
        target_discriminator: Discriminator | None = None,
        init: Init = "pretrained",
        **options: Any,
    ) -> None:
        if init not in ("pretrained", "fresh"):
            raise UserError(f"model.init is '{init}'; it is pretrained or fresh")
        generator = load_part("source", source, "generator")
        discriminator = _load_discriminator(source, source_discriminator)
        _check_pair(generator, discriminator, target, target_discriminator)
        starts = {
            "generator": divided(generator, target, sharing, init, ""),
            "discriminator": divided(
                discriminator, target_discriminator, sharing_discriminator, init, "_discriminator"
            ),
        }
        networks = {name: network for name, (network, _) in starts.items()}
        super().__init__(
            cast(Generator, networks["generator"]), cast(Discriminator, networks["discriminator"]), **options
        )
        self.source, self._moved = source, target is not None
        self._stages = {name: stages for name, (_, stages) in starts.items() if stages}

    def splits(self) -> dict[str, Split]:
        """Both networks, divided."""
        return {"generator": split_of(self.generator), "discriminator": split_of(self.discriminator)}

    def _check_resolution(self) -> None:
        data = getattr(getattr(self.trainer, "datamodule", None), "resolution", None)
        if data is not None and data != self.generator.resolution:
            size = self.generator.resolution
            what = "model.target" if self._moved else f"the source {self.source}"
            raise UserError(
                f"data.resolution is {data} px but {what} works at {size} px; set --data.resolution={size}"
            )

    def on_fit_start(self) -> None:
        """Say what is trained: the real learn ratio beside what the sharing was asked for."""
        super().on_fit_start()
        for name, split in self.splits().items():
            rank_zero_info(f"{name}: {sentence(split)}{_origin(self._stages.get(name, {}))}")

    def about(self) -> dict[str, Any]:
        """The source; for each network what its stages started from, its sharing, what the domain owns."""
        return {
            "source": str(self.source),
            "start": self._stages,
            "sharing": {name: about_split(split) for name, split in self.splits().items()},
        }

    @torch.no_grad()
    def counterpart(self, seeds: list[int]) -> Tensor | None:
        """The source's images of latent seeds: uint8 ``(N, 3, H, W)``; None for a target."""
        if self._moved:
            return None
        with torch.random.fork_rng(devices=[]):  # building a network draws weights that are then overwritten
            source = cast(Generator, load_part("source", self.source, "generator")).to(self.device)
        parts = [
            to_uint8(source(seeded_latents(source, seeds[first : first + self.evaluation_batch_size])))
            for first in range(0, len(seeds), self.evaluation_batch_size)
        ]
        return torch.cat(parts)


Stages = Mapping[str, list[str]]


def divided(
    source: Network, target: Network | None, sharing: Sharing, init: Init, suffix: str = ""
) -> tuple[Network, Stages]:
    """The network to train, divided, and what its stages start from; nothing where all is the source's.

    Args:
        source: An undivided network, which is trained itself where there is no target.
        target: Another network, with the weights that it was made with.
        sharing: How the network is divided.
        init: As :func:`~gansharing.setups.start.start` takes it.
        suffix: Of the options' names in messages.

    Raises:
        UserError: The target has nothing in common with the source, or the sharing cannot divide it.
    """
    network, stages = source, {}
    if target is not None or init == "fresh":
        network = build_network(source.config) if target is None else target
        with _blaming(f"target{suffix}"):
            found = fitting(source, network)
        with _blaming(f"sharing{suffix}"):
            stages = start(source, network, found, sharing, init)
    else:
        with _blaming(f"sharing{suffix}"):
            sharing.apply(network)
    split_of(network.train().requires_grad_(True)).freeze_shared()
    return network, stages


def _check_pair(
    generator: Network, discriminator: Network, target: Generator | None, judge: Discriminator | None
) -> None:
    makes = cast(Generator, generator if target is None else target).resolution
    sees = cast(Discriminator, discriminator if judge is None else judge).resolution
    if makes != sees:
        raise UserError(
            f"model.{'source' if target is None else 'target'} makes images of {makes} px, its discriminator "
            f"sees {sees} px; give the discriminator that it was trained against, or a target_discriminator "
            "of that size"
        )


@contextmanager
def _blaming(option: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"model.{option}: {error}") from None  # the program prints the first cause


def load_part(option: str, path: str, part: str) -> Any:
    """The network that ``model.<option>`` names.

    Raises:
        UserError: There is none; the message names the option.
    """
    try:
        return load(path, part)
    except UserError as error:
        remedy = ""
        if not Path(path).exists():
            remedy = "; a run whose source is gone goes on with --model.source RUN/checkpoints/last.ckpt"
        raise UserError(f"model.{option}: {error}{remedy}") from None  # the program prints the first cause


def _load_discriminator(source: str, given: str | None) -> Any:
    if given is not None:
        return load_part("source_discriminator", given, "discriminator")
    if find_checkpoint(source).suffix == ".safetensors":
        raise UserError(
            f"model.source {source} holds a generator alone; give its discriminator as "
            "--model.source_discriminator FILE: a run, a checkpoint, or a .safetensors written with "
            "--part discriminator"
        )
    return load_part("source", source, "discriminator")


def _origin(stages: Stages) -> str:
    words = {"from_source": "from the source", "in_part": "in part", "fresh": "fresh"}
    said = [f"{words[key]}: {', '.join(names)}" for key, names in stages.items() if names]
    return "".join(f"; {part}" for part in said)


def start_from(
    source: str, source_discriminator: str | None, generator: Generator, discriminator: Discriminator
) -> None:
    """Give a pair of networks the weights of a source with networks like them.

    Args:
        source: A run, a checkpoint or an exported file.
        source_discriminator: Where that holds a generator alone, a file with its discriminator.
        generator: Takes the averaged generator's weights.
        discriminator: Takes the discriminator's.

    Raises:
        UserError: There is no such source, or its networks are others; the message says in what.
    """
    theirs = load_part("source", source, "generator"), _load_discriminator(source, source_discriminator)
    for network, found in zip((generator, discriminator), theirs, strict=True):
        if (mine := _written(network)) != (other := _written(found)):
            raise UserError(
                f"model.source {source} holds {_words(other, mine)} where model.game has "
                f"{_words(mine, other)}; give model.game the source's networks"
            )
        network.load_state_dict(found.state_dict())


def _written(network: Network) -> dict[str, Any]:
    return {"class": type(network).__name__, **network.config["init_args"]}


def _words(these: Mapping[str, Any], those: Mapping[str, Any]) -> str:
    differing = [f"{key}={value}" for key, value in these.items() if key not in those or value != those[key]]
    return f"{these['class']}({', '.join(word for word in differing if not word.startswith('class='))})"


def about_split(split: Split) -> dict[str, Any]:
    """How a network is divided, and what a domain owns of it, as ``results.json`` has it."""
    return {
        **split.network.config["sharing"],
        "domain": split.domain_size,
        "shared": split.shared_size,
        "learn_ratio": split.learn_ratio,
        "delta_bytes": split.delta_bytes,
    }


def sentence(split: Split) -> str:
    """What is trained, in one line for people."""
    config: Mapping[str, Any] = split.network.config["sharing"]
    whole = split.domain_size + split.shared_size
    return (
        f"{described(config)} trains {split.domain_size:,} of {whole:,} "
        f"weights: learn ratio {split.learn_ratio:.4%}"
    )

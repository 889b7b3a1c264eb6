"""Several domains at once: one set of shared weights, and for each domain weights of its own."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from gansharing.distributed.owners import Compression, Owners
from gansharing.errors import UserError
from gansharing.networks import Generator
from gansharing.networks.seeded import seeded_labels, seeded_latents
from gansharing.objectives.lazy import after_main_step
from gansharing.seeds import stream_seed
from gansharing.setups import domain_state
from gansharing.setups.adversarial import Adversarial, build_optimizer
from gansharing.setups.base import GenerativeSetup
from gansharing.setups.replicas import Replicas
from gansharing.setups.transfer import about_split, start_from
from gansharing.sharing import Full, Sharing, described, split_of
from gansharing.sharing.layout import DomainLayout
from gansharing.sharing.tied import held_in_common
from gansharing.visual import to_uint8

# Whose turn it is draws from a stream of its own.
_DISCRIMINATOR, _DISCRIMINATOR_PENALTY, _GENERATOR, _GENERATOR_PENALTY, _LATENTS = range(5)
Parts = list[tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class _Turn:
    """A domain's part of a batch in a player's step."""

    name: str
    at: int
    game: Adversarial
    real: Tensor
    labels: Tensor | None
    latent: Tensor


class MultiDomain(GenerativeSetup):
    """Train one game in every domain, with the sharing's θ_S in common (Webster et al. 2022, section 3.1).

    Each domain has a generator, a discriminator, an average style, an augmentation and a path length of its
    own. A step of a player computes the gradients of every domain, makes that of θ_S their mean (or sum) over
    domains, and then all take one optimiser step; so do the steps of lazy regularisers. With ``Full`` the
    domains have nothing in common and are trained side by side.

    Whatever is random in a domain's step is a function of seed, step, domain and part of the batch. So one
    process with all domains, one process a domain, several processes a domain (each taking a part of the
    batch, as ``accumulate`` does in one process) and fewer processes than domains take the same steps, to
    rounding, and a run resumes with any number of processes.

    Args:
        game: What is trained in each domain: ``Adversarial`` with its networks and options, or a setup
            derived from it whose networks are not divided yet. Its networks are where all domains start.
        domains: Names of the domains, as ``MultiDomainData`` has them.
        sharing: Which weights of the generator each domain owns.
        sharing_discriminator: The same for the discriminator: ``Full`` for one a domain, or for example
            ``LayerWise`` of the last stages for one trunk with a head for each domain.
        reduction: What becomes of the domains' gradients of θ_S.
        weights: How much each domain counts in it, 1 where none is given: the gradient of θ_S is
            ``sum_d w_d g_d``, for the mean divided by ``sum_d w_d``. What a domain owns is trained as ever.
        accumulate: Split each domain's batch in this many parts as as many processes would.
        compression: ``bf16`` halves the bytes of gradients between processes.
        source: What all domains start from: a run, a checkpoint or an exported file with networks like the
            game's; the game's own first weights when omitted.
        source_discriminator: Where the source holds a generator alone, a file with its discriminator.

    Attributes:
        generator: The generators of this process's domains, by name.
        discriminator: Their discriminators.
        rest: What else their games train or remember.
        games: The games of this process's domains, by name.
        mine: Numbers of these domains.
        owners: The processes, and who has which domain.
        stream: What all random streams begin with; kept by checkpoints.

    Raises:
        UserError: A sharing does not divide the networks, there is no domain, or the source is missing or
            holds other networks than the game.
    """

    generator: Any  # of this process's domains, where other setups have one

    def __init__(
        self,
        game: Adversarial,
        domains: Sequence[str],
        sharing: Sharing,
        sharing_discriminator: Sharing = Full(),  # noqa: B008  (stateless; shows up in --print_config)
        reduction: Literal["mean", "sum"] = "mean",
        weights: dict[str, float] | None = None,
        accumulate: int = 1,
        compression: Compression = "none",
        source: str | None = None,
        source_discriminator: str | None = None,
    ) -> None:
        super().__init__(game.channels_last)
        self.domains = sorted(domains)
        if (
            not self.domains
            or len(set(self.domains)) < len(self.domains)
            or any("." in d for d in self.domains)
        ):
            raise UserError(
                f"model.domains is {self.domains}; give different names without dots, at least one"
            )
        if accumulate < 1:
            raise UserError(f"model.accumulate is {accumulate}; give at least 1")
        if source is not None:
            start_from(source, source_discriminator, game.generator, game.discriminator)
        for name, network, how in (
            ("sharing", game.generator, sharing),
            ("sharing_discriminator", game.discriminator, sharing_discriminator),
        ):
            if "sharing" in network.config:
                raise UserError(
                    f"model.game: its {type(network).__name__} is divided already; leave that to {name}"
                )
            how.apply(network)
        self.reduction, self.accumulate, self.compression = reduction, accumulate, compression
        self.source = source
        self.weights = {name: 1.0 for name in self.domains} | (weights or {})
        if self.weights.keys() != set(self.domains) or not all(0 < w < inf for w in self.weights.values()):
            raise UserError(
                f"model.weights is {weights}; give numbers above 0, by the names of model.domains: "
                f"{', '.join(self.domains)}"
            )
        self._weight, self._hooks = 1.0, list[Any]()  # of the domain whose turn it is
        self.stream = 0
        self._foreign: dict[str, dict[str, Tensor]] = {}
        self._visitor: tuple[Generator, ...] = ()  # a tuple hides it from nn.Module
        self.owners = Owners(DomainLayout(len(self.domains)), compression)
        self._take(game, range(len(self.domains)))

    def _take(self, game: Adversarial, mine: Sequence[int]) -> None:
        """Hold the games of these domains, all starting as ``game``."""
        held = held_in_common(game.generator, game.discriminator)
        games = [game if at == 0 else copy.deepcopy(game, dict(held)) for at in range(len(mine))]
        self.mine = list(mine)
        # In a dictionary of Python's own: the parts are registered under names that no kind of game changes.
        self.games = dict(zip([self.domains[number] for number in mine], games, strict=True))
        self.generator = nn.ModuleDict({name: game.generator for name, game in self.games.items()})
        self.discriminator = nn.ModuleDict({name: game.discriminator for name, game in self.games.items()})
        players = ("generator", "discriminator")
        self.rest = nn.ModuleDict(
            {
                name: nn.ModuleDict({k: m for k, m in game.named_children() if k not in players})
                for name, game in self.games.items()
            }
        )
        self._replicas = {name: Replicas(game, self.accumulate) for name, game in self.games.items()}

    @property
    def _first(self) -> Adversarial:
        return next(iter(self.games.values()))

    def trained(self, index: int) -> list[nn.Parameter]:
        """What the generators' (0) or the discriminators' (1) optimiser trains, in its order."""
        network = self.generator if index == 0 else self._judges()
        return [parameter for parameter in network.parameters() if parameter.requires_grad]

    def about(self) -> dict[str, Any]:
        """For each player how it is divided, and what a domain owns of it."""
        splits = {part: split_of(getattr(self._first, part)) for part in ("generator", "discriminator")}
        return {
            "domains": self.domains,
            **({} if self.source is None else {"source": str(self.source)}),
            "sharing": {part: about_split(split) for part, split in splits.items()},
        }

    def networks(self) -> dict[str, nn.Module]:
        """The networks of this process's domains: ``generator.NAME`` and ``discriminator.NAME``."""
        return {f"generator.{name}": game.generator for name, game in self.games.items()} | {
            f"discriminator.{name}": game.discriminator for name, game in self.games.items()
        }

    def deal(self, trainer: Trainer) -> None:
        """Keep the domains of this process.

        Raises:
            UserError: The processes cannot be dealt.
        """
        layout = DomainLayout(len(self.domains), trainer.world_size)
        if layout != self.owners.layout:
            self.owners = Owners(layout, self.compression)
            self._take(self._first, layout.of(trainer.global_rank))

    def setup(self, stage: str) -> None:
        """Check that data and networks fit.

        Raises:
            UserError: The data have other domains or another size.
        """
        theirs = getattr(getattr(self.trainer, "datamodule", None), "names", None)
        if theirs is not None and theirs != self.domains:
            raise UserError(
                f"data.domains are {', '.join(theirs)} but model.domains are {', '.join(self.domains)}; give "
                "both the same"
            )
        super().setup(stage)
        for game in self.games.values():
            game.trainer = self.trainer

    def on_fit_start(self) -> None:
        """Start all processes from the same weights, and say what is shared."""
        if self.batches == 0:
            self.stream = self.trainer.strategy.broadcast(torch.initial_seed())
            self._start_alike()
        split = split_of(self._first.generator)
        rank_zero_info(
            f"{len(self.domains)} domains: {described(split.network.config['sharing'])} gives each "
            f"{split.domain_size:,} weights of its own beside {split.shared_size:,} in common: learn ratio "
            f"{split.learn_ratio:.4%}"
        )
        while self._hooks:
            self._hooks.pop().remove()
        if set(self.weights.values()) != {1.0}:
            shared = [*self._shared("generator"), *self._shared("discriminator")]
            self._hooks += [p.register_hook(lambda gradient: gradient * self._weight) for p in shared]
        self.exchange()

    @torch.no_grad()
    def _start_alike(self) -> None:
        """Start every domain of every process from the first process's first game, whatever their seeds."""
        first = [*self._first.parameters(), *self._first.buffers()]
        self.owners.broadcast(first)
        for game in self.games.values():
            for tensor, start in zip([*game.parameters(), *game.buffers()], first, strict=True):
                if tensor is not start:
                    tensor.copy_(start)

    def configure_optimizers(self) -> list[Optimizer]:
        """One optimiser a player for all domains of the process, generator first.

        Raises:
            UserError: An optimiser refuses its arguments.
        """
        first = self._first
        players = (
            ("optimizer_g", first.optimizer_g, self.generator, first.generator_regularizers),
            ("optimizer_d", first.optimizer_d, self._judges(), first.regularizers),
        )
        return [
            build_optimizer(f"game.{name}", build, network, penalties)
            for name, build, network, penalties in players
        ]

    def training_step(self, batch: dict[str, dict[str, Tensor]], batch_idx: int) -> dict[str, Tensor]:
        """Let each player whose turn it is make a step in every domain.

        Args:
            batch: ``image`` ``(N, 3, H, W)`` and ``label`` ``(N,)`` of each domain of the process.
            batch_idx: Unused: the clock is :attr:`batches`.

        Returns:
            Losses and penalties of each domain, ``NAME/loss_g``, as scalars.

        Raises:
            UserError: A loss is NaN or infinite, or a batch does not divide into its parts.
        """
        parts = {name: self._cut(name, batch[name]) for name in self.games}
        for game in self.games.values():
            game.batches = self.batches
        for replicas in self._replicas.values():
            replicas.begin()
        self.owners.sent.clear()
        losses: dict[str, Tensor] = {}
        for player in self._first.order:
            if player == "d":
                self._discriminator_step(parts, losses)
            elif (self.batches + 1) % self._first.discriminator_steps == 0:
                self._generator_step(parts, losses)
        self._finish(len(next(iter(batch.values()))["image"]) * self.owners.layout.replicas)
        self._first._refuse_divergence(losses)
        self._log(losses)
        return losses

    def _discriminator_step(self, parts: dict[str, Parts], losses: dict[str, Tensor]) -> None:
        # Discriminators with nothing in common step one by one: the gradients of one are held at a time.
        alone = not self._shared("discriminator")
        for numbers in [[number] for number in self.mine] if alone else [self.mine]:
            self._step_discriminators(numbers, parts, losses)

    def _step_discriminators(
        self, numbers: Sequence[int], parts: dict[str, Parts], losses: dict[str, Tensor]
    ) -> None:
        optimizer = self._raw_optimizer(1)  # passes over the parameters of others, which have no gradients
        optimizer.zero_grad()
        fakes: dict[tuple[str, int], Any] = {}
        for turn in self._turns(parts, _DISCRIMINATOR, numbers):
            found, made = turn.game._discriminator_gradients(turn.real, turn.labels, turn.latent)
            fakes[turn.name, turn.at] = made
            self._note(losses, turn.name, found)
        self._step_aside(optimizer, "discriminator", numbers)
        optimizer.zero_grad()  # the next step has their memory
        if after_main_step(self._first.regularizers, self.batches):
            for turn in self._turns(parts, _DISCRIMINATOR_PENALTY, numbers):
                found = {}
                due = after_main_step(turn.game.regularizers, self.batches)
                made = fakes[turn.name, turn.at]
                turn.game._discriminator_penalties(due, found, turn.real, turn.labels, made)
                self._note(losses, turn.name, found)
            self._step_aside(optimizer, "discriminator", numbers)
            optimizer.zero_grad()

    def _generator_step(self, parts: dict[str, Parts], losses: dict[str, Tensor]) -> None:
        optimizer, step = self.optimizers()[0], self.trainer.global_step  # type: ignore[index]
        optimizer.zero_grad()
        for turn in self._turns(parts, _GENERATOR, self.mine):
            found = turn.game._generator_gradients(turn.real, turn.labels, turn.latent)
            self._note(losses, turn.name, found)
        self._reduce("generator", self.mine)
        optimizer.step()
        optimizer.zero_grad()
        if after_main_step(self._first.generator_regularizers, step):
            for turn in self._turns(parts, _GENERATOR_PENALTY, self.mine):
                found = {}
                due = after_main_step(turn.game.generator_regularizers, step)
                turn.game._generator_penalties(due, found, turn.real, turn.labels)
                self._note(losses, turn.name, found)
            self._step_aside(self._raw_optimizer(0), "generator", self.mine)
            optimizer.zero_grad()

    def _turns(self, parts: dict[str, Parts], phase: int, numbers: Sequence[int]) -> Iterator[_Turn]:
        """Every part of these domains' batches, each with its own random stream and buffers."""
        for number in numbers:
            name = self.domains[number]
            game = self.games[name]
            for at, (real, labels) in enumerate(parts[name]):
                part = self.owners.layout.replica(self.global_rank) * self.accumulate + at
                with self._replicas[name].turn(at), self._randomness(number, part, phase):
                    latent = self._latent(game, real, number, part, phase)
                    self._weight = self.weights[name]
                    yield _Turn(name, at, game, real, labels, latent)

    @contextmanager
    def _randomness(self, domain: int, part: int, phase: int) -> Iterator[None]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(self.stream, self.batches, domain, part, phase))
            yield

    def _latent(self, game: Adversarial, real: Tensor, domain: int, part: int, phase: int) -> Tensor:
        common = game.share_latent or game.share_fakes  # of both players' steps
        seed = stream_seed(self.stream, self.batches, domain, part, _LATENTS + (0 if common else phase))
        return game.generator.sample_latent(len(real), torch.Generator().manual_seed(seed))

    def _cut(self, name: str, batch: dict[str, Tensor]) -> Parts:
        real, labels = batch["image"], batch.get("label")
        if len(real) % self.accumulate:
            raise UserError(
                f"domain {name}: a batch of {len(real)} images does not divide into {self.accumulate} equal "
                "parts; change data.batch_size or model.accumulate, and keep data.drop_last"
            )
        count = self.accumulate
        classes = [None] * count if labels is None else list(labels.chunk(count))
        return list(zip(real.chunk(count), classes, strict=True))

    def _note(self, losses: dict[str, Tensor], name: str, found: dict[str, Tensor]) -> None:
        for key, value in found.items():
            at, share = f"{name}/{key}", value / self.accumulate
            losses[at] = losses[at] + share if at in losses else share

    def _shared(self, part: str) -> list[nn.Parameter]:
        shared = split_of(getattr(self._first, part)).shared.values()
        return [parameter for parameter in shared if parameter.requires_grad]

    def _own(self, game: Adversarial, part: str) -> list[nn.Parameter]:
        network: nn.Module = game.generator if part == "generator" else game._judge()
        shared = {id(parameter) for parameter in self._shared(part)}
        return [p for p in network.parameters() if p.requires_grad and id(p) not in shared]

    def _judges(self) -> nn.ModuleList:
        return nn.ModuleList([game._judge() for game in self.games.values()])

    def _reduce(self, part: str, numbers: Sequence[int]) -> None:
        count = sum(self.weights.values()) if self.reduction == "mean" else 1
        self.owners.reduce_shared(
            self._shared(part), 1 / (count * self.owners.layout.replicas * self.accumulate)
        )
        for number in numbers:
            own = self._own(self.games[self.domains[number]], part)
            if self.accumulate > 1:
                torch._foreach_div_([p.grad for p in own if p.grad is not None], float(self.accumulate))
            self.owners.average_domain(number, own)

    def _step_aside(self, optimizer: Optimizer, part: str, numbers: Sequence[int]) -> None:
        """Step through the strategy (precision, scaling) but beside Lightning's step counter."""
        self._reduce(part, numbers)
        self.trainer.strategy.optimizer_step(optimizer, closure=lambda: None, model=self)

    def _finish(self, count: int) -> None:
        """End the step: the domains' buffers are averaged over parts and processes, the clock goes on."""
        self.batches += 1
        self.images += count * len(self.domains)
        for number, (name, game) in zip(self.mine, self.games.items(), strict=True):
            self._replicas[name].end()
            self.owners.average_buffers(number, self._replicas[name].buffers)
            game.augment.adapt(self.batches, count)

    def _log(self, losses: dict[str, Tensor]) -> None:
        figures = dict(losses)
        for name, game in self.games.items():
            figures |= {f"{name}/{key}": value for key, value in game.augment.figures().items()}
        for name, value in figures.items():
            self.log(name, value, rank_zero_only=False)
        for key in ("loss_d", "loss_g"):
            found = [value for name, value in losses.items() if name.endswith(f"/{key}")]
            if found:
                self.log(key, torch.stack(found).mean(), prog_bar=True)
        if self.owners.layout.world > 1:
            for key, sent in self.owners.sent.items():
                self.log(f"bytes_{key}", float(sent))

    def _raw_optimizer(self, index: int) -> Optimizer:
        optimizers: Any = self.optimizers(use_pl_optimizer=False)
        return optimizers[index]

    # Every process generates images of every domain, so what a domain owns is exchanged before.

    def exchange(self) -> None:
        """Give every process what the generators of the others' domains own."""
        if self.owners.layout.world > 1:
            self._foreign = domain_state.exchanged(self.owners, self.mine, self.generator, self.domains)

    def on_validation_epoch_start(self) -> None:
        """Exchange the generators."""
        self.exchange()

    def on_test_epoch_start(self) -> None:
        """Exchange the generators."""
        self.exchange()

    def on_predict_epoch_start(self) -> None:
        """Exchange the generators."""
        self.exchange()

    def generator_of(self, domain: str) -> Generator:
        """The generator of a domain, whichever process trains it; valid until the next call.

        Args:
            domain: Its name.
        """
        if domain in self.games:
            return cast(Generator, self.generator[domain])
        mine = self._first.generator
        if not self._visitor:
            self._visitor = (copy.deepcopy(mine, held_in_common(mine)),)
        visitor = self._visitor[0].train(mine.training)
        split = split_of(visitor)
        with torch.no_grad():
            for name, tensor in (split.domain | split.domain_buffers).items():
                tensor.copy_(self._foreign[domain][name])
        return visitor

    def generate(self, seeds: list[int]) -> Tensor:
        """Images of latent seeds in the first domain: uint8 ``(N, 3, H, W)``."""
        return self.generate_in(self.domains[0], seeds)

    def generate_in(self, domain: str, seeds: list[int]) -> Tensor:
        """Images of latent seeds in a domain: uint8 ``(N, 3, H, W)``."""
        network = self.generator_of(domain)
        return to_uint8(network(seeded_latents(network, seeds), seeded_labels(network, seeds)))

    def validation_step(self, indices: Tensor, batch_idx: int) -> dict[str, Any]:
        """The same latents in every domain: ``{"seeds", "images", "domains": {name: images}}``."""
        seeds = indices.tolist()
        domains = {name: self.generate_in(name, seeds) for name in self.domains}
        return {"seeds": seeds, "images": domains[self.domains[0]], "domains": domains}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Collect every domain, whichever process trains it."""
        super().on_save_checkpoint(checkpoint)
        domain_state.collect(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take what this process's domains need.

        Raises:
            UserError: The checkpoint has other domains or networks.
        """
        domain_state.distribute(self, checkpoint)
        super().on_load_checkpoint(checkpoint)

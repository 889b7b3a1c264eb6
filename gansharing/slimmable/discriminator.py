"""A discriminator for each width, with stages in common (Hou et al. 2021, section 4.1)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks.base import Discriminator
from gansharing.networks.sngan_layers import StagedDiscriminator
from gansharing.slimmable.networks import WIDTHS, built
from gansharing.slimmable.width import at_width, check_widths, current_index

Head = Literal["own", "linear", "one"]


class PerWidthDiscriminator(Discriminator):
    """Judges the generator of each width by layers of its own after stages that all widths share.

    Nothing is slimmed: every stage has its full width. With ``n_share`` all stages and ``head='one'`` it is
    one and the same discriminator for all widths.

    Args:
        network: The discriminator, or its ``config``; every layer is drawn anew.
        widths: Of the generator, ascending to 1.
        n_share: How many stages, counted from the image, all widths share.
        head: Of the last stage: ``own``, one for each width; ``linear``, its linear layer shared and the
            classes' embedding each width's own; ``one``, shared.

    Raises:
        UserError: The network is no chain of stages, or has not so many; the widths are none.
    """

    def __init__(
        self,
        network: Discriminator | Mapping[str, Any],
        widths: Sequence[float] = WIDTHS,
        n_share: int = 0,
        head: Head = "own",
    ) -> None:
        super().__init__()
        self.widths, self.n_share = check_widths(widths), n_share
        given: StagedDiscriminator = built(network, StagedDiscriminator)
        self.resolution = given.resolution
        self.config["init_args"] = {
            "network": given.config,
            "widths": self.widths,
            "n_share": n_share,
            "head": head,
        }
        *trunk, last = given.stages()
        if not 0 <= n_share <= len(trunk):
            raise UserError(f"n_share is {n_share}; a {type(given).__name__} has 0 to {len(trunk)} to share")
        if head not in ("own", "linear", "one"):
            raise UserError(f"head '{head}' is unknown; use own, linear or one")
        copies = [built(given.config, StagedDiscriminator).stages() for _ in self.widths]
        self.trunk = nn.ModuleDict()
        for number, name in enumerate(trunk):
            self.trunk[name] = nn.ModuleList(
                stages[name] for stages in (copies[-1:] if number < n_share else copies)
            )
        self.head = nn.ModuleList(stages[last] for stages in (copies[-1:] if head == "one" else copies))
        if head == "linear":
            for own in self.head:
                own.linear = self.head[-1].linear

    def stages(self) -> Mapping[str, nn.Module]:
        """The network's, each with as many copies as it has."""
        return {**dict(self.trunk.items()), "head": self.head}

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score images of the current width's generator.

        Args:
            images: ``(N, 3, H, H)`` in [-1, 1].
            labels: Class indices ``(N,)``; ignored without classes.

        Returns:
            Logits ``(N,)``.

        Raises:
            UserError: There is no such width, or labels are missing.
        """
        return self.own(self.common(images), labels)

    def common(self, images: Tensor) -> Tensor:
        """What the shared stages make of images ``(N, 3, H, H)``: the same at every width."""
        for copies in list(self.trunk.values())[: self.n_share]:
            images = _chosen(copies, 0)(images)
        return images

    def own(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score what :meth:`common` made by the current width's stages; logits ``(N,)``.

        A width in between is judged by the stages of the next wider one.
        """
        index = current_index(self.widths, between=True)
        for copies in list(self.trunk.values())[self.n_share :]:
            features = _chosen(copies, index)(features)
        return _chosen(self.head, index)(features, labels)

    def own_modules(self) -> list[list[nn.Module]]:
        """For each width, the modules that judge no other one."""
        judges = [
            dict.fromkeys(m for copies in self.stages().values() for m in _chosen(copies, index).modules())
            for index in range(len(self.widths))
        ]
        count = Counter(module for judge in judges for module in judge)
        return [[module for module in judge if count[module] == 1] for judge in judges]

    def with_shared(self, n_share: int, head: Head = "own") -> "PerWidthDiscriminator":
        """A copy that shares more: what all widths share is then what the widest had.

        Args:
            n_share: At least this one's.
            head: As the constructor takes it.

        Raises:
            UserError: This one shares more already.
        """
        own: Mapping[str, Any] = self.config["init_args"]
        order = ("own", "linear", "one")
        if n_share < self.n_share or order.index(head) < order.index(own["head"]):
            raise UserError(
                f"the discriminator shares {self.n_share} stages and its head is '{own['head']}': "
                f"copies for {n_share} and '{head}' do not exist"
            )
        made = PerWidthDiscriminator(own["network"], self.widths, n_share, head)
        sources = self.stages()
        for name, copies in made.stages().items():
            assert isinstance(copies, nn.ModuleList)
            source = sources[name]
            assert isinstance(source, nn.ModuleList)
            # The widest comes last: of a tied layer its weights remain.
            for target, held in zip(copies, source[-len(copies) :], strict=True):
                target.load_state_dict(held.state_dict())
        made.to(next(self.parameters()).device)
        return made.train(self.training)


def scores_alone(discriminator: Discriminator) -> bool:
    """Whether no stage looks across the batch, so that batches can be joined."""
    inside = getattr(discriminator, "network", discriminator)
    return isinstance(inside, PerWidthDiscriminator | StagedDiscriminator)


def halves(discriminator: Discriminator) -> tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]:
    """Two functions whose composition is the discriminator, the first of which is the same at every width.

    Returns:
        From images to features, and from features (and labels) to scores.
    """
    if isinstance(discriminator, PerWidthDiscriminator):
        return discriminator.common, discriminator.own
    return _unchanged, discriminator


def turns(
    discriminator: Discriminator, widths: Sequence[float]
) -> tuple[list[nn.Module], list[tuple[list[nn.Module], list[float]]]]:
    """What of a discriminator is needed when, if it judges ``widths`` one after the other.

    Args:
        discriminator: Any; but for a :class:`PerWidthDiscriminator` all of it judges all widths.
        widths: In their order, each in (0, 1].

    Returns:
        The modules that judge more than one width, and for each run of widths that the same stages judge the
        modules that judge these alone, with the widths.
    """
    if not isinstance(discriminator, PerWidthDiscriminator):
        return list(discriminator.modules()), [([], list(widths))]
    own = discriminator.own_modules()
    lone = {module for modules in own for module in modules}

    def judge(width: float) -> int:
        with at_width(width):
            return current_index(discriminator.widths, between=True)

    shared = [module for module in discriminator.modules() if module not in lone]
    return shared, [(own[index], list(run)) for index, run in groupby(widths, judge)]


def _unchanged(images: Tensor) -> Tensor:
    return images


def _chosen(copies: nn.Module, index: int) -> nn.Module:
    assert isinstance(copies, nn.ModuleList)
    return copies[index if len(copies) > 1 else 0]

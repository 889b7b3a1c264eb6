"""GP-GAN: the residual networks of Mescheder et al. (2018), which Zhao et al. (2020) transfer.

The blocks have the names of the originals' ``resnet2``: ``resnet_<group>_<block>``, groups counted in the
order of the signal. A group is all blocks of one resolution.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.errors import UserError
from gansharing.networks.base import Discriminator, Generator, pyramid_depth, require_positive
from gansharing.networks.piecewise import leaky_relu

Variant = Literal["resnet2", "resnet", "resnet4"]


@dataclass(frozen=True)
class Plan:
    """What a variant is made of.

    Attributes:
        blocks: Residual blocks a group.
        kernel: Kernel size of ``conv_img``.
        normalise: Scale embedded labels to length one.
        size: Height and width of the coarsest features.
        widths: Channels from the coarsest to the finest: group i of a generator maps ``widths[i]`` to
            ``widths[i + 1]`` channels, and a discriminator runs through the list backwards.
    """

    blocks: int
    kernel: int
    normalise: bool
    size: int
    widths: tuple[int, ...]

    @property
    def features(self) -> int:
        """Numbers between ``fc`` and the groups."""
        return self.widths[0] * self.size**2


def plan(
    variant: Variant, resolution: int, base_channels: int, channel_max: int | None, coarsest: int = 1
) -> Plan:
    """Sizes of a variant.

    Args:
        variant: Whose.
        resolution: Of the images, px.
        base_channels: Channels at the image.
        channel_max: Most channels; 16 times ``base_channels`` when omitted.
        coarsest: Least height and width of features.

    Raises:
        UserError: There is no such variant, it has no such resolution, or a layer would be empty.
    """
    most = 16 * base_channels if channel_max is None else channel_max
    require_positive(base_channels=base_channels, channel_max=most)
    if variant == "resnet":
        levels, size = pyramid_depth(resolution, lowest=8, highest=1024), 4
    elif variant in ("resnet2", "resnet4"):
        levels = 5 if variant == "resnet2" else 6
        pyramid_depth(resolution, lowest=2**levels, highest=1024)
        size = max(resolution >> levels, coarsest)
    else:
        raise UserError(f"variant '{variant}' is unknown; use resnet2, resnet or resnet4")
    if coarsest < 1 or resolution % coarsest or (resolution // coarsest) & (resolution // coarsest - 1):
        raise UserError(f"coarsest is {coarsest}; at {resolution} px use a power of two up to {resolution}")
    double = variant == "resnet2"
    # With two blocks a group the last one still halves the channels; with one it keeps them.
    outputs = [levels - group if double else max(levels - 1 - group, 0) for group in range(levels + 1)]
    widths = tuple(min(base_channels << power, most) for power in (levels, *outputs))
    return Plan(2 if double else 1, 7 if variant == "resnet4" else 3, variant != "resnet4", size, widths)


def lrelu(x: Tensor) -> Tensor:
    """LeakyReLU(0.2)."""
    return leaky_relu(x, 0.2)


class ResidualBlock(nn.Module):
    """``shortcut(x) + 0.1 conv_1(lrelu(conv_0(lrelu(x))))``, without norms.

    The shortcut is a 1x1 convolution without bias where the channels change, else the identity.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = min(inputs, outputs)
        self.conv_0 = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.conv_1 = nn.Conv2d(hidden, outputs, 3, padding=1)
        self.conv_s = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, outputs, H, W)``."""
        branch = self.conv_1(lrelu(self.conv_0(lrelu(x))))
        return torch.add(x if self.conv_s is None else self.conv_s(x), branch, alpha=0.1)


def add_group(network: nn.Module, group: int, channels: list[int]) -> None:
    """Give ``network`` the blocks ``resnet_<group>_0``, ``_1``, ... between these numbers of channels."""
    for block, (inputs, outputs) in enumerate(zip(channels[:-1], channels[1:], strict=True)):
        network.add_module(f"resnet_{group}_{block}", ResidualBlock(inputs, outputs))


def group_of(network: nn.Module, group: int) -> list[nn.Module]:
    """The blocks of a group."""
    return [module for name, module in network.named_children() if name.startswith(f"resnet_{group}_")]


def stages_of(network: nn.Module, groups: list[int]) -> dict[str, nn.Module]:
    """One stage a group, ``resnet_<group>``."""
    return {f"resnet_{group}": nn.ModuleList(group_of(network, group)) for group in groups}


class GPGANGenerator(Generator):
    """Mescheder's residual generator: 100,535,747 parameters at 128 px with 1,000 classes.

    Args:
        resolution: ``resnet2``: 32 to 1024 px; ``resnet4``: 64 to 1024; ``resnet``: 8 to 1024.
        latent_dim: Length of a latent.
        num_classes: 0 for the class removed: in place of an embedded label a constant follows the latent.
        embed_dim: Length of an embedded label, 256 when omitted; of the constant, 1 when omitted.
        base_channels: Channels before ``conv_img``.
        channel_max: Most channels; 16 times ``base_channels`` when omitted.
        variant: ``resnet2``, two blocks a resolution (ImageNet), ``resnet``, one (CelebA-HQ), or ``resnet4``
            (CelebA at 256 px): one, ``conv_img`` of 7x7, embedded labels not normalised.
        coarsest: Least height and width of features: below 128 px ``resnet2`` begins at a 32nd of the
            resolution unless 4, as at 128 px, lets its first groups share that size.

    Raises:
        UserError: The variant has no such resolution, or a size leaves a layer empty.
    """

    constant: Tensor

    def __init__(
        self,
        resolution: int = 128,
        latent_dim: int = 256,
        num_classes: int = 0,
        embed_dim: int | None = None,
        base_channels: int = 64,
        channel_max: int | None = None,
        variant: Variant = "resnet2",
        coarsest: int = 1,
    ) -> None:
        super().__init__()
        self.embed_dim = (256 if num_classes else 1) if embed_dim is None else embed_dim
        require_positive(latent_dim=latent_dim, embed_dim=self.embed_dim)
        self.resolution, self.latent_dim = resolution, latent_dim
        self.plan = plan(variant, resolution, base_channels, channel_max, coarsest)
        self.embedding = nn.Embedding(num_classes, self.embed_dim) if num_classes else None
        if not num_classes:
            self.register_buffer("constant", torch.ones(self.embed_dim))
        self.fc = nn.Linear(latent_dim + self.embed_dim, self.plan.features)
        widths = self.plan.widths
        self.groups = list(range(len(widths) - 1))
        for group in self.groups:
            add_group(self, group, [widths[group], *[widths[group + 1]] * self.plan.blocks])
        self.conv_img = nn.Conv2d(widths[-1], 3, self.plan.kernel, padding=self.plan.kernel // 2)

    def stages(self) -> Mapping[str, nn.Module]:
        """``fc`` (with the embedding), ``resnet_0`` ..., ``conv_img``: group 8 to group 1 of Zhao et al.

        So ``FreezeLower(m)`` is the Gm of the original's code.
        """
        entry = self.fc if self.embedding is None else nn.ModuleList([self.embedding, self.fc])
        return {"fc": entry, **stages_of(self, self.groups), "conv_img": self.conv_img}

    def trained_buffers(self) -> list[str]:
        """None: what stands in place of a label is a constant."""
        return []

    def embed(self, count: int, labels: Tensor | None = None) -> Tensor:
        """Embedded labels, of length one but in ``resnet4``.

        Args:
            count: Number of images.
            labels: As :meth:`forward` takes them.

        Returns:
            ``(count, embed_dim)``.

        Raises:
            UserError: The network has classes and labels are missing, or embedded labels have another length.
        """
        if labels is not None and labels.is_floating_point():
            if labels.shape != (count, self.embed_dim):
                raise UserError(
                    f"embedded labels of shape {tuple(labels.shape)}; give ({count}, {self.embed_dim}), "
                    "or class indices"
                )
            embedded = labels
        elif self.embedding is None:
            embedded = self.constant.expand(count, -1)
        elif labels is None:
            raise UserError(f"the network has {self.embedding.num_embeddings} classes; give it labels")
        else:
            embedded = self.embedding(labels)
        return embedded / embedded.norm(dim=1, keepdim=True) if self.plan.normalise else embedded

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate images.

        Args:
            latent: ``(N, latent_dim)``.
            labels: Class indices ``(N,)``, or in their embedding's place floats ``(N, embed_dim)``, such as a
                point between two classes' embeddings.

        Returns:
            ``(N, 3, resolution, resolution)`` in [-1, 1].
        """
        entry = torch.cat([latent, self.embed(latent.shape[0], labels)], 1)
        x = self.fc(entry).unflatten(1, (-1, self.plan.size, self.plan.size))
        return image_of(self, x, self.groups)


def image_of(network: Generator, x: Tensor, groups: list[int]) -> Tensor:
    """Run features through groups to the image, doubling height and width before groups of a larger size."""
    for group in groups:
        if x.shape[-1] < network.resolution >> (groups[-1] - group):
            x = F.interpolate(x, scale_factor=2)
        for block in group_of(network, group):
            x = block(x)
    return network.get_submodule("conv_img")(lrelu(x)).tanh()


class GPGANDiscriminator(Discriminator):
    """Mescheder's residual discriminator: 108,260,776 parameters at 128 px with 1,000 classes.

    Args:
        resolution: As the generator's.
        num_classes: 0 for the class removed. With classes each has a logit of its own.
        base_channels: Channels behind ``conv_img``.
        channel_max: Most channels; 16 times ``base_channels`` when omitted.
        variant: As the generator's.
        coarsest: As the generator's.

    Raises:
        UserError: The variant has no such resolution, or a size leaves a layer empty.
    """

    piecewise_linear = True

    def __init__(
        self,
        resolution: int = 128,
        num_classes: int = 0,
        base_channels: int = 64,
        channel_max: int | None = None,
        variant: Variant = "resnet2",
        coarsest: int = 1,
    ) -> None:
        super().__init__()
        self.resolution, self.num_classes = resolution, num_classes
        sizes = plan(variant, resolution, base_channels, channel_max, coarsest)
        self.size = sizes.size
        widths = sizes.widths[::-1]
        self.conv_img = nn.Conv2d(3, widths[0], sizes.kernel, padding=sizes.kernel // 2)
        self.groups = list(range(len(widths) - 1))
        for group in self.groups:
            add_group(self, group, [*[widths[group]] * sizes.blocks, widths[group + 1]])
        self.fc = nn.Linear(sizes.features, max(num_classes, 1))

    def stages(self) -> Mapping[str, nn.Module]:
        """``conv_img``, ``resnet_0`` ..., ``fc``: group 1 to group 8 of Zhao et al. (2020).

        So ``FreezeLower(n)`` is the Dn of the original's code.
        """
        return {"conv_img": self.conv_img, **stages_of(self, self.groups), "fc": self.fc}

    def logits(self, images: Tensor) -> Tensor:
        """Score images for every class: ``(N, num_classes)``, or ``(N, 1)`` without classes."""
        x = self.conv_img(images)
        for group in self.groups:
            if group and x.shape[-1] > self.size:
                x = F.avg_pool2d(x, 3, stride=2, padding=1)
            for block in group_of(self, group):
                x = block(x)
        return self.fc(lrelu(x).flatten(1))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score images.

        Args:
            images: ``(N, 3, resolution, resolution)``.
            labels: Class indices ``(N,)``: whose logit is taken. Ignored without classes.

        Returns:
            Logits ``(N,)``.

        Raises:
            UserError: The network has classes and labels are missing.
        """
        if not self.num_classes:
            return self.logits(images).squeeze(1)
        if labels is None:
            raise UserError(f"the network has {self.num_classes} classes; give it labels")
        return self.logits(images).gather(1, labels.long()[:, None]).squeeze(1)

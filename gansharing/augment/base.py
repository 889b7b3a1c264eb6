"""What an augmentation is to the training code."""

from torch import Tensor, nn


class Augmentation(nn.Module):
    """Changes every image that the discriminator sees, real or generated, differentiably.

    This class changes nothing and learns nothing from what it is told.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Augment each image on its own: (B, C, H, W) to (B, C, H, W), twice differentiable."""
        return images

    def observe(self, real_scores: Tensor) -> None:
        """Hear the discriminator's scores (N,) or (N, K) of augmented real images, in its main step."""

    def adapt(self, step: int, images: int) -> None:
        """End a batch, after processes have averaged their buffers.

        Args:
            step: Batches so far, this one included.
            images: Real images in this batch, over all processes.
        """

    def figures(self) -> dict[str, Tensor]:
        """Scalars worth a curve, by name."""
        return {}

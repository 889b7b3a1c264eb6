"""Layers of StyleGAN2 (Karras et al. 2020): equalised learning rate, modulation, resampling, mapping.

Weights are stored as N(0, 1), or N(0, 1) / m where the learning rate is multiplied by m, and scaled when they
are used (Karras et al. 2018, section 4.1). A layer reads ``self.weight`` once per forward and combines it by
``mul``, ``square``, ``sum``, ``transpose``, ``conv2d``, ``conv_transpose2d`` and ``linear`` only.
"""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gansharing.errors import UserError
from gansharing.networks.winograd import conv3x3

SQRT2 = math.sqrt(2)


def full_precision(x: Tensor) -> AbstractContextManager[None]:
    """Autocast off: statistics, styles and demodulation lose too much in bf16."""
    if x.is_meta:  # sizes alone, of which autocast knows nothing
        return nullcontext()
    context: AbstractContextManager[None] = torch.autocast(x.device.type, enabled=False)
    return context


def at_least_float(x: Tensor) -> Tensor:
    """``x`` in fp32, or in fp64 where it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def normalise_second_moment(x: Tensor) -> Tensor:
    """Scale rows ``(N, D)`` to a mean square of one."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def lrelu(x: Tensor, clamp: float | None = None) -> Tensor:
    """LeakyReLU(0.2) written over ``x``, then limited to ``[-clamp, clamp]`` where asked."""
    x = F.leaky_relu(x, 0.2, inplace=True)
    return x if clamp is None else x.clamp(-clamp, clamp)


class EqualizedLinear(nn.Module):
    """Linear layer with equalised learning rate.

    Args:
        inputs: Input features.
        outputs: Output features.
        activate: LeakyReLU(0.2) times sqrt(2) behind it.
        lr_multiplier: Factor on the learning rate of weight and bias.
        bias: Initial value of every bias.
    """

    def __init__(
        self, inputs: int, outputs: int, activate: bool = False, lr_multiplier: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.activate = activate
        # LeakyReLU is homogeneous: its sqrt(2) may act before it, on the small side of the product.
        self.bias_gain = lr_multiplier * (SQRT2 if activate else 1.0)
        self.gain = self.bias_gain / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, inputs)`` to ``(N, outputs)``."""
        bias = self.bias if self.bias_gain == 1 else self.bias * self.bias_gain
        x = F.linear(x * self.gain, self.weight, bias)
        return lrelu(x) if self.activate else x


class Mapping(nn.Module):
    """Mapping network: normalised latent, and embedded label, to a style.

    Args:
        latent_dim: Length of the latent; 0 maps labels alone, as the discriminator's projection does.
        w_dim: Length of the style, of the layers between and of the embedded label.
        num_classes: 0 for none.
        layers: Number of layers ``fc0``, ``fc1``, ...

    Attributes:
        w_avg: Running mean of the styles, ``(w_dim,)``; only with a latent.
    """

    w_avg: Tensor

    def __init__(self, latent_dim: int, w_dim: int, num_classes: int, layers: int) -> None:
        super().__init__()
        self.latent_dim, self.num_classes, self.layers = latent_dim, num_classes, layers
        if num_classes:
            self.embed = EqualizedLinear(num_classes, w_dim)
        inputs = latent_dim + (w_dim if num_classes else 0)
        for layer in range(layers):
            linear = EqualizedLinear(inputs if layer == 0 else w_dim, w_dim, True, lr_multiplier=0.01)
            self.add_module(f"fc{layer}", linear)
        if latent_dim:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, latent: Tensor | None, labels: Tensor | None = None) -> Tensor:
        """Map latents ``(N, latent_dim)`` and labels to styles ``(N, w_dim)``, in fp32.

        Args:
            latent: ``(N, latent_dim)``, or None for a mapping without latent.
            labels: Class indices ``(N,)`` or weights of the classes ``(N, num_classes)``; ignored without
                classes.

        Raises:
            UserError: Labels are missing, or of another number of classes.
        """
        parts = [] if latent is None else [latent]
        if self.num_classes:
            parts.append(self.class_weights(labels))
        with full_precision(parts[0]):
            parts = [at_least_float(part) for part in parts]
            if self.num_classes:
                parts[-1] = self.embed(parts[-1])
            w = torch.cat([normalise_second_moment(part) for part in parts], 1)
            for layer in range(self.layers):
                w = self.get_submodule(f"fc{layer}")(w)
        return w

    def class_weights(self, labels: Tensor | None) -> Tensor:
        """Labels as weights ``(N, num_classes)``: indices become one-hot rows."""
        if labels is None:
            raise UserError(f"the network has {self.num_classes} classes; give it labels")
        if labels.ndim == 1:
            return F.one_hot(labels.long(), self.num_classes).to(self.embed.weight.dtype)
        if labels.shape[1] != self.num_classes:
            raise UserError(f"labels of {labels.shape[1]} classes for a network of {self.num_classes}")
        return labels.to(self.embed.weight.dtype)


class Resample(nn.Module):
    """Fixed low-pass filter ``outer([1, 3, 3, 1]) / 64``, alone or with a factor of two.

    Args:
        gain: Factor on the filter; 4 where zeros were inserted between the samples.
    """

    filter: Tensor

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("filter", torch.outer(taps, taps) * (gain / 64), persistent=False)

    def kernel(self, x: Tensor) -> Tensor:
        """One filter a channel of ``x``."""
        return self.filter.to(x.dtype).expand(x.shape[1], 1, 4, 4)

    def blur(self, x: Tensor, padding: int) -> Tensor:
        """Filter ``(N, C, H, W)``; each side grows by ``2 * padding - 3``."""
        return F.conv2d(x, self.kernel(x), padding=padding, groups=x.shape[1])

    def down(self, x: Tensor) -> Tensor:
        """Filter, then keep every second pixel."""
        if x.dtype == torch.bfloat16 and x.device.type == "cpu":
            # The gradient of a strided depthwise convolution is ten times slower there than in fp32.
            return self.blur(x, padding=1)[:, :, ::2, ::2]
        return F.conv2d(x, self.kernel(x), stride=2, padding=1, groups=x.shape[1])

    def up(self, x: Tensor) -> Tensor:
        """Put zeros between the pixels, then filter; wants ``gain=4``."""
        return F.conv_transpose2d(x, self.kernel(x), stride=2, padding=1, groups=x.shape[1])


class StyledConv(nn.Module):
    """Modulated and demodulated 3x3 convolution, noise, bias, LeakyReLU (section 2.2, equations 1 and 3).

    The activations are scaled by the styles before and by the demodulation after one plain convolution; the
    squared norm of each sample's filters is a product of two small matrices:
    ``sum_ik (s_i W_oik)^2 = (s^2) @ (sum_k W^2)^T``.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        w_dim: Length of the style.
        resolution: Height and width of the output.
        up: Double height and width.
        clamp: Limit of the output's magnitude.
    """

    noise_const: Tensor

    def __init__(
        self, inputs: int, outputs: int, w_dim: int, resolution: int, up: bool, clamp: float | None
    ) -> None:
        super().__init__()
        self.resolution, self.clamp = resolution, clamp
        self.affine = EqualizedLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.resample = Resample(gain=4.0) if up else None

    def forward(self, x: Tensor, w: Tensor, noise: str) -> Tensor:
        """Style ``x`` ``(N, inputs, H, H)`` by ``w`` ``(N, w_dim)``; noise as the generator's."""
        weight = self.weight
        with full_precision(w):
            styles = self.affine(at_least_float(w))
            norms = F.linear(styles.square(), weight.square().sum((2, 3))) + 1e-8
            demodulation = norms.rsqrt() * SQRT2
        x = x * styles.to(x.dtype)[:, :, None, None]
        if self.resample is None:
            x = conv3x3(x, weight)
        else:
            x = self.resample.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), padding=1)
        bias = (self.bias * SQRT2).to(x.dtype)[:, None, None]
        x = torch.addcmul(bias, x, demodulation.to(x.dtype)[:, :, None, None])
        if noise != "none":
            x = x.add_((self.draw(x, noise) * (self.noise_strength * SQRT2)).to(x.dtype))
        return lrelu(x, self.clamp)

    def draw(self, x: Tensor, noise: str) -> Tensor:
        """Noise of one channel for ``x``."""
        if noise == "const":
            return self.noise_const
        return torch.randn(x.shape[0], 1, self.resolution, self.resolution, device=x.device)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three channels, without demodulation, in fp32.

    Args:
        inputs: Input channels.
        w_dim: Length of the style.
        clamp: Limit of the output's magnitude.
    """

    def __init__(self, inputs: int, w_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = EqualizedLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` to ``(N, 3, H, W)``."""
        with full_precision(w):
            # Of the channels that come: a slimmable network has several numbers of them.
            styles = self.affine(at_least_float(w)) * (1 / math.sqrt(x.shape[1]))
        x = F.conv2d(x * styles.to(x.dtype)[:, :, None, None], self.weight, self.bias)
        x = at_least_float(x)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class EqualizedConv(nn.Module):
    """Convolution with equalised learning rate, of the discriminator.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        size: Height and width of the kernel, 1 or 3.
        down: Filter and halve height and width.
        activate: Add a bias and activate by LeakyReLU(0.2) times sqrt(2); otherwise linear without bias.
        gain: Factor on the output.
        clamp: Limit of the output's magnitude at gain 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        down: bool = False,
        activate: bool = True,
        gain: float = 1.0,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if activate else None
        self.bias_gain = gain * (SQRT2 if activate else 1.0)
        self.gain = self.bias_gain / math.sqrt(inputs * size * size)
        self.clamp = None if clamp is None else clamp * gain
        self.pointwise = size == 1
        self.resample = Resample() if down else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, inputs, H, W)``."""
        if self.resample is not None and self.pointwise:
            # The filter and a product pixel by pixel commute: halve first.
            x = F.conv2d(self.resample.down(x), self.weight)
        elif self.resample is not None:
            x = F.conv2d(self.resample.blur(x, padding=2), self.weight, stride=2)
        elif self.pointwise:
            x = F.conv2d(x, self.weight)
        else:
            x = conv3x3(x, self.weight)
        if self.bias is None:
            return x * self.gain
        bias = (self.bias * self.bias_gain).to(x.dtype)[:, None, None]
        return lrelu(torch.add(bias, x, alpha=self.gain), self.clamp)

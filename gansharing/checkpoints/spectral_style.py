"""The layout of Spectral Style-DCGAN's own checkpoints (Garg 2024, the notebook's modules)."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gansharing.checkpoints.foreign import Imported, flat_state, read_tensors
from gansharing.errors import UserError
from gansharing.networks import DCGANDiscriminator, Network, SpectralStyleGenerator

# The original's discriminator is one Sequential: index of each convolution, and of each batch norm, by level.
_CONVOLUTIONS = {
    0: "blocks.0.conv",
    2: "blocks.1.conv",
    5: "blocks.2.conv",
    8: "blocks.3.conv",
    11: "to_score",
}
_NORMS = {3: "blocks.1.norm", 6: "blocks.2.norm", 9: "blocks.3.norm"}
# Spectral norm of torch.nn.utils (old) and of torch.nn.utils.parametrizations (new) name the same tensors.
_SPECTRAL = {
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": "parametrizations.weight.0._v",
}


def read_ssd(path: Path, part: str | None) -> Imported:
    """Read the original's generator (3,778,904 parameters) or discriminator.

    Args:
        path: A Lightning checkpoint, or a state dict alone; any prefix may stand before its modules' names.
        part: ``generator`` (also for None: it keeps no average) or ``discriminator``.

    Raises:
        UserError: The file names what no network is made of, or the tensors are not those of the original.
    """
    part = part or "generator"
    if part not in ("generator", "discriminator"):
        raise UserError(f"Spectral Style-DCGAN keeps no {part}; choose generator or discriminator")
    state = flat_state(read_tensors(path))
    network, renamed = _generator(state) if part == "generator" else _discriminator(state)
    own = network.state_dict()
    missing = sorted(name for name in own.keys() - renamed.keys() if not name.endswith("num_batches_tracked"))
    wrong = sorted(n for n in own.keys() & renamed.keys() if own[n].shape != renamed[n].shape)
    if missing or wrong:
        raise UserError(
            f"not a Spectral Style-DCGAN {part}: missing {missing[:3] or 'nothing'}, "
            f"of another shape {[(n, tuple(renamed[n].shape)) for n in wrong[:3]] or 'nothing'}"
        )
    network.load_state_dict({name: renamed.get(name, tensor) for name, tensor in own.items()})
    return Imported(network, part)


def _generator(state: Mapping[str, Tensor]) -> tuple[Network, dict[str, Tensor]]:
    prefix = next((k.removesuffix("starting_const") for k in state if k.endswith("starting_const")), None)
    if prefix is None:
        raise UserError("not a Spectral Style-DCGAN generator: no tensor 'starting_const'")
    latent_dim, base = state[f"{prefix}starting_const"].shape[1], state[f"{prefix}conv_l4.weight"].shape[1]
    renamed = {
        name: tensor
        for key, tensor in state.items()
        if key.startswith(prefix) and (name := _generator_name(key.removeprefix(prefix))) is not None
    }
    network = SpectralStyleGenerator(
        latent_dim=latent_dim, base_channels=base, mapping="shared", trunk_input="constant"
    )
    return network, renamed


def _generator_name(key: str) -> str | None:
    if key == "starting_const":
        return "constant"
    if match := re.fullmatch(r"mapper\.linear\.(weight|bias)", key):
        return f"mapping.layers.0.{match[1]}"
    if match := re.fullmatch(r"conv_l([1-5])\.weight", key):
        return "to_rgb.weight" if match[1] == "5" else f"blocks.{int(match[1]) - 1}.conv.weight"
    if match := re.fullmatch(r"ada_l([1-4])\.style_(scale|bias)\.(weight|bias)", key):
        return f"blocks.{int(match[1]) - 1}.adain.{'scale' if match[2] == 'scale' else 'shift'}.{match[3]}"
    return None


def _discriminator(state: Mapping[str, Tensor]) -> tuple[Network, dict[str, Tensor]]:
    pattern = re.compile(r"(?:.*\.)?model\.(\d+)\.(\w+)")
    renamed, spectral = {}, set()
    for key, tensor in state.items():
        match = pattern.fullmatch(key)
        if match is None:
            continue
        index, name = int(match[1]), match[2]
        module = _CONVOLUTIONS.get(index) or _NORMS.get(index)
        if module is None:
            continue
        if name in _SPECTRAL:
            spectral.add(index)
        renamed[f"{module}.{_SPECTRAL.get(name, name)}"] = tensor
    kinds = {frozenset(): "none", frozenset({2, 5, 8}): "middle", frozenset(_CONVOLUTIONS): "all"}
    kind = kinds.get(frozenset(spectral))
    if kind is None or "blocks.0.conv.weight" not in renamed and kind != "all":
        raise UserError(
            "not a Spectral Style-DCGAN discriminator: expected tensors model.{0,2,5,8,11}.weight*"
        )
    return DCGANDiscriminator(spectral_norm=kind, init="torch"), renamed  # type: ignore[arg-type]

"""Every sharing on every network: a partition of the parameters that changes no output."""

import copy
import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gansharing.errors import UserError
from gansharing.networks import (
    BigGANGenerator,
    DCGANDiscriminator,
    DCGANGenerator,
    FastGANDiscriminator,
    FastGANGenerator,
    Generator,
    GPGANDiscriminator,
    GPGANGenerator,
    Network,
    SmallHeadGenerator,
    SNDCGANGenerator,
    SNGANDiscriminator,
    SNGANGenerator,
    SpectralStyleGenerator,
    StyleGAN2Discriminator,
    StyleGAN2Generator,
)
from gansharing.sharing import (
    AdaFM,
    Affine,
    BatchStatistics,
    Combined,
    FilterSelection,
    FreezeLower,
    Full,
    LayerWise,
    LowRank,
    Miner,
    Sharing,
    StyleOffsets,
    WidthWise,
    build_shared,
    build_sharing,
    merged,
    split_of,
)
from gansharing.sharing.surgery import Divided, parametrize_first

NETWORKS: dict[str, Callable[[], Network]] = {
    "dcgan": lambda: DCGANGenerator(32, latent_dim=12, base_channels=4),
    "spectral_style": lambda: SpectralStyleGenerator(32, latent_dim=12, base_channels=4),
    "constant": lambda: SpectralStyleGenerator(32, latent_dim=12, base_channels=4, trunk_input="constant"),
    "stylegan2": lambda: StyleGAN2Generator(16, 12, 12, mapping_layers=2, channel_base=256, channel_max=16),
    "labels": lambda: StyleGAN2Generator(
        8, 12, 12, num_classes=3, mapping_layers=2, channel_base=64, channel_max=12
    ),
    "gpgan": lambda: GPGANGenerator(32, 12, base_channels=2),
    "gpgan_labels": lambda: GPGANGenerator(
        16, 12, num_classes=3, embed_dim=4, base_channels=2, variant="resnet"
    ),
    "smallhead": lambda: SmallHeadGenerator(32, 12, style_dim=8, mapping_layers=2, base_channels=2),
    "dcgan_d": lambda: DCGANDiscriminator(32, base_channels=4),
    "spectral_d": lambda: DCGANDiscriminator(32, base_channels=4, spectral_norm="all"),
    "stylegan2_d": lambda: StyleGAN2Discriminator(16, channel_base=256, channel_max=16),
    "gpgan_d": lambda: GPGANDiscriminator(32, base_channels=2),
}
# Tests of layers alone, which ask for small outputs or for all parameters, go without these.
ALL = NETWORKS | {
    "fastgan": lambda: FastGANGenerator(32, 12, base_channels=2),
    "fastgan_d": lambda: FastGANDiscriminator(32, base_channels=2),
    "sngan": lambda: SNGANGenerator(32, 12, channels=8),
    "sngan_d": lambda: SNGANDiscriminator(32, channels=8),
    "sndcgan": lambda: SNDCGANGenerator(32, 12, channels=16),
    "biggan": lambda: BigGANGenerator(32, 12, channels=4, embed_dim=4),
}
SHARINGS: dict[str, Callable[[], Sharing]] = {
    "full": Full,
    "width": lambda: WidthWise(0.3),
    "width_thin": lambda: WidthWise(0.01, one_d="domain", min_columns=1),
    "width_all": lambda: WidthWise(1.0),
    "low_rank": lambda: LowRank(1),
    "freeze_lower": lambda: FreezeLower(2),
    "miner": Miner,
    "affine": Affine,
    "offsets": StyleOffsets,
    "statistics": BatchStatistics,
    "adafm": AdaFM,
    "adafm_all": lambda: AdaFM(linear=True, bias=True),
    "filter_selection": FilterSelection,
    "combined": lambda: Combined([AdaFM(), FreezeLower(2)]),
}
NORMS = {"dcgan", "dcgan_d", "spectral_d", "smallhead", "fastgan", "fastgan_d", "sngan", "sndcgan", "biggan"}
STYLED = {"spectral_style", "constant", "stylegan2", "labels", "smallhead"}
ADDING = {"low_rank", "miner", "offsets", "adafm", "adafm_all", "filter_selection", "combined"}


def applies(network: str, sharing: str) -> bool:
    if sharing in ("affine", "offsets"):
        return network in STYLED
    if sharing == "statistics":
        return network in NORMS
    return sharing != "miner" or not network.endswith("_d")


PAIRS = [(n, s) for n in ALL for s in SHARINGS if applies(n, s)]


def build(name: str) -> Network:
    torch.manual_seed(0)
    return ALL[name]().eval()


def output(network: Network) -> Tensor:
    source = torch.Generator().manual_seed(1)
    if isinstance(network, Generator):
        labels = torch.tensor([0, 2, 1]) if network.config["init_args"].get("num_classes") else None
        return network(network.sample_latent(3, source), labels)
    return network(torch.randn(3, 3, network.resolution, network.resolution, generator=source))  # type: ignore[arg-type]


@pytest.mark.parametrize(("network", "sharing"), PAIRS)
def test_a_sharing_is_a_partition_that_changes_no_output(network: str, sharing: str) -> None:
    net = build(network)
    before, count = output(net), sum(p.numel() for p in net.parameters())
    split = SHARINGS[sharing]().apply(net)
    assert torch.equal(output(net), before)
    everything = dict(net.named_parameters())
    assert split.domain.keys() | split.shared.keys() == everything.keys()
    assert not split.domain.keys() & split.shared.keys()
    assert 0 < split.learn_ratio <= 1
    added = sum(p.numel() for p in net.parameters()) - count
    # Only these add numbers; all others divide what is there.
    assert (added > 0) == (sharing in ADDING)
    assert split.domain_size + split.shared_size == count + added


@pytest.mark.parametrize(("network", "sharing"), PAIRS)
def test_training_touches_the_domain_only_and_survives_copies_and_rebuilding(
    network: str, sharing: str
) -> None:
    net = build(network)
    split = SHARINGS[sharing]().apply(net)
    split.freeze_shared()
    untouched = {name: tensor.clone() for name, tensor in split.shared.items()}
    hashed = split.shared_hash()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-3)
    start = output(net)
    for step in range(2):  # a zero factor of a product gets its first gradient in the second
        optimizer.zero_grad()
        (output(net).square().mean() + output(net).mean() * (step + 1)).backward()
        optimizer.step()
    assert all(torch.equal(split.shared[name], tensor) for name, tensor in untouched.items())
    assert all(parameter.grad is None for parameter in split.shared.values())
    assert split.shared_hash() == hashed
    trained = output(net)
    assert not torch.equal(trained, start)

    assert torch.equal(output(copy.deepcopy(net)), trained)
    twin = build_shared(net.config).eval()
    assert split_of(twin).domain.keys() == split.domain.keys()
    twin.load_state_dict(net.state_dict())
    assert torch.equal(output(twin), trained)

    plain = merged(net)
    assert torch.equal(output(plain), trained)
    assert torch.equal(output(net), trained)  # merging leaves the divided network alone
    if sharing != "miner":
        assert plain.state_dict().keys() == build(network).state_dict().keys()
        assert plain.config == build(network).config


@pytest.mark.parametrize(("network", "sharing"), [(n, s) for n in ALL for s in SHARINGS if not applies(n, s)])
def test_a_domain_that_would_own_nothing_is_an_error(network: str, sharing: str) -> None:
    net = build(network)
    keys = net.state_dict().keys()
    with pytest.raises(UserError, match="no weight"):
        SHARINGS[sharing]().apply(net)
    assert net.state_dict().keys() == keys
    assert "sharing" not in net.config


@given(st.integers(1, 1200), st.decimals("0.001", "1", places=3))
def test_the_floor_is_decimal(inputs: int, ratio: object) -> None:
    exact = math.floor(Fraction(str(ratio)) * inputs)
    assert WidthWise(float(str(ratio))).columns(inputs) == exact
    assert WidthWise(float(str(ratio)), min_columns=1).columns(inputs) == max(1, exact)


def test_floors_that_binary_arithmetic_gets_wrong() -> None:
    assert [math.floor(r * i) for r, i in ((0.29, 100), (0.57, 100), (0.58, 50))] == [28, 56, 28]
    assert [WidthWise(r).columns(i) for r, i in ((0.29, 100), (0.57, 100), (0.58, 50))] == [29, 57, 29]


def test_the_domain_owns_the_first_inputs_of_each_kind_of_layer() -> None:
    net = build("dcgan")  # transposed convolutions: inputs come first
    split = WidthWise(0.5).apply(net)
    weight = net.get_submodule("blocks.1.conv").weight
    domain = split.domain["blocks.1.conv.parametrizations.weight.original0"]
    assert torch.equal(domain, weight[: len(weight) // 2])
    linear = build("spectral_style")
    split = WidthWise(0.5).apply(linear)
    assert torch.equal(
        split.domain["mapping.layers.0.parametrizations.weight.original0"],
        linear.get_submodule("mapping.layers.0").weight[:, :6],
    )
    untouched = {name for name, p in linear.named_parameters() if p.ndim < 2} | {"constant"}
    assert untouched & split.domain.keys() == set()


def test_include_divides_the_named_weights_only() -> None:
    net = build("stylegan2")
    split = WidthWise(0.5, include=["mapping.*", "*.conv?.weight"]).apply(net)
    kinds = {name.split(".parametrizations")[0].rpartition(".")[2] for name in split.domain}
    assert kinds == {"fc0", "fc1", "conv0", "conv1"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WidthWise(0.0), "learn_ratio"),
        (lambda: WidthWise(1.5), "learn_ratio"),
        (lambda: LowRank(0), "rank"),
        (lambda: FreezeLower(-1), "stages"),
        (lambda: FreezeLower(99).apply(build("dcgan")), "has 4 stages"),
        (lambda: LayerWise(["fc9"]).apply(build("stylegan2")), "fc0, fc1"),
        (lambda: LayerWise([]).apply(build("stylegan2")), "name at least one stage"),
        (lambda: WidthWise(0.01).apply(build("dcgan")), "min_columns"),
        (lambda: (n := build("dcgan"), Full().apply(n), Full().apply(n)), "divided already"),
        (lambda: build_sharing({"class_path": "os.system"}), "not a sharing"),
    ],
)
def test_what_cannot_be_divided_says_why(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_layer_wise_and_freeze_lower_are_slices_of_the_stages() -> None:
    net = build("stylegan2")
    own = LayerWise(["fc0", "b4.conv1"]).apply(net).domain
    assert {n.rpartition(".")[0].removesuffix(".affine") for n in own} == {
        "mapping.fc0",
        "synthesis.b4.conv1",
    }
    frozen = FreezeLower(1).apply(d := build("stylegan2_d")).domain.keys()
    assert not any(name.startswith("b16.") for name in frozen)
    assert {n for n, _ in d.named_parameters() if not n.startswith("b16.")} == set(frozen)
    last = FreezeLower(1).apply(build("dcgan"))
    assert set(last.shared) == {"to_rgb.weight"}


def test_miners_replace_the_latent_or_move_it() -> None:
    net = build("stylegan2")
    Miner(residual=False).apply(net)
    miner = net.get_submodule("mapping.miner.network.transform")
    assert isinstance(miner, nn.Sequential)
    latent = net.sample_latent(2, torch.Generator().manual_seed(3))  # type: ignore[operator]
    assert torch.equal(net(latent), build("stylegan2")(miner(latent)))


def test_the_papers_counts() -> None:
    # Webster et al. 2022 on StyleGAN2 at 256 px, config F: |θ_D| derived from the paper's rules by hand.
    expected = {
        WidthWise(0.01): 291_028,
        WidthWise(0.1): 2_986_476,
        WidthWise(0.01, one_d="domain"): 309_238,
        WidthWise(0.1, one_d="domain"): 3_004_686,
        LayerWise(["fc0", "fc1"]): 525_312,
        LayerWise(["fc0", "fc1", "fc2", "fc3", "b4.conv1"]): 3_673_089,
        Miner(): 525_312,
        StyleOffsets(): 8_704,
        Affine(): 4_465_152,
    }
    for sharing, count in expected.items():
        with torch.device("meta"):
            assert sharing.apply(StyleGAN2Generator(256, channel_base=32768)).domain_size == count


class Twice(Divided):
    """A parametrisation for the test below."""

    def forward(self, tensor: Tensor) -> Tensor:
        """Double it."""
        return 2 * tensor


def test_a_copy_of_a_normalised_layer_keeps_its_bias() -> None:
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
    twin = copy.deepcopy(layer)  # torch gives both one class
    parametrize_first(layer, "bias", Twice())
    layer.eval(), twin.eval()
    x = torch.ones(1, 4)
    torch.testing.assert_close(layer(x) - twin(x), twin.bias[None])
    assert isinstance(twin.bias, nn.Parameter)

"""A batch of mixed domains gives what each domain's own network gives, in one forward."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gansharing.errors import UserError
from gansharing.networks import DCGANDiscriminator, Generator, StyleGAN2Generator
from gansharing.sharing import Sharing, WidthWise
from gansharing.sharing.delta import delta_of
from gansharing.sharing.domains import Domains
from tests.sharing.test_sharing import NETWORKS, PAIRS, SHARINGS, build

GENERATORS = [(n, s) for n, s in PAIRS if n in NETWORKS and not n.endswith("_d")]


def learned(network: str, sharing: Sharing, seed: int, dtype: torch.dtype = torch.float64) -> Any:
    """A domain's own network: θ_D moved, and the buffers that it owns."""
    net = build(network).to(dtype)
    split = sharing.apply(net)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in split.domain.values():
            parameter.mul_(1 + 0.2 * torch.rand(parameter.shape, generator=source, dtype=dtype))
            parameter.add_(0.05 * torch.rand(parameter.shape, generator=source, dtype=dtype))
        for buffer in split.domain_buffers.values():
            if buffer.is_floating_point():
                buffer.mul_(0.5 + torch.rand(buffer.shape, generator=source, dtype=dtype))
    return net


def labels_for(network: Any, count: int) -> Tensor | None:
    classes = network.config["init_args"].get("num_classes")
    return torch.arange(count) % classes if classes else None


@torch.no_grad()
def one_by_one(nets: list[Any], latent: Tensor, domain: Tensor, labels: Tensor | None, **kw: Any) -> Tensor:
    rows = [labels[i : i + 1] if labels is not None else None for i in range(len(latent))]
    return torch.cat([nets[d](latent[i : i + 1], rows[i], **kw) for i, d in enumerate(domain.tolist())])


@pytest.mark.parametrize(("network", "sharing"), GENERATORS)
def test_each_sample_is_its_own_domains(network: str, sharing: str) -> None:
    nets = [learned(network, SHARINGS[sharing](), seed) for seed in range(3)]
    base: Any = build(network).double()
    domains = Domains(base, [delta_of(net) for net in nets])
    domain = torch.tensor([2, 0, 2, 1, 0])
    latent, labels = base.sample_latent(5).double(), labels_for(base, 5)
    expected = one_by_one(nets, latent, domain, labels)
    assert (domains(latent, domain, labels) - expected).abs().max() <= 1e-9
    # Otherwise the line above would show nothing.
    others = one_by_one(nets, latent, (domain + 1) % 3, labels)
    assert (others - expected).abs().flatten(1).amax(1).min() > 1e-7


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.floats(0.1, 1), st.integers(0, 1000))
def test_any_batch_of_any_domains(domain: list[int], ratio: float, seed: int) -> None:
    nets = [learned("stylegan2", WidthWise(ratio), seed + k) for k in range(4)]
    domains = Domains(build("stylegan2").double(), map(delta_of, nets))  # type: ignore[arg-type]
    latent = torch.randn(len(domain), 12, generator=torch.Generator().manual_seed(seed)).double()
    rows = torch.tensor(domain)
    expected = one_by_one(nets, latent, rows, None, truncation=0.6, cutoff=3)
    assert torch.allclose(domains(latent, rows, truncation=0.6, cutoff=3), expected, rtol=0, atol=1e-9)


def wide(seed: int | None) -> Any:
    """Wide enough for Winograd's filtering at 16 px."""
    torch.manual_seed(0)
    net = StyleGAN2Generator(16, 16, 16, mapping_layers=2, channel_base=4096, channel_max=256).eval()
    if seed is not None:
        split = WidthWise(0.1).apply(net)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in split.domain.values():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def test_fp32_at_full_width_is_within_rounding() -> None:
    nets, base = [wide(1), wide(2)], wide(None)
    domains = Domains(base, [delta_of(net) for net in nets])
    latent, domain = base.sample_latent(4), torch.tensor([0, 1, 1, 0])
    expected = one_by_one(nets, latent, domain, None)
    assert (domains(latent, domain) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_under_autocast_it_is_within_its_rounding() -> None:
    nets, base = [wide(1), wide(2)], wide(None)
    domains = Domains(base, [delta_of(net) for net in nets])
    latent, domain = base.sample_latent(4), torch.tensor([0, 1, 1, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images, expected = domains(latent, domain), one_by_one(nets, latent, domain, None)
    assert images.dtype == expected.dtype == torch.float32
    assert (images - expected).abs().mean() <= 0.02 * expected.std()


class Products(TorchDispatchMode):
    """Shapes of what convolutions and matrix products are given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.seen.append((tuple(args[0].shape), tuple(args[1].shape)))
        return func(*args, **(kwargs or {}))


def test_what_is_shared_is_computed_once_for_the_whole_batch_and_the_rest_per_domain() -> None:
    base, delta = wide(None), delta_of(wide(1))
    domains = Domains(base, [delta] * 7)
    with Products() as products:
        domains(base.sample_latent(6), torch.tensor([5, 3, 5, 5, 0, 3]))
    segments = [1, 2, 3]  # three domains are present, and only they are computed
    for size in (4, 8):  # many weights for few pixels: 256 inputs, 25 of them the domain's
        assert products.seen.count(((6, 231, size, size), (256, 231, 3, 3))) == 1
        assert [x[0] for x, w in products.seen if w == (256, 25, 3, 3) and x[2] == size] == segments
    # Few weights for many pixels: the weights are put together, and each sample is touched once.
    assert [x[0] for x, w in products.seen if w == (3, 256, 1, 1) and x[2] == 16] == segments


def test_weights_are_held_once_and_the_base_keeps_its_images() -> None:
    base: Any = build("stylegan2")
    latent = base.sample_latent(2)
    with torch.no_grad():
        before = base(latent)
    nets = [learned("stylegan2", WidthWise(0.3), k, torch.float32) for k in range(5)]
    deltas = [delta_of(net) for net in nets]
    domains = Domains(base, deltas)
    theta = sum(p.numel() for p in build("stylegan2").parameters())
    own = deltas[0].tensors["parameters.float32"].numel() + deltas[0].tensors["buffers.float32"].numel()
    assert domains.numbers() == theta + 5 * own
    pointers = {p.data_ptr() for p in base.parameters()}
    domains(latent, torch.tensor([4, 1]))
    assert pointers == {p.data_ptr() for p in base.parameters()}
    with torch.no_grad():
        assert torch.equal(base(latent), before)


def test_a_hundred_domains_on_one_base() -> None:
    base: Any = build("stylegan2")
    nets = {k: learned("stylegan2", WidthWise(0.1), k, torch.float32) for k in (0, 41, 99)}
    first = delta_of(nets[0])
    deltas = [delta_of(nets[k]) if k in nets else first for k in range(100)]
    latent = base.sample_latent(3)
    images = Domains(base, deltas)(latent, torch.tensor([99, 0, 41]))
    with torch.no_grad():
        expected = torch.cat([nets[k](latent[i : i + 1]) for i, k in enumerate((99, 0, 41))])
    assert torch.allclose(images, expected, rtol=0, atol=1e-5)


def test_an_error_in_the_network_leaves_it_whole() -> None:
    base: Any = build("stylegan2")
    domains = Domains(base, [delta_of(learned("stylegan2", WidthWise(0.3), 1, torch.float32))])
    before = dict(base.named_parameters())
    with pytest.raises(TypeError, match="unknown_option"):
        domains(base.sample_latent(1), torch.tensor([0]), unknown_option=1)
    assert all(parameter is before[name] for name, parameter in base.named_parameters())


class Greedy(Generator):
    """Does with its weight what cannot be done for many domains at once."""

    def __init__(self, what: str = "write") -> None:
        super().__init__()
        self.latent_dim, self.resolution, self.what = 4, 4, what
        self.weight = torch.nn.Parameter(torch.eye(4))

    def stages(self) -> dict[str, torch.nn.Module]:
        return {"all": self}

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        weight = self.weight
        if self.what == "write":
            weight.mul_(2)
        elif self.what == "branch" and weight.sum() > 4:
            weight = -weight
        elif self.what == "elsewhere":
            weight = weight.T.softmax(0).flip(1) + latent.sum()  # no rule: each sample's own whole weight
        return (latent @ weight)[:, None, None, :].expand(-1, 3, 4, -1)


@pytest.mark.parametrize(("what", "message"), [("write", "mul_ would write"), ("branch", "only one")])
def test_what_cannot_be_right_is_an_error_and_never_a_number(what: str, message: str) -> None:
    nets = [Greedy(what), Greedy(what)]
    for k, net in enumerate(nets):
        SHARINGS["full"]().apply(net)
        with torch.no_grad():
            net.weight.mul_(1 + k)
    domains = Domains(Greedy(what), [delta_of(net) for net in nets])
    with pytest.raises(RuntimeError, match=message):
        domains(torch.randn(2, 4), torch.tensor([0, 1]))


def test_a_function_without_a_rule_sees_each_samples_own_weight() -> None:
    nets = [Greedy("elsewhere"), Greedy("elsewhere")]
    for k, net in enumerate(nets):
        SHARINGS["full"]().apply(net)
        with torch.no_grad():
            net.weight.mul_(1 + k)
    latent, domain = torch.randn(3, 4), torch.tensor([1, 0, 1])
    images = Domains(Greedy("elsewhere"), [delta_of(net) for net in nets])(latent, domain)
    assert torch.allclose(images, one_by_one(nets, latent, domain, None), atol=1e-6)


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (torch.tensor([0, 2]), "outside of 0 to 1"),
        (torch.tensor([0, -1]), "outside of 0 to 1"),
        (torch.tensor([0]), "one integer for each of the 2 latents"),
        (torch.tensor([0.0, 1.0]), "one integer"),
    ],
)
def test_a_domain_that_is_not_there_is_refused(domain: Tensor, message: str) -> None:
    delta = delta_of(learned("dcgan", WidthWise(0.5), 1, torch.float32))
    domains = Domains(build("dcgan"), [delta, delta])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        domains(torch.randn(2, 12), domain)


def test_a_base_that_cannot_serve_is_refused() -> None:
    delta = delta_of(learned("dcgan", WidthWise(0.5), 1, torch.float32))
    with pytest.raises(UserError, match="no delta"):
        Domains(build("dcgan"), [])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="not by a DCGANDiscriminator"):
        Domains(DCGANDiscriminator(32, base_channels=4), [delta])  # type: ignore[arg-type]
    other: Any = NETWORKS["dcgan"]()
    with torch.no_grad():
        other.to_rgb.weight.add_(1)
    with pytest.raises(UserError, match="another base"):
        Domains(other, [delta])

"""Generators as graphs that run without gansharing: ONNX files and archives of torch.export.

A graph is run before it is written: its images must be the network's.
"""

import io
import json
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gansharing.checkpoints.networks import HEADER
from gansharing.errors import UserError
from gansharing.files import write_atomically
from gansharing.latent import still
from gansharing.networks import Generator, Network
from gansharing.networks.seeded import seeded_latents
from gansharing.sharing import build_shared, merged
from gansharing.slimmable import SlimmableGenerator, extract
from gansharing.tools.render import Look, options_of

GraphLayout = Literal["onnx", "torch-export"]
FixedNoise = Literal["const", "none"]
OPSET = 18  # of ONNX: what torch's exporter writes without a conversion, and runtimes read since 2023
TOLERANCE = 1e-4  # largest difference of a pixel, of images in [-1, 1]
_ROUNDING = 4.0  # times the network's own distance from float64
_TRACED, _CHECKED = 2, 3  # images at once: the graph must not have learned the first number by heart
Inputs = tuple[Tensor, ...]
Run = Callable[[Inputs], Tensor]
Make = Callable[[nn.Module, Inputs, dict[str, Any], str], tuple[bytes, Run]]


class Deployed(nn.Module):
    """What a graph is made of: the network with every choice taken, so that an image depends on inputs alone.

    Args:
        network: Whose images, see :func:`folded`.
        choices: Keyword arguments of its forward.
    """

    def __init__(self, network: Generator, choices: dict[str, Any]) -> None:
        super().__init__()
        self.network, self.choices = network, choices

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images ``(N, 3, H, W)`` of latents ``(N, latent_dim)`` and, with classes, labels ``(N,)``."""
        return self.network(latent, labels, **self.choices)


def folded(network: Generator) -> Generator:
    """A copy that computes the same with plain weights.

    What sharings and parametrisations such as spectral norm compute in eval mode becomes the weight itself.
    The copy is in eval mode, without gradients; its ``config`` describes what it was folded from.
    """
    plain = merged(network)
    # Built anew: torch undoes a parametrisation on the class, which copies share with the original.
    twin = build_shared(plain.config)
    twin.load_state_dict(plain.state_dict())
    twin.eval().requires_grad_(False)
    for module in list(twin.modules()):
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)
    assert isinstance(twin, Generator)
    return twin


def write_graph(
    network: Network, out: str, layout: GraphLayout, noise: FixedNoise | None = None, source: str = ""
) -> list[str]:
    """Write a generator as a graph for any number of images, after a look at what it computes.

    Inputs are ``latent`` ``(batch, latent_dim)`` and, with classes, ``labels`` ``(batch,)``, int64; the
    output is ``images`` ``(batch, 3, H, W)``. The file says what it holds, see :func:`described`. A slimmable
    network is written at its full width.

    Args:
        network: A generator on the CPU in eval mode.
        out: Target file, written atomically.
        layout: ``onnx``, or ``torch-export`` for an archive that ``torch.export.load`` reads.
        noise: Which noise maps the images have, for networks with noise; ``const``, their own, by default.
        source: Where the network comes from.

    Returns:
        Notes for the user: where the file computes something else than the network by its own choice, and on
        rounding.

    Raises:
        UserError: It is no generator, has no noise to choose or cannot be written as a graph; the graph's
            images are not the network's, see :func:`compare`; a package of ``gansharing[deploy]`` is missing.
    """
    make = _MAKERS[layout]()
    if isinstance(network, SlimmableGenerator):
        network = extract(network, 1.0)
    if not isinstance(network, Generator):
        raise UserError(f"{layout} files hold generators; write this {type(network).__name__} as safetensors")
    choices = still(network) | options_of(network, Look(noise=noise))
    about = json.dumps(described(network, choices, source))
    with torch.no_grad(), _quiet():
        inputs = _inputs(network, _TRACED)
        shapes = {name: {0: torch.export.Dim("batch")} for name in ("latent", "labels")[: len(inputs)]}
        module = Deployed(folded(network), choices)
        payload, run = make(module, inputs, shapes, about)
        latents, *labels = _inputs(network, _CHECKED)
        found, expected = run((latents, *labels)), network(latents, *labels, **choices)
        notes = compare(found, expected, lambda: module.double()(latents.double(), *labels), layout)
    write_atomically(out, lambda file: file.write(payload))
    own = network.config["init_args"]
    other = {key: value for key, value in choices.items() if own.get(key, value) != value}
    return notes + [f"the network's own {key} is {own[key]}; the file has {other[key]}" for key in other]


def described(network: Generator, choices: dict[str, Any], source: str) -> dict[str, Any]:
    """What a file says of itself.

    ``network`` (class and constructor arguments), ``latent_dim``, ``resolution``, ``num_classes``,
    ``value_range`` of the images, ``choices`` (noise, statistics), ``origin``.
    """
    return {
        "version": 1,
        "part": "generator",
        "network": network.config,
        "latent_dim": network.latent_dim,
        "resolution": network.resolution,
        "num_classes": network.classes,
        "value_range": [-1, 1],
        "choices": choices,
        "origin": {"source": source},
    }


def _inputs(network: Generator, count: int) -> tuple[Tensor, ...]:
    latents, classes = seeded_latents(network, range(count)), network.classes
    return (latents, torch.arange(count).flip(0) % classes) if classes else (latents,)


def compare(found: Tensor, expected: Tensor, exact: Callable[[], Tensor], layout: str) -> list[str]:
    """See that a graph's images are the network's.

    Each pixel may differ by 1e-4, times the largest where images have no bound. Some networks are less exact
    themselves, as SmallHead is with its gain of 1000: their graphs may err four times as much as they do.

    Args:
        found: Images of the graph.
        expected: Images of the network.
        exact: Gives the network's images in float64.
        layout: What the graph is called in messages.

    Returns:
        A note where 1e-4 was not kept.

    Raises:
        UserError: The images are others.
    """
    apart = float((found - expected).abs().max()) if found.shape == expected.shape else math.inf
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    if apart <= allowed:
        return []
    truth = exact()
    rounding = float((expected - truth).abs().max())
    if apart < math.inf and float((found - truth).abs().max()) <= _ROUNDING * rounding:
        return [
            f"the graph's images differ from the network's by up to {apart:.1e}, which are rounding errors"
        ]
    raise UserError(
        f"the {layout} graph's images differ from the network's by {apart:.1e}, more than {allowed:.1e}; "
        "nothing was written: deploy the safetensors file instead"
    )


def _archive_maker() -> Make:
    def make(module: nn.Module, inputs: Inputs, shapes: dict[str, Any], about: str) -> tuple[bytes, Run]:
        with _following("torch.export"):
            program = torch.export.export(module, inputs, dynamic_shapes=shapes)
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={f"{HEADER}.json": about})
        payload = buffer.getvalue()
        again = torch.export.load(io.BytesIO(payload)).module()
        return payload, lambda given: again(*given)

    return make


def _onnx_maker() -> Make:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter imports it, much later)
    except ImportError as error:
        raise UserError(
            f'ONNX needs the package {error.name}: pip install "gansharing[deploy]", or --format torch-export'
        ) from None

    def make(module: nn.Module, inputs: Inputs, shapes: dict[str, Any], about: str) -> tuple[bytes, Run]:
        with _following("torch.onnx"):
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                dynamic_shapes=shapes,
                opset_version=OPSET,
                output_names=["images"],
                verbose=False,
            )
        assert program is not None
        model = program.model_proto
        onnx.helper.set_model_props(model, {HEADER: about})
        onnx.checker.check_model(model)
        payload = model.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])

        def run(given: Inputs) -> Tensor:
            named = {
                slot.name: tensor.numpy() for slot, tensor in zip(session.get_inputs(), given, strict=True)
            }
            return torch.from_numpy(session.run(["images"], named)[0])

        return payload, run

    return make


_MAKERS = {"onnx": _onnx_maker, "torch-export": _archive_maker}


@contextmanager
def _following(tracer: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever it meets in a network that is not ours
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{tracer} cannot make a graph of this network: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither torch's own use of what it deprecates nor its exporter's advice to its developers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

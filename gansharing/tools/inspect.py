"""What a network is made of."""

from contextlib import chdir
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import gansharing.augment
import gansharing.objectives
import gansharing.sharing  # noqa: F401  (makes short class names known)
from gansharing.checkpoints import find_checkpoint, load
from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.setups import GenerativeSetup
from gansharing.sharing import Sharing, described, merged, split_of
from gansharing.slimmable import SlimmableGenerator
from gansharing.tools.widths import width_table
from gansharing.usage import ToolParser, check_config_files, root_cause


def inspect(
    source: str, over: str | None = None, sharing: Sharing | None = None, latency: bool = False
) -> None:
    """Print parameters per stage of the networks in a configuration, a checkpoint or a safetensors file.

    Of a divided network, which parameters the domain owns (θ_D, trained) and which are shared (θ_S, frozen in
    a transfer), the learn ratio and the size of a delta. Of a slimmable generator, what each width costs.

    Args:
        source: A checkpoint, a safetensors file, a run's folder or a YAML configuration.
        over: A YAML configuration to lay over the first.
        sharing: Divide the generator so before counting: --sharing WidthWise --sharing.learn_ratio 0.1.
        latency: Of a slimmable generator, measure what an image takes at each width on this machine.
    """
    console = Console()
    networks = _networks([source] if over is None else [source, over])
    if sharing is not None:
        networks = {"generator": merged(networks["generator"])}
        sharing.apply(networks["generator"])
    if latency and not any(isinstance(network, SlimmableGenerator) for network in networks.values()):
        raise UserError(f"{source} holds no slimmable generator, so no widths to time; leave --latency out")
    for name, network in networks.items():
        console.print(stage_table(name, network))
        if "sharing" in network.config:
            console.print(_summary(network), markup=False)
        if isinstance(network, SlimmableGenerator):
            console.print(width_table(name, network, latency))


def stage_table(name: str, network: Network) -> Table:
    """A table of the stages of ``network``: parameters, whose they are or whether they train, buffers."""
    split, divided = split_of(network), "sharing" in network.config
    own = {id(parameter) for parameter in split.domain.values()}
    table = Table(title=f"{name}: {type(network).__name__}", title_justify="left")
    table.add_column("stage")
    for column in ("parameters", *(("θ_D", "θ_S") if divided else ("trainable",)), "buffers"):
        table.add_column(column, justify="right")
    stages: list[tuple[str, list[nn.Parameter], list[Tensor]]] = [
        (stage, list(module.parameters()), list(module.buffers()))
        for stage, module in network.stages().items()
    ]
    counted = {id(parameter) for _, parameters, _ in stages for parameter in parameters}
    added = [parameter for parameter in network.parameters() if id(parameter) not in counted]
    if added:  # a module that the sharing put before the first stage
        stages.insert(0, ("added", added, []))
    stages.append(("total", list(network.parameters()), list(network.buffers())))
    for stage, parameters, buffers in stages:
        domain = sum(p.numel() for p in parameters if id(p) in own)
        total = sum(p.numel() for p in parameters)
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        columns = [total, domain, total - domain] if divided else [total, trained]
        columns.append(sum(buffer.numel() for buffer in buffers))
        table.add_row(stage, *(f"{number:,}" for number in columns), end_section=stage == stages[-2][0])
    return table


def _summary(network: Network) -> str:
    split, sharing = split_of(network), network.config["sharing"]
    target = sharing["init_args"].get("learn_ratio")
    return (
        f"{described(sharing)}: λ_D {split.learn_ratio:.4%}"
        + (f" (target {target:.4%})" if target is not None else "")
        + f", θ_D {split.domain_size:,}, θ_S {split.shared_size:,} (frozen in a transfer), "
        f"delta {split.delta_bytes:,} bytes"
    )


def _networks(source: list[str]) -> dict[str, Network]:
    if all(Path(path).suffix in (".yaml", ".yml") for path in source):
        setup = setup_from_yaml(source)
        return {name: net for name, net in setup.networks().items() if isinstance(net, Network)}
    path = find_checkpoint(source[0])
    found: dict[str, Network] = {}
    for part in ("generator", "discriminator"):
        try:
            found[part] = load(path, part, divided=True).requires_grad_(True)
        except UserError:
            continue
    return found or {"generator": load(path, divided=True)}


def setup_from_yaml(paths: list[str]) -> GenerativeSetup:
    """Build the model section of configuration files, the later laid over the earlier.

    Raises:
        UserError: A file is missing, no YAML, or has no valid model section.
    """
    parser = ToolParser()
    parser.add_subclass_arguments(GenerativeSetup, "model")
    config = None
    check_config_files([f"--config={path}" for path in paths])
    for path in paths:
        content = yaml.safe_load(Path(path).read_text())
        if "model" not in content:
            raise UserError(f"{path} has no model section")
        try:
            with chdir(Path(path).parent):
                config = parser.parse_object(
                    {"model": content["model"]}, cfg_base=config, defaults=config is None
                )
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    try:
        return parser.instantiate(config).model
    except (UserError, ValueError, TypeError) as error:
        raise UserError(f"{' and '.join(paths)}: {root_cause(error)}") from error

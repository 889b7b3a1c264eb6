"""What a network is made of."""

from contextlib import chdir
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

import gansharing.augment
import gansharing.objectives  # noqa: F401  (makes short class names known)
from gansharing.checkpoints import find_checkpoint, load
from gansharing.errors import UserError
from gansharing.networks import Network
from gansharing.setups import GenerativeSetup
from gansharing.usage import ToolParser, check_config_files, root_cause


def inspect(source: str, over: str | None = None) -> None:
    """Print parameters per stage of the networks in a configuration, a checkpoint or a safetensors file.

    Args:
        source: A checkpoint, a safetensors file, a run's folder or a YAML configuration.
        over: A YAML configuration to lay over the first.
    """
    console = Console()
    for name, network in _networks([source] if over is None else [source, over]).items():
        console.print(stage_table(name, network))


def stage_table(name: str, network: Network) -> Table:
    """A table of the stages of ``network`` with their parameters, buffers and total."""
    table = Table(title=f"{name}: {type(network).__name__}", title_justify="left")
    for column, side in (
        ("stage", "left"),
        ("parameters", "right"),
        ("trainable", "right"),
        ("buffers", "right"),
    ):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    stages: list[tuple[str, Any]] = [*network.stages().items(), ("total", network)]
    for stage, module in stages:
        parameters = list(module.parameters())
        numbers = (
            sum(p.numel() for p in parameters),
            sum(p.numel() for p in parameters if p.requires_grad),
            sum(b.numel() for b in module.buffers()),
        )
        table.add_row(stage, *(f"{number:,}" for number in numbers), end_section=stage == stages[-2][0])
    return table


def _networks(source: list[str]) -> dict[str, Network]:
    if all(Path(path).suffix in (".yaml", ".yml") for path in source):
        setup = setup_from_yaml(source)
        return {name: net for name, net in setup.networks().items() if isinstance(net, Network)}
    path = find_checkpoint(source[0])
    found: dict[str, Network] = {}
    for part in ("generator", "discriminator"):
        try:
            found[part] = load(path, part).requires_grad_(True)
        except UserError:
            continue
    return found or {"generator": load(path)}


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

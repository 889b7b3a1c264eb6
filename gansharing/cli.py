"""The program: ``gansharing fit|validate|test|predict`` and the tools beside it."""

import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.strategies import StrategyRegistry

import gansharing.augment
import gansharing.data
import gansharing.networks
import gansharing.objectives
import gansharing.sharing  # noqa: F401  (imported modules make their classes' short names known)
from gansharing import callbacks as cb
from gansharing import usage
from gansharing.callbacks.config import RunConfig
from gansharing.checkpoints import AtomicCheckpointIO, read_checkpoint
from gansharing.distributed import ExplicitDDP, naming_a_lost_process
from gansharing.errors import UserError
from gansharing.outside import import_named, modules_here, require_imported
from gansharing.rundir import choose_run_dir, forget_run_dir, resolve_checkpoint
from gansharing.setups import GenerativeSetup
from gansharing.tools import TOOLS, run_tool

_DEFAULTS = Path(__file__).parent / "defaults.yaml"
_VERBS = ("fit", "validate", "test", "predict")
# Always there, each with its own section in the configuration; trainer.callbacks adds to them. The order
# matters: the average is swapped in before images are generated, and checkpoints see everything.
_CALLBACKS = {
    "ema": cb.GeneratorEMA,
    "scores": cb.Scores,
    "diversity": cb.Diversity,
    "grids": cb.Grids,
    "predictions": cb.Predictions,
    "throughput": cb.Throughput,
    "progress": cb.Progress,
    "best": cb.BestCheckpoint,
    "report": cb.Report,
    "resume": cb.Resumable,
}

_WITHOUT_OPTIONS = [key for key, callback in _CALLBACKS.items() if not inspect.signature(callback).parameters]


class Parser(usage.OneLineErrors, LightningArgumentParser):  # type: ignore[misc]
    """Lightning's parser, with errors of one line that name the nearest right word."""


class CLI(LightningCLI):
    """LightningCLI in subclass mode, with the run's folder, loggers and callbacks in place."""

    def __init__(self, verb: str, **kwargs: Any) -> None:
        self._verb = verb
        super().__init__(**kwargs)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The verb that was called: making the parsers of the other three takes longer than all the rest."""
        return {self._verb: LightningCLI.subcommands()[self._verb]}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser for which a shortened option is an error, not a guess."""
        return super().init_parser(allow_abbrev=False, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One section per standing callback."""
        for key, callback in _CALLBACKS.items():
            parser.add_lightning_class_args(callback, key)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; where a checkpoint is evaluated without a configuration, use the one it carries."""
        given = list(sys.argv[1:] if args is None else args)
        usage.check_config_files(given)
        try:
            self.config = parser.parse_args(usage.with_config_of_checkpoint(given, _carried_config))
        except UserError as error:
            raise UserError(f"{error}{usage.file_of_key(given, str(error))}") from error
        _check_sections(self.config[self.config.subcommand])

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration alone: what a checkpoint holds never beats what the user wrote."""

    def before_instantiate_classes(self) -> None:
        """Choose the run's folder, and the checkpoint to start from.

        Neither enters the configuration that the run keeps: laid before ``--config``, that begins a new run.
        """
        config = self.config[self.subcommand]
        given, root = config.get("ckpt_path"), config.trainer.default_root_dir
        if self.subcommand == "fit":
            self._run = choose_run_dir(root, _run_name(config), given)
            # A run that was killed before its first checkpoint continues from nothing.
            fresh = given == "last" and not (self._run / "checkpoints" / "last.ckpt").exists()
            self._start = None if fresh else resolve_checkpoint(given, str(self._run))
            config.ckpt_path = None if given in ("last", "best") else given
        else:
            self._start = resolve_checkpoint(given, root)
            self._run = Path(root or _run_of(self._start))
        if config.trainer.enable_progress_bar is False:  # Lightning refuses a bar in the list then
            parser = self._parser(self.subcommand)
            parser.callback_keys = [key for key in parser.callback_keys if key != "progress"]

    def instantiate_classes(self) -> None:
        """Build data, model, callbacks and trainer; what a constructor refuses is the user's to mend."""
        try:
            super().instantiate_classes()
            self.config_init[self.subcommand].ckpt_path = self._start
        except (UserError, ValueError, TypeError, MisconfigurationException) as error:
            raise UserError(str(usage.root_cause(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """In the run's folder, with every checkpoint written atomically, whatever writes it."""
        trainer = self._get(self.config_init, "trainer")
        plugins = trainer.get("plugins") or []
        plugins = list(plugins) if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(AtomicCheckpointIO())
        if _by_srun() and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
            plugins.append(SLURMEnvironment(auto_requeue=False))  # Resumable and the batch script see to that
        kwargs |= {"plugins": plugins, "default_root_dir": str(self._run)}
        if trainer.logger in (None, True):
            kwargs["logger"] = _loggers(self._run) if self.subcommand == "fit" else False
        elif trainer.logger and self.subcommand == "fit":
            given = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
            kept = [] if any(isinstance(logger, CSVLogger) for logger in given) else _loggers(self._run)[:1]
            kwargs["logger"] = [*given, *kept]  # the run's own curves are drawn from its CSV
        return super().instantiate_trainer(**kwargs)


def _by_srun() -> bool:
    # torchrun inside a job is torchrun's; without the variable, looking for SLURM warns.
    known = "SLURM_NTASKS" in os.environ and not TorchElasticEnvironment.detect()
    return known and SLURMEnvironment.detect()


def _check_sections(config: Namespace) -> None:
    for key in ("trainer", "model", "data", *_CALLBACKS):
        if not isinstance(config.get(key), Namespace) and key not in _WITHOUT_OPTIONS:
            raise UserError(f"'{key}' is {config.get(key)!r}; it is a section of options (--print_config)")
    seed = config.get("seed_everything")
    if not isinstance(seed, bool) and not 0 <= (seed or 0) < 2**32:
        raise UserError(f"seed_everything is {seed}; give 0 to {2**32 - 1}, or false for no seed")


def _carried_config(path: str) -> dict[str, Any]:
    text = read_checkpoint(path).get("config")
    if not isinstance(text, str):
        raise UserError(f"{path} carries no configuration; add --config")
    config: dict[str, Any] = yaml.safe_load(text)
    require_imported({key: config.get(key) for key in usage.CARRIED}, path)
    return config


def _run_name(config: Namespace) -> str:
    files = config.get("config") or []
    if not files:
        return str(config.model.class_path).rpartition(".")[2].lower()
    path = Path(str(files[-1])).absolute()
    # What a run kept of its configuration begins another run of the same name.
    return re.sub(r"-\d{3,}$", "", path.parent.name) if path.name == "config.yaml" else path.stem


def _run_of(ckpt_path: str | None) -> str:
    folder = Path(ckpt_path).resolve().parent if ckpt_path else Path("runs") / "untrained"
    return str(folder.parent if folder.name == "checkpoints" else folder)


def _loggers(run: Path) -> list[Logger]:
    return [
        CSVLogger(run, name="csv"),
        TensorBoardLogger(run, name="tensorboard", version="", default_hp_metric=False),
    ]


class _Chatter(logging.Filter):
    """Drops Lightning's advertisements and notes on defaults that this program has chosen on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return not ("litlogger" in text or text.startswith("`weights_only` was not set"))


def _quieten() -> None:
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.pytorch.trainer.connectors.checkpoint_connector",
    ):
        logging.getLogger(name).addFilter(_Chatter())
    # Lightning 2.6.6 beside torch 2.13; its summary counts bf16-mixed weights as 32 bits, which they are.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    warnings.filterwarnings("ignore", message="Precision .* is not supported by the model summary")
    # Networks that only measure, or that a discriminator looks through, are frozen on purpose.
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
    # A resumed run writes into its own folder, and one that starts from another's checkpoint into a new one.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message="The dirpath has changed from")


def train(args: Sequence[str]) -> None:
    """Run one of LightningCLI's verbs."""
    _quieten()
    # "ddp", which "auto" chooses for several devices, means the strategy that two players can use.
    StrategyRegistry.register(
        "ddp", ExplicitDDP, description="DDP processes, explicit reductions", override=True
    )
    with naming_a_lost_process():
        CLI(
            args[0],
            model_class=GenerativeSetup,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=RunConfig,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=Parser,
            parser_kwargs={args[0]: {"default_config_files": [str(_DEFAULTS)]}},
            args=list(args),
        )


def main(args: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        args: Command line without the program's name; ``sys.argv[1:]`` when omitted.

    Raises:
        SystemExit: Status 0 or, on bad input, 2 with one line on standard error; 128 + n after signal n.
    """
    args = list(sys.argv[1:] if args is None else args)
    try:
        with modules_here():
            _run_command(import_named(args))
    except (UserError, MisconfigurationException) as error:
        if os.environ.get("GANSHARING_TRACEBACK"):
            raise
        print(f"gansharing: error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        forget_run_dir()


def _run_command(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage.OVERVIEW)
    elif args[0] == "--version":
        print(f"gansharing {gansharing.__version__}")
    elif args[0] in _VERBS:
        train(args)
    elif args[0] in TOOLS:
        run_tool(args)
    else:
        raise UserError(usage.unknown_command(args[0], [*_VERBS, *TOOLS]))


if __name__ == "__main__":
    main()

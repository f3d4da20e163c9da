"""The settings of a training run, from the options of train.py, the .data file and the recipe, in this priority."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from utils.config import Config, read_config
from utils.errors import InputError
from utils.training.recipe import DEFAULT, RECIPES, Recipe

EVALUATIONS = 10  # at least this many per run, at most one per epoch; unless eval_interval is given


@dataclass(frozen=True)
class TrainOptions:
    """The options of train.py and their defaults.

    If a value is None, the .data file, the recipe or the device determines it. The options are saved in the checkpoint,
    so that --resume needs no others.
    """

    data: str
    recipe: str = DEFAULT
    weights: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    device: str = "auto"
    workers: int | None = None  # processes that read images; None: as suits the device
    threads: int | None = None  # CPU threads; None: one per core
    seed: int = 0
    cache: str | None = None  # "ram", "disk", "gpu" or "none"; None: "gpu" if there is one with enough free memory
    amp: bool = False
    ema: bool | None = None
    graph: bool = True  # on CUDA, run each step as one CUDA graph
    eval_interval: int | None = None
    patience: int = 0  # epochs without a better AP50 after which the run ends; 0 for no limit
    save_interval: int = 600  # seconds between checkpoints within an epoch
    freeze_backbone: bool = False
    output: str = "runs/train"  # parent folder of the run folder

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainOptions":
        """Create the options from their names and values; those of other versions are ignored."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})


@dataclass(frozen=True)
class Settings:
    """The settings of a run: the options, and the values that also depend on the .data file and the recipe."""

    options: TrainOptions
    config: Config
    recipe_name: str
    recipe: Recipe
    epochs: int
    batch_size: int  # images per optimizer step, over all processes and subdivisions
    learning_rate: float  # after the warm-up
    weights: str | None  # weights file to start from; None: `recipe.start`; "scratch": random weights
    ema: bool
    eval_interval: int  # epochs


def read_settings(options: TrainOptions) -> Settings:
    """Combine the options with the .data file and the recipe.

    Raises:
        InputError: the .data file is wrong, or the batch size is not a multiple of its subdivisions.
    """
    config = read_config(options.data)
    recipe = RECIPES[options.recipe]
    epochs = options.epochs or config.epochs
    batch_size = options.batch_size or config.batch_size
    if batch_size % config.subdivisions:
        raise InputError(
            f"--batch-size {batch_size}: expected a multiple of subdivisions ({config.subdivisions} in {config.path})"
        )
    return Settings(
        options=options,
        config=config,
        recipe_name=options.recipe,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=options.lr or config.learning_rate * recipe.rate_factor,
        weights=options.weights or config.pre_weights,
        ema=recipe.ema if options.ema is None else options.ema,
        eval_interval=options.eval_interval or max(1, epochs // EVALUATIONS),
    )


def describe(settings: Settings) -> dict[str, object]:
    """Return the settings as a flat dict of plain values, for args.json."""
    values = dataclasses.asdict(settings)
    options, config, recipe = (values.pop(name) for name in ("options", "config", "recipe"))
    flat = {**options, **config, **values, **{f"recipe.{key}": value for key, value in recipe.items()}}
    plain = int | float | str | bool | list | tuple | None
    return {
        key: value if isinstance(value, plain) else str(value)
        for key, value in flat.items()
        if key not in ("class_names", "conf", "data", "lr", "recipe")
    }

"""What is in force in a training run: the .data file, the command line over it, and the recipe."""

import dataclasses
from dataclasses import dataclass

from utils.config import Config, read_config
from utils.dataset.shapes import prepare
from utils.errors import InputError
from utils.training.recipe import RECIPES, Recipe

EVALUATIONS = 10  # a run has at least so many, unless --eval-interval says otherwise


@dataclass(frozen=True)
class Settings:
    config: Config
    recipe_name: str
    recipe: Recipe
    epochs: int
    batch_size: int  # images an optimiser step, over all processes and subdivisions
    subdivisions: int
    learning_rate: float  # after the warm-up
    weights: str | None  # to start from; None: the ImageNet backbone; "scratch": random
    device: str
    workers: int
    seed: int
    cache: str | None
    amp: bool
    ema: bool
    compile: bool
    eval_interval: int
    patience: int  # epochs without a better AP50 before the run ends; 0: never
    save_interval: int  # seconds after which a long epoch is saved in between
    freeze_backbone: bool
    output: str


def read_settings(options):
    """Settings from train.py's options; what they leave open comes from the .data file and the recipe.

    Raises:
        InputError: as `read_config`, or values that do not go together.
    """
    config = prepare(read_config(options.data))
    recipe = RECIPES[options.recipe]
    epochs = options.epochs or config.epochs
    batch_size = options.batch_size or config.batch_size
    if batch_size % config.subdivisions:
        raise InputError(
            f"--batch-size {batch_size}: expected a multiple of subdivisions ({config.subdivisions} in {config.path})"
        )
    return Settings(
        config=config,
        recipe_name=options.recipe,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        subdivisions=config.subdivisions,
        learning_rate=options.lr or config.learning_rate * recipe.rate_factor,
        weights=options.weights or config.pre_weights,
        device=options.device,
        workers=options.workers,
        seed=options.seed,
        cache=options.cache,
        amp=options.amp,
        ema=recipe.ema if options.ema is None else options.ema,
        compile=options.compile,
        eval_interval=options.eval_interval or max(1, epochs // EVALUATIONS),
        patience=options.patience,
        save_interval=options.save_interval,
        freeze_backbone=options.freeze_backbone,
        output=options.output,
    )


def describe(settings):
    """The settings as plain values by name, for a file or a screen."""
    values = dataclasses.asdict(settings)
    config = values.pop("config")
    recipe = values.pop("recipe")
    flat = {**config, **values, **{f"recipe.{key}": value for key, value in recipe.items()}}
    return {key: _plain(value) for key, value in flat.items() if key != "class_names"}


def _plain(value):
    return value if isinstance(value, int | float | str | bool | list | tuple | None) else str(value)

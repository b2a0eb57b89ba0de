"""`finetune --help` tells the default of each setting, and it is the recipe's."""

import inspect
from typing import Any, get_args

import pytest
from command_line import CommandLine

from visionkit.cli.finetune import finetune
from visionkit.config import Config

# What stands for a default that is no single value, or none at all.
IN_WORDS = {
    "data": "the dataset in this folder, or else sample",
    "freeze": "none",
    "strategy": "none, --freeze and rates alone decide",
    "lr_backbone": "that of all others",
    "amp": "amp",
    "tensorboard": "no-tensorboard",
    "threads": "torch's choice",
    "workers": "cores - 1, at most 8",
    "out": "a new one under runs",
}


def shown_defaults() -> dict[str, str]:
    """By parameter, what the help shows as its default."""
    shown = {}
    hints = inspect.get_annotations(finetune, eval_str=True)
    for name, hint in hints.items():
        options = [option for option in get_args(hint)[1:] if isinstance(getattr(option, "show_default", None), str)]
        if options:
            shown[name] = options[0].show_default
    return shown


SHOWN = shown_defaults()


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_a_default_that_is_shown_is_the_recipes(name: str) -> None:
    if name in IN_WORDS:
        assert SHOWN[name] == IN_WORDS[name]
        return
    config = Config()
    value: Any = getattr(config, name) if name in Config.model_fields else getattr(config.train, name)
    assert SHOWN[name].split(",")[0] == str(value)


def test_what_is_said_in_words_is_so() -> None:
    config = Config()
    assert (config.freeze, config.strategy, config.train.lr_backbone) == ((), "none", None)
    assert (config.train.amp, config.tensorboard, config.threads, config.workers) == (True, False, 0, None)


def test_settings_of_a_run_all_show_one() -> None:
    without = {"unfreeze", "keep_classes", "guard", "force", "minutes", "waive", "skip_bad", "offline"}
    named = {*Config.model_fields, *type(Config().train).model_fields} & set(inspect.signature(finetune).parameters)
    assert named - set(SHOWN) <= without


def test_the_help_prints_them(command_line: CommandLine) -> None:
    finished = command_line("finetune", "--help", COLUMNS="200")
    assert finished.code == 0
    assert "[default: (100)]" in finished.stdout
    assert "[default: (muon)]" in finished.stdout

"""What the user said, and where: values from several sources, later ones winning over earlier ones, become one recipe.

The sources are, in this order: default, `--config FILE`, `--set KEY=VALUE`, flag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import ValidationError

from visionkit.config import Config
from visionkit.data.augment import AugmentSettings
from visionkit.data.augment_values import DEFAULT_BASE, settings_of, values_of
from visionkit.engine.settings import TrainSettings
from visionkit.errors import ConfigError
from visionkit.formats.yaml_file import StrictLoader, yaml_problem

Origin = Literal["default", "file", "set", "flag", "auto"]


class Choices:
    """Values by dotted key, each with its origin; collects what the user said before it is validated at once."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[Any, Origin]] = {}

    def say(self, values: Mapping[str, Any], origin: Origin) -> None:
        """Take values in by dotted key, or nested; a later one wins.

        `augment`, or `augment.base`, names a preset and so stands for all values of augmentation: those said before are
        gone. `augment.KEY` changes one of them.
        """
        flat = flatten(values)
        if "augment" in flat or "augment.base" in flat:
            named = flat.pop("augment", None)
            flat = {"augment": flat.pop("augment.base", named), **flat}
            self._said = {key: said for key, said in self._said.items() if not key.startswith("augment.")}
        for key, value in flat.items():
            self._said[key] = (value, origin)

    def origin(self, key: str) -> Origin:
        if key in self._said:
            return self._said[key][1]
        if key.startswith("augment."):
            return self.origin("augment")
        # Of a value that holds several by name, such as `train.loss_weights`, the latest of theirs.
        parts = [origin for name, (_, origin) in self._said.items() if name.startswith(f"{key}.")]
        return max(parts, key=get_args(Origin).index) if parts and key != "augment" else "default"

    def config(self) -> Config:
        """The validated configuration.

        Raises:
            ConfigError: unknown keys, wrong types, values out of bounds; all of them in one line.
        """
        nested: dict[str, Any] = {}
        said = {key: value for key, (value, _) in self._said.items()}
        changes = [key for key in said if key.startswith("augment.")]
        if changes:
            base = {"base": said.pop("augment")} if "augment" in said else {}
            nested["augment"] = base | {key.removeprefix("augment."): said.pop(key) for key in changes}
        for key, value in said.items():
            *parents, name = key.split(".")
            place = nested
            for parent in parents:
                place = place.setdefault(parent, {})
                if not isinstance(place, dict):
                    raise ConfigError(f"{key!r} is not a setting: {parent!r} is a value, not a group")
            place[name] = value
        try:
            return Config.model_validate(nested)
        except ValidationError as error:
            raise ConfigError("; ".join(_problems(error))) from None


def _problems(error: ValidationError) -> list[str]:
    """Each problem in words: wrong values first, then all unknown keys together."""
    problems, unknown = [], []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            unknown.append(key)
        elif problem["type"] == "augment_value":
            problems.append(problem["msg"])
        else:
            problems.append(f"{key} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}")
    if unknown:
        are = "is not a setting" if len(unknown) == 1 else "are not settings"
        problems.append(f"{', '.join(unknown)} {are}; the settings are {', '.join(setting_names())}")
    return problems


def setting_names() -> list[str]:
    """All settings by dotted key."""
    names: list[str] = []
    for name, info in Config.model_fields.items():
        if info.annotation is TrainSettings:
            names += [f"{name}.{inner}" for inner in TrainSettings.model_fields]
        else:
            names.append(name)
    return names


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"train": {"lr": 1}}` -> `{"train.lr": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_config_file(path: Path) -> dict[str, Any]:
    """The values of a YAML file by dotted key.

    Raises:
        ConfigError: missing, not YAML, a key twice, or not a mapping.
    """
    return _read_yaml("config file", path)


def read_augment(given: str | Path | Mapping[str, Any] | AugmentSettings) -> dict[str, Any]:
    """What `--augment` is given, by dotted key: a preset's name, a YAML file of settings, or, from Python, settings.

    A file or a mapping names any of the settings, and as `base` the preset it changes, `heavy` where it names none.

    Raises:
        ConfigError: the file cannot be read, or what it holds is not settings of augmentation.
    """
    if isinstance(given, AugmentSettings):
        values = values_of(given)
    elif isinstance(given, Mapping):
        values = dict(given)
    elif isinstance(given, Path) or Path(given).suffix.lower() in (".yaml", ".yml"):
        values = _read_yaml("augment file", Path(given))
        try:
            settings_of(values)
        except ConfigError as error:
            raise ConfigError(f"augment file {given}: {error}") from None
    else:
        return {"augment": given}
    return {"augment.base": DEFAULT_BASE} | {f"augment.{name}": value for name, value in values.items()}


def _read_yaml(what: str, path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read ({error.strerror}); give an existing YAML file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{what} {path} is not text in UTF-8; give a YAML file") from None
    try:
        content = yaml.load(text, Loader=StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} {path} is not valid YAML{yaml_problem(error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{what} {path} must hold settings as 'key: value', got a {type(content).__name__}")
    return flatten(content)


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """`["train.lr=1e-3"]` -> `{"train.lr": "1e-3"}`; values are YAML, typed by the setting they go to.

    Raises:
        ConfigError: no `=`, or a value that is not YAML.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set takes KEY=VALUE, got {assignment!r}; for example --set train.lr=0.002")
        try:
            values[key.strip()] = yaml.load(text, Loader=StrictLoader)
        except yaml.YAMLError:
            raise ConfigError(f"--set {assignment!r}: the value is not valid YAML; quote it") from None
    return values


def describe(config: Config, choices: Choices) -> str:
    """The configuration as YAML that `--config` reads, each value with its origin behind it."""
    lines: list[str] = []
    values = config.model_dump(mode="json")
    for key, value in values.items():
        if isinstance(value, dict):
            lines.append(f"{key}:")
            lines += _described(value, f"{key}.", choices, indent="  ")
    lines = _described({k: v for k, v in values.items() if not isinstance(v, dict)}, "", choices) + lines
    return "\n".join(lines) + "\n"


def _described(values: Mapping[str, Any], prefix: str, choices: Choices, indent: str = "") -> list[str]:
    rows = [(f"{indent}{key}: {_yaml_value(value)}", choices.origin(prefix + key)) for key, value in values.items()]
    # The blank is YAML's: without one before it, a # is part of the value.
    return [f"{row:<39} # {origin}" for row, origin in rows]


def _yaml_value(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    if yaml.safe_load(text) != value:  # PyYAML folds the rare line break U+0085; escaped it comes back
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")

"""Recipes: what is taken, what is refused and in which words, and where each value came from."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from visionkit.backbones.names import BACKBONE_CHOICES
from visionkit.choices import (
    Choices,
    Origin,
    describe,
    flatten,
    parse_assignments,
    read_augment,
    read_config_file,
    setting_names,
)
from visionkit.config import Config, ModelName, Recipe
from visionkit.data.augment import PRESETS, AugmentSettings
from visionkit.errors import ConfigError

MODEL_CHOICES = ", ".join(f"'{name}'" for name in get_args(ModelName)[:-1]) + f" or '{get_args(ModelName)[-1]}'"


def config_of(values: dict[str, Any], origin: Origin = "flag") -> Config:
    choices = Choices()
    choices.say(values, origin)
    return choices.config()


def problem_of(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        config_of(values)
    assert "\n" not in str(error.value)
    return str(error.value)


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# Values and origins ---------------------------------------------------------------------------------------------------


def test_nothing_said_gives_the_defaults() -> None:
    assert Choices().config() == Config()


def test_later_sources_win_and_each_value_knows_its_own() -> None:
    choices = Choices()
    choices.say({"train": {"epochs": 5, "lr": 0.1}, "imgsz": 640}, "file")
    choices.say({"train.lr": 0.2, "train.batch": 4}, "set")
    choices.say({"train.batch": 8}, "flag")
    config = choices.config()
    assert (config.train.epochs, config.train.lr, config.train.batch, config.imgsz) == (5, 0.2, 8, 640)
    keys = ("train.epochs", "train.lr", "train.batch", "imgsz", "train.seed")
    assert [choices.origin(key) for key in keys] == ["file", "set", "flag", "file", "default"]


def test_a_group_given_whole_replaces_only_what_it_names() -> None:
    choices = Choices()
    choices.say({"train.epochs": 5}, "file")
    choices.say(parse_assignments(["train={lr: 0.2}"]), "set")
    assert choices.config().train.epochs == 5
    assert choices.config().train.lr == 0.2
    assert choices.origin("train.lr") == "set"


def test_weights_of_losses_are_said_by_name_or_together_and_come_back(tmp_path: Path) -> None:
    choices = Choices()
    choices.say({"train": {"loss_weights": {"box": 5, "class": 0.5}}}, "file")
    choices.say(parse_assignments(["train.loss_weights.box=2"]), "set")
    config = choices.config()
    assert config.train.loss_weights == {"box": 2.0, "class": 0.5}
    text = describe(config, choices)
    assert [line.split() for line in text.splitlines() if "loss_weights" in line] == [
        ["loss_weights:", "{box:", "2.0,", "class:", "0.5}", "#", "set"]
    ]
    assert config_of(read_config_file(written(tmp_path, text))) == config
    assert Choices().origin("train.loss_weights") == "default"
    assert problem_of({"train.loss_weights.box": -1}).startswith("train.loss_weights.box = -1: input should be greater")


@pytest.mark.parametrize("specs", [10, "10", [10], ["10"], ("10",)])
def test_one_freeze_spec_or_a_list_numbers_or_text(specs: Any) -> None:
    assert config_of({"freeze": specs}).freeze == ("10",)


def test_text_that_looks_like_a_number_stays_text() -> None:
    assert config_of(parse_assignments(["data=2017"])).data == "2017"


def test_the_recipe_leaves_out_data_and_machine() -> None:
    config = config_of({"imgsz": 64, "train.lr": 0.5, "device": "cpu", "data": "/my/data", "freeze": "backbone"})
    recipe = config.recipe()
    assert type(recipe) is Recipe
    assert (recipe.imgsz, recipe.train.lr, recipe.freeze) == (64, 0.5, ("backbone",))
    assert set(Recipe.model_fields) == set(recipe.model_dump())
    assert not {"data", "weights", "device", "threads", "workers"} & set(recipe.model_dump())


def test_a_recipe_survives_json() -> None:
    recipe = config_of({"freeze": ["10", "head"], "train.lr": 1 / 3}).recipe()
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_every_setting_is_explained() -> None:
    for record in (Config, Config.model_fields["train"].annotation):
        for name, info in record.model_fields.items():  # type: ignore[union-attr]
            assert info.description or name == "train", name


# Augmentation: a preset's name, or settings on top of one -------------------------------------------------------------


def test_single_values_change_the_preset_that_is_named_or_the_default_one() -> None:
    assert config_of({"augment.mixup": 0.5}).augment == replace(PRESETS["heavy"], mixup=0.5)
    assert config_of({"augment": "light", "augment.mixup": 0.5}).augment == replace(PRESETS["light"], mixup=0.5)
    assert config_of({"augment": {"mixup": 0.5, "base": "none"}}).augment == AugmentSettings(mixup=0.5)
    assert config_of({"augment": "light"}).augment == "light"
    assert config_of({"augment": {}}).augment == "heavy"


def test_a_preset_said_later_takes_the_place_of_all_values_said_before() -> None:
    choices = Choices()
    choices.say({"augment": {"base": "none", "mixup": 0.5}}, "file")
    choices.say({"augment": "light"}, "flag")
    assert choices.config().augment == "light"
    choices.say(parse_assignments(["augment.blur=1"]), "set")
    assert choices.config().augment == replace(PRESETS["light"], blur=1.0)
    # A value that was not said is the preset's, and so is its origin.
    keys = ("augment", "augment.blur", "augment.mixup", "mosaic_until")
    assert [choices.origin(key) for key in keys] == ["flag", "set", "flag", "default"]


def test_a_recipe_holds_settings_whole_and_a_preset_by_name() -> None:
    own = config_of({"augment": {"base": "light", "mixup": 0.5}}).recipe()
    stored = own.model_dump(mode="json")["augment"]
    assert stored == {**stored, "base": "none", "mixup": 0.5, "flip_left_right": 0.5, "mosaic_scale": [0.5, 1.25]}
    assert Recipe.model_validate(own.model_dump(mode="json")) == own
    assert Recipe().model_dump(mode="json")["augment"] == "heavy"
    with pytest.raises(ValidationError, match=r"augment\.glitter is not a setting"):  # of a newer version
        Recipe.model_validate({"augment": {"base": "none", "glitter": 1.0}})
    # Of an older version, which knew fewer settings.
    assert Recipe.model_validate({"augment": {"base": "none", "blur": 1.0}}).augment == AugmentSettings(blur=1)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"augment.mixup": 2}, "augment.mixup must be from 0 to 1, got 2.0; choose a value between"),
        ({"augment.mixup.often": 1}, "augment.mixup.often is not a setting of augmentation; the settings are base, "),
        ({"augment": 5, "augment.blur": 1}, "augment.base must be a preset, got 5; choose one of none, light, heavy"),
        ({"augment": None}, "augment = None: input should be 'none', 'light' or 'heavy', or settings as --augment "),
    ],
)
def test_wrong_augmentation_is_refused(values: dict[str, Any], problem: str) -> None:
    assert problem_of(values).startswith(problem)


def test_an_augment_file_is_read_strictly_and_stands_for_all_values(tmp_path: Path) -> None:
    path = written(tmp_path, "mixup: 1e-1\nmosaic_scale: [0.5, 1]\n")
    choices = Choices()
    choices.say({"augment": {"base": "light", "blur": 1}}, "file")
    choices.say(read_augment(str(path)), "flag")
    assert choices.config().augment == replace(PRESETS["heavy"], mixup=0.1, mosaic_scale=(0.5, 1.0))
    assert read_augment("light") == {"augment": "light"}
    for text, words in (
        ("blur: 1\nblur: 0\n", f"augment file {path} is not valid YAML at line 1: key 'blur' stands twice"),
        ("- blur\n", f"augment file {path} must hold settings as 'key: value', got a list"),
        ("blurr: 1\n", f"augment file {path}: augment.blurr is not a setting of augmentation; the settings are base, "),
        ("blur: 2\n", f"augment file {path}: augment.blur must be from 0 to 1, got 2.0; choose a value between"),
    ):
        with pytest.raises(ConfigError) as error:
            read_augment(written(tmp_path, text))
        assert str(error.value).startswith(words)
    with pytest.raises(ConfigError) as missing:
        read_augment(tmp_path / "no.yaml")
    assert str(missing.value) == (
        f"augment file {tmp_path / 'no.yaml'} cannot be read (No such file or directory); give an existing YAML file"
    )


@given(
    values=st.fixed_dictionaries(
        {"base": st.sampled_from(list(PRESETS))},
        optional={"mixup": st.floats(0, 1), "hue": st.floats(0, 0.5), "mosaic_scale": st.just([0.3, 1.1])},
    )
)
def test_law_a_description_with_settings_is_a_config_file_that_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    choices = Choices()
    choices.say(read_augment(values), "flag")
    config = choices.config()
    path = written(tmp_path_factory.mktemp("config"), describe(config, choices))
    assert config_of(read_config_file(path), "file") == config


def test_a_description_writes_all_settings_with_their_origins() -> None:
    choices = Choices()
    choices.say({"augment": "light"}, "flag")
    choices.say({"augment.mixup": 0.5}, "set")
    lines = [line.split() for line in describe(choices.config(), choices).splitlines()]
    assert ["mixup:", "0.5", "#", "set"] in lines
    assert ["flip_left_right:", "0.5", "#", "flag"] in lines
    assert ["base:", "none", "#", "flag"] in lines


@pytest.mark.parametrize("said", ["cache=off", "cache='off'", "cache: off"])
def test_cache_off_is_off_though_yaml_reads_false(said: str, tmp_path: Path) -> None:
    values = parse_assignments([said]) if "=" in said else read_config_file(written(tmp_path, said))
    assert config_of(values).cache == "off"
    assert "cache" not in config_of(values).recipe().model_dump()
    choices = Choices()
    choices.say(values, "set")
    again = read_config_file(written(tmp_path, describe(choices.config(), choices)))
    assert config_of(again).cache == "off"
    assert problem_of({"cache": True}) == "cache = True: input should be 'auto', 'ram' or 'off'"


# Problems -------------------------------------------------------------------------------------------------------------


def test_an_unknown_key_lists_the_keys() -> None:
    problem = problem_of({"train.learning_rate": 1})
    assert problem == f"train.learning_rate is not a setting; the settings are {', '.join(setting_names())}"
    assert "train.lr" in setting_names()
    assert "imgsz" in setting_names()


def test_all_problems_come_in_one_line() -> None:
    problem = problem_of({"imgsz": 333, "train.lr": -1, "foo": 1, "train.bar": 2})
    wrong, unknown = problem.split("; the settings are ")[0].rsplit("; ", 1)
    assert sorted(wrong.split("; ")) == [
        "imgsz = 333: input should be a multiple of 32",
        "train.lr = -1: input should be greater than 0",
    ]
    assert sorted(unknown.removesuffix(" are not settings").split(", ")) == ["foo", "train.bar"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": "yolov9"}, f"model = 'yolov9': input should be {MODEL_CHOICES}"),
        (
            {"backbone": "resnet"},
            f"backbone = 'resnet': input should be one of {BACKBONE_CHOICES}",
        ),
        (
            {"form": "retinanet_resnet50_fpn", "model": "retinanet"},
            "form = 'retinanet_resnet50_fpn': input goes with model retinanet and backbone resnet50, these are "
            "retinanet and csp-light",
        ),
        ({"augment": "hevy"}, "augment = 'hevy': input should be 'none', 'light' or 'heavy'"),
        ({"imgsz": 0}, "imgsz = 0: input should be greater than or equal to 32"),
        ({"train.epochs": 0}, "train.epochs = 0: input should be greater than or equal to 1"),
        ({"train.epochs": "many"}, "train.epochs = 'many': input should be a valid integer"),
        ({"train.momentum": 1}, "train.momentum = 1: input should be less than 1"),
        ({"train.lr": None}, "train.lr = None: input should be a valid number"),
        ({"train": 5}, "train = 5: input should be a valid dictionary"),
        ({"workers": -1}, "workers = -1: input should be greater than or equal to 0"),
    ],
)
def test_wrong_values_name_key_value_and_rule(values: dict[str, Any], words: str) -> None:
    assert words in problem_of(values)


def test_a_value_is_no_group() -> None:
    assert (
        problem_of({"imgsz": 64, "imgsz.side": 1}) == "'imgsz.side' is not a setting: 'imgsz' is a value, not a group"
    )


# --set ----------------------------------------------------------------------------------------------------------------


def test_assignments_are_typed_by_the_setting_they_go_to() -> None:
    # YAML itself reads 1e-3 as text.
    config = config_of(
        parse_assignments(["train.lr=1e-3", "train.amp=no", "workers=null", "freeze=[0-9, head]", " imgsz = 64"])
    )
    assert config.train.lr == 0.001
    assert isinstance(config.train.lr, float)
    assert config.train.amp is False
    assert config.workers is None
    assert config.freeze == ("0-9", "head")
    assert config.imgsz == 64


def test_a_value_may_hold_an_equals_sign() -> None:
    assert parse_assignments(["data=/a=b"]) == {"data": "/a=b"}


@pytest.mark.parametrize("assignment", ["train.lr", "=5", " = 5", ""])
def test_an_assignment_needs_key_and_value(assignment: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_assignments([assignment])
    assert str(error.value) == f"--set takes KEY=VALUE, got {assignment!r}; for example --set train.lr=0.002"


@pytest.mark.parametrize(
    "assignment", ["freeze=[1", "data=a: b: c", "train={lr: 1, lr: 2}", "data=!!python/name:os.system"]
)
def test_an_assignment_that_is_not_yaml(assignment: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_assignments([assignment])
    assert str(error.value) == f"--set {assignment!r}: the value is not valid YAML; quote it"


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_file_is_read_by_dotted_key(tmp_path: Path) -> None:
    path = written(tmp_path, "imgsz: 64\nfreeze: 10\ntrain:\n  lr: 1e-3  # text to YAML\n  epochs: 3\n")
    values = read_config_file(path)
    assert values == {"imgsz": 64, "freeze": 10, "train.lr": "1e-3", "train.epochs": 3}
    assert config_of(values).train.lr == 0.001


@pytest.mark.parametrize("text", ["", "# nothing said\n", "train: {}\n"])
def test_a_file_may_say_nothing(tmp_path: Path, text: str) -> None:
    assert config_of(read_config_file(written(tmp_path, text))) == Config()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("imgsz: 64\nimgsz: 96\n", "is not valid YAML at line 1: key 'imgsz' stands twice"),
        ("a: 1\ntrain:\n  lr: 1\n  lr: 2\n", "is not valid YAML at line 3: key 'lr' stands twice"),
        ("imgsz: [64\n", "is not valid YAML at line 2: expected ',' or ']', but got '<stream end>'"),
        ("imgsz: \0", "is not valid YAML"),
        (
            "data: !!python/object/apply:os.getcwd []\n",
            "is not valid YAML at line 1: could not determine a constructor",
        ),
        ("- imgsz\n", "must hold settings as 'key: value', got a list"),
        ("just text\n", "must hold settings as 'key: value', got a str"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_config_file(path)
    assert str(error.value).startswith(f"config file {path} ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as missing:
        read_config_file(tmp_path / "no.yaml")
    assert str(missing.value) == (
        f"config file {tmp_path / 'no.yaml'} cannot be read (No such file or directory); give an existing YAML file"
    )
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml is not text in UTF-8; give a YAML file"):
        read_config_file(tmp_path / "binary.yaml")


def test_flatten_by_hand() -> None:
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": [3]}}, "f": {}}) == {"a": 1, "b.c": 2, "b.d.e": [3]}


# describe -------------------------------------------------------------------------------------------------------------


def test_description_names_every_setting_with_its_origin() -> None:
    choices = Choices()
    choices.say({"train.lr": 0.5}, "flag")
    choices.say({"imgsz": 64}, "file")
    lines = [line.split() for line in describe(choices.config(), choices).splitlines()]
    assert ["lr:", "0.5", "#", "flag"] in lines
    assert ["imgsz:", "64", "#", "file"] in lines
    assert ["epochs:", "100", "#", "default"] in lines
    assert {words[0] for words in lines} == {f"{name.split('.')[-1]}:" for name in setting_names()} | {"train:"}


awkward_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    ["null", "no", "1e-3", "- a", "a # b", "a: b", "x" * 200, "/a/path with/blanks", "", "#", "'", '"', "\n", "~", "!x"]
)


@given(
    data=awkward_text,
    freeze=st.lists(awkward_text, max_size=3),
    lr=st.floats(1e-12, 1e3),
    workers=st.none() | st.integers(0, 64),
    amp=st.booleans(),
)
def test_law_a_description_is_a_config_file_that_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: str, freeze: list[str], lr: float, workers: int | None, amp: bool
) -> None:
    choices = Choices()
    choices.say({"data": data, "freeze": freeze, "train": {"lr": lr, "amp": amp}, "workers": workers}, "flag")
    config = choices.config()
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(describe(config, choices), encoding="utf-8")
    assert config_of(read_config_file(path), "file") == config

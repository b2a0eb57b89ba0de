"""Recipes: everything a training run is told, as frozen records. Unknown keys are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    field_serializer,
    field_validator,
)
from pydantic_core import PydanticCustomError

from visionkit.backbones.names import BACKBONE_CHOICES, is_backbone
from visionkit.data.augment import PRESETS, AugmentSettings
from visionkit.data.augment_values import DEFAULT_BASE, settings_of, values_of
from visionkit.data.cache import CacheName
from visionkit.diagnosis.codes import CODES
from visionkit.engine.settings import TrainSettings
from visionkit.errors import ConfigError, UsageError
from visionkit.formats.folds import Fold
from visionkit.models.forms import FORM_PARTS, OWN_FORM, FormName

ModelName = Literal[
    "yolo",
    "yolo-masks",
    "yolov1",
    "faster-rcnn",
    "retinanet",
    "mask-rcnn",
    "fast-rcnn",
    "rcnn",
    "classifier",
    "fcn32s",
    "fcn16s",
    "fcn8s",
]
AugmentName = Literal["none", "light", "heavy"]
# Of these, `own` leaves what the network was designed with.
NormName = Literal["own", "batch", "frozen-batch", "group", "layer", "instance", "switchable", "none"]
ActivationName = Literal[
    "own",
    "relu",
    "relu6",
    "leaky-relu",
    "prelu",
    "rrelu",
    "elu",
    "gelu",
    "maxout",
    "sigmoid",
    "hard-sigmoid",
    "tanh",
    "swish",
    "hard-swish",
]
InitName = Literal["own", "xavier", "kaiming"]
StrategyName = Literal["none", "auto", "head", "freeze", "full", "scratch"]
ClassWeights = Literal["none", "median-frequency"]
LearntUpsamplingName = Literal["own", "skips", "all", "none"]
BoxLossName = Literal["own", "iou", "giou", "diou", "ciou", "l1", "smooth-l1", "mse"]
ClassLossName = Literal["own", "bce", "quality-focal", "varifocal", "focal", "hinge", "cross-entropy", "softmax-focal"]


def _one_or_several(specs: Any) -> Any:
    return (specs,) if isinstance(specs, str | int) else specs


# `freeze: 10` says the same as `freeze: [10]`.
FreezeSpecs = Annotated[tuple[str, ...], BeforeValidator(_one_or_several)]


def _codes_of_errors(codes: tuple[str, ...]) -> tuple[str, ...]:
    for code in codes:
        if code not in CODES:
            raise PydanticCustomError(
                "code", "{rule}", {"rule": f"input should be codes of errors, and {code} is none"}
            )
        if CODES[code].severity != "error":
            rule = f"input should be codes of errors, {code} is a {CODES[code].severity}, which stops nothing"
            raise PydanticCustomError("code", "{rule}", {"rule": rule})
    return codes


ErrorCodes = Annotated[tuple[str, ...], BeforeValidator(_one_or_several), AfterValidator(_codes_of_errors)]


def _known_backbone(name: str) -> str:
    if is_backbone(name):
        return name
    raise PydanticCustomError("backbone", "{rule}", {"rule": f"input should be one of {BACKBONE_CHOICES}"})


Backbone = Annotated[str, AfterValidator(_known_backbone)]


def _name_or_settings(value: Any) -> str | AugmentSettings:
    """A preset's name as it is; a mapping as the settings it stands for."""
    if isinstance(value, AugmentSettings) or (isinstance(value, str) and value in PRESETS):
        return value
    if isinstance(value, Mapping):
        try:
            return settings_of(value)
        except ConfigError as error:
            raise PydanticCustomError("augment_value", "{problem}", {"problem": str(error)}) from None
    raise PydanticCustomError(
        "augment", "input should be 'none', 'light' or 'heavy', or settings as --augment FILE.yaml holds them"
    )


Augment = Annotated[AugmentName | AugmentSettings, PlainValidator(_name_or_settings)]


def _own_or_share(value: Any) -> str | float:
    if value == "own":
        return "own"
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = -1.0
    if 0 <= share < 1:
        return share
    raise PydanticCustomError("share", "input should be 'own', or a number from 0 to below 1")


Share = Annotated[Literal["own"] | float, PlainValidator(_own_or_share)]


def _own_or_side(value: Any) -> str | int:
    if value == "own":
        return "own"
    try:
        side = int(value)
    except (TypeError, ValueError):
        side = 0
    if 32 <= side <= 512 and not side % 32:
        return side
    raise PydanticCustomError("side", "input should be 'own', or pixels from 32 to 512 that 32 divides")


Side = Annotated[Literal["own"] | int, PlainValidator(_own_or_side)]


def _own_or_width(value: Any) -> str | int:
    if value == "own":
        return "own"
    try:
        width = int(value)
    except (TypeError, ValueError):
        width = 0
    if 8 <= width <= 512 and not width % 8:
        return width
    raise PydanticCustomError("width", "input should be 'own', or channels from 8 to 512 that 8 divides")


Width = Annotated[Literal["own"] | int, PlainValidator(_own_or_width)]


def _known_fold(text: str) -> str:
    try:
        return str(Fold.of(text)) if text else text
    except UsageError:
        rule = "input should be PART/PARTS with 2 parts or more, such as 2/5"
        raise PydanticCustomError("fold", "{rule}", {"rule": rule}) from None


# YAML reads `cache: off` as False.
Cache = Annotated[CacheName, BeforeValidator(lambda value: "off" if value is False else value)]


class Recipe(BaseModel):
    """What decides the trained weights, beside the data. Stored in every checkpoint; holds no path and no time."""

    # YAML reads `--set data=2017` and `freeze: [10]` as numbers; both mean text.
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    model: ModelName = Field("yolo", description="the architecture")
    backbone: Backbone = Field("csp-light", description="the network that feeds it")
    form: FormName = Field(
        OWN_FORM,
        description="the parts of the model: own, light ones, or those of a model that torchvision publishes weights "
        "of, by its name there, such as fasterrcnn_resnet50_fpn",
    )
    single_level: bool = Field(
        False,
        description="of faster-rcnn, mask-rcnn and fast-rcnn: one map of the backbone, the coarsest of stride 16 or "
        "less, in place of a feature pyramid",
    )
    norm: NormName = Field(
        "own",
        description="normalisation of the backbone: its own (of a form the one its weights learnt under), batch, "
        "frozen-batch, group, layer, instance, switchable or none",
    )
    activation: ActivationName = Field(
        "own",
        description="activation of the backbone: its own, relu, relu6, leaky-relu, prelu, rrelu, elu, gelu, maxout, "
        "sigmoid, hard-sigmoid, tanh, swish or hard-swish",
    )
    init: InitName = Field("own", description="first weights of the backbone: its own, xavier or kaiming")
    fresh_init: InitName = Field(
        "own",
        description="first weights of the layers behind the backbone, which start fresh beside loaded ones: their own, "
        "xavier or kaiming; biases keep their own",
    )
    box_loss: BoxLossName = Field(
        "own",
        description="loss of boxes: the model's own, iou, giou, diou or ciou; of retinanet and the R-CNN family also "
        "l1, smooth-l1 or mse",
    )
    class_loss: ClassLossName = Field(
        "own",
        description="loss of classes: the model's own; of yolo and retinanet bce, quality-focal or varifocal, of "
        "retinanet also focal or hinge; of a classifier and the R-CNN family cross-entropy or softmax-focal",
    )
    mask_loss: str = Field(
        "own",
        description="loss of objects' masks: the model's own (of mask-rcnn bce, of yolo-masks bce + dice), or a sum of "
        "bce, focal and dice, such as bce + 0.5*dice",
    )
    dropout: Share = Field("own", description="of a classifier's last layer: its own, 0.2, or a share of channels")
    label_smoothing: Share = Field(
        "own", description="of a classifier: its own, 0.1, or the share of the truth spread evenly over all classes"
    )
    crop_margin: float = Field(
        0.1, ge=0, le=1, description="around the boxes that a classifier learns from, share of their longer side"
    )
    semantic_loss: str = Field(
        "own",
        description="of a segmenter: its own, cross-entropy, or a sum of cross-entropy, focal, dice and lovasz, such "
        "as cross-entropy + 0.5*lovasz",
    )
    class_weights: ClassWeights = Field(
        "none", description="what classes count in a segmenter's loss: all alike, or by median-frequency the rare more"
    )
    warp: Side = Field("own", description="side of the squares that rcnn warps regions to: its own, 96, or pixels")
    auxiliary: bool = Field(False, description="a second head on a segmenter's map before the last, to learn from")
    fine_skip: bool = Field(
        False, description="of fcn8s: the map of stride 4 is added too, for what is thinner than a cell of stride 8"
    )
    skip_width: Width = Field(
        "own",
        description="of fcn8s and fcn16s, what is added of each map: its own, a score for each class, or so many "
        "channels of features, scored once they are added up",
    )
    learnt_upsampling: LearntUpsamplingName = Field(
        "own",
        description="which of a segmenter's transposed convolutions, all of them bilinear interpolation at first, "
        "learn: its own, those before an addition, which is skips; all or none",
    )
    imgsz: int = Field(320, ge=32, le=4096, multiple_of=32, description="side of the square network input, pixels")
    tile: int = Field(
        0, ge=0, description="side of the overlapping tiles that larger images are seen in, pixels; 0 sees them whole"
    )
    overlap: float = Field(0.2, ge=0, le=0.9, description="share of a tile that neighbours have in common")
    augment: Augment = Field(
        DEFAULT_BASE, description="online augmentation: none, light, heavy, or settings by name on top of a base"
    )
    mosaic_until: float = Field(
        0.85, ge=0, le=1, description="share of the epochs that may use mosaics and mixup, the first ones"
    )
    grow_from: float = Field(0.5, gt=0, le=1, description="share of imgsz that training starts with")
    grow_until: float = Field(0.75, ge=0, le=1, description="share of the epochs until images have their full size")
    strategy: StrategyName = Field(
        "none",
        description="what is held still and how fast loaded layers learn: auto (by measuring), head, freeze, full, "
        "scratch, or none, where freeze and rates alone say so",
    )
    freeze: FreezeSpecs = Field((), description="units held still, as --freeze takes them")
    unfreeze: FreezeSpecs = Field((), description="when they learn again, as --unfreeze takes it")
    keep_classes: bool = Field(
        False, description="learn the classes of the data beside those that the weights know, and do not forget these"
    )
    train: TrainSettings = TrainSettings()

    @field_validator("form")
    @classmethod
    def _parts_of_the_form(cls, form: str, info: ValidationInfo) -> str:
        said = info.data.get("model"), info.data.get("backbone")  # neither is there where it is wrong itself
        if form != OWN_FORM and None not in said and said != FORM_PARTS[form]:
            model, backbone = FORM_PARTS[form]
            rule = f"input goes with model {model} and backbone {backbone}, these are {said[0]} and {said[1]}"
            raise PydanticCustomError("form", "{rule}", {"rule": rule})
        return form

    @property
    def architecture(self) -> str:
        """`MODEL/BACKBONE`, or the form, which stands for both."""
        return f"{self.model}/{self.backbone}" if self.form == OWN_FORM else self.form

    @field_serializer("augment")
    def _augment_whole(self, augment: str | AugmentSettings) -> Any:
        return values_of(augment) if isinstance(augment, AugmentSettings) else augment


class Config(Recipe):
    """A recipe, the data and weights it starts from, and the machine it runs on."""

    data: str = Field("sample", description="dataset folder, or 'sample'")
    fold: Annotated[str, AfterValidator(_known_fold)] = Field(
        "", description="the part of train and val together that is val, such as 2/5; none: the val split of the data"
    )
    guard: str = Field(
        "", description="COCO file, or dataset with a val split, on which AP of old classes is told before and after"
    )
    proposals: str = Field(
        "",
        description="folder of train.json and val.json, or .npz: where objects may be, for fast-rcnn; and for rcnn, "
        "which else searches for them",
    )
    weights: str = Field(
        "default", description="default, scratch, imagenet, coco, torchvision:NAME, or a .safetensors file"
    )
    max_images: int = Field(
        0, ge=0, description="most training images that rcnn is fitted on, evenly spread; 0 takes all"
    )
    minutes: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="time that decides the epochs, by measuring; none: epochs decide"
    )
    cache: Cache = Field("auto", description="decoded images kept in memory: ram, off, or auto where they fit easily")
    skip_bad: bool = Field(False, description="leave items in error out of the data, by name, instead of refusing it")
    waive: ErrorCodes = Field(
        (), description="codes of errors in the data, such as VK204, whose items are left out; others still stop"
    )
    force: bool = Field(False, description="freeze randomly initialised weights all the same")
    offline: bool = Field(False, description="never use the network; what is not in the cache is an error")
    tensorboard: bool = Field(False, description="curves for TensorBoard too; needs the extra of that name")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    threads: int = Field(0, ge=0, description="CPU threads; 0 leaves torch's choice")
    workers: int | None = Field(None, ge=0, le=64, description="processes that read images; none: cores - 1, at most 8")

    def recipe(self) -> Recipe:
        return Recipe.model_validate({name: getattr(self, name) for name in Recipe.model_fields})

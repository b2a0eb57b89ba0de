"""What the training loop may be told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

OptimizerName = Literal["muon", "adamw", "adam", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta"]
ScheduleName = Literal["cosine", "constant", "step", "one-cycle"]

OPTIMIZER_DEFAULTS: dict[str, dict[str, float]] = {
    "adam": {"lr": 1e-3, "weight_decay": 5e-4},
    "sgd": {"lr": 1e-2, "weight_decay": 5e-4},
    "momentum": {"lr": 1e-2, "weight_decay": 5e-4},
    "nesterov": {"lr": 1e-2, "weight_decay": 5e-4},
    "adagrad": {"lr": 1e-2, "weight_decay": 5e-4},
    "rmsprop": {"lr": 1e-3, "weight_decay": 5e-4},
    "adadelta": {"lr": 1.0, "weight_decay": 5e-4},
}
"""Where an optimizer's defaults differ from muon's and adamw's: all of these add the decay to the gradient, which they
scale by the learning rate or divide by its size, so a much lower one does as much."""


LossWeight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class GroupRule(BaseModel):
    """Parameters that learn in a way of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: str = Field(min_length=1, description="glob over the names of parameters, or name or glob of units")
    lr: float = Field(1.0, gt=0, description="their learning rate, as a share of train.lr")
    weight_decay: float | None = Field(None, ge=0, description="theirs, but of norms and biases; none: that of all")


class TrainSettings(BaseModel):
    """How long, how fast and how carefully to train. Every value has the unit its description names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(100, ge=1, description="passes over the training images")
    batch: int = Field(16, ge=1, description="images a forward pass")
    accumulate: int = Field(1, ge=1, description="forward passes an optimizer step")
    optimizer: OptimizerName = Field(
        "muon",
        description="muon, adamw, adam, sgd (with Nesterov momentum where momentum is not 0), momentum (the heavy "
        "ball), nesterov, adagrad, rmsprop or adadelta",
    )
    lr: float = Field(
        2e-3,
        gt=0,
        description="highest learning rate; 0.01 for sgd, momentum, nesterov and adagrad, 0.001 for adam and rmsprop, "
        "1 for adadelta",
    )
    lr_backbone: float | None = Field(
        None, gt=0, description="highest learning rate of the backbone; none: that of all others"
    )
    loaded_rate: float = Field(
        1.0, gt=0, description="learning rate of what was loaded, as a share of that of layers which start fresh"
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="learning rate of each unit of the backbone, as a share of that of the unit behind it",
    )
    groups: tuple[GroupRule, ...] = Field(
        (), description="rules of match, lr and weight_decay for parameters; the first that matches decides"
    )
    final_lr: float = Field(0.02, ge=0, le=1, description="where the learning rate ends, as a share of lr")
    schedule: ScheduleName = Field(
        "cosine",
        description="how the learning rate falls to final_lr after its warm-up: cosine, step (at half and three "
        "quarters of the run), one-cycle (with a warm-up of its own), or constant, which never does",
    )
    momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="momentum of sgd, momentum and nesterov, first beta of adam, adamw and muon's adamw; the others "
        "have none",
    )
    weight_decay: float = Field(
        0.05, ge=0, description="never on norms and biases; 0.0005 for those that couple it, all but muon and adamw"
    )
    loss_weights: dict[str, LossWeight] = Field(
        {},
        description="what single losses count, as multiples of what they count in the model itself, by the names that "
        "a run shows: {box: 2, class: 0.5}",
    )
    l1: float = Field(0.0, ge=0, description="weight of the sum of absolute weights in the loss; not norms, not biases")
    l2: float = Field(0.0, ge=0, description="weight of half the sum of squared weights in the loss; likewise")
    warmup_epochs: float = Field(3.0, ge=0, description="epochs of linear warm-up, at most a fifth of all")
    warmup_steps: int = Field(300, ge=0, description="most optimizer steps of warm-up, however long epochs are")
    clip_value: float = Field(0.0, ge=0, description="largest entry of the gradient, cut before its norm; 0 never cuts")
    clip_norm: float = Field(10.0, gt=0, description="largest norm of the whole gradient")
    ema_horizon: int = Field(
        3000,
        ge=1,
        description="most optimizer steps the weight average looks back; never over a fifth of those taken, and "
        "the less, the lower the learning rate",
    )
    patience: int = Field(
        0, ge=0, description="stop after so many evaluations without a better metric, such as AP; 0 never stops"
    )
    evaluate_every: int = Field(
        0, ge=0, description="epochs between evaluations; 0 lets the run evaluate some 50 times"
    )
    amp: bool = Field(True, description="bf16 autocast where the hardware has it")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of weights, order and augmentation")
    save_minutes: float = Field(5.0, ge=0, description="minutes between states saved within an epoch")
    max_skipped: int = Field(
        10,
        ge=1,
        description="steps in a row that are skipped because their loss or gradient is not finite, until the run stops",
    )
    sync_batchnorm: bool = Field(
        False, description="batch statistics of the whole batch, where several processes each have a part of it"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_optimizer(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {**OPTIMIZER_DEFAULTS.get(str(values.get("optimizer")), {}), **values}
        return values

    @field_validator("schedule")
    @classmethod
    def _steps_are_factors(cls, schedule: str, info: ValidationInfo) -> str:
        if schedule == "step" and info.data.get("final_lr") == 0:
            raise PydanticCustomError(
                "schedule", "steps go down to final_lr by factors, so it must be above 0; use train.final_lr=0.01"
            )
        return schedule

    def evaluation_epochs(self) -> frozenset[int]:
        """The epochs (from 1) that end in an evaluation; the last always does."""
        every = self.evaluate_every or max(1, self.epochs // 50)
        return frozenset(range(every, self.epochs + 1, every)) | {self.epochs}

    def total_steps(self, batches_per_epoch: int) -> int:
        """Optimizer steps of the whole run; the last step of an epoch may accumulate fewer batches."""
        return self.epochs * -(-batches_per_epoch // self.accumulate)

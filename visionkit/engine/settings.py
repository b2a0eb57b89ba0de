"""What the training loop may be told."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

OptimizerName = Literal["muon", "adamw", "sgd"]


class TrainSettings(BaseModel):
    """How long, how fast and how carefully to train. Every value has the unit its description names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(100, ge=1, description="passes over the training images")
    batch: int = Field(16, ge=1, description="images a forward pass")
    accumulate: int = Field(1, ge=1, description="forward passes an optimizer step")
    optimizer: OptimizerName = Field("muon", description="muon, adamw, or sgd (with Nesterov momentum)")
    lr: float = Field(2e-3, gt=0, description="highest learning rate; 0.01 for sgd")
    final_lr: float = Field(0.02, ge=0, le=1, description="where the learning rate ends, as a share of lr")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd, first beta of adamw and of muon's adamw")
    weight_decay: float = Field(0.05, ge=0, description="never on norms and biases; 0.0005 for sgd, which couples it")
    warmup_epochs: float = Field(3.0, ge=0, description="epochs of linear warm-up, at most a fifth of all")
    clip_norm: float = Field(10.0, gt=0, description="largest norm of the whole gradient")
    ema_horizon: int = Field(
        3000, ge=1, description="most optimizer steps the weight average looks back; never over a fifth of those taken"
    )
    patience: int = Field(0, ge=0, description="stop after so many evaluations without a better AP; 0 never stops")
    evaluate_every: int = Field(
        0, ge=0, description="epochs between evaluations; 0 lets the run evaluate some 50 times"
    )
    amp: bool = Field(True, description="bf16 autocast where the hardware has it")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of weights, order and augmentation")
    save_minutes: float = Field(5.0, ge=0, description="minutes between states saved within an epoch")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_optimizer(cls, values: Any) -> Any:
        """SGD needs a higher rate and, since its decay is coupled to it, a much lower decay."""
        if isinstance(values, dict) and values.get("optimizer") == "sgd":
            return {"lr": 1e-2, "weight_decay": 5e-4, **values}
        return values

    def evaluation_epochs(self) -> frozenset[int]:
        """The epochs (from 1) that end in an evaluation; the last always does."""
        every = self.evaluate_every or max(1, self.epochs // 50)
        return frozenset(range(every, self.epochs + 1, every)) | {self.epochs}

    def total_steps(self, batches_per_epoch: int) -> int:
        """Optimizer steps of the whole run; the last step of an epoch may accumulate fewer batches."""
        return self.epochs * -(-batches_per_epoch // self.accumulate)

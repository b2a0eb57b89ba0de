"""Training curves as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionkit.engine.checkpoint import write_atomically

CURVES = {
    "AP": ("AP50", "AP", "AP75"),
    "accuracy": ("accuracy", "f1", "roc_auc"),
    "mIoU": ("mIoU", "pixel_accuracy", "mean_accuracy"),
}
"""The scores that are drawn, by the metric of the run."""


def draw_curves(path: Path, history: Sequence[dict[str, Any]]) -> None:
    """Losses, validation scores and learning rate against epochs, as PNG. `history` as `TrainingState` keeps it."""
    # The object interface, not pyplot: no global state, no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    losses, scores, rate = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]
    for name in (key for key in history[0] if key.startswith("loss/")):
        losses.plot(epochs, [row[name] for row in history], label=name.removeprefix("loss/"))
    losses.set(title="training loss", xlabel="epoch", ylim=(0, None))
    losses.legend(frameon=False)

    metric = next(name for name in CURVES if name in history[0])
    evaluated = [row for row in history if row[metric] is not None]
    for name in CURVES[metric]:
        scores.plot([r["epoch"] for r in evaluated], [r[name] for r in evaluated], label=name, marker=".")
    scores.set(title="validation", xlabel="epoch", ylim=(0, 1))
    scores.legend(frameon=False, loc="lower right")
    rate.plot(epochs, [row["lr"] for row in history], color="grey")
    rate.set(title="learning rate", xlabel="epoch", ylim=(0, None))
    for axes in (losses, scores, rate):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.xaxis.get_major_locator().set_params(integer=True)

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())

import multiprocessing
import os
import pickle
import re
import signal
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from visionkit.data.augment import PRESETS, AugmentSettings
from visionkit.data.dataset import DetectionDataset
from visionkit.data.loader import BatchPlan, WorkerEndedError, evaluation_loader, training_loader
from visionkit.data.views import EvaluationView, TrainingView
from visionkit.errors import DataError, UsageError
from visionkit.formats.records import AnnotatedImages, Annotation, ImageRecord

EPOCHS = 3
PLAN = BatchPlan(length=10, batch=4, epochs=EPOCHS, seed=5)


@pytest.fixture
def view(tiny_split):
    settings = replace(PRESETS["heavy"], mosaic_epochs=2)
    return TrainingView(DetectionDataset(tiny_split), settings, image_size=32, seed=5)


def bytes_of(batch):
    parts = [batch.images.contiguous().numpy().tobytes(), repr((batch.frames, batch.image_ids)).encode()]
    for target in batch.targets:
        parts += [t.numpy().tobytes() for t in (target.boxes, target.labels, target.ignore)]
    return b"|".join(parts)


def view_split(view, count):
    """A split of `count` images, those of the view's over and over."""
    dataset = view.dataset
    records = [
        ImageRecord(
            i, "", dataset.path(i % 10), *dataset.sizes[i % 10].tolist(), (Annotation(i, 17, (10, 5, 20, 30), 600.0),)
        )
        for i in range(count)
    ]
    return AnnotatedImages(dataset.classes, tuple(records), Path("train.json"))


def bytes_of_run(view, plan=PLAN, workers=0, **options):
    return [bytes_of(batch) for batch in training_loader(view, plan, workers=workers, **options)]


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_epoch_draws_every_image_and_fills_the_last_batch():
    # 10 images in batches of 4: 3 steps, 12 draws; the last two are the first two again, as draws 10 + i.
    order = PLAN.order(0).tolist()
    assert PLAN.steps_per_epoch == 3
    assert PLAN.steps == 9
    assert sorted(order[:10]) == list(range(10))
    assert order[10:] == [10 + order[0], 10 + order[1]]
    assert [len(batch) for batch in PLAN.batches(0)] == [4, 4, 4]


def test_order_depends_on_seed_and_epoch_alone():
    orders = [tuple(replace(PLAN, seed=seed).order(epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    assert orders[0] == tuple(replace(PLAN, seed=0, epochs=100).order(0))


def test_dataset_smaller_than_a_batch_is_repeated():
    plan = replace(PLAN, length=3, batch=8)
    assert plan.steps_per_epoch == 1
    order = plan.order(0).tolist()
    # 8 draws of 3 images: two rounds and two more. All differ, so each is varied on its own.
    assert [sorted(draw % 3 for draw in order).count(i) for i in order[:3]] == [3, 3, 2]
    assert len(set(order)) == 8


def test_exact_division_repeats_nothing():
    assert sorted(replace(PLAN, batch=5).order(1).tolist()) == list(range(10))


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_same_batches(world_size):
    shares = [list(replace(PLAN, rank=rank, world_size=world_size).batches(1)) for rank in range(world_size)]
    together = [[pair for share in step for pair in share] for step in zip(*shares, strict=True)]
    assert together == list(PLAN.batches(1))


@pytest.mark.parametrize("step", [0, 1, 3, 4, 8, 9])
def test_plan_continues_from_any_step(step):
    whole = [batch for epoch in range(EPOCHS) for batch in PLAN.batches(epoch)]
    assert list(PLAN.batches_from(step)) == whole[step:]


@pytest.mark.parametrize(("batch", "world_size", "remedy"), [(10, 4, 8), (1, 2, 2), (0, 1, 1), (-4, 1, 1)])
def test_refuses_a_batch_that_cannot_be_shared(batch, world_size, remedy):
    message = f"batch must be a positive multiple of the number of processes, {world_size}, got {batch}; use {remedy}"
    with pytest.raises(UsageError, match=message):
        BatchPlan(length=10, batch=batch, epochs=1, seed=0, world_size=world_size)


# --- training batches -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize(("workers", "start_method"), [(2, "fork"), (4, "fork"), (2, "spawn")])
def test_workers_change_no_byte(view, workers, start_method):
    assert bytes_of_run(view, workers=workers, start_method=start_method) == bytes_of_run(view)


@pytest.mark.parametrize(("start_step", "workers"), [(1, 0), (5, 0), (4, 2)])
def test_resumed_run_gets_the_batches_it_missed(view, start_step, workers):
    assert bytes_of_run(view, start_step=start_step, workers=workers) == bytes_of_run(view)[start_step:]


def test_processes_together_get_the_bytes_of_one(view):
    """Two processes of batch 2 each see the two halves of each batch of 4."""
    halves = [
        [batch.images for batch in training_loader(view, replace(PLAN, rank=rank, world_size=2), workers=0)]
        for rank in (0, 1)
    ]
    for first, second, whole in zip(*halves, training_loader(view, PLAN, workers=0), strict=True):
        assert torch.equal(torch.cat((first, second)), whole.images)


def test_epochs_differ(view):
    run = bytes_of_run(view)
    assert len(set(run)) == len(run) == PLAN.steps


def test_length_is_the_number_of_batches_left(view):
    assert len(training_loader(view, PLAN, workers=0)) == 9
    assert len(training_loader(view, PLAN, workers=0, start_step=7)) == 2
    assert list(training_loader(view, PLAN, workers=0, start_step=9)) == []


def test_global_random_state_stays_untouched(view):
    before = torch.get_rng_state()
    list(islice(training_loader(view, PLAN, workers=0), 2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_a_worker_arrives_as_it_was(view, tiny_split, workers):
    broken = [replace(i, width=i.width + 1) for i in tiny_split.images]
    dataset = DetectionDataset(replace(tiny_split, images=tuple(broken)))
    with pytest.raises(DataError) as caught:
        list(training_loader(replace(view, dataset=dataset), PLAN, workers=workers))
    assert "\n" not in str(caught.value)
    assert "its annotations are written for" in str(caught.value)


def test_workers_are_sent_the_dataset_in_a_few_arrays(view):
    """What a spawned worker gets: no open file, no lock, no cache; by image little more than path and objects."""
    cached = replace(view, dataset=DetectionDataset(view_split(view, 100), cache="ram"))
    sizes = [len(pickle.dumps(replace(view, dataset=DetectionDataset(view_split(view, n))))) for n in (10, 100)]
    assert len(pickle.dumps(cached)) < 1.1 * sizes[1]  # 100 decoded pictures would be 800 kB
    assert sizes[1] - sizes[0] < 90 * 400


@pytest.mark.parametrize(("platform", "method"), [("linux", "fork"), ("darwin", "spawn"), ("win32", "spawn")])
def test_only_linux_forks(view, monkeypatch, platform, method):
    monkeypatch.setattr(sys, "platform", platform)
    chosen = training_loader(view, PLAN, workers=1)._loader.multiprocessing_context
    assert chosen.get_start_method() == method


def test_refuses_an_unknown_start_method(view):
    with pytest.raises(UsageError, match="unknown start method 'thread'; choose fork or spawn"):
        training_loader(view, PLAN, workers=2, start_method="thread")


# --- evaluation batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "start_method"), [(0, None), (2, "fork"), (1, "spawn")])
def test_evaluation_sees_each_image_once_in_order(tiny_split, workers, start_method):
    view = EvaluationView(DetectionDataset(tiny_split), 32)
    loader = evaluation_loader(view, batch=4, workers=workers, start_method=start_method)
    assert len(loader) == 3
    for _ in range(2):  # a loader is used once an epoch
        batches = list(loader)
        assert [len(b.image_ids) for b in batches] == [4, 4, 2]
        assert [i for b in batches for i in b.image_ids] == list(range(100, 110))


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_sees_images_of_one_shape_together_where_squares_are_not_needed(tiny_split, workers):
    # 60 to 78 px wide and 40 high, into 32 px: 21 to 17 rows, and 16 of the last; in multiples of 8, 24 rows, and 16.
    view = EvaluationView(DetectionDataset(tiny_split), 32, multiple=8)
    batches = list(evaluation_loader(view, batch=5, workers=workers))
    assert [tuple(b.images.shape) for b in batches] == [(5, 3, 24, 32), (4, 3, 24, 32), (1, 3, 16, 32)]
    assert [i for b in batches for i in b.image_ids] == list(range(100, 110))
    wide_first = DetectionDataset(replace(tiny_split, images=tiny_split.images[::-1]))
    batches = list(evaluation_loader(EvaluationView(wide_first, 32, multiple=8), batch=5, workers=workers))
    assert [len(b.image_ids) for b in batches] == [1, 5, 4]


def test_training_without_augmentation_shows_what_evaluation_shows(tiny_split):
    dataset = DetectionDataset(tiny_split)
    plan = BatchPlan(length=10, batch=5, epochs=1, seed=0)
    view = TrainingView(dataset, AugmentSettings(), 32, seed=0)
    seen = EvaluationView(dataset, 32)
    for batch in training_loader(view, plan, workers=0):
        for image, image_id in zip(batch.images, batch.image_ids, strict=True):
            assert image.permute(1, 2, 0).numpy().tobytes() == seen[image_id - 100][0].image.tobytes()


# --- cache and sizes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "start_method"), [(0, None), (2, "fork"), (2, "spawn")])
def test_cache_changes_no_byte(view, tiny_split, workers, start_method):
    cached = replace(view, dataset=DetectionDataset(tiny_split, cache="ram"))
    assert bytes_of_run(cached, workers=workers, start_method=start_method) == bytes_of_run(view)


def test_forked_workers_fill_the_cache_of_all(tiny_split, tmp_path):
    """Once workers have read every image, this process needs no file any more."""
    images = []
    for image in tiny_split.images:
        path = tmp_path / image.path.name
        path.write_bytes(image.path.read_bytes())
        images.append(replace(image, path=path))
    view = EvaluationView(DetectionDataset(replace(tiny_split, images=tuple(images)), cache="ram"), 32)
    seen = [bytes_of(b) for b in evaluation_loader(view, batch=4, workers=2, start_method="fork")]
    for image in images:
        image.path.unlink()
    assert [bytes_of(b) for b in evaluation_loader(view, batch=4, workers=0)] == seen


def multi_scale(view):
    return replace(view, image_size=128, settings=replace(view.settings, multi_scale=0.5))


def test_batches_of_one_size_each_and_of_several(view):
    sizes = [batch.images.shape for batch in training_loader(multi_scale(view), PLAN, workers=0)]
    assert {shape[:2] for shape in sizes} == {(4, 3)}
    assert all(height == width and height in range(64, 193, 32) for _, _, height, width in sizes)
    assert len(set(sizes)) > 2


@pytest.mark.parametrize("start_step", [0, 5])
def test_sizes_depend_neither_on_workers_nor_on_where_a_run_stopped(view, start_step):
    view = multi_scale(view)
    assert bytes_of_run(view, workers=2, start_step=start_step) == bytes_of_run(view)[start_step:]


def test_processes_agree_on_sizes(view):
    shapes = [
        [b.images.shape[2:] for b in training_loader(multi_scale(view), replace(PLAN, rank=r, world_size=2), workers=0)]
        for r in (0, 1)
    ]
    assert shapes[0] == shapes[1]


# --- workers that are killed ------------------------------------------------------------------------------------------


class Fatal:
    """A dataset whose reader dies at one image."""

    def __init__(self, dataset, index, number=signal.SIGKILL):
        self.dataset, self.index, self.number = dataset, index, number

    def __len__(self):
        return len(self.dataset)

    def path(self, index):
        return self.dataset.path(index)

    def read(self, index):
        if index == self.index:
            os.kill(os.getpid(), self.number)
        return self.dataset.read(index)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no such signals")
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_killed_worker_names_what_it_was_reading_and_the_remedy(tiny_split, start_method):
    dataset = DetectionDataset(tiny_split)
    view = EvaluationView(Fatal(dataset, 5), 32)
    loader = evaluation_loader(view, batch=4, workers=2, start_method=start_method)
    with pytest.raises(WorkerEndedError) as caught:
        list(loader)
    message = str(caught.value)
    assert message.startswith(f"a process that prepares batches has ended while it was reading {dataset.path(5)} (")
    assert message.endswith(
        "); if memory ran out, use fewer --workers or --cache off, if the file is at fault, put it right"
    )
    assert "\n" not in message


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers hand over no tensor by a socket")
def test_workers_leave_no_folder_of_their_own(tiny_split):
    loader = evaluation_loader(EvaluationView(DetectionDataset(tiny_split), 32), batch=4, workers=1)
    folder = Path(multiprocessing.current_process()._config["tempdir"])  # type: ignore[attr-defined]
    before = set(folder.iterdir())
    batches = iter(loader)
    next(batches)
    (socket,) = set(folder.iterdir()) - before  # by which the worker hands over its tensors
    assert socket.name.startswith("listener-")


def test_errors_of_a_loader_that_are_of_no_worker_are_not_explained(tiny_split):
    loader = evaluation_loader(EvaluationView(DetectionDataset(tiny_split), 32), batch=4, workers=1)
    assert loader.worker_ended(RuntimeError("something else")) is None
    # A worker of another loader, or one that was reading nothing.
    told = str(loader.worker_ended(RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed. ")))
    assert told.startswith("a process that prepares batches has ended (killed by signal: Killed); ")
    several = RuntimeError("DataLoader worker (pid(s) 1, 2) exited unexpectedly")
    assert "has ended (exited unexpectedly); " in str(loader.worker_ended(several))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
def test_of_a_mosaic_the_image_is_named_that_was_read_last(view):
    dataset = view.dataset
    fatal = replace(view, dataset=Fatal(dataset, 3), settings=replace(view.settings, mosaic=1.0))
    with pytest.raises(WorkerEndedError, match=rf"reading {re.escape(str(dataset.path(3)))} \("):
        list(training_loader(fatal, PLAN, workers=1))

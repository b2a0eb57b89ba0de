"""Thawing in a run: what lets go when, the proof that it was still until then, and where a resumed run goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from visionkit.engine.events import Thawed
from visionkit.engine.optim import Optimizer, learn_also
from visionkit.engine.parameter_groups import Rule
from visionkit.nn.freeze import Frozen, frozen_sha256, prove_frozen
from visionkit.nn.thaw import thaw


@dataclass(frozen=True, slots=True)
class Held:
    """What is held still until the beginning of an epoch, counted from 1."""

    epoch: int
    frozen: Frozen


@dataclass
class Thaws:
    """The thaws of a run, those done and those to come.

    Args:
        held: by epoch, ascending.
        rest: what stays frozen to the end; None where nothing does.
        sha256: of the tensors of each of `held`, before step 1.
        done: how many of `held` learn already.
    """

    held: tuple[Held, ...] = ()
    rest: Frozen | None = None
    sha256: tuple[str, ...] = ()
    done: int = 0

    def seal(self, model: nn.Module, known: Sequence[str] = ()) -> None:
        """Take the hashes that each thaw is compared with, before step 1 or, of what is still held, when a run goes on.

        Args:
            known: the hashes a run began with, where it goes on.
        """
        ours = (frozen_sha256(model, held.frozen) for held in self.held[self.done :])
        self.sha256 = (*known[: self.done], *ours)

    def begin_epoch(
        self,
        epoch: int,
        model: nn.Module,
        average: nn.Module,
        optimizer: Optimizer,
        rules: Mapping[str, Rule],
    ) -> Iterator[Thawed]:
        """Let go what thaws at the beginning of an epoch, counted from 1, once it is proven that it was still.

        Args:
            model, average: the one that learns, and the average of its weights.
            optimizer: gets the parameters of the model in new groups.
            rules: of all parameters.

        Raises:
            VisionkitError: what was held is not what it was before step 1.
        """
        while self.done < len(self.held) and self.held[self.done].epoch <= epoch:
            held, sha256 = self.held[self.done], self.sha256[self.done]
            for one in (model, average):
                prove_frozen(sha256, frozen_sha256(one, held.frozen))
            self._let_go(model, optimizer, rules)
            yield Thawed(held.epoch, held.frozen.units, sha256)

    def replay(self, done: int, model: nn.Module, optimizer: Optimizer, rules: Mapping[str, Rule]) -> None:
        """Let go the first `done`, as a run that goes on had already: the same groups in the same order."""
        while self.done < done:
            self._let_go(model, optimizer, rules)

    def _let_go(self, model: nn.Module, optimizer: Optimizer, rules: Mapping[str, Rule]) -> None:
        frozen = self.held[self.done].frozen
        self.done += 1
        still = [held.frozen for held in self.held[self.done :]] + ([self.rest] if self.rest else [])
        learn_also(optimizer, model, rules, thaw(model, frozen, still))

    def prove_rest(self, models: Sequence[nn.Module]) -> Iterator[str]:
        """At the end of a run, of what it ended too early to thaw: that it is as it was before step 1, a line each.

        Raises:
            VisionkitError: it is not.
        """
        for held, sha256 in zip(self.held[self.done :], self.sha256[self.done :], strict=True):
            for model in models:
                prove_frozen(sha256, frozen_sha256(model, held.frozen))
            yield f"Training ended before the thaw of epoch {held.epoch}: SHA-256 {sha256} before and after"

    @property
    def thawed(self) -> tuple[Thawed, ...]:
        """What learns already."""
        done = zip(self.held[: self.done], self.sha256[: self.done], strict=True)
        return tuple(Thawed(held.epoch, held.frozen.units, sha256) for held, sha256 in done)

"""Which parameters learn, and how."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visionkit.engine.muon import Muon
from visionkit.engine.parameter_groups import LAST, Rule, parameter_rules
from visionkit.engine.settings import TrainSettings

Groups = list[dict[str, Any]]
Optimizer = torch.optim.Optimizer | Muon


def parameter_groups(model: nn.Module, weight_decay: float, rules: Mapping[str, Rule] | None = None) -> Groups:
    """Parameters that learn, by how they do: for each rate those that decay, then norms and biases, which do not.

    Decaying a norm's scale or any bias only fights the data (He et al. 2018, Bag of Tricks, section 3.1). A parameter
    without gradient, frozen or unused, is in no group: no decay and no momentum can reach it.

    Args:
        weight_decay: of what no rule speaks of.
        rules: by name of parameter; `lr_factor` of a group is its rule's.
    """
    return _grouped(dict(model.named_parameters()), rules or {}, Rule(LAST, 1.0, weight_decay))


def _grouped(parameters: Mapping[str, nn.Parameter], rules: Mapping[str, Rule], otherwise: Rule) -> Groups:
    by_rate: dict[tuple[float, float], tuple[list[nn.Parameter], list[nn.Parameter]]] = {}
    for name, parameter in parameters.items():
        if parameter.requires_grad:
            rule = rules.get(name, otherwise)
            decayed, plain = by_rate.setdefault((rule.lr_factor, rule.weight_decay), ([], []))
            (decayed if parameter.ndim > 1 else plain).append(parameter)
    return [
        {"params": params, "weight_decay": decay, "lr_factor": factor}
        for (factor, weight_decay), (decayed, plain) in by_rate.items()
        for params, decay in ((decayed, weight_decay), (plain, 0.0))
        if params
    ]


def build_optimizer(model: nn.Module, settings: TrainSettings, rules: Mapping[str, Rule] | None = None) -> Optimizer:
    """The optimizer over everything in the model that learns; call it after freezing.

    Args:
        rules: of all parameters; those of the settings where not given.
    """
    rules = parameter_rules(model, settings) if rules is None else rules
    groups = parameter_groups(model, settings.weight_decay, rules)
    if settings.optimizer == "muon":
        return Muon(_apart(groups, hidden_matrices(model)), lr=settings.lr, betas=(settings.momentum, 0.999))
    return TORCH_OPTIMIZERS[settings.optimizer](groups, settings)


def learn_also(optimizer: Optimizer, model: nn.Module, rules: Mapping[str, Rule], names: Collection[str]) -> None:
    """Add parameters that have thawed, in groups of their own: those that are there keep theirs, and their state.

    Args:
        rules: of all parameters that are added.
        names: theirs; what the optimizer has already, and what gets no gradient, stays as it is.
    """
    known = {p for group in optimizer.param_groups for p in group["params"]}
    added = {name: p for name, p in model.named_parameters() if name in names and p not in known}
    groups = _grouped(added, rules, Rule(LAST, 1.0, 0.0))
    if isinstance(optimizer, Muon):
        groups = _apart(groups, hidden_matrices(model))
    keys = set(optimizer.param_groups[0])
    for group in groups:
        optimizer.add_param_group(group)
        # Restored, an optimizer has further defaults; bytes must not tell whether it was.
        for key in set(group) - keys:
            del group[key]
    if isinstance(optimizer, torch.optim.Adagrad) and groups:
        # Older versions of torch give it its sums only when it is made.
        optimizer.state.update(torch.optim.Adagrad(groups, **optimizer.defaults).state)


def _nesterov(groups: Groups, settings: TrainSettings) -> torch.optim.Optimizer:
    # torch refuses to look ahead where there is no momentum to look along.
    ahead = settings.momentum > 0
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=ahead, fused=True)


# Fused: one pass over each tensor instead of one an arithmetic step.
TORCH_OPTIMIZERS: dict[str, Callable[[Groups, TrainSettings], torch.optim.Optimizer]] = {
    # Robbins and Monro 1951, A Stochastic Approximation Method, where momentum is 0
    "sgd": _nesterov,
    # Polyak 1964, Some Methods of Speeding up the Convergence of Iteration Methods
    "momentum": lambda groups, s: torch.optim.SGD(groups, lr=s.lr, momentum=s.momentum, fused=True),
    # Sutskever et al. 2013, On the Importance of Initialization and Momentum in Deep Learning, equations 3 and 4
    "nesterov": _nesterov,
    # Duchi et al. 2011, Adaptive Subgradient Methods
    "adagrad": lambda groups, s: torch.optim.Adagrad(groups, lr=s.lr, fused=True),
    # Hinton 2012, Neural Networks for Machine Learning, lecture 6e; Graves 2013 writes it down
    "rmsprop": lambda groups, s: torch.optim.RMSprop(groups, lr=s.lr),
    # Zeiler 2012, ADADELTA
    "adadelta": lambda groups, s: torch.optim.Adadelta(groups, lr=s.lr),
    # Kingma and Ba 2015, Adam
    "adam": lambda groups, s: torch.optim.Adam(groups, lr=s.lr, betas=(s.momentum, 0.999), fused=True),
    # Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization
    "adamw": lambda groups, s: torch.optim.AdamW(groups, lr=s.lr, betas=(s.momentum, 0.999), fused=True),
}


def hidden_matrices(model: nn.Module) -> list[Tensor]:
    """The weights that Muon is for: those of layers between input and output whose scale a norm takes away.

    That are convolutions and linear layers without a bias of their own, because a norm follows, except those that see
    pixels and depthwise ones, which are not matrices. Predictors have a bias.
    """
    return [
        module.weight
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is None and module.weight.shape[1] > 3
    ]


def _apart(groups: list[dict[str, Any]], matrices: Sequence[Tensor]) -> list[dict[str, Any]]:
    """The groups, each parted into what is orthogonalised and what is not."""
    chosen = {id(p) for p in matrices}
    parted = [
        {**group, "params": [p for p in group["params"] if (id(p) in chosen) == orthogonal], "orthogonal": orthogonal}
        for group in groups
        for orthogonal in (True, False)
    ]
    return [group for group in parted if group["params"]]


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Each group learns at its own share of `lr`."""
    for group in optimizer.param_groups:
        # A state saved before groups had rates of their own knows no share.
        group["lr"] = lr * group.get("lr_factor", 1.0)


@torch.no_grad()
def shape_gradients(optimizer: Optimizer, settings: TrainSettings) -> float:
    """Between backward and step: add the gradients of the penalties, then cut to the largest value and norm, in place.

    The penalties are `l1 * sum |w| + l2 / 2 * sum w²` over all weights that are not of norms or biases; L1 after
    Tibshirani 1996, Regression Shrinkage and Selection via the Lasso. Clipping: Pascanu et al. 2013, On the Difficulty
    of Training Recurrent Neural Networks, algorithm 1.

    Returns:
        The norm of the whole gradient before it was cut; finite where all of it is.
    """
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    if settings.l1 or settings.l2:
        for p in learning:
            if p.grad is not None and p.ndim > 1:
                p.grad.add_(p.sign(), alpha=settings.l1).add_(p, alpha=settings.l2)
    if settings.clip_value:
        nn.utils.clip_grad_value_(learning, settings.clip_value)
    norm = nn.utils.get_total_norm([p.grad for p in learning if p.grad is not None])
    found = float(norm)
    # Not `clip_grad_norm_`: it goes through all gradients once more to multiply them by 1.
    if found > settings.clip_norm:
        nn.utils.clip_grads_with_norm_(learning, settings.clip_norm, norm)
    return found

"""Muon: what its steps are, against numbers by hand and against the paper's loop."""

import copy

import pytest
import torch
from torch import Tensor, nn

from visionkit.engine.muon import _QUINTICS, Muon, orthogonalised


def group(*params: Tensor, orthogonal: bool = True, weight_decay: float = 0.0) -> dict[str, object]:
    return {"params": list(params), "orthogonal": orthogonal, "weight_decay": weight_decay}


def weight(rows: int, columns: int, seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))


# The orthogonal matrix ------------------------------------------------------------------------------------------------


def newton_schulz(matrix: Tensor) -> Tensor:
    """The papers' loop, on the matrix itself."""
    x: Tensor = matrix / matrix.norm()
    for a, b, c in ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526)):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 4), (16, 144), (144, 16), (1, 9)])
def test_equals_the_loop_of_the_papers(rows: int, columns: int) -> None:
    matrices = list(torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(rows)))
    for result, matrix in zip(orthogonalised(matrices), matrices, strict=True):
        torch.testing.assert_close(result.double(), newton_schulz(matrix.double()), rtol=1e-3, atol=1e-4)


def test_each_step_comes_as_near_to_one_as_the_constants_say() -> None:
    values = torch.logspace(-2, 0, 2000, dtype=torch.float64)
    for (a, b, c), reach in zip(_QUINTICS, (0.92, 0.71, 0.27), strict=True):
        values = a * values + b * values**3 + c * values**5
        assert (values - 1).abs().max() < reach + 1e-3


def test_matrices_of_all_shapes_equal_each_alone() -> None:
    shapes = [(4, 6), (6, 4), (4, 4), (4, 60), (8, 8)]
    matrices = [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i, shape in enumerate(shapes)]
    for result, matrix in zip(orthogonalised(matrices), matrices, strict=True):
        torch.testing.assert_close(result, orthogonalised([matrix])[0])
    assert orthogonalised([]) == []


def test_blocks_of_rows_are_made_orthogonal_each_by_itself() -> None:
    matrix = torch.randn(200, 300, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([newton_schulz(block) for block in matrix.tensor_split(3)])  # 67, 67 and 66 rows
    torch.testing.assert_close(orthogonalised([matrix])[0], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(orthogonalised([matrix.T])[0], expected.T, rtol=1e-3, atol=1e-4)


def test_singular_values_come_near_one_and_vectors_stay() -> None:
    u, _ = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)))
    v, _ = torch.linalg.qr(torch.randn(30, 8, generator=torch.Generator().manual_seed(1)))
    values = torch.tensor([9.0, 5, 3, 1, 0.7, 0.5, 0.2, 0.12])  # 0.12 is 0.011 of the norm, 10.8
    result = orthogonalised([u * values @ v.T])[0]
    inside = u.T @ result @ v
    assert (inside.diagonal() > 0.7).all()
    assert (inside.diagonal() < 1.28).all()
    assert (inside - inside.diagonal().diag()).abs().max() < 1e-3


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e3, 1e12])
def test_the_size_of_a_gradient_does_not_matter(scale: float) -> None:
    matrix = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalised([matrix * scale])[0], orthogonalised([matrix])[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-30, 1e-23, 1e-20, 1e-18])
def test_what_has_faded_away_makes_no_step(scale: float) -> None:
    # Of a layer that no object reaches, momentum fades; the squares of its elements are zero or nearly so in 32 bits.
    matrix = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    assert orthogonalised([matrix * scale])[0].abs().max() == 0


def test_a_gradient_of_zeros_stays_zero() -> None:
    assert orthogonalised([torch.zeros(3, 5)])[0].tolist() == torch.zeros(3, 5).tolist()


# Steps ----------------------------------------------------------------------------------------------------------------


def test_a_step_by_hand() -> None:
    # One matrix of one element: its direction is the sign of the gradient times the value p of the polynomials at 1,
    # one after the other. Step: lr * 0.2 * sqrt(1) * p. Decay goes first: 3 * (1 - 0.1 * 0.5).
    p = 1.0
    for a, b, c in _QUINTICS:
        p = a * p + b * p**3 + c * p**5
    parameter = nn.Parameter(torch.tensor([[3.0]]))
    parameter.grad = torch.tensor([[-7.0]])
    Muon([group(parameter, weight_decay=0.5)], lr=0.1).step()
    assert parameter.item() == pytest.approx(3 * 0.95 + 0.1 * 0.2 * p, abs=1e-5)


def test_the_size_of_a_step_is_adamws() -> None:
    # Root mean square 0.2 * lr, whatever the shape and the size of the gradient.
    for rows, columns in ((16, 16), (32, 288), (288, 32)):
        parameter = weight(rows, columns)
        before = parameter.detach().clone()
        parameter.grad = 1e-4 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))
        Muon([group(parameter)], lr=0.01).step()
        assert (parameter - before).square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.2)


def test_channels_last_changes_nothing() -> None:
    steps = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(8, 6, 3, 3, generator=generator)
        parameter = nn.Parameter(start.clone(memory_format=memory_format))
        parameter.grad = torch.randn(8, 6, 3, 3, generator=generator).to(memory_format=memory_format)
        Muon([group(parameter)], lr=0.01).step()
        steps.append(parameter.detach() - start)
    torch.testing.assert_close(steps[0], steps[1])


def test_momentum_looks_ahead() -> None:
    # With gradients g and then 0 the second direction is that of g still: momentum goes on.
    parameter = weight(4, 6)
    muon = Muon([group(parameter)], lr=0.01)
    parameter.grad = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    start = parameter.detach().clone()
    muon.step()
    first = parameter.detach() - start
    parameter.grad = torch.zeros(4, 6)
    muon.step()
    torch.testing.assert_close(parameter.detach() - start - first, first, rtol=1e-3, atol=1e-6)


def test_several_matrices_of_one_shape_equal_each_alone() -> None:
    together, alone = [weight(4, 6, seed) for seed in range(3)], [weight(4, 6, seed) for seed in range(3)]
    for a, b in zip(together, alone, strict=True):
        a.grad = torch.randn(4, 6)
        b.grad = a.grad.clone()
    Muon([group(*together)], lr=0.01).step()
    for b in alone:
        Muon([group(b)], lr=0.01).step()
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)


def test_the_other_groups_are_adamws() -> None:
    ours, theirs = weight(3, 5), weight(3, 5)
    muon = Muon([group(ours, orthogonal=False, weight_decay=0.1)], lr=0.01)
    adamw = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1, fused=True)
    for seed in range(5):
        gradient = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        adamw.step()
    assert torch.equal(ours, theirs)


def test_a_parameter_without_gradient_stays() -> None:
    parameter = weight(2, 2)
    before = parameter.detach().clone()
    Muon([group(parameter, weight_decay=0.5)], lr=0.1).step()
    assert torch.equal(parameter, before)


def test_its_state_has_the_form_of_torch_s_optimizers() -> None:
    first, second = weight(2, 2), weight(2, 2)
    muon = Muon([group(first, weight_decay=0.5), group(second, orthogonal=False)], lr=0.01)
    (first.sum() + second.sum()).backward()
    muon.step()
    torchs = torch.optim.AdamW([{"params": [first]}, {"params": [second]}], lr=0.01)
    said, known = muon.state_dict(), torchs.state_dict()
    assert list(said) == list(known)
    assert [group["params"] for group in said["param_groups"]] == [group["params"] for group in known["param_groups"]]
    assert [group["lr"] for group in said["param_groups"]] == [0.01, 0.01]
    assert {place: set(values) for place, values in said["state"].items()} == {
        0: {"momentum"},
        1: {"step", "exp_avg", "exp_avg_sq"},
    }
    muon.zero_grad()
    assert first.grad is second.grad is None


def test_goes_on_from_its_state() -> None:
    def model() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 1))

    def optimizer(net: nn.Sequential) -> Muon:
        return Muon([group(*net[0].parameters()), group(*net[1].parameters(), orthogonal=False)], lr=0.01)

    def learn(net: nn.Sequential, muon: Muon, steps: range) -> None:
        for step in steps:
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            muon.zero_grad()
            net(x).square().mean().backward()
            muon.step()

    whole = model()
    learn(whole, optimizer(whole), range(6))
    first = model()
    muon = optimizer(first)
    learn(first, muon, range(3))
    saved = copy.deepcopy((first.state_dict(), muon.state_dict()))
    second = model()
    second.load_state_dict(saved[0])
    resumed = optimizer(second)
    resumed.load_state_dict(saved[1])
    learn(second, resumed, range(3, 6))
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)

"""Descent on factors against autograd and closed forms; least nuclear norm against cvxpy and by hand."""

import cvxpy
import numpy as np
import pytest
import torch

from lightning_lora.analysis import completion_measurements, descend, nuclear_norm_bound


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_measurement_of_completion_is_an_entry() -> None:
    seen = torch.tensor([[True, False, True], [False, True, False]])
    X = drawn(2, 3)
    E = completion_measurements(seen)
    assert torch.equal(torch.einsum("mij,ij->m", E, X), X[seen])


def test_one_step_is_autograds() -> None:
    E, y = drawn(2, 7, 5, 4, seed=1), drawn(2, 7, seed=2)
    A, B = drawn(2, 3, 6, 4, seed=3), drawn(2, 3, 5, 6, seed=4)
    A_leaf, B_leaf = A.clone().requires_grad_(), B.clone().requires_grad_()
    loss = 0.5 * (torch.einsum("pmij,psij->psm", E, B_leaf @ A_leaf) - y[:, None]).square().sum()
    loss.backward()  # type: ignore[no-untyped-call]
    expected = (B - 0.01 * B_leaf.grad) @ (A - 0.01 * A_leaf.grad)
    torch.testing.assert_close(descend(E, y, A, B, lr=0.01, steps=1).product, expected, rtol=1e-12, atol=1e-12)


def test_it_ends_when_every_problem_is_solved() -> None:
    X = torch.stack([drawn(4, 1, seed=seed) @ drawn(1, 4, seed=seed + 1) for seed in (0, 10)])
    E = completion_measurements(torch.ones(4, 4, dtype=torch.bool)).expand(2, -1, -1, -1)
    found = descend(E, X.flatten(1), 0.1 * drawn(2, 1, 1, 4), 0.1 * drawn(2, 1, 4, 1, seed=1), lr=0.02, steps=20_000)
    assert float(found.residual.max()) < 1e-6
    assert found.steps < 20_000
    torch.testing.assert_close(found.product[:, 0], X, rtol=0, atol=1e-6 * float(X.flatten(1).norm(dim=1).max()))


def test_small_balanced_factors_find_the_least_nuclear_norm_and_loras_start_does_not() -> None:
    """Of X, ``⟨diag(1, 2), X⟩ = 2`` is known: measurements that commute (Gunasekar et al. 2017, theorem 1).

    The least nuclear norm is 1, with ``X = diag(0, 1)``, as ``||diag(1, 2)||_2 = 2``. LoRA's start has B = 0 and A of
    size 1; a step makes ``B A`` near ``ΔW ∝ diag(1, 2)``, that is ``diag(0.4, 0.8)`` with nuclear norm 1.2.
    """
    E = torch.diag(torch.tensor([1.0, 2.0], dtype=torch.float64))[None, None]
    y = torch.tensor([[2.0]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)[None, None]
    small = descend(E, y, 1e-6 * eye, 1e-6 * eye, lr=0.01, steps=20_000)
    lora = descend(E, y, 10 * eye, 0 * eye, lr=1e-4, steps=20_000)
    norms = [float(torch.linalg.matrix_norm(found.product[0, 0], ord="nuc")) for found in (small, lora)]
    assert norms[0] == pytest.approx(1, abs=1e-3)
    assert norms[1] == pytest.approx(1.2, abs=0.01)


def test_the_certificate_by_hand_and_by_a_convex_solver() -> None:
    """``⟨E, X⟩ = y`` alone: the least nuclear norm is ``|y| / ||E||_2``, and any multiplier proves it."""
    E, y = drawn(1, 4, 3), torch.tensor([2.5], dtype=torch.float64)
    bound = nuclear_norm_bound(E, y, torch.tensor([0.3], dtype=torch.float64))
    assert bound == pytest.approx(2.5 / np.linalg.norm(E[0].numpy(), 2), rel=1e-12)

    E, y = drawn(6, 4, 3, seed=1), drawn(6, seed=2)
    X = cvxpy.Variable((4, 3))
    rows = E.flatten(1).numpy()
    fits = rows @ cvxpy.vec(X, order="C") == y.numpy()
    least = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(X)), [fits]).solve(solver=cvxpy.CLARABEL)
    solved = torch.from_numpy(fits.dual_value)
    best = max(nuclear_norm_bound(E, y, sign * solved) for sign in (1, -1))
    assert best == pytest.approx(least, rel=1e-6)
    for seed in range(5):
        assert nuclear_norm_bound(E, y, drawn(6, seed=seed)) < best

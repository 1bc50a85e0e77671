"""Similarity of subspaces against SciPy's principal angles, and against chance."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from lightning_lora.analysis import (
    amplification,
    random_seen_along,
    random_similarity,
    right_directions,
    seen_along,
    similarities,
)

GENERATOR_SEED = 3
EPS = torch.finfo(torch.float64).eps


def gaussian(*shape: int, seed: int = GENERATOR_SEED) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_mean_squared_cosine_of_scipys_principal_angles() -> None:
    A, B = gaussian(5, 12, seed=1), gaussian(5, 12, seed=2)
    phi = similarities(A, B)
    for p in range(1, 6):
        U, V = right_directions(A, p).numpy(), right_directions(B, p).numpy()
        angles = scipy.linalg.subspace_angles(U, V)
        assert float(phi[p - 1, p - 1]) == pytest.approx(np.mean(np.cos(angles) ** 2), abs=1e-13)


def test_the_formula_in_the_text_of_appendix_g_is_not_it() -> None:
    A, B = gaussian(5, 12, seed=1), gaussian(5, 12, seed=2)
    p = 5
    angles = scipy.linalg.subspace_angles(right_directions(A).numpy(), right_directions(B).numpy())
    squared_distance = float((np.sin(angles) ** 2).sum())
    phi = float(similarities(A, B)[p - 1, p - 1])
    assert phi == pytest.approx((p - squared_distance) / p, abs=1e-13)
    assert (1 - squared_distance) / p < 0 < phi
    assert (1 - 0.0) / p == 1 / p != pytest.approx(float(similarities(A, A)[p - 1, p - 1]))


def test_every_i_and_j_by_the_definition() -> None:
    A, B = gaussian(3, 9, seed=1), gaussian(6, 9, seed=2)
    phi = similarities(A, B)
    U, V = scipy.linalg.svd(A.numpy())[2].T, scipy.linalg.svd(B.numpy())[2].T
    for i in range(1, 4):
        for j in range(1, 7):
            expected = np.linalg.norm(U[:, :i].T @ V[:, :j]) ** 2 / min(i, j)
            assert float(phi[i - 1, j - 1]) == pytest.approx(expected, abs=1e-13)
    torch.testing.assert_close(similarities(B, A), phi.T)


def test_a_space_within_another_and_one_orthogonal_to_it() -> None:
    basis = torch.linalg.qr(gaussian(8, 8)).Q
    strengths = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    inner, outer, apart = strengths[:2, None] * basis[:2], strengths[:, None] * basis[:4], basis[4:6]
    assert float(similarities(inner, outer)[-1, -1]) == pytest.approx(1)
    assert float(similarities(inner, apart).max()) < 100 * EPS


def test_it_does_not_see_the_basis_of_the_factors() -> None:
    """``R⁻¹ A`` spans the same space, so φ of the whole spaces is the same; but not that of the first directions."""
    A, other, R = gaussian(4, 20, seed=1), gaussian(4, 20, seed=2), gaussian(4, 4, seed=7)
    phi, changed = similarities(A, other), similarities(R @ A, other)
    assert float(changed[3, 3]) == pytest.approx(float(phi[3, 3]), abs=1e-12)
    assert abs(float(changed[0, 0] - phi[0, 0])) > 1e-3


@pytest.mark.parametrize(("i", "j"), [(1, 1), (2, 5), (5, 2), (6, 6), (8, 3)])
def test_random_spaces_are_as_alike_as_stated(i: int, j: int) -> None:
    """Mean within 4 standard errors of 2,000 draws; the deviation within 4 of its own (kurtosis at most that drawn)."""
    features, draws = 16, 2_000
    stack = [gaussian(count, draws, features, seed=seed) for count, seed in ((i, 1), (j, 2))]
    U, V = (torch.linalg.qr(factor.permute(1, 2, 0)).Q for factor in stack)
    drawn = (U.mT @ V).square().sum((1, 2)) / min(i, j)
    mean, std = random_similarity(i, j, features)
    assert mean == max(i, j) / features
    assert abs(float(drawn.mean()) - mean) < 4 * std / math.sqrt(draws)
    squares = (drawn - mean).square()
    assert abs(float(squares.mean()) - std**2) < 4 * float(squares.std()) / math.sqrt(draws)


def test_chance_in_a_plane_and_in_the_whole_space_by_hand() -> None:
    """A random direction in a plane: cos²θ of a uniform angle, of mean 1/2 and variance 1/8."""
    assert random_similarity(1, 1, 2) == (0.5, pytest.approx(math.sqrt(1 / 8)))
    assert random_similarity(7, 3, 7) == (1.0, 0.0)
    with pytest.raises(ValueError, match="9 and 1 dimensions in 8"):
        random_similarity(9, 1, 8)


def test_a_trained_direction_is_far_from_chance_and_a_drawn_one_is_not() -> None:
    """The negative control: Gaussian matrices of the LoRA paper's figure 3, whose φ lies within chance."""
    mean, std = random_similarity(4, 4, 256)
    drawn = float(similarities(gaussian(4, 256, seed=1), gaussian(4, 256, seed=2))[3, 3])
    common = gaussian(1, 256, seed=3) * 3
    related = similarities(common + 0.1 * gaussian(4, 256, seed=1), common + 0.1 * gaussian(4, 256, seed=2))
    assert abs(drawn - mean) < 4 * std
    assert float(related[0, 0]) > mean + 20 * std


def test_seen_along_own_directions_is_the_energy_of_the_first_values() -> None:
    W = gaussian(9, 6)
    values = scipy.linalg.svdvals(W.numpy())
    for rank in (1, 3, 6):
        assert float(seen_along(W, W, rank)) == pytest.approx(math.sqrt((values[:rank] ** 2).sum()), rel=1e-12)
    other = gaussian(9, 6, seed=8)
    assert float(seen_along(W, other, 3)) < float(seen_along(W, W, 3)) < float(W.norm())


def test_amplification_by_hand() -> None:
    """ΔW makes a weak direction of W ten times as strong as it was: its factor is 10, whatever else W holds."""
    W = torch.diag(torch.tensor([5.0, 0.2, 1.0]))
    delta = torch.zeros(3, 3)
    delta[1, 1] = 2.0
    assert amplification(delta, W, 1) == pytest.approx(10)
    assert amplification(W, W, 3) == pytest.approx(1)


def test_random_directions_see_as_much_as_stated() -> None:
    """The mean square of 1,000 draws, within 4 of its standard errors; of all directions it is W itself."""
    W, draws = gaussian(9, 6), 1_000
    squares = torch.stack([seen_along(W, gaussian(9, 6, seed=seed), 2).square() for seed in range(draws)])
    expected = random_seen_along(float(W.norm()), 9, 6, 2) ** 2
    assert abs(float(squares.mean()) - expected) < 4 * float(squares.std()) / math.sqrt(draws)
    assert random_seen_along(3.0, 5, 5, 5) == pytest.approx(3.0)

"""Distillation losses: zero when equal, gradient to the student alone, and the published direction beside ours."""

import functools

import pytest
import torch
from torch.nn import functional

from reid_mtda.bench.closed.published import _public_kl
from reid_mtda.losses.distillation.features import feature_loss
from reid_mtda.losses.distillation.similarity import similarity_matrix_loss, similarity_rows_loss
from reid_mtda.losses.distillation.soft_targets import soft_target_loss


def rows(seed, n=6, d=5):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(seed):
    return functional.normalize(rows(seed), dim=1)


LOSSES = {
    "soft targets": (soft_target_loss, rows),
    "features": (feature_loss, rows),
    "similarity rows": (similarity_rows_loss, unit),
    "similarity matrix": (similarity_matrix_loss, unit),
}


def check_distillation(loss, draw):
    """What every distillation loss must do; mutants below must fail it."""
    teacher, student = draw(0).requires_grad_(), draw(1).requires_grad_()
    value = loss(student=student, teacher=teacher)
    assert value > 0
    value.backward()
    assert teacher.grad is None, "the teacher received a gradient"
    assert student.grad.abs().sum() > 0, "the student received none"
    same = draw(0).requires_grad_()
    zero = loss(student=same, teacher=draw(0))
    assert float(zero.detach()) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_distillation_contract(name):
    check_distillation(*LOSSES[name])


@pytest.mark.parametrize(
    "mutant",
    [
        lambda *, student, teacher: _public_kl(attached=True, reverse=True)(
            student=student, teacher=teacher, temperature=20.0
        ),
        lambda *, student, teacher: soft_target_loss(student=teacher, teacher=student),
        lambda *, student, teacher: soft_target_loss(student=student, teacher=teacher) + 0.01,
        lambda *, student, teacher: soft_target_loss(student=student.detach(), teacher=teacher),
    ],
    ids=["teacher attached", "roles swapped", "not zero when equal", "student detached"],
)
def test_mutants_fail_the_distillation_contract(mutant):
    with pytest.raises((AssertionError, RuntimeError)):
        check_distillation(mutant, rows)


def test_soft_targets_are_hintons_sum_over_classes_mean_over_rows():
    student, teacher, tau = rows(1), rows(0), 3.0
    p, q = (teacher / tau).softmax(1), (student / tau).softmax(1)
    wanted = tau**2 * (p * (p.log() - q.log())).sum() / len(p)
    torch.testing.assert_close(soft_target_loss(student=student, teacher=teacher, temperature=tau), wanted)


@pytest.mark.parametrize(
    "public", [_public_kl(attached=False, reverse=True), functools.partial(soft_target_loss, reverse=True)]
)
def test_the_published_kl_is_the_other_direction_and_nearly_agrees_at_tau_20(public):
    student, teacher = rows(1), rows(0)
    for tau in (1.0, 20.0):
        reverse = public(student=student, teacher=teacher, temperature=tau)
        torch.testing.assert_close(reverse, soft_target_loss(student=teacher, teacher=student, temperature=tau))
    both = {"student": student, "teacher": teacher}
    high, ours = public(**both, temperature=20.0), soft_target_loss(**both, temperature=20.0)
    assert float(high) == pytest.approx(float(ours), rel=0.05)
    sure = {"student": 4 * student, "teacher": teacher}
    low, ours = public(**sure, temperature=1.0), soft_target_loss(**sure, temperature=1.0)
    assert float(low) != pytest.approx(float(ours), rel=0.2)


@pytest.mark.parametrize("reverse", [False, True])
def test_cached_probabilities_teach_as_the_logits_would(reverse):
    student, teacher = rows(1), rows(0)
    cached = soft_target_loss(student=student, probabilities=(teacher / 2).softmax(1), temperature=2.0, reverse=reverse)
    direct = soft_target_loss(student=student, teacher=teacher, temperature=2.0, reverse=reverse)
    torch.testing.assert_close(cached, direct)


def test_a_teacher_speaks_once():
    student, teacher = rows(1), rows(0)
    for given in ({}, {"teacher": teacher, "probabilities": teacher.softmax(1)}):
        with pytest.raises(ValueError, match="got logits and probabilities, or neither; give one of them"):
            soft_target_loss(student=student, **given)


def test_a_sure_soft_target_is_cross_entropy():
    student, labels = rows(1), torch.tensor([0, 1, 2, 3, 4, 0])
    hard = soft_target_loss(student=student, probabilities=functional.one_hot(labels, 5).double(), temperature=1.0)
    torch.testing.assert_close(hard, functional.cross_entropy(student, labels))


def test_similarity_losses_take_networks_of_different_embedding_sizes():
    narrow, wide = functional.normalize(rows(1, d=3), dim=1), unit(0)
    assert torch.isfinite(similarity_rows_loss(student=narrow, teacher=wide))
    assert torch.isfinite(similarity_matrix_loss(student=narrow, teacher=wide))


def test_similarity_losses_do_not_see_a_rotation():
    turn, _ = torch.linalg.qr(rows(3, n=5))
    assert float(similarity_matrix_loss(student=unit(0) @ turn, teacher=unit(0))) == pytest.approx(0, abs=1e-5)
    assert float(similarity_rows_loss(student=unit(0) @ turn, teacher=unit(0))) == pytest.approx(0, abs=1e-9)

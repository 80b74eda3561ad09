"""Losses of distillation objectives against second implementations worked by hand or in loops, each with a mutant."""

import numpy as np
import pytest
import torch

from reid_mtda.losses.distillation.affinity import affinity_loss
from reid_mtda.losses.distillation.balanced import balanced_loss
from reid_mtda.losses.distillation.chosen import chosen_loss, joint_weights
from reid_mtda.losses.distillation.direction import norm_direction_loss
from reid_mtda.losses.distillation.divergence import divergence_rows, entropy_rows
from reid_mtda.losses.distillation.dual_head import binary_agreement_loss
from reid_mtda.losses.distillation.graph import edge_difference_loss, neighbours_loss
from reid_mtda.losses.distillation.maps import (
    block_loss,
    channel_loss,
    context_loss,
    frequency_loss,
    halves_of,
    token_graph_loss,
    tokens_of,
)
from reid_mtda.losses.distillation.ratio import shared_loss, trilateral_state, virtual_step_loss
from reid_mtda.losses.distillation.routed import load_balance_loss, routed_loss
from reid_mtda.losses.distillation.selective import identity_margin, selective_loss, selective_rows_loss
from reid_mtda.losses.distillation.soft_targets import soft_target_loss
from reid_mtda.losses.distillation.standardised import standardised_loss
from reid_mtda.losses.distillation.subclasses import subclass_directions, subclass_probabilities
from reid_mtda.losses.distillation.transport import transport_loss, transport_plan


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def logits_of(*probabilities):
    return torch.tensor(probabilities).log()


def test_divergences_are_hintons():
    student, teacher = drawn(6, 4), drawn(6, 4, seed=1)
    for reverse in (False, True):
        ours = divergence_rows(student=student, teacher=teacher, temperature=3.0, reverse=reverse).mean()
        theirs = soft_target_loss(student=student, teacher=teacher, temperature=3.0, reverse=reverse)
        torch.testing.assert_close(ours, theirs)


# --- 1: whoever is surer teaches


def test_the_surer_of_teacher_and_start_teaches():
    teacher, start = logits_of([0.9, 0.1], [0.6, 0.4]), logits_of([0.3, 0.7], [0.05, 0.95])
    student = drawn(2, 2)
    chosen = torch.stack([teacher[0], start[1]])
    expected = soft_target_loss(student=student, teacher=chosen, temperature=1.0)
    torch.testing.assert_close(selective_loss(student=student, teacher=teacher, start=start), expected)
    inverted = torch.stack([start[0], teacher[1]])  # mutant: the mask the other way round
    wrong = soft_target_loss(student=student, teacher=inverted, temperature=1.0)
    assert not torch.isclose(expected, wrong)


def test_a_start_that_is_not_frozen_would_get_a_gradient():
    start = logits_of([0.05, 0.95]).requires_grad_(True)
    student, teacher = drawn(1, 2).requires_grad_(True), logits_of([0.6, 0.4])
    selective_loss(student=student, teacher=teacher, start=start).backward()
    assert start.grad is None and student.grad is not None


def test_without_logits_the_margin_of_ones_own_tracklet_decides():
    def rows(*angles):
        turned = torch.tensor(angles).deg2rad()
        return torch.stack([turned.cos(), turned.sin()], 1)

    people = torch.tensor([0, 0, 1, 1])
    good, poor = rows(0.0, 5.0, 90.0, 95.0), rows(0.0, 60.0, 50.0, 120.0)
    assert (identity_margin(good, people) > 0.8).all() and (identity_margin(poor, people) < 0.1).all()
    for teacher, start in ((good, poor), (poor, good)):
        given = {"teacher": teacher, "start": start, "people": people}
        assert selective_rows_loss(student=good, **given) < 1e-6
        assert selective_rows_loss(student=poor, **given) > 0.1
    nobody = torch.full((4,), -1)
    assert selective_rows_loss(student=poor, teacher=poor, start=good, people=nobody) < 1e-6


# --- 2: a path of three nodes


def test_a_path_of_three_is_followed_edge_by_edge():
    student, teacher = drawn(3, 4), drawn(3, 4, seed=1)
    near = torch.tensor([[0, 1], [1, 2], [2, 1]])  # itself first
    low = neighbours_loss(student=student, neighbours=teacher[near])
    p, log_s = teacher.softmax(1), student.log_softmax(1)
    by_hand = sum((p[j] * (p[j].log() - log_s[i])).sum() for i, row in enumerate(near.tolist()) for j in row) / 6
    torch.testing.assert_close(low, by_hand)
    own = neighbours_loss(student=student, neighbours=teacher[torch.tensor([[0, 0], [1, 1], [2, 2]])])
    assert not torch.isclose(low, own), "mutant: a crop's own teacher instead of its neighbour's"
    edges = torch.tensor([[0, 1], [1, 2]])
    high = edge_difference_loss(student=student, teacher=teacher, edges=edges, temperature=1.5)
    total = 0.0
    for i, j in edges.T.tolist():
        of, to = ((g[i] - g[j]).abs().div(1.5).log_softmax(0) for g in (teacher, student))
        total += (of.exp() * (of - to)).sum()
    torch.testing.assert_close(high, total / 2)
    assert edge_difference_loss(student=student, teacher=teacher, edges=torch.zeros(2, 0, dtype=torch.int64)) == 0


# --- 3: a second head


def test_binary_agreement_is_the_published_sum_and_zero_where_they_agree():
    student, teacher = drawn(5, 3).requires_grad_(True), drawn(5, 3, seed=1)
    d = torch.sigmoid((student - teacher) / 2.0)
    by_hand = 4.0 / 5 * (0.5 * (1 / (2 * d)).log() + 0.5 * (1 / (2 * (1 - d))).log()).sum()
    torch.testing.assert_close(binary_agreement_loss(student=student, teacher=teacher), by_hand)
    assert binary_agreement_loss(student=teacher, teacher=teacher).abs() < 1e-6
    far = binary_agreement_loss(student=teacher + 1e4, teacher=teacher)
    assert torch.isfinite(far), "the sum as published is infinite there"


# --- 4: norm and direction


@pytest.mark.parametrize(("length", "grows"), [(0.5, True), (3.0, False)])
def test_a_feature_grows_until_it_is_as_long_as_the_teachers(length, grows):
    teacher, centre = torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, 0.0]])
    student = (length * torch.tensor([[0.8, 0.6]])).requires_grad_(True)
    norm_direction_loss(student=student, teacher=teacher, centre=centre).backward()
    radial = float((student.grad * student.detach()).sum())
    assert (radial < -1e-3) if grows else abs(radial) < 1e-6
    # mutant: min for max would let a long feature grow and a short one stay
    shortest = min(length, 2.0)
    assert (shortest == 2.0) != grows


# --- 5: balance of divergences


def test_equal_entropies_weigh_both_divergences_alike_and_a_surer_student_the_forward_one_more():
    student, teacher = logits_of([0.7, 0.2, 0.1]), logits_of([0.1, 0.7, 0.2])
    both = [divergence_rows(student=student, teacher=teacher, reverse=reverse) for reverse in (False, True)]
    even = balanced_loss(student=student, teacher=teacher, temperature=1.0)
    torch.testing.assert_close(even, ((both[0] + both[1]) / 2).mean())
    sure, unsure = logits_of([0.98, 0.01, 0.01]), logits_of([0.3, 0.4, 0.3])
    assert entropy_rows(unsure) > entropy_rows(sure)
    forward, reverse = (divergence_rows(student=sure, teacher=unsure, reverse=r).mean() for r in (False, True))
    ours = balanced_loss(student=sure, teacher=unsure, temperature=1.0, larger=0.7)
    torch.testing.assert_close(ours, 0.7 * forward + 0.3 * reverse)
    assert not torch.isclose(ours, 0.3 * forward + 0.7 * reverse), "mutant: weights swapped"


# --- 6: transport


def test_the_plan_is_sinkhorns_and_the_teachers_order_does_not_count():
    student, teacher = drawn(5, 4), drawn(5, 4, seed=1)
    p, q = (given.div(2).softmax(1).double().numpy() for given in (student, teacher))
    cost = np.abs(p[:, None] - q[None]).sum(-1)
    plan = np.exp(-cost / 0.1)
    for _ in range(20):
        plan /= plan.sum(0, keepdims=True)
        plan /= plan.sum(1, keepdims=True)
    ours = transport_loss(student=student, teacher=teacher)
    assert float(ours) == pytest.approx((plan * cost).sum() / 5, rel=1e-4)
    turned = transport_loss(student=student, teacher=teacher[torch.tensor([3, 0, 4, 1, 2])])
    torch.testing.assert_close(ours, turned)
    found = transport_plan(torch.from_numpy(cost), rounds=300)
    ones = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(found.sum(0), ones, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.sum(1), ones)
    one_sided = torch.softmax(-torch.from_numpy(cost) / 0.1, dim=1)  # mutant: rows alone
    assert (one_sided.sum(0) - 1).abs().max() > 0.05


# --- 7: what both are sure of


def test_crops_of_nobody_get_no_weight():
    sure = 6.0 * torch.eye(4)
    nobody = torch.zeros(2, 4)
    both = torch.cat([sure, nobody])
    weights = joint_weights(student=both, teacher=both, share=4 / 6)
    assert weights.tolist() == [1, 1, 1, 1, 0, 0]
    contradicting = torch.cat([sure.roll(1, 0), nobody])
    assert joint_weights(student=both, teacher=contradicting, share=1 / 6).sum() >= 1
    student = drawn(6, 4)
    everything = soft_target_loss(student=student, teacher=both)
    assert not torch.isclose(chosen_loss(student=student, teacher=both, share=0.5), everything), "mutant: all of 1"
    torch.testing.assert_close(chosen_loss(student=student, teacher=both, share=1.0), everything)


# --- 13: routing


def test_a_gate_of_one_teacher_is_that_teachers_loss_and_a_collapsed_gate_costs():
    student, teachers = drawn(4, 3), drawn(4, 2, 3, seed=1)
    first = torch.tensor([1.0, 0.0]).expand(4, 2)
    expected = soft_target_loss(student=student, teacher=teachers[:, 0])
    torch.testing.assert_close(routed_loss(student=student, teachers=teachers, gate=first), expected)
    assert load_balance_loss(gate=torch.full((4, 2), 0.5)).abs() < 1e-6
    assert load_balance_loss(gate=first) == pytest.approx(np.log(2), abs=1e-5)


# --- 14, 23, 30, 9: maps


def test_a_constant_on_a_channel_is_invisible_to_it():
    teacher = drawn(2, 3, 4, 2)
    shifted = teacher + torch.tensor([1.0, -2.0, 3.0]).view(1, 3, 1, 1)
    assert channel_loss(student=shifted, teacher=teacher).abs() < 1e-5
    across = (teacher.softmax(1) - shifted.softmax(1)).abs().max()
    assert across > 0.1, "mutant: softmax over channels sees it"


def test_a_difference_of_the_mean_alone_is_invisible_to_the_second_branch():
    teacher = drawn(2, 3, 4, 2)
    shifted = teacher + 5.0
    rows = [torch.nn.functional.normalize(m.flatten(2), dim=1) for m in (shifted, teacher)]
    whole = (rows[0] - rows[1]).square().sum(1).mean()
    torch.testing.assert_close(frequency_loss(student=shifted, teacher=teacher), whole)


def test_tokens_of_two_textures_are_told_apart_and_a_shuffle_between_pictures_is_seen():
    texture = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    maps = torch.stack(
        [torch.cat([texture[a].view(2, 1, 1), texture[b].view(2, 1, 1)], 1) for a, b in ((0, 1), (1, 1))]
    )
    tokens = tokens_of(maps, torch.tensor([0, 1]))
    assert tokens.tolist() == [[[1, 0], [0, 1]], [[0, 1], [0, 1]]]
    given = {"neighbours": 3, "sigma": 0.2}
    assert token_graph_loss(student=tokens, teacher=tokens, **given) < 1e-6
    assert context_loss(student=tokens, teacher=tokens) < 1e-6
    shuffled = tokens.flip(0)  # mutant: the tokens of the other picture
    assert token_graph_loss(student=shuffled, teacher=tokens, **given) > 0.1
    assert context_loss(student=shuffled, teacher=tokens) > 1e-3


def test_upper_halves_follow_upper_halves():
    maps = torch.zeros(1, 2, 4, 3)
    maps[0, 0, :2], maps[0, 1, 2:] = 1.0, 1.0
    halves = halves_of(maps)
    assert halves.tolist() == [[[1, 0], [0, 1]]]
    assert block_loss(student=halves, teacher=halves) < 1e-6
    assert block_loss(student=halves, teacher=halves.flip(1)) == pytest.approx(2.0), "mutant: halves swapped"
    assert halves_of(torch.ones(1, 2, 1, 1)).shape == (1, 2, 2)


# --- 15: standardised logits


def test_the_scale_of_the_teachers_logits_does_not_count():
    student, teacher = drawn(4, 5), drawn(4, 5, seed=1)
    one = standardised_loss(student=student, teacher=teacher)
    torch.testing.assert_close(one, standardised_loss(student=student, teacher=7 * teacher))
    plain = [soft_target_loss(student=student, teacher=factor * teacher, temperature=1.0) for factor in (1, 7)]
    assert not torch.isclose(*plain), "mutant: without the division"


# --- 18: subclasses


def test_subclasses_sum_to_the_class_and_lie_along_the_leading_direction():
    draw = np.random.default_rng(0)
    spread = draw.normal(size=(200, 3)) * np.array([3.0, 0.3, 0.1])
    features = torch.from_numpy(np.concatenate([spread, spread[:, [1, 0, 2]] + 10.0])).float()
    labels = torch.arange(2).repeat_interleave(200)
    centres, directions = subclass_directions(features=features, labels=labels, classes=3, each=1)
    leading = torch.nn.functional.normalize(directions[:2, 0], dim=1).abs()
    assert leading[0, 0] > 0.99 and leading[1, 1] > 0.99
    assert directions[2].abs().sum() == 0, "a class of nothing has no direction"
    projected = ((features[:200] - centres[0]) @ directions[0, 0]).std()
    assert float(projected) == pytest.approx(1.0, abs=0.01)
    logits = drawn(400, 3)
    split = subclass_probabilities(features=features, logits=logits, centres=centres, directions=directions)
    torch.testing.assert_close(split.sum(2), logits.softmax(1))
    ends = split[:200, 0, 0] > split[:200, 0, 1]
    along = (features[:200] - centres[0]) @ directions[0, 0] > 0
    assert (ends == along).all()
    random = torch.nn.functional.normalize(drawn(3, seed=3), dim=0)  # mutant: random directions split elsewhere
    assert (((features[:200] - centres[0]) @ random > 0) == along).float().mean() < 0.99


# --- 28: affinity


def test_one_mind_within_a_group_costs_nothing_and_other_groups_do_not_count():
    sure = 50.0 * torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert affinity_loss(logits=sure, groups=torch.tensor([0, 0, 1, 1])) < 1e-6
    mixed = affinity_loss(logits=sure, groups=torch.tensor([0, 1, 0, 1]))
    assert mixed == pytest.approx(1.0), "mutant: neighbours of other tracklets"
    assert affinity_loss(logits=sure, groups=torch.full((4,), -1)) == 0


# --- 8: shares of teacher and label


def test_a_share_of_one_is_the_teacher_and_of_none_the_label():
    student, teacher, labels = drawn(6, 3), drawn(6, 3, seed=1), torch.tensor([0, 1, 2, 0, 1, 2])
    given = {"student": student, "teacher": teacher, "labels": labels}
    whole = shared_loss(**given, share=torch.ones(6))
    torch.testing.assert_close(whole, soft_target_loss(student=student, teacher=teacher))
    none = shared_loss(**given, share=torch.zeros(6))
    torch.testing.assert_close(none, torch.nn.functional.cross_entropy(student, labels))
    means = torch.full((3, 3), 1 / 3)
    state = trilateral_state(student=student, teacher=teacher, labels=labels, class_means=means)
    assert state.shape == (6, 27)
    torch.testing.assert_close(state[:, 12:15], (means[labels] - student.softmax(1)).square())


def test_the_gradient_of_a_share_goes_through_the_virtual_step():
    """Second order, against finite differences; without the step (a mutant: a rate of 0) there is none."""
    draw = torch.Generator().manual_seed(0)
    weight, features, teacher = (torch.randn(*s, generator=draw, dtype=torch.float64) for s in ((3, 4), (8, 4), (8, 3)))
    labels, inner = torch.arange(8) % 3, torch.arange(8) % 2 == 0

    def outer(share, rate=0.5):
        return virtual_step_loss(
            weight=weight.clone().requires_grad_(True), features=features, teacher=teacher, labels=labels, share=share,
            inner=inner, rate=rate, temperature=2.0,
        )  # fmt: skip

    share = torch.full((8,), 0.4, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(outer(share), share)
    for number in range(8):
        step = torch.zeros(8, dtype=torch.float64)
        step[number] = 1e-5
        slope = (outer(share.detach() + step) - outer(share.detach() - step)) / 2e-5
        assert float(found[number]) == pytest.approx(float(slope.detach()), abs=1e-7)
    assert (found[inner].abs() > 0).all() and (found[~inner] == 0).all()
    (none,) = torch.autograd.grad(outer(share, rate=0.0), share)
    assert (none == 0).all()

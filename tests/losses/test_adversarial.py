"""Gradient reversal, DANN, CDAN, MCC: equalities, ends of the schedule, who receives which gradient."""

import math

import pytest
import torch
from torch.nn import functional

from reid_mtda.losses.adversarial import (
    cdan_loss,
    dann_loss,
    domain_confusion_loss,
    reversal_delta,
    reverse_gradient,
)
from reid_mtda.losses.alignment import ALIGNMENTS
from reid_mtda.losses.mcc import class_confusion_loss
from reid_mtda.models.discriminator import Discriminator


def outputs(seed=0, rows=6, dim=4, classes=3):
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(rows, n, generator=generator, dtype=torch.float64) for n in (dim, classes, dim, classes)]
    names = ("source_features", "source_logits", "target_features", "target_logits")
    return dict(zip(names, (tensor.requires_grad_() for tensor in draw), strict=True))


def test_reversal_is_the_identity_forward_and_minus_delta_backward():
    rows = torch.randn(3, 2, requires_grad=True)
    turned = reverse_gradient(rows, 0.25)
    assert torch.equal(turned, rows)
    turned.sum().backward()
    torch.testing.assert_close(rows.grad, torch.full((3, 2), -0.25))


@pytest.mark.parametrize(("progress", "delta"), [(0.0, 0.0), (0.5, 2 / (1 + math.exp(-5)) - 1), (1.0, 0.99990920)])
def test_delta_at_the_ends_and_in_the_middle(progress, delta):
    assert reversal_delta(progress) == pytest.approx(delta, abs=1e-7)


def test_dann_trains_the_judge_and_turns_the_network_against_it():
    """The judge's gradient is the plain one, the features' is its opposite times delta."""
    given, weight = outputs(), torch.randn(4, dtype=torch.float64, requires_grad=True)
    dann_loss(**given, discriminator=lambda f, b: f @ weight, delta=0.5).backward()
    features = [given[n].detach().clone().requires_grad_() for n in ("source_features", "target_features")]
    plain_weight = weight.detach().clone().requires_grad_()
    domain_confusion_loss(source=features[0] @ plain_weight, target=features[1] @ plain_weight).backward()
    torch.testing.assert_close(weight.grad, plain_weight.grad)
    torch.testing.assert_close(given["source_features"].grad, -0.5 * features[0].grad)
    torch.testing.assert_close(given["target_features"].grad, -0.5 * features[1].grad)


def test_domain_confusion_is_summed_cross_entropy_and_one_sided_without_source():
    source, target = torch.randn(5), torch.randn(7)
    wanted = -functional.logsigmoid(source).mean() - functional.logsigmoid(-target).mean()
    torch.testing.assert_close(domain_confusion_loss(source=source, target=target), wanted)
    torch.testing.assert_close(
        domain_confusion_loss(source=None, target=target), -functional.logsigmoid(-target).mean()
    )


def test_the_one_sided_judge_saturates():
    """Why it is a quirk: a judge that sees one domain wins by a constant, and the loss goes to zero."""
    bias = torch.zeros((), requires_grad=True)
    descent = torch.optim.SGD([bias], lr=5.0)
    for _ in range(100):
        descent.zero_grad()
        domain_confusion_loss(source=None, target=bias.expand(4)).backward()
        descent.step()
    assert float(domain_confusion_loss(source=None, target=bias.detach().expand(4))) < 0.01


@pytest.mark.parametrize("loss", [dann_loss, cdan_loss])
def test_our_judge_learns_to_tell_domains_apart(loss):
    """Two clouds far apart: at 2 log 2 = 1.39 it would know nothing, which is where BatchNorm a domain leaves it."""
    torch.manual_seed(0)
    judge = Discriminator(4, num_classes=3 if loss is cdan_loss else 0, hidden=16)
    descent = torch.optim.SGD(judge.parameters(), lr=0.1, momentum=0.9)
    for _ in range(60):
        apart = {f"{name}_features": torch.randn(32, 4) + 3 * shift for name, shift in (("source", 1), ("target", -1))}
        soft_targets = {f"{name}_logits": torch.randn(32, 3) for name in ("source", "target")}
        value = loss(**apart, **soft_targets, discriminator=judge, delta=0.0)
        descent.zero_grad()
        value.backward()
        descent.step()
    assert float(value.detach()) < 0.1


def test_cdan_with_equal_beliefs_is_dann():
    given = outputs()
    for name in ("source_logits", "target_logits"):
        given[name] = torch.zeros(6, 3, dtype=torch.float64)

    def judge(features, soft_targets):
        return features.sum(1)

    torch.testing.assert_close(
        cdan_loss(**given, discriminator=judge, delta=1.0), dann_loss(**given, discriminator=judge, delta=1.0)
    )


def test_cdan_counts_sure_pictures_more():
    given = outputs()
    given["source_logits"] = torch.tensor([[50.0, 0, 0]] + [[0.0, 0, 0]] * 5, dtype=torch.float64)
    first, last = (torch.zeros(6, dtype=torch.float64).index_fill(0, torch.tensor([i]), 3.0) for i in (0, 5))
    domain_logits = {"sure": first, "unsure": last}
    losses = {
        name: float(cdan_loss(**given, discriminator=lambda f, b, v=v: v.repeat(2), delta=1.0).detach())
        for name, v in domain_logits.items()
    }
    assert losses["sure"] != pytest.approx(losses["unsure"])


def test_beliefs_give_the_adversary_no_gradient():
    given = outputs()
    judge = Discriminator(4, num_classes=3, hidden=8).double()
    cdan_loss(**given, discriminator=judge, delta=1.0).backward()
    assert given["source_logits"].grad is None


def test_the_randomised_map_keeps_inner_products_on_average():
    torch.manual_seed(0)
    judge = Discriminator(64, num_classes=32, hidden=2, random_dim=2000)
    judge.head = torch.nn.Identity()
    features, soft_targets = torch.randn(2, 64), torch.rand(2, 32)
    mapped = (features @ judge.get_buffer("of_feature")) * (soft_targets @ judge.get_buffer("of_belief"))
    exact = (features[0] @ features[0]) * (soft_targets[0] @ soft_targets[0])
    assert judge.randomised
    assert float(mapped[0] @ mapped[0]) == pytest.approx(float(exact), rel=0.35)


def test_mcc_agrees_with_its_definition_and_is_zero_for_sure_and_diverse_beliefs():
    logits = torch.randn(6, 4, dtype=torch.float64)
    soft_target = (logits / 2.5).softmax(1)
    entropy = [-sum(p * math.log(p) for p in row) for row in soft_target.tolist()]
    weights = [1 + math.exp(-h) for h in entropy]
    weights = [6 * w / sum(weights) for w in weights]
    between = 0.0
    for j in range(4):
        row = [sum(weights[i] * soft_target[i, j] * soft_target[i, k] for i in range(6)) for k in range(4)]
        between += sum(float(row[k] / sum(row)) for k in range(4) if k != j) / 4
    assert float(class_confusion_loss(logits=logits)) == pytest.approx(between, abs=1e-9)
    assert float(class_confusion_loss(logits=100 * torch.eye(4))) == pytest.approx(0.0, abs=1e-6)
    assert float(class_confusion_loss(logits=torch.zeros(6, 4))) == pytest.approx(0.75)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_every_alignment_is_finite_at_both_ends_and_reaches_the_target(name):
    for delta in (0.0, 1.0):
        given = outputs()
        judge = Discriminator(4, num_classes=3 if name == "cdan" else 0, hidden=8).double()
        loss = ALIGNMENTS[name](**given, discriminator=judge, delta=delta)
        loss.backward()
        assert torch.isfinite(loss)
    reached = [t.grad for n, t in given.items() if n.startswith("target") and t.grad is not None]
    assert sum(float(g.abs().sum()) for g in reached) > 0

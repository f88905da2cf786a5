"""The objectives of other methods: golden values and gradients, loops over photos and bits, what holds for all."""

import math

import pytest
import torch
from baselines_golden import Golden, tensor
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from concepthash_hf.objectives import OBJECTIVES, Objective, OrthoHash, make_objective

BITS, CLASSES, WIDTH = 16, 5, 12


@pytest.fixture(scope="module")
def golden(shared_dir) -> Golden:
    return Golden(shared_dir)


def made(name: str, bits: int = BITS, classes: int = CLASSES, **constants) -> Objective:
    """An objective as a model starts it."""
    objective = make_objective(name, bits, classes, WIDTH, constants)
    objective.draw()
    if objective.reads_language:
        objective.read(torch.randn(classes, WIDTH))
    return objective


def beside(name: str, logits: Tensor) -> dict[str, Tensor]:
    """What the head of an objective gives beside code logits: here, of features that they are made of linearly."""
    if name != "a2net":
        return {}
    weight = torch.eye(logits.shape[1], 20)
    return {"features": logits @ weight, "reconstruction": logits.tanh() @ weight}


def every_objective() -> list[tuple[str, dict]]:
    variants = [("orthohash", {"targets": "hadamard"}), ("centres", {"language": False})]
    return [(name, {}) for name in OBJECTIVES] + variants


for_all = pytest.mark.parametrize(("name", "constants"), every_objective())


# golden values, of the authors' implementations as Ng et al. run them


def test_cross_entropy(golden):
    """With the identity for a classifier the code logits are the class logits."""
    objective = make_objective("ce", CLASSES, CLASSES, None, {})
    with torch.no_grad():
        objective.classifier.weight.copy_(torch.eye(CLASSES))
        objective.classifier.bias.zero_()
    check(golden, "ce", objective, golden.inputs["LOG"], "logits")


@pytest.mark.parametrize(
    ("case", "alpha", "steps"),
    [("hashnet_ref", 1.0, 0), ("hashnet_alpha01_beta2", 0.1, 200), ("hashnet_alpha10overK", None, 0)],
)
def test_hashnet(golden, case, alpha, steps):
    objective = make_objective("hashnet", BITS, CLASSES, None, {"alpha": alpha})
    objective.start_epoch(steps)  # beta is sqrt(2) after 200 steps
    check(golden, case, objective, golden.inputs["U"], "u")


@pytest.mark.parametrize(("case", "factor"), [("dtsh", 1), ("dtsh_clamped", 4)])
def test_dtsh(golden, case, factor):
    check(golden, case, made("dtsh"), factor * golden.inputs["U"], "u")


def test_dpsh(golden):
    check(golden, "dpsh_hashnet", made("dpsh"), golden.inputs["U"], "u")


def test_greedyhash(golden):
    objective = made("greedyhash")
    use_golden_classifier(objective, golden)
    check(golden, "sgh_ref_alpha01", objective, golden.inputs["U"], "h")
    wanted = golden.case("sgh_ref_alpha01")["grad"]
    torch.testing.assert_close(objective.classifier.weight.grad, tensor(wanted["W"]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(objective.classifier.bias.grad, tensor(wanted["b"]), rtol=1e-5, atol=1e-6)


def test_csq(golden):
    objective = made("csq")
    assert torch.equal(objective.codebook, golden.codebook("hadamard_5x16"))
    check(golden, "csq", objective, golden.inputs["U"], "u")


def test_csq_has_a_gradient_where_tanh_is_saturated(golden):
    """The authors' order of operations loses 67 of them there, and is off by a factor of two."""
    logits = (12 * golden.inputs["U"]).requires_grad_()
    terms = made("csq")(logits, golden.inputs["y"])
    terms["centre"].backward()
    assert terms["centre"].item() == pytest.approx(golden.case("csq_saturated")["exact_center"], rel=1e-5)
    wrong = logits.detach() * golden.codebook("hadamard_5x16")[golden.inputs["y"]] < -1
    assert wrong.sum() > 20 and (logits.grad[wrong].abs() > 1e-3).all()


def test_dpn(golden):
    objective = made("dpn")
    objective.codebook.copy_(golden.codebook("bernoulli_5x16_torch_seed_5"))
    check(golden, "dpn_ref", objective, golden.inputs["U"], "u")


@pytest.mark.parametrize(("case", "labels"), [("orthohash_ref", "y"), ("orthohash_multilabel", "Y_multihot")])
def test_orthohash(golden, case, labels):
    objective = made("orthohash")
    objective.codebook.copy_(golden.codebook("gaussian_sign_5x16_torch_seed_6"))
    check(golden, case, objective, golden.inputs["U"], "v", golden.inputs[labels])


def test_a2net(golden):
    """The same W before the codes and behind them, and no gradient to the features that are restored."""
    objective, case = made("a2net"), golden.case("a2net_ce_ref")
    use_golden_classifier(objective, golden)
    features, weight = (tensor(case["inputs"][name]).requires_grad_() for name in ("f", "W_h"))
    logits = features @ weight.T
    terms = objective(logits, golden.inputs["y"], features=features, reconstruction=logits.tanh() @ weight)
    sum(terms.values()).backward()
    wanted = [case["terms"]["hash"], 0.01 * case["terms"]["decorr"], case["terms"]["rec"]]
    assert [term.item() for term in terms.values()] == pytest.approx(wanted, rel=1e-5)
    assert sum(terms.values()).item() == pytest.approx(case["total"], rel=1e-5)
    for found, name in (
        *((features, "f"), (weight, "W_h")),
        *((objective.classifier.weight, "W"), (objective.classifier.bias, "b")),
    ):
        torch.testing.assert_close(found.grad, tensor(case["grad"][name]), rtol=1e-4, atol=2e-6)


def test_semicon(golden):
    """Of the golden codes, whose tanh is rounded, with their own class logits."""
    objective, case = made("semicon", classes=CLASSES), golden.case("semicon_ce_ref")
    codes = golden.inputs["U"].tanh().mul(1000).round() / 1000
    use_golden_classifier(objective, golden)
    terms = objective(codes.atanh(), golden.inputs["y"])
    assert terms["quantization"].item() == pytest.approx(0.001 * case["terms"]["quan"], rel=1e-5)
    logits = codes @ golden.inputs["W"].T + golden.inputs["b"]
    wanted = torch.nn.functional.cross_entropy(logits, golden.inputs["y"])
    assert terms["classification"].item() == pytest.approx(wanted.item(), rel=1e-5)


def use_golden_classifier(objective: Objective, golden: Golden) -> None:
    with torch.no_grad():
        objective.classifier.weight.copy_(golden.inputs["W"])
        objective.classifier.bias.copy_(golden.inputs["b"])


def check(
    golden: Golden, case: str, objective: Objective, logits: Tensor, name: str, labels: Tensor | None = None
) -> None:
    logits = logits.clone().requires_grad_()
    loss = sum(objective(logits, golden.inputs["y"] if labels is None else labels).values())
    loss.backward()
    wanted = golden.case(case)
    assert loss.item() == pytest.approx(wanted["total"], rel=1e-5)
    torch.testing.assert_close(logits.grad, tensor(wanted["grad"][name]), rtol=1e-4, atol=2e-6)


# loops in float64


def softplus(x: float) -> float:
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def naive_hashnet(rows, labels, objective) -> float:
    codes = [[math.tanh(objective.beta * x) for x in row] for row in rows]
    return naive_pairs(codes, labels, objective.alpha)


def naive_pairs(codes, labels, alpha) -> float:
    by_kind: dict[bool, list[float]] = {True: [], False: []}
    for one, its in zip(codes, labels, strict=True):
        for other, others in zip(codes, labels, strict=True):
            product, similar = alpha * dot(one, other), bool(its & others)
            by_kind[similar].append(softplus(product) - similar * product)
    return mean(by_kind[True]) + mean(by_kind[False])


def naive_dpsh(rows, labels, objective) -> float:
    return naive_pairs(rows, labels, 0.5) + naive_quantization(rows)


def naive_quantization(rows) -> float:
    return mean([(x - math.copysign(1, x)) ** 2 for row in rows for x in row])


def naive_dtsh(rows, labels, objective) -> float:
    anchors = []
    for i, anchor in enumerate(rows):
        losses = []
        for j, positive in enumerate(rows):
            for k, negative in enumerate(rows):
                if labels[i] & labels[j] and not labels[i] & labels[k]:
                    closer = dot(anchor, positive) - dot(anchor, negative) - 5
                    losses.append(softplus(-min(max(closer, -100), 50)))
        if losses:
            anchors.append(mean(losses))
    return mean(anchors) + naive_quantization(rows)


def naive_csq(rows, labels, objective) -> float:
    losses, quantization = [], []
    for row, its in zip(rows, labels, strict=True):
        votes = [sum(objective.codebook[y].tolist()[k] for y in its) for k in range(len(row))]
        for k, x in enumerate(row):
            centre = math.copysign(1, votes[k]) if votes[k] else objective.tie_break[k].item()
            p = (math.tanh(x) + 1) / 2
            losses.append(-math.log(p if centre > 0 else 1 - p))
            quantization.append((abs(math.tanh(x)) - 1) ** 2)
    return mean(losses) + 0.001 * mean(quantization)


def naive_dpn(rows, labels, objective) -> float:
    return mean(
        [
            sum(max(0, 1 - x * t) for y in its for x, t in zip(row, objective.codebook[y].tolist(), strict=True))
            for row, its in zip(rows, labels, strict=True)
        ]
    )


def naive_class_loss(codes, labels, objective) -> float:
    losses = []
    for code, its in zip(codes, labels, strict=True):
        scores = [
            dot(code, row) + b
            for row, b in zip(objective.classifier.weight.tolist(), objective.classifier.bias.tolist(), strict=True)
        ]
        total = math.log(sum(math.exp(score) for score in scores))
        losses.append(mean([total - scores[y] for y in its]))
    return mean(losses)


def naive_a2net(rows, labels, objective) -> float:
    codes = [[math.tanh(x) for x in row] for row in rows]
    bits = range(len(rows[0]))
    correlations = [
        (sum(code[j] * code[k] for code in codes) - len(codes) * (j == k)) ** 2 for j in bits for k in bits
    ]
    # features are the code logits and zeros, see `beside`
    lost = [(h - u) ** 2 for code, row in zip(codes, rows, strict=True) for h, u in zip(code, row, strict=True)]
    return naive_class_loss(codes, labels, objective) + 0.01 * mean(correlations) + sum(lost) / len(rows) / 20


def naive_semicon(rows, labels, objective) -> float:
    codes = [[math.tanh(x) for x in row] for row in rows]
    return naive_class_loss(codes, labels, objective) + 0.001 * naive_quantization(codes)


NAIVE = {
    "hashnet": naive_hashnet,
    "dpsh": naive_dpsh,
    "dtsh": naive_dtsh,
    "csq": naive_csq,
    "dpn": naive_dpn,
    "a2net": naive_a2net,
    "semicon": naive_semicon,
}


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
@given(seed=st.integers(0, 2**31), batch=st.integers(1, 7), scale=st.sampled_from([0.1, 1.0, 3.0]))
def test_as_written_out(name, several, seed, batch, scale):
    torch.manual_seed(seed)
    objective = made(name, bits=8)
    objective.start_epoch(seed % 1000)
    logits = scale * torch.randn(batch, 8)
    hot = torch.rand(batch, CLASSES) < 0.3
    hot[torch.arange(batch), torch.randint(CLASSES, (batch,))] = True
    labels = hot.float() if several else torch.randint(CLASSES, (batch,))
    sets = [set(row.nonzero().flatten().tolist()) for row in hot] if several else [{int(y)} for y in labels]
    wanted = NAIVE[name](logits.double().tolist(), sets, objective)
    found = objective(logits, labels, **beside(name, logits))
    assert sum(found.values()).item() == pytest.approx(wanted, rel=1e-4, abs=1e-5)


# what holds for all


@for_all
def test_one_hot_labels_are_labels(name, constants):
    objective, logits, labels = made(name, **constants), torch.randn(6, BITS), torch.arange(6) % CLASSES
    hot = torch.nn.functional.one_hot(labels, CLASSES)
    one, other = (objective(logits, each, **beside(name, logits)) for each in (labels, hot))
    assert one.keys() == other.keys()
    for term in one:
        torch.testing.assert_close(one[term], other[term])


@for_all
def test_descending_lowers_the_loss_and_brings_classes_together(name, constants):
    """Code logits by themselves, without a network, become codes that tell the classes apart."""
    # more bits than classes cannot be decorrelated where classes agree
    bits = 4 if name == "a2net" else BITS
    objective = made(name, bits, **constants)
    logits = (0.1 * torch.randn(20, bits)).requires_grad_()
    labels = torch.arange(20) % CLASSES
    optimizer = torch.optim.Adam([logits, *objective.parameters()], 0.05)
    losses = []
    for step in range(200):
        objective.start_epoch(step)
        optimizer.zero_grad()
        loss = sum(objective(logits, labels, **beside(name, logits)).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    codes = logits > 0
    same = labels[:, None] == labels
    differing = (codes[:, None] != codes).float().mean(-1)
    assert differing[same].mean() + 0.2 < differing[~same].mean()


TERMS = {
    "ce": ["classification"],
    "centres": ["classification", "quantization"],
    "hashnet": ["pairs"],
    "dpsh": ["pairs", "quantization"],
    "dtsh": ["triplets", "quantization"],
    "greedyhash": ["classification", "quantization"],
    "csq": ["centre", "quantization"],
    "dpn": ["polarization"],
    "orthohash": ["cosine"],
    "a2net": ["classification", "decorrelation", "reconstruction"],
    "semicon": ["classification", "quantization"],
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_terms_bear_the_names_that_logs_show(name):
    logits = torch.randn(4, BITS)
    assert list(made(name)(logits, torch.tensor([0, 0, 1, 1]), **beside(name, logits))) == TERMS[name]


@pytest.mark.parametrize("name", ["hashnet", "dpsh", "dtsh"])
def test_a_batch_of_one_class_is_no_nan(name):
    loss = sum(made(name)(torch.randn(4, BITS), torch.zeros(4, dtype=torch.long)).values())
    assert loss.isfinite()


def test_continuation_makes_hashnet_steeper():
    objective, slopes = made("hashnet"), []
    assert objective.beta == 1
    for steps in (0, 200, 1800):
        objective.start_epoch(steps)
        slopes.append(objective.beta)
    assert slopes == pytest.approx([1, math.sqrt(2), math.sqrt(10)])


@pytest.mark.parametrize("targets", ["random", "hadamard", "language"])
def test_orthohash_never_trains_its_targets(targets):
    objective = OrthoHash(10, 40, WIDTH, targets=targets)
    objective.draw()
    if targets == "language":
        objective.read(torch.randn(40, WIDTH))
    assert list(objective.parameters()) == []
    assert objective.codebook.abs().eq(1).all() and len(objective.codebook.unique(dim=0)) > 35


def test_learned_centres_are_drawn_whatever_the_memory_held():
    """As when a checkpoint without them is loaded."""
    objective = make_objective("centres", 64, 50, None, {"language": False})
    torch.nn.init.constant_(objective.centres, math.nan)
    objective.draw()
    assert objective.centres.std().item() == pytest.approx(1, abs=0.1)
    assert objective.centres.mean().item() == pytest.approx(0, abs=0.1)


def test_unknown_names_and_constants_say_so():
    with pytest.raises(ValueError, match="no objective 'sgh'; there are ce, centres, hashnet"):
        make_objective("sgh", 8, 5, None, {})
    with pytest.raises(ValueError, match="objective 'csq' cannot have {'alpha': 1}"):
        make_objective("csq", 8, 5, None, {"alpha": 1})

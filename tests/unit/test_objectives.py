"""Keys of trainings: each changes, for objectives of our loop, what it says and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from clipshift.study.config.causes import AnyControlled
from clipshift.study.config.objective_base import Vision
from clipshift.study.config.trainings import EpochTraining, Training, changed
from clipshift.training.clip import plan
from clipshift.training.loop import Gradients
from clipshift.training.towers import TowerWithHead, build

VIT: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
RESNET = VIT | {
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
}
CPU = torch.device("cpu")
OBJECTIVES = ["cross_entropy", "simclr"]


def training(**changes: Any) -> Training:
    return Training(**({"model": VIT, "samples": 48, "batch": 8, "checkpoints": 3} | changes))


def controlled(objective: str, **changes: Any) -> Vision:
    given = {"objective": objective, "base": "b", "corpus": "c"}
    return TypeAdapter(AnyControlled).validate_python(given | changes)


def batch(spec: Vision, size: int = 8) -> tuple[Tensor, Tensor]:
    """Views and targets of a batch."""
    generator = torch.Generator().manual_seed(0)
    shape = (size, 2, 3, 32, 32) if spec.views == 2 else (size, 3, 32, 32)
    labels = torch.arange(size) % 3
    return torch.randn(shape, generator=generator), nn.functional.one_hot(labels, 3).float()


def gradients(
    spec: Vision, model: TowerWithHead, parts: int, precision: str = "fp32"
) -> tuple[float, dict[str, Tensor]]:
    """The loss of a batch, and every parameter's gradient."""
    model.zero_grad()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    loss = Gradients(model, spec, precision, parts, CPU, scaler)(*batch(spec))
    return loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@contextmanager
def passes(model: nn.Module) -> Iterator[list[tuple[int, torch.dtype, bool]]]:
    """Images, output's type and whether gradients are kept, of each pass of the vision tower."""
    seen: list[tuple[int, torch.dtype, bool]] = []
    hook = model.visual.register_forward_hook(  # type: ignore[union-attr, operator]
        lambda _, given, out: seen.append((len(given[0]), out.dtype, torch.is_grad_enabled()))
    )
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulated_gradients_are_those_of_the_large_batch(
    tmp_path: Path, objective: str, parts: int
) -> None:
    spec = controlled(objective)
    model = build(training(), spec, 3, 0, tmp_path).double()
    spec_batch = batch(spec)

    def run(count: int) -> tuple[float, dict[str, Tensor]]:
        model.zero_grad()
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        add = Gradients(model, spec, "fp32", count, CPU, scaler)
        loss = add(*(tensor.double() for tensor in spec_batch))
        return loss, {n: p.grad.clone() for n, p in model.named_parameters()}  # type: ignore[union-attr]

    (whole, right), (loss, found) = run(1), run(parts)
    assert loss == pytest.approx(whole, rel=1e-6)
    for name, gradient in right.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize(("objective", "twice"), [("cross_entropy", False), ("simclr", True)])
def test_parts_pass_one_after_the_other(tmp_path: Path, objective: str, twice: bool) -> None:
    spec = controlled(objective)
    model = build(training(), spec, 3, 0, tmp_path)
    with passes(model) as seen:
        gradients(spec, model, 4)
    part = 2 * spec.views
    once = [(part, torch.float32, True)] * 4
    assert seen == ([(part, torch.float32, False)] * 4 if twice else []) + once
    with passes(model) as seen:
        gradients(spec, model, 1)
    assert seen == [(8 * spec.views, torch.float32, True)]


def test_statistics_of_batch_norms_are_kept_once(tmp_path: Path) -> None:
    """As of four steps of a quarter of the batch, however often a part passes."""
    spec = controlled("simclr")
    found, right = (build(training(model=RESNET), spec, 3, 0, tmp_path) for _ in range(2))
    gradients(spec, found, 4)
    views, _ = batch(spec)
    for part in views.chunk(4):
        right(part.transpose(0, 1).flatten(0, 1))
    for (name, one), other in zip(found.named_buffers(), right.buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_both_passes_of_a_part_draw_the_same(tmp_path: Path) -> None:
    """Dropout of patches: of equal parts, one gives the gradient of the other, too."""
    vision = VIT["vision_cfg"] | {"patch_dropout": 0.5, "patch_size": 8}
    spec = controlled("simclr")
    model = build(training(model=VIT | {"vision_cfg": vision}), spec, 3, 0, tmp_path)
    outputs: list[Tensor] = []
    hook = model.register_forward_hook(lambda *given: outputs.append(given[2].detach().clone()))
    gradients(spec, model, 2)
    hook.remove()
    first, second = outputs[:2], outputs[2:]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(*first)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    ("precision", "tower", "weights"),
    [
        ("fp32", torch.float32, torch.float32),
        ("amp", torch.float16, torch.float32),
        ("amp_bf16", torch.bfloat16, torch.float32),
        ("bf16", torch.bfloat16, torch.bfloat16),
    ],
)
def test_precision_is_what_the_tower_computes_in(
    tmp_path: Path, objective: str, precision: str, tower: torch.dtype, weights: torch.dtype
) -> None:
    spec = controlled(objective)
    stored = "bf16" if precision == "bf16" else "fp32"
    model = build(training(), spec, 3, 0, tmp_path, stored)
    with passes(model) as seen:
        loss, found = gradients(spec, model, 1, precision)
    assert seen == [(8 * spec.views, tower, True)]
    assert {p.dtype for n, p in model.named_parameters() if n.endswith("c_fc.weight")} == {weights}
    plain = build(training(), spec, 3, 0, tmp_path)
    right, _ = gradients(spec, plain, 1)
    assert loss == pytest.approx(right, rel=0.05)
    assert all(torch.isfinite(gradient).all() for gradient in found.values())


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("parts", [1, 4])
def test_recomputed_activations_keep_less_and_change_nothing(
    tmp_path: Path, objective: str, parts: int
) -> None:
    spec = controlled(objective)
    model = build(training(), spec, 3, 0, tmp_path)

    def kept() -> tuple[int, dict[str, Tensor]]:
        """Bytes that the tower keeps for the backward pass, at most at once and in sum."""
        count = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            _, found = gradients(spec, model, parts)
        return count, found

    plain, right = kept()
    model.visual.set_grad_checkpointing()  # type: ignore[operator]
    less, found = kept()
    assert less < 0.6 * plain
    assert all(torch.equal(found[name], gradient) for name, gradient in right.items())


def test_batch_decides_steps_and_epochs_the_length() -> None:
    assert plan(training(batch=16))["steps_per_part"] == 1
    assert (
        plan(training(batch=8))["steps_per_part"]
        == plan(training(accumulation=4))["steps_per_part"]
    )
    epochs = EpochTraining(model=VIT, epochs=3, batch=8, checkpoints=3)
    assert plan(epochs.on(16)) == plan(training())


def test_samples_and_epochs_replace_each_other() -> None:
    base = training(lr=0.5)
    longer = changed(base, {"epochs": 90, "checkpoints": 90})
    assert isinstance(longer, EpochTraining)
    assert (longer.epochs, longer.lr, longer.on(7).samples) == (90, 0.5, 630)
    assert changed(longer, {"samples": 48, "checkpoints": 3}) == base
    again = changed(longer, {"epochs": 2})
    assert isinstance(again, EpochTraining) and again.epochs == 2


@pytest.mark.parametrize(
    ("objective", "keys", "message"),
    [
        (
            "simclr",
            {"augmentation": {"scale": [0.5, 1]}},
            "`augmentation` has no effect .*simclr",
        ),
        ("simclr", {"arguments": ["--beta2=0.9"]}, "`arguments` has no effect on .*`simclr`: they"),
        ("cross_entropy", {"arguments": ["--eps=1"]}, "`arguments` has no .*`cross_entropy`"),
        (
            "cross_entropy",
            {"model": RESNET, "grad_checkpointing": True},
            "`grad_checkpointing`",
        ),
        (
            "simclr",
            {"epochs": 3, "epoch_sets": ["val"]},
            "`epoch_sets` has no .*`simclr`",
        ),
        ("cross_entropy", {"epochs": 3, "epoch_sets": ["val"]}, None),
        ("cross_entropy", {"augmentation": {"scale": [0.5, 1]}, "grad_checkpointing": True}, None),
        ("simclr", {"accumulation": 2, "precision": "bf16", "grad_checkpointing": True}, None),
        ("clip", {"arguments": ["--beta2=0.9"], "augmentation": {"scale": [0.5, 1]}}, None),
    ],
)
def test_keys_without_effect_are_errors(
    objective: str, keys: dict[str, Any], message: str | None
) -> None:
    spec = controlled(objective, changes=keys)
    reason = spec.refused(changed(training(), keys))
    if message is None:
        assert reason is None
    else:
        assert reason is not None
        with pytest.raises(ValueError, match=message):
            raise ValueError(reason)


def test_keys_of_the_base_count_unless_the_objective_has_its_own() -> None:
    base = training(arguments=["--eps=1"])
    assert "`arguments`" in (controlled("simclr").refused(base) or "")
    assert controlled("simclr").refused(training(augmentation={"scale": [0.5, 1]})) is None


@pytest.mark.parametrize(
    ("objective", "key", "reader"),
    [("clip", "temperature", "simclr"), ("simclr", "start", "cross_entropy"),
     ("cross_entropy", "text", "clip"), ("clip", "optimizer", "cross_entropy, simclr")],
)  # fmt: skip
def test_keys_of_other_objectives_are_errors(objective: str, key: str, reader: str) -> None:
    with pytest.raises(ValidationError, match=f"`{key}` has no effect on the objective `{objective}"
                       f"`; it is a key of {reader}"):  # fmt: skip
        controlled(objective, **{key: None})


def test_records_keep_the_keys_that_one_block_had() -> None:
    """They are parameters of rules: another order or a key less would train everything again."""
    keys = ["objective", "base", "corpus", "changes", "text", "start", "optimizer", "milestones",
            "temperature", "projection", "crop"]  # fmt: skip
    for objective in ("clip", *OBJECTIVES):
        spec = controlled(objective)
        recorded = spec.model_dump(mode="json")
        assert list(recorded) == keys
        assert TypeAdapter(AnyControlled).validate_python(recorded) == spec
    assert controlled("simclr", crop=0.5).model_dump()["crop"] == 0.5
    assert controlled("clip").model_dump()["temperature"] == 0.1


def test_epochs_that_are_evaluated_end_with_a_checkpoint() -> None:
    with pytest.raises(ValidationError, match="3 `checkpoints` are no multiple of 2 `epochs`"):
        EpochTraining(model=VIT, epochs=2, checkpoints=3, epoch_sets=["val"])
    block = EpochTraining(model=VIT, epochs=2, checkpoints=4, epoch_sets=["val"])
    assert block.by_epoch == (range(1, 3), ["val"])
    plain = EpochTraining(model=VIT, epochs=2, checkpoints=4)
    assert block.of_weights() == plain and "epoch_sets" not in plain.model_dump()

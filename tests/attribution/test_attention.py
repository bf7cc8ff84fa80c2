"""Attention: what is recorded of transformers of all kinds, the methods made of it, and where windows lie."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from sibx.attribution import (
    METHODS,
    Attention,
    Chefer,
    LeGrad,
    RawAttention,
    build_method,
    explain,
    explain_many,
    record_attention,
)
from sibx.attribution._attention_places import Placed
from sibx.attribution.attention import last_stage
from sibx.models import Scored, TinyCNN, TinyViT
from tests.references import attention as reference

NAMES = [name for name, spec in METHODS.items() if spec.kind == "attention"]


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return TinyViT(num_classes=5, width=16, depth=3, heads=2).eval()


def drawn(model):
    """The network with random weights: many start with a head of zeros, and tokens that attend to all alike."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return model.eval()


def torchvision_vit():
    return VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=5)


def torchvision_swin(window=4):
    return SwinTransformer([4, 4], 8, [2], [2], [window, window], num_classes=5)


def timm_vit(**options):
    timm = pytest.importorskip("timm")
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
    return timm.models.VisionTransformer(**shape, **options)


def hugging_face(attention):
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**shape, image_size=32, patch_size=8, num_labels=5, attn_implementation=attention)
    return Scored(transformers.ViTForImageClassification(config), "logits")


NETS = {
    "tiny_vit": lambda: TinyViT(5, width=16, depth=2),
    "torchvision, MultiheadAttention": torchvision_vit,
    "torchvision, windows": torchvision_swin,
    "timm, registers": lambda: timm_vit(reg_tokens=4),
    "timm, mean of tokens": lambda: timm_vit(class_token=False, global_pool="avg"),
    "timm, pooled by attention": lambda: timm_vit(class_token=False, global_pool="map"),
    "transformers, sdpa": lambda: hugging_face("sdpa"),
    "transformers, eager": lambda: hugging_face("eager"),
}


@pytest.mark.parametrize("net", NETS)
class TestNetworks:
    def test_outputs_and_matrices(self, net, images):
        model = drawn(NETS[net]())
        with torch.no_grad():
            expected = model(images)
        for _ in range(2):  # every pass starts anew
            with record_attention(model) as found:
                scores = model(images.requires_grad_())
        assert torch.allclose(scores, expected, atol=1e-6 * float(expected.abs().max()))
        assert len(found) == (3 if "pooled" in net else 2)
        for attention in found:
            assert torch.allclose(attention.weights.sum(-1), torch.ones(()), atol=1e-5)
        gradients = torch.autograd.grad(scores[:, 1].sum(), [a.weights for a in found])
        assert all(g.abs().max() > 0 for g in gradients)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())

    def test_maps(self, net, images):
        """One forward pass gives what each method gives alone, row by row."""
        model, images = drawn(NETS[net]()).double(), images[:2].double()
        alone = {n: build_method(n, model).attribute(images, **target_of(n)) for n in NAMES}
        passes = []
        handle = model.register_forward_hook(lambda *_: passes.append(1))
        together = explain_many(model, images, [1, 2], NAMES)
        handle.remove()
        assert len(passes) == 1
        for name in NAMES:
            assert together[name].shape == (2, 1, 32, 32)
            assert together[name].min() >= 0
            assert together[name].std() > 0 or name == "attention_gradcam"  # zero where no head speaks for it
            assert torch.allclose(alone[name], together[name], atol=1e-12)
            row = build_method(name, model).attribute(images[1:], **target_of(name, 2))
            assert torch.allclose(row, together[name][1:], atol=1e-12)


def target_of(name, target=(1, 2)):
    target = list(target) if isinstance(target, tuple) else target
    return {"target": target} if METHODS[name].uses_target else {}


@pytest.mark.parametrize("name", NAMES)
def test_slow_twin(name, vit, images):
    vit, images = drawn(vit).double(), images.double()
    method = build_method(name, vit)
    method.upsample = False
    found = method.attribute(images, target=[0, 1, 2, 3])
    for target, image in enumerate(images):
        assert torch.allclose(found[target, 0], getattr(reference, name)(vit, image, target), atol=1e-12)


class Averaged(TinyViT):
    """Its head reads the mean of all tokens, the class token among them."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.norm.register_forward_hook(lambda _, args, tokens: tokens.mean(1, keepdim=True))


def test_small_relevance_is_not_lost(images):
    """Beside what a token is to itself it would be rounded away: in rough number formats, or of small weights."""
    model = drawn(Averaged(5, width=16, depth=2, heads=2))
    with torch.no_grad():
        model.classifier.weight *= 2.0**-20
    whole = Chefer(model.double()).attribute(images.double(), target=1)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        ours = Chefer(model.to(dtype)).attribute(images.to(dtype), target=1)
        assert torch.allclose(ours.double(), whole, rtol=0, atol=tolerance * float(whole.max()))


def test_a_loss_on_a_map(vit, images):
    """The gradient of a map of gradients is that of differences."""
    vit = drawn(vit).double()
    for kind in (Chefer, LeGrad, RawAttention):
        method = kind(vit, create_graph=True)

        def loss(method=method):
            return method.attribute(images[:1].double(), target=2).square().sum()

        parameter = vit.blocks[1].attend.enter.weight
        gradient = torch.autograd.grad(loss(), parameter)[0]
        step, place = 1e-5, gradient.abs().argmax()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.view(-1)[place] += sign * step
            values.append(float(loss().detach()))
            with torch.no_grad():
                parameter.view(-1)[place] -= sign * step
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(gradient.view(-1)[place]), rel=1e-3)


@pytest.mark.parametrize("name", ["raw_attention", "rollout"])
def test_scores_that_sum_to_a_constant(name, images):
    """What a head reads does not depend on how its scores are written, on the target, or on further methods."""
    logit, classes = (drawn(Averaged(k, width=16, depth=2, heads=2)) for k in (1, 5))
    expected = explain(logit, images, name, output="raw")
    assert torch.equal(explain(logit, images, name), expected)
    for target in (0, 1):
        assert torch.equal(explain_many(logit, images, target, [name, "chefer"])[name], expected)
    for last in (lambda z: z.softmax(1), lambda z: z - z.mean(1, keepdim=True)):
        assert torch.equal(*(build_method(name, m).attribute(images) for m in (classes, Scored(classes, last))))


class Function(nn.Module):
    def forward(self, *args, **kwargs):
        return F.scaled_dot_product_attention(*args, **kwargs)


MASK = torch.ones(5, 5, dtype=torch.bool).tril()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": MASK},
        {"attn_mask": torch.where(MASK, 0.5, -torch.inf)},
        {"attn_mask": MASK & (torch.arange(5) > 0)[:, None]},  # a query that sees nothing
        {"enable_gqa": True},
    ],
    ids=lambda options: "-".join(options),
)
def test_attention_with_all_options(options):
    torch.manual_seed(0)
    heads = 2 if "enable_gqa" in options else 4
    query, key, value = torch.randn(2, 4, 5, 8), torch.randn(2, heads, 5, 8), torch.randn(2, heads, 5, 8)
    model = Function()
    with record_attention(model) as found:
        result = model(query, key, value, **options)
    assert torch.allclose(result, model(query, key, value, **options), atol=1e-6)
    assert found[0].weights.shape == (2, 4, 5, 5)


@pytest.mark.parametrize("window", [4, 3])  # 3 does not divide the grid of 8: it is padded
@pytest.mark.parametrize("shift", [0, 1])
def test_windows_lie_where_they_were_cut(window, shift, images):
    swin, images = drawn(torchvision_swin(window)), images.requires_grad_()
    with record_attention(swin) as found:
        swin(images)
    dense = Placed(found[shift], 4, "Swin").dense(found[shift].weights)
    assert dense.shape == (4, 2, 64, 64)
    padded = -(-8 // window) * window
    numbers = F.pad(torch.arange(64.0).view(1, 8, 8), (0, padded - 8, 0, padded - 8), value=-1)
    numbers = numbers.roll((-(window // 2) * shift,) * 2, (1, 2))
    windows = F.unfold(numbers, window, stride=window).T.long()  # (windows, n)
    assert not (window == 3 and shift) or (windows[-1] >= 0).any()
    for w, tokens in enumerate(windows):
        real = tokens >= 0
        part = found[shift].weights.view(4, len(windows), 2, window**2, window**2)[:, w][..., real, :][..., real]
        assert torch.equal(dense[..., tokens[real], :][..., tokens[real]], part)
    assert int((dense[0, 0] > 0).sum()) <= sum(int((t >= 0).sum()) ** 2 for t in windows)


@pytest.mark.parametrize("broken", [[0], [1], [0, 1]], ids=str)
def test_a_broken_image_among_windows(broken, images):
    """Its map is NaN, that of the others is theirs."""
    swin, spoiled = drawn(torchvision_swin()).double(), images[:2].double()
    expected = explain_many(swin, spoiled, 1, NAMES)
    spoiled[broken, 0, 0, 0] = torch.nan
    for name, maps in explain_many(swin, spoiled, 1, NAMES).items():
        for row in range(2):
            same = torch.allclose(maps[row], expected[name][row], atol=1e-12)
            assert maps[row].isnan().all() if row in broken else same


class Mix(nn.Module):
    """Attention between tokens, or between their channels."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, tokens):
        flat = tokens.mT if self.channels else tokens
        mixed = (flat @ flat.mT).softmax(2) @ flat
        return mixed.mT if self.channels else mixed


class Mixer(nn.Module):
    """A network with one block of attention, of some of its tokens."""

    def __init__(self, tokens=16, channels=False):
        super().__init__()
        self.tokens, self.embed, self.mix, self.head = tokens, nn.Conv2d(3, 12, 8, 8), Mix(channels), nn.Linear(12, 5)

    def forward(self, images):
        tokens = self.embed(images).flatten(2).mT[:, : self.tokens]
        return self.head(self.mix(tokens).mean(1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TinyCNN(5), r"`model` must have attention that torch's functions compute .*'TinyCNN'"),
        (lambda: Mixer(tokens=3), r"`model` must attend between tokens that fill a grid .* but got 3 tokens"),
        (lambda: Mixer(channels=True), r"`model` must have attention between all tokens .* \(4, 12, 12\) of 4 images"),
    ],
    ids=["no attention", "no grid", "channels"],
)
def test_what_cannot_be_placed(name, build, message, images):
    with pytest.raises(ValueError, match=message):
        build_method(name, build().eval()).attribute(images, **target_of(name, 1))


def test_a_function_has_no_attention():
    with pytest.raises(ValueError, match=r"`model` must be a torch.nn.Module"), record_attention(lambda x: x):
        pass
    with pytest.raises(ValueError, match=r"`forward_func` must be a torch.nn.Module"):
        Chefer(lambda images: images)


class Unasked(TinyViT):
    """Pools by attention behind the scores, which they do not depend on."""

    def forward(self, images):
        scores, tokens = super().forward(images), self.embed(images).flatten(2).mT[:, None]
        for _ in range(2):
            F.scaled_dot_product_attention(tokens[:, :, :1], tokens, tokens)
        return scores


class Inline(TinyViT):
    """Its blocks run without being called as modules."""

    def forward(self, images):
        blocks, self.blocks = self.blocks, nn.Identity()
        self.blocks.forward = lambda tokens: [tokens := self.step(block, tokens) for block in blocks][-1]
        try:
            return super().forward(images)
        finally:
            self.blocks = blocks

    @staticmethod
    def step(block, tokens):
        tokens = tokens + block.attend.forward(block.norm_1(tokens))
        return tokens + block.mix(block.norm_2(tokens))


def test_blocks_that_are_added_later(images):
    """What is known of a network is that of its present blocks."""
    longer = drawn(TinyViT(5, width=16, depth=3, heads=2))
    expected = LeGrad(longer).attribute(images, target=1)
    last, longer.blocks = longer.blocks[2], longer.blocks[:2]
    shorter = LeGrad(longer).attribute(images, target=1)
    assert not torch.equal(shorter, expected)
    longer.blocks.append(last)
    assert torch.equal(LeGrad(longer).attribute(images, target=1), expected)


def test_blocks_that_are_no_modules(images):
    """They do for all methods but LeGrad, whose head needs their tokens."""
    torch.manual_seed(0)
    model, plain = (drawn(build(5, width=16, depth=2, heads=2)) for build in (Inline, TinyViT))
    ours, expected = (Chefer(m).attribute(images, target=1) for m in (model, plain))
    assert torch.allclose(ours, expected)
    with pytest.raises(ValueError, match=r"`model` must attend in blocks that are modules, .* 'Inline'"):
        LeGrad(model).attribute(images, target=1)


def test_a_pool_that_no_score_asks_is_left_out(images):
    torch.manual_seed(0)
    model, plain = (drawn(build(5, width=16, depth=2, heads=2)) for build in (Unasked, TinyViT))
    for name in NAMES:
        ours, expected = (build_method(name, m).attribute(images, **target_of(name, 1)) for m in (model, plain))
        assert torch.equal(ours, expected)


def test_the_last_stage():
    """It begins behind the last merging, also where attention itself merges: fewer queries than keys."""
    sizes = [(16, 16, 16), (16, 16, 16), (4, 16, 4), (4, 4, 4), (4, 4, 4)]
    found = [Attention(torch.zeros(2, 3, q, k), tokens=torch.zeros(2, n, 8)) for q, k, n in sizes]
    assert last_stage(found) == found[3:]
    assert last_stage(found[:2]) == found[:2]
    assert last_stage(found[:3]) == found[2:3]


class Bound(TinyViT):
    """A head that knows how many images there are."""

    def __init__(self, pick):
        super().__init__(5, width=16, depth=2, heads=2)
        self.pick = pick

    def forward(self, images):
        self.norm.register_forward_pre_hook(lambda _, args: (self.pick(args[0], len(images)),))
        return super().forward(images)


@pytest.mark.parametrize(
    "pick",
    [lambda tokens, batch: tokens[:batch], lambda tokens, batch: tokens.view(batch, 17, 16)],
    ids=["leaves out", "fails"],
)
def test_a_head_that_takes_no_further_rows(pick, images):
    with pytest.raises(ValueError, match=r"`model` must have a head that takes the tokens of .* layers at once"):
        LeGrad(Bound(pick).eval()).attribute(images, target=1)

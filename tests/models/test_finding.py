"""The layer that is found: by what happens when a model runs, for the images at hand."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models as tv

from sibx.attribution import GradCAM
from sibx.models import find_cam_layer, find_cam_layers, receptive_field, record, resolve_layer
from sibx.models.finding import own_side


class Tokens(nn.Module):
    """A transformer in small: patches, blocks with attention, and a score made of the class token or of all tokens."""

    def __init__(self, pool="token", width=8):
        super().__init__()
        self.pool, self.patch = pool, nn.Conv2d(3, width, 8, 8)
        self.first = nn.Parameter(torch.randn(1, 1, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.blocks = nn.ModuleList(Attention(width) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x):
        assert x.shape[2:] == (48, 64), "built for one size"
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        x = self.norm(x)
        return self.head(x[:, 0] if self.pool == "token" else x[:, 1:].mean(1))


class Attention(nn.Module):
    """Attention whose keys, values and weights pass through modules."""

    def __init__(self, width):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.drop, self.out = nn.Dropout(0.1), nn.Linear(width, width)

    def forward(self, x):
        weights = self.drop((self.query(x) @ self.key(x).transpose(1, 2)).unsqueeze(1).softmax(-1)).squeeze(1)
        return self.out(weights @ self.value(x))


class Convolved(Attention):
    """Attention whose keys and values are convolutions of the patches."""

    def __init__(self, width):
        super().__init__(width)
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1) for _ in range(2))

    def forward(self, x):
        patches = x[:, 1:].transpose(1, 2).unflatten(2, (6, 8))
        key, value = (torch.cat([x[:, :1], c(patches).flatten(2).mT], 1) for c in self.convolutions)
        return self.out((self.query(x) @ key.mT).softmax(-1) @ value)


class Tuples(nn.Module):
    """Blocks that return (features, weights), as many of transformers do; only within a block is there a map else."""

    def __init__(self):
        super().__init__()
        self.patch, self.block, self.fc = nn.Conv2d(3, 6, 4, 4), TupleBlock(), nn.Linear(6, 4)

    def forward(self, x):
        features, weights = self.block(self.patch(x))
        assert weights is None
        return self.fc(features.mean((2, 3)))


class TupleBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = nn.Conv2d(6, 6, 3, 1, 1)

    def forward(self, x):
        return x + self.branch(x), None


class Net(nn.Module):
    """Two convolutions, with whatever happens to their output."""

    def __init__(self, tail, channels=6):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(5, channels, 3, 2, 1)
        self.act, self.fc, self.tail = nn.ReLU(), nn.Linear(channels, 4), tail

    def forward(self, x, *others):
        return self.fc(self.tail(self, x, *others))


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class TestRule:
    @pytest.mark.parametrize(("pool", "layer"), [("token", "norms.1"), ("mean", "norm")])
    def test_tokens(self, pool, layer):
        """Behind the last attention the scores depend on the class token alone; pooled tokens count to the end."""
        assert find_cam_layer(Tokens(pool), torch.randn(1, 3, 48, 64)) == layer

    def test_attention_that_convolves(self):
        model = Tokens()
        model.blocks = nn.ModuleList(Convolved(8) for _ in range(2))
        assert find_cam_layer(model, torch.randn(1, 3, 48, 64)) == "norms.1"

    def test_blocks_that_return_tuples(self):
        """The features of a block, and not the branch that is added to them."""
        model = Tuples()
        assert find_cam_layer(model, IMAGES) == "block"
        layer = resolve_layer(model, None, IMAGES)
        with record(model, {"a": layer}) as outputs:
            logits = model(IMAGES)
        a = model.block(model.patch(IMAGES))[0]
        assert torch.equal(outputs["a"], a)
        (gradient,) = torch.autograd.grad(logits[:, 1].sum(), outputs["a"])
        assert torch.allclose(gradient, model.fc.weight[1].view(1, -1, 1, 1).expand_as(a) / 64)
        with record(model, {"a": layer}, {"a": torch.zeros_like}):
            assert torch.allclose(model(IMAGES), model.fc.bias.expand(2, -1))
        assert receptive_field(model, layer, IMAGES) == ((4, 4), (1.5, 1.5))

    def test_a_block_that_returns_several_maps_is_no_layer(self):
        model = Tuples()
        model.block.forward = lambda x: (x, model.block.branch(x))
        model.forward = lambda x: model.fc(model.block(model.patch(x))[1].mean((2, 3)))
        assert find_cam_layer(model, IMAGES) == "block.branch"
        with pytest.raises(ValueError, match=r"`layer` 'block' must output a feature map .* but got a tuple"):
            GradCAM(model, "block").attribute(IMAGES, 0)

    @pytest.mark.parametrize(
        ("tail", "layer"),
        [
            (lambda s, x: s.two(s.one(x).relu()).mean((2, 3)), "two"),
            (lambda s, x: F.relu(s.two(F.relu(s.one(x)))).mean((2, 3)), "two:relu"),
            (lambda s, x: F.relu(s.two(F.relu(s.one(x))), inplace=True).mean((2, 3)), "two:relu"),
            (lambda s, x: F.hardswish(s.two(s.one(x))).mean((2, 3)), "two:hardswish"),
            (lambda s, x: s.act(s.two(s.one(x))).mean((2, 3)), "act"),
            (lambda s, x: s.act(s.two(s.act(s.one(x)))).mean((2, 3)), "two:relu"),  # act runs twice
            (lambda s, x: s.two(y := s.one(x)).detach().mean((2, 3)) + y.mean((1, 2, 3)).unsqueeze(1), "one"),
        ],
        ids=["last", "function", "in place", "hardswish", "module", "shared module", "no gradient"],
    )
    def test_maps(self, tail, layer):
        assert find_cam_layer(Net(tail), IMAGES) == layer

    def test_a_head_of_zeros(self):
        """A new head may start at zero, where no score depends on anything."""
        model = Tokens()
        nn.init.zeros_(model.head.weight)
        assert find_cam_layer(model, torch.randn(1, 3, 48, 64)) == "norms.1"

    def test_without_any_gradient(self):
        model = Net(torch.no_grad()(lambda s, x: s.act(s.two(s.one(x))).mean((2, 3))))
        assert find_cam_layer(model, IMAGES) == "act"
        nested = Net(lambda s, x: s.inner(x))
        nested.inner = nn.Sequential(Net(lambda s, x: s.two(s.one(x)).mean((2, 3))), nn.Linear(4, 6))
        nested.forward = torch.no_grad()(nested.forward)
        assert find_cam_layer(nested, IMAGES) == "inner.0.two"

    def test_what_is_no_map_of_every_image(self):
        """Neither a term of positions (one row for all images), nor windows (more rows), nor a single cell."""

        class Odd(nn.Module):
            def __init__(self):
                super().__init__()
                self.map, self.term, self.windows = nn.Conv2d(3, 4, 4, 4), nn.Identity(), nn.Identity()
                self.position, self.pooled = nn.Parameter(torch.randn(1, 4, 8, 8)), nn.Identity()

            def forward(self, x):
                x = self.map(x) + self.term(1 * self.position)
                x = self.windows(x.unflatten(3, (2, 4)).permute(0, 3, 1, 2, 4).flatten(0, 1)).unflatten(0, (-1, 2))
                return self.pooled(x.mean((1, 3, 4))[..., None, None]).flatten(1)

        assert find_cam_layer(Odd(), IMAGES) == "map"

    def test_modes_and_hooks_stay(self):
        model = Tokens().train()
        model.norm.eval()
        find_cam_layer(model, torch.randn(1, 3, 48, 64))
        assert model.training
        assert not model.norm.training
        assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
        assert all(p.grad is None for p in model.parameters())


class TestImages:
    """Size, channels, precision and further arguments are those of the images at hand."""

    @pytest.mark.parametrize(("side", "layer"), [(32, "layer3"), (64, "layer4")])
    def test_a_single_cell_is_no_map(self, side, layer):
        model = tv.resnet18(weights=None, num_classes=4).eval()
        assert find_cam_layer(model, torch.randn(1, 3, side, side)) == layer
        assert find_cam_layer(model, side) == layer

    def test_channels_precision_and_further_arguments(self):
        model = Net(lambda s, x, y: s.act(s.two(s.one(torch.cat([x, y], 1)))).mean((2, 3))).double()
        two, one = torch.randn(3, 2, 16, 16, dtype=torch.float64), torch.randn(3, 1, 16, 16, dtype=torch.float64)
        assert find_cam_layer(model, two, one) == "act"

    @pytest.mark.parametrize("where", ["image_size", "img_size", "config", "pretrained_cfg"])
    def test_the_models_own_size(self, where):
        model = Tokens()
        if where == "config":
            model.config = type("Config", (), {"image_size": (48, 64)})()
        elif where == "pretrained_cfg":
            model.pretrained_cfg = {"input_size": (3, 48, 64)}
        else:
            setattr(model.patch, where, (48, 64))
        assert find_cam_layer(model) == "norms.1"
        assert own_side(model) is None  # no square

    def test_looked_up_once(self):
        model, runs = Net(lambda s, x: s.act(s.two(s.one(x))).mean((2, 3))), []
        model.register_forward_hook(lambda *_: runs.append(1))
        assert [find_cam_layer(model, IMAGES[n:]) for n in (0, 1)] == ["act", "act"]
        assert len(runs) == 1
        model.act = nn.Identity()  # what was found is no part of the model any more
        assert find_cam_layer(model, IMAGES) == "act"
        assert len(runs) == 2

    def test_other_inputs(self):
        with pytest.raises(ValueError, match=r"`layer` must be given for inputs other than images .* \(2, 3, 8\)"):
            find_cam_layer(Tokens(), torch.randn(2, 3, 8))


class TestFollowed:
    def test_is_the_functions_result(self):
        model = Net(lambda s, x: F.relu(s.two(F.relu(s.one(x))), inplace=True).mean((2, 3)))
        layer = resolve_layer(model, "two:relu")
        with record(model, {"a": layer}) as outputs:
            logits = model(IMAGES)
        a = model.two(model.one(IMAGES).relu()).relu()
        assert torch.equal(outputs["a"], a)
        (gradient,) = torch.autograd.grad(logits[:, 1].sum(), outputs["a"])
        assert torch.allclose(gradient, model.fc.weight[1].view(1, -1, 1, 1).expand_as(a) / 64)

    def test_is_rewritten(self):
        model = Net(lambda s, x: F.relu(s.two(s.one(x))).mean((2, 3)))
        layer = resolve_layer(model, "two:relu")
        with record(model, {"a": layer}, {"a": lambda a: 0 * a - 1}):
            logits = model(IMAGES)
        assert torch.allclose(logits, model.fc(-torch.ones(2, 6)))

    def test_errors(self):
        model = Net(lambda s, x: s.two(s.one(x)).mean((2, 3)))
        with pytest.raises(ValueError, match=r"`layer` must be one of .*did you mean 'two'"):
            resolve_layer(model, "too:relu")
        with pytest.raises(ValueError, match=r"`layer` must be one of .*did you mean 'relu'"):
            resolve_layer(model, "two:relo")


def test_layers_before_the_last_one():
    """The last map of every finer grid; of a transformer, whose grids are one, the norms of the blocks."""
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Conv2d(3 if i == 0 else 4, 4, 3, 2, 1), nn.ReLU()) for i in range(3)]
    network = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert find_cam_layers(network, 2) == ["2", "1"]
    assert find_cam_layers(network, 9) == ["2", "1", "0"]
    assert find_cam_layers(network, 1) == [find_cam_layer(network)]
    tokens = tv.VisionTransformer(32, 8, 3, 2, 16, 32)
    names = find_cam_layers(tokens, 2)
    assert names == [f"encoder.layers.encoder_layer_{i}.ln_1" for i in (2, 1)]
    with pytest.raises(ValueError, match="`count` must be"):
        find_cam_layers(network, 0)


@pytest.mark.parametrize(
    ("build", "names"),
    [
        # The last map of the finer grid lies inside the next block, beside its shortcut: not all the scores know of
        # the image passes there.
        (tv.resnet50, ["layer4", "layer3", "layer2", "layer1"]),
        (tv.resnet18, ["layer4", "layer3", "layer2", "layer1"]),
        (tv.densenet121, ["features:relu", *(f"features.transition{i}.conv" for i in (3, 2, 1))]),
        (tv.mobilenet_v2, ["features", *(f"features.{i}.conv.0" for i in (14, 7, 4))]),
        # Its attention matrices look like a grid, which no way leads through.
        (tv.swin_t, ["permute", "features.5", "features.3", "features.1"]),
    ],
)
def test_no_branch_leads_around_a_stage(build, names):
    torch.manual_seed(0)
    network = build(num_classes=3).eval()
    images = torch.randn(1, 3, 64, 64)
    assert find_cam_layers(network, 4, images) == names
    with record(network, {"cut": resolve_layer(network, "stage:-2", images)}, {"cut": torch.zeros_like}):
        assert torch.equal(*network(torch.cat([images, -images])).split(1))  # nothing is known of the image any more


def test_a_stage_is_a_name():
    """A stage is looked up for the images: at 32 pixels the last map of this network has one cell."""
    torch.manual_seed(0)
    steps = [nn.Sequential(nn.Conv2d(3 if i == 0 else 4, 4, 3, 2, 1), nn.ReLU()) for i in range(5)]
    network = nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    large, small = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 32, 32)
    for images, names in ((large, ("4", "3", "2")), (small, ("3", "2", "1"))):
        for back, name in enumerate(names, 1):
            assert resolve_layer(network, f"stage:-{back}", images) is resolve_layer(network, name)
            assert torch.equal(*(GradCAM(network, n).attribute(images, 0) for n in (f"stage:-{back}", name)))
    with pytest.raises(ValueError, match=r"`layer` must be a stage of Sequential, which has 4 .*, but got 'stage:-5'"):
        resolve_layer(network, "stage:-5", small)
    for wrong in ("stage:-0", "stage:1", "stage:last", "stage:-1:relu"):
        with pytest.raises(ValueError, match=f'`layer` must be "stage:-1" for the last stage .* but got {wrong!r}'):
            resolve_layer(network, wrong)
    for wrong in ("stage", "", ":relu", "Stage:-1"):
        with pytest.raises(ValueError, match=r"`layer` must be one of 0, 0\.0, "):
            resolve_layer(network, wrong)


def test_a_module_may_be_called_stage():
    network = nn.Sequential(OrderedDict(stage=nn.Conv2d(3, 2, 3), rest=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()))
    assert resolve_layer(network, "stage") is network.stage
    assert resolve_layer(network, "stage:relu").module is network.stage
    assert resolve_layer(network, "stage:-1", IMAGES) is network.stage


def test_a_network_that_changes():
    """What was found before does not stand for what was added since."""
    one, two = (nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.ReLU()) for _ in range(2))
    network = nn.Sequential(one, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert find_cam_layer(network, IMAGES) == "0"
    network.insert(1, two)
    assert find_cam_layer(network, IMAGES) == "1"
    del network[1]
    assert find_cam_layer(network, IMAGES) == "0"

import pytest
import torch
from torch import nn

from fastxai.errors import CannotRun
from fastxai.models import DirectionalDerivatives, Model, pack_directions
from fastxai.models.forward_mode import directional_derivatives
from fastxai.models.probes import unpack_directions
from fastxai.types import Preprocess, Settings

SIZE, CLASSES = 32, 7


class Squeeze(nn.Module):
    """Squeeze and excitation: channels scaled by a gate that depends on all of the picture."""

    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.up(nn.functional.silu(self.down(x.mean((2, 3), keepdim=True)))))


class Mobile(nn.Module):
    """Batch norm, depthwise convolutions, padding by hand, gates, residuals, activations in place and not."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True))
        self.block = nn.Sequential(
            nn.Conv2d(8, 24, 1, bias=False),
            nn.BatchNorm2d(24, affine=False),
            nn.Hardswish(),
            nn.Conv2d(24, 24, 3, padding=1, groups=24),
            nn.ReLU(),
            Squeeze(24),
            nn.Conv2d(24, 8, 1),
        )
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.stem(nn.functional.pad(x, (0, 1, 0, 1), value=0.3))
        y = self.block(x)
        y += x
        return self.head(self.pool(nn.functional.gelu(y)).mean((2, 3)))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.head(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def seeded(factory):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = factory()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(std=0.1)
                part.running_var.uniform_(0.5, 2.0)
    return module.eval().requires_grad_(False)


def resnet18():
    import torchvision

    return torchvision.models.resnet18(weights=None, num_classes=CLASSES)


def rows(count, directions, generator):
    """Points, differences and numbered parts; one part more than there are directions."""
    points, differences = torch.randn(2, count, 3, SIZE, SIZE, generator=generator)
    parts = torch.randint(0, directions + 1, (count, SIZE, SIZE), generator=generator)
    return points, differences, parts


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


def by_gradients(module, points, differences, parts, directions):
    """[R, classes, D] the other way round: a backward pass a class, then sums of gradient times difference."""
    points = points.clone().requires_grad_()
    scores = module(points)
    found = []
    for k in range(scores.shape[1]):
        (gradient,) = torch.autograd.grad(scores[:, k].sum(), points, retain_graph=True)
        product = (gradient * differences).sum(1)
        found.append(torch.stack([(product * (parts == d)).sum((1, 2)) for d in range(directions)], 1))
    return scores.detach(), torch.stack(found, 1)


@pytest.mark.parametrize("factory", [Mobile, Transformer, resnet18])
def test_forward_products_are_sums_of_gradients(factory, generator):
    module, directions = seeded(factory), 5
    points, differences, parts = rows(2, directions, generator)
    model = Model(module, Preprocess((SIZE, SIZE), None), precision="fp32", compile=False, device="cpu")
    targets = torch.tensor([[6, 0, 3], [1, 1, 5]])
    with model.open(Settings()) as session:
        probe = DirectionalDerivatives(directions)
        found = session.read(probe, pack_directions(points, differences, parts), targets)
    scores, derivatives = by_gradients(module, points, differences, parts, directions)
    wanted = derivatives.gather(1, targets[:, :, None].expand(-1, -1, directions))
    assert found.gradients is None
    assert found.derivatives.shape == (2, 3, directions)
    # float32 sums of thousands of products in two orders
    torch.testing.assert_close(found.derivatives, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())
    torch.testing.assert_close(found.scores, scores.gather(1, targets), rtol=1e-4, atol=1e-5)


def test_low_precision_stays_close(generator):
    """bf16 keeps 8 bits; layers that autocast would keep in float32 take their input as it comes."""
    points, differences, parts = rows(2, 4, generator)
    for factory in (Mobile, Transformer):
        model = Model(seeded(factory), Preprocess((SIZE, SIZE), None), compile=False, device="cpu")
        targets = torch.arange(CLASSES).expand(2, -1)
        readings = []
        for precision in ("fp32", "bf16"):
            with model.open(Settings(precision=precision)) as session:
                packed = pack_directions(points, differences, parts)
                readings.append(session.read(DirectionalDerivatives(4), packed, targets).derivatives)
        exact, rough = readings
        assert rough.dtype == torch.float32
        assert (rough - exact).norm() < 0.05 * exact.norm()


def test_a_row_does_not_depend_on_its_neighbours(generator):
    # four: torch computes a sigmoid's last numbers, those that fill no pair of vectors (16 with AVX2), in another way
    points, differences, parts = rows(4, 4, generator)
    module = seeded(Mobile)
    _, tangents = unpack_directions(pack_directions(points, differences, parts), 4)
    scores, derivatives = directional_derivatives(module, points, tangents)
    for order in ([2, 0, 3, 1], [1, 1, 1, 1]):
        again = directional_derivatives(module, points[order], tangents[:, order])
        assert torch.equal(again[0], scores[order])
        assert torch.equal(again[1], derivatives[:, order])


def test_the_forward_pass_is_run_once(generator):
    points, differences, parts = rows(2, 6, generator)
    module, seen = seeded(Mobile), []

    def forward(inputs):
        seen.append(inputs.shape)
        return module(inputs)

    directional_derivatives(forward, points, unpack_directions(pack_directions(points, differences, parts), 6)[1])
    assert seen == [points.shape]


def test_packed_rows_come_apart_again(generator):
    points, differences, parts = rows(3, 4, generator)
    found, tangents = unpack_directions(pack_directions(points, differences, parts), 4)
    assert torch.equal(found, points)
    assert tangents.shape == (4, 3, 3, SIZE, SIZE)
    for d in range(4):
        assert torch.equal(tangents[d], differences * (parts == d).unsqueeze(1))
    shared = pack_directions(points, differences[:1], parts)
    assert torch.equal(shared[:, 3:6], differences[:1].expand(3, -1, -1, -1))


class WritesOnItsInput(Mobile):
    def forward(self, x):
        return super().forward(x.mul_(0.5))


def test_a_module_that_writes_on_its_input(generator):
    points, differences, parts = rows(2, 4, generator)
    targets = torch.zeros(2, 1, dtype=torch.int64)
    module = seeded(WritesOnItsInput)
    model = Model(module, Preprocess((SIZE, SIZE), None), precision="fp32", compile=False, device="cpu")
    packed = pack_directions(points, differences, parts)
    with model.open(Settings()) as session:
        first = session.read(DirectionalDerivatives(4), packed, targets)
        second = session.read(DirectionalDerivatives(4), packed, targets)
    assert torch.equal(first.derivatives, second.derivatives)
    _, wanted = by_gradients(lambda x: Mobile.forward(module, x * 0.5), points, differences, parts, 4)
    torch.testing.assert_close(first.derivatives, wanted[:, :1], rtol=1e-4, atol=1e-5)


class Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.mean((2, 3))

    @staticmethod
    def backward(ctx, gradient):
        raise AssertionError


class NoForwardMode(nn.Module):
    def forward(self, x):
        return Backward.apply(x)


def test_a_model_without_forward_mode_is_told_of(generator):
    model = Model(NoForwardMode(), Preprocess((SIZE, SIZE), None), precision="fp32", compile=False, device="cpu")
    packed = pack_directions(*rows(1, 2, generator))
    with model.open(Settings()) as session, pytest.raises(CannotRun, match="forward mode does not go through"):
        session.read(DirectionalDerivatives(2), packed, torch.zeros(1, 1, dtype=torch.int64))

"""What compiles and what is refused; torch itself is the reference."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cloakwork_privacy.compiler.trace import trace
from cloakwork_privacy.errors import PrivacyError

RANDOM = np.random.default_rng(3)


class Forward(nn.Module):
    def __init__(self, forward, **parts):
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.run(self, x)


def example(*shape):
    return np.abs(RANDOM.normal(size=(3, *shape)))


def logits(module, records):
    with torch.no_grad():
        return copy.deepcopy(module).double().eval()(torch.tensor(records)).reshape(len(records), -1).numpy()


def everything(self, x):
    y = functional.relu_(self.norm(self.conv(x)))
    y = y + 0.5 * self.conv2(y)
    y = functional.pad(self.pool(y), (1, 0, 0, 1))
    y = y.permute(0, 2, 1, 3).reshape(x.shape[0], -1)
    y = self.drop(self.dense(y)) * self.scale - 2 / self.scale
    y = torch.cat(
        [y, -y / 3, y**2, y * y, y.square(), functional.gelu(y), functional.silu(y), y.tanh(), y.sigmoid()], 1
    )
    y = y - y.mean(dim=1, keepdim=True)
    left, right = y.unsqueeze(1).transpose(1, 2).squeeze(-1).chunk(2, dim=1)
    return left - right[:, :1] * 3 + y @ self.mix


def test_everything_accepted():
    torch.manual_seed(0)
    module = Forward(
        everything,
        conv=nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False),
        conv2=nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2),
        norm=nn.BatchNorm2d(4),
        pool=nn.AdaptiveAvgPool2d(2),
        dense=nn.Linear(36, 4),
        drop=nn.Dropout(),
        scale=nn.Parameter(torch.rand(4) + 1),
        mix=nn.Buffer(torch.rand(36, 18, dtype=torch.float64)),
    )
    records = example(2, 8, 8)
    traced = trace(module, records)
    assert module.training
    assert module.conv.weight.dtype == torch.float32
    assert traced.finish == "none"
    assert traced.outputs == 18
    assert traced.run(torch.tensor(records)).detach().numpy() == pytest.approx(logits(module, records))
    one = traced.run(torch.tensor(records[:1])).detach().numpy()
    assert one == pytest.approx(logits(module, records[:1]))
    made = [node.activation for node in traced.nodes if node.kind == "activation"]
    assert made == ["relu", "square", "square", "square", "gelu", "silu", "tanh", "sigmoid"]
    assert "layer conv (Conv2d)" in {node.where for node in traced.nodes}


SPELLINGS = [
    (nn.ReLU(inplace=True), "relu"),
    (nn.SiLU(), "silu"),
    (Forward(lambda _, x: x * torch.sigmoid(x)), "silu"),
    (nn.GELU(), "gelu"),
    (nn.GELU("tanh"), "gelu"),
    (nn.Sigmoid(), "sigmoid"),
    (nn.Tanh(), "tanh"),
    (Forward(lambda _, x: torch.pow(x, 2.0)), "square"),
]


def test_activations_are_known_by_every_spelling():
    """All in one module, as exporting takes the time."""
    spellings = nn.ModuleList(nn.Sequential(nn.Linear(3, 2), spelling) for spelling, _ in SPELLINGS)
    module = Forward(lambda self, x: torch.cat([each(x) for each in self.all], 1), all=spellings)
    traced = trace(module, example(3))
    made = [node.activation for node in traced.nodes if node.kind == "activation"]
    assert made == [activation for _, activation in SPELLINGS]


@pytest.mark.parametrize(
    ("last", "size", "finish"),
    [
        (nn.Softmax(dim=-1), 3, "softmax"),
        (nn.LogSoftmax(dim=1), 3, "softmax"),
        (nn.Sequential(nn.Sigmoid(), nn.Flatten(0)), 1, "binary"),
        (nn.Sigmoid(), 2, "none"),
        (nn.Identity(), 1, "none"),
    ],
)
def test_finish(last, size, finish):
    first = nn.Linear(4, size)
    traced = trace(nn.Sequential(first, last), example(4))
    assert traced.finish == finish
    records = example(4)
    expected = logits(nn.Sequential(first, nn.Identity() if finish != "none" else last), records)
    assert traced.run(torch.tensor(records)).detach().numpy() == pytest.approx(expected)


def infinite():
    module = nn.Linear(4, 2)
    with torch.no_grad():
        module.weight[0, 0] = torch.inf
    return module


REFUSALS = {
    "max_pool2d: .*AvgPool2d": (nn.MaxPool2d(2), (1, 2, 2)),
    r"layer 0 \(LeakyReLU\).*leaky_relu: .*ReLU or nn.SiLU": (nn.Sequential(nn.LeakyReLU()), (4,)),
    "elu: .*ReLU or nn.SiLU": (nn.ELU(), (4,)),
    "hardtanh: .*ReLU or nn.SiLU": (nn.Hardtanh(), (4,)),
    "softmax: .*very end": (nn.Sequential(nn.Softmax(-1), nn.Linear(4, 2)), (4,)),
    "MultiheadAttention.*attention": (
        Forward(lambda s, x: s.m(x, x, x)[0], m=nn.MultiheadAttention(4, 2, batch_first=True)),
        (5, 4),
    ),
    "scaled_dot_product_attention: .*attention": (
        Forward(lambda _, x: functional.scaled_dot_product_attention(x, x, x)),
        (5, 4),
    ),
    "layer_norm: .*BatchNorm1d": (nn.LayerNorm(4), (4,)),
    "group_norm: .*BatchNorm1d": (nn.GroupNorm(2, 4), (4, 2)),
    "native_batch_norm_legit: .*track_running_stats": (nn.BatchNorm1d(4, track_running_stats=False), (4,)),
    "nn.Embedding, one-hot": (Forward(lambda s, x: s.e(x.long()), e=nn.Embedding(9, 2)), (1,)),
    r"layer m \(LSTM\) computes lstm: recurrence": (
        Forward(lambda s, x: s.m(x)[0], m=nn.LSTM(4, 3, batch_first=True)),
        (5, 4),
    ),
    "mul: the product of two values": (Forward(lambda _, x: x * x.tanh()), (4,)),
    "bmm: the product of two values": (Forward(lambda _, x: torch.bmm(x, x.mT)), (2, 2)),
    "linear: the product of two values": (
        Forward(lambda _, x: functional.linear(torch.ones(2, 4, dtype=x.dtype), x)),
        (4,),
    ),
    "only x": (Forward(lambda _, x: x**3), (4,)),
    "dividing by a value": (Forward(lambda _, x: 1 / x), (4,)),
    "exp: this function is not compiled": (Forward(lambda _, x: x.exp()), (4,)),
    "native_dropout: the result is random": (Forward(lambda _, x: functional.dropout(x)), (4,)),
    "torch.export cannot write it down": (Forward(lambda _, x: x if x.sum() > 0 else -x), (4,)),
    "mean across the batch": (Forward(lambda _, x: x - x.mean(0, keepdim=True)), (4,)),
    "depends on the other records": (Forward(lambda _, x: x.flip(0)), (4,)),
    "number of records": (Forward(lambda _, x: x / x.shape[0]), (4,)),
    "takes 2 inputs": (nn.Bilinear(4, 4, 2), (4,)),
    "returns a tuple": (Forward(lambda _, x: (x, x)), (4,)),
    r"shape \(3, 2, 2\)": (nn.Identity(), (2, 2)),
    "does not depend on its input": (Forward(lambda _, x: torch.ones(3, 2, dtype=x.dtype)), (4,)),
    "NaN or infin": (infinite(), (4,)),
    "the type changes": (Forward(lambda _, x: x.float()), (4,)),
    "changes its own buffers": (Forward(lambda s, x: x + s.b.add_(1), b=nn.Buffer(torch.ones(4))), (4,)),
    "not floating point": (
        Forward(lambda s, x: x * s.w, w=nn.Parameter(torch.ones(4, dtype=torch.int8), requires_grad=False)),
        (4,),
    ),
    "it fails on the example": (nn.Linear(3, 2), (4,)),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_refused(message):
    module, shape = REFUSALS[message]
    with pytest.raises(PrivacyError, match=message) as refusal:
        trace(module, example(*shape))
    assert refusal.value.code == "model_unsupported"


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (np.ones((2, 4), np.int64), "int64"),
        (np.ones(4), r"shape \(4,\)"),
        (np.ones((0, 4)), "n >= 1"),
        (np.full((2, 4), np.nan), "NaN"),
    ],
)
def test_bad_example(records, message):
    with pytest.raises(PrivacyError, match=message):
        trace(nn.Linear(4, 2), records)


def test_random_generator_is_left_alone():
    module, before = nn.Linear(4, 2), torch.random.get_rng_state()
    trace(module, example(4))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_module_that_changes_its_mind_is_caught():
    calls = []

    def forward(_, x):
        calls.append(1)
        return x * len(calls)

    with pytest.raises(PrivacyError, match="deterministic"):
        trace(Forward(forward), example(4))

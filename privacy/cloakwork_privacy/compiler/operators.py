"""Which operators of torch compile, and what to use instead of the others.

Names are those of torch's ATen operators without overload: what `torch.export` writes down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cloakwork_privacy.compiler.network import Activation

__all__ = ["ACTIVATED", "ADVICE", "ANY", "DEFAULT_ADVICE", "FIRST", "ONE", "RESHAPED", "SAME", "SEVERAL"]

ACTIVATED: Final[dict[str, Activation]] = {
    "square": "square",
    "relu": "relu",
    "silu": "silu",
    "gelu": "gelu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
}
"""Activations by operator. x ** 2 and x * x are squares too."""

SAME: Final = frozenset({"clone", "alias", "contiguous", "detach", "dropout", "_to_copy", "to"})
"""Return their operand, in evaluation and at one type."""

RESHAPED: Final = frozenset(
    {"view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "expand"}
)
"""Determined by the shape of their result; `expand` repeats, the others keep the order."""

FIRST: Final = frozenset(
    {
        *("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d"),
        *("avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "mean", "sum"),
        *("_native_batch_norm_legit_no_training", "div", "neg", "pad", "constant_pad_nd", "zeros_like"),
        *("permute", "transpose", "t", "movedim", "slice", "select", "narrow", "index_select", "repeat"),
        *("flip", "roll", "fill", "split", "split_with_sizes", "chunk", "unbind", "pixel_shuffle"),
        *("channel_shuffle", "upsample_nearest1d", "upsample_nearest2d", "ones_like"),
    }
)
"""Affine in their first operand, if all others are constant."""

ANY: Final = frozenset({"add", "sub", "rsub", "cat", "stack", "select_scatter", "slice_scatter"})
"""Affine in all their operands at once."""

ONE: Final = frozenset({"mul", "matmul", "mm", "bmm", "einsum", "addmm"})
"""Affine in one operand, if all others are constant."""

SEVERAL: Final = frozenset(
    {"_native_batch_norm_legit_no_training", "split", "split_with_sizes", "chunk", "unbind"}
)
"""Return a tuple."""

_COMPARES: Final = "comparing encrypted numbers is not possible; use nn.AvgPool2d (or AvgPool1d, or a mean)"
_ACTIVATION: Final = "this activation is not compiled; use nn.ReLU or nn.SiLU"
_ATTENTION: Final = (
    "a softmax inside the model, and so attention, is not computable on ciphertexts; "
    "keep softmax for the very end, over the last dimension of (n, k) logits, and mix positions "
    "with nn.Linear or nn.Conv1d"
)
_NORM: Final = "dividing by an encrypted deviation is not possible; use nn.BatchNorm1d or nn.BatchNorm2d"
_RECURRENT: Final = (
    "recurrence is too deep for ciphertexts; use nn.Conv1d, or nn.Flatten and nn.Linear over the sequence"
)
_TABLE: Final = "an encrypted number cannot index a table; one-hot encode it on the client and use nn.Linear"
_PRODUCT: Final = (
    "the product of two values that depend on the input is not compiled; concatenate them before "
    "an nn.Linear, or use squares: a * b = ((a + b)**2 - (a - b)**2) / 4"
)
_RANDOM: Final = "the result is random; use nn.Dropout, or pass training=self.training to the function"
_BATCH_STATISTICS: Final = (
    "without running statistics, records of a batch depend on each other; "
    "use BatchNorm with track_running_stats=True"
)
_CONDITION: Final = "an encrypted number cannot decide anything; compute both sides and add them with weights"
_CAST: Final = (
    "the type changes on the way; leave it alone, and instead of looking integers up in an nn.Embedding, "
    "one-hot encode them on the client and use nn.Linear"
)
_CURVE: Final = "this function is not compiled; use one of square, ReLU, SiLU, GELU, sigmoid, tanh"

ADVICE: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            *("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d"),
            *("max", "min", "amax", "amin", "maximum", "minimum", "topk", "sort", "median"),
            *("argmax", "argmin"),
        ),
        _COMPARES,
    ),
    **dict.fromkeys(
        (
            *("leaky_relu", "elu", "celu", "selu", "prelu", "rrelu", "hardtanh", "hardswish", "hardsigmoid"),
            *("mish", "softplus", "softsign", "log_sigmoid", "glu", "threshold", "hardshrink", "softshrink"),
        ),
        _ACTIVATION,
    ),
    **dict.fromkeys(("softmax", "log_softmax", "scaled_dot_product_attention"), _ATTENTION),
    **dict.fromkeys(("layer_norm", "group_norm", "instance_norm", "rms_norm", "linalg_vector_norm"), _NORM),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell"), _RECURRENT),
    **dict.fromkeys(("embedding", "embedding_bag", "gather", "index", "one_hot"), _TABLE),
    **dict.fromkeys(("mul", "matmul", "mm", "bmm", "einsum", "addmm", "addcmul", "bilinear"), _PRODUCT),
    **dict.fromkeys(("native_dropout", "dropout", "bernoulli", "rand_like", "randn_like"), _RANDOM),
    **dict.fromkeys(("_native_batch_norm_legit",), _BATCH_STATISTICS),
    **dict.fromkeys(("item", "where", "gt", "ge", "lt", "le", "eq", "ne"), _CONDITION),
    "pow": "of the powers, only x ** 2 is compiled",
    "div": "dividing by a value that depends on the input is not possible; divide by constants",
    "reciprocal": "dividing by a value that depends on the input is not possible; divide by constants",
    **dict.fromkeys(("_to_copy", "to"), _CAST),
    "sym_size": "the result depends on the number of records; use the batch dimension in reshapes only",
}
"""Why not and what instead, by operator."""

DEFAULT_ADVICE: Final = f"{_CURVE}, and of the layers Linear, Conv, AvgPool and BatchNorm"

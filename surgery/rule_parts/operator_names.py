"""ATen operators that have one name where they run and another where they are exported."""

CONVOLUTION = frozenset({"convolution", "conv1d", "conv2d"})
TRANSPOSED = frozenset({"convolution", "conv_transpose2d"})
MAX_POOL = frozenset({"max_pool2d_with_indices", "max_pool2d"})
LINEAR = frozenset({"addmm", "mm", "linear"})
PRODUCT = frozenset({"bmm", "mm", "matmul"})
SOFTMAX = frozenset({"_softmax", "softmax"})
NORMS = frozenset(
    {
        "native_layer_norm",
        "layer_norm",
        "native_group_norm",
        "group_norm",
        "instance_norm",
        "_fused_rms_norm",
        "rms_norm",
    }
)
BATCHNORM = frozenset({"native_batch_norm", "_native_batch_norm_legit_no_training", "batch_norm"})
ATTENTION = frozenset(
    {
        "scaled_dot_product_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_attention_math",
        "_native_multi_head_attention",
    }
)
# What a normalization, a gate or an average is written out with.
MEANS = frozenset({"mean", "sum", "var", "var_mean", "std"})
ARITHMETIC = frozenset({"add", "sub", "mul", "div", "pow", "sqrt", "rsqrt"})
# What gates are made of, and the product that they are a factor of.
GATE = (
    CONVOLUTION
    | LINEAR
    | SOFTMAX
    | MEANS
    | {"mul", "relu", "silu", "gelu", "sigmoid", "hardsigmoid", "clamp", "hardtanh"}
    | {"adaptive_avg_pool2d", "_adaptive_avg_pool2d"}
)

"""Encrypted models as TenSEAL's own documentation writes them: the CNN of tutorial 4, and `CKKSVector.dot`.

Only `n_threads=1` is ours: what is compared is work, not cores.
"""

import tenseal as ts


class ConvNet:
    """Tutorial 4, "Encrypted Convolution on MNIST", for a module with `conv1`, `fc1` and `fc2`."""

    def __init__(self, module):
        kernels = module.conv1.weight.data
        self.kernel_shape, self.stride = kernels.shape[2:], module.conv1.stride[0]
        self.conv1_weight, self.conv1_bias = kernels[:, 0].tolist(), module.conv1.bias.data.tolist()
        self.fc1_weight, self.fc1_bias = module.fc1.weight.T.data.tolist(), module.fc1.bias.data.tolist()
        self.fc2_weight, self.fc2_bias = module.fc2.weight.T.data.tolist(), module.fc2.bias.data.tolist()
        bits_scale = 26
        self.context = ts.context(
            ts.SCHEME_TYPE.CKKS,
            poly_modulus_degree=8192,
            coeff_mod_bit_sizes=[31, *[bits_scale] * 6, 31],
            n_threads=1,
        )
        self.context.global_scale = pow(2, bits_scale)
        self.context.generate_galois_keys()
        self.keys = public(self.context)
        self.server = ts.context_from(self.keys, n_threads=1)
        self.windows_nb = None

    def seal(self, image):
        """The client encrypts one image, given as rows."""
        encrypted, self.windows_nb = ts.im2col_encoding(self.context, image, *self.kernel_shape, self.stride)
        return encrypted.serialize()

    def run(self, request):
        """The server reads, evaluates and writes."""
        enc_x = ts.ckks_vector_from(self.server, request)
        enc_channels = []
        for kernel, bias in zip(self.conv1_weight, self.conv1_bias, strict=True):
            enc_channels.append(enc_x.conv2d_im2col(kernel, self.windows_nb) + bias)
        enc_x = ts.CKKSVector.pack_vectors(enc_channels)
        enc_x.square_()
        enc_x.mm_(self.fc1_weight).add_(self.fc1_bias)
        enc_x.square_()
        enc_x.mm_(self.fc2_weight).add_(self.fc2_bias)
        return enc_x.serialize()

    def open(self, answer):
        """The client decrypts the logits."""
        return ts.ckks_vector_from(self.context, answer).decrypt()


class LinearModel:
    """One dot product and a bias, with the parameters of the README."""

    def __init__(self, weight, bias):
        self.weight, self.bias = list(weight), [bias]
        self.context = ts.context(
            ts.SCHEME_TYPE.CKKS,
            poly_modulus_degree=8192,
            coeff_mod_bit_sizes=[60, 40, 40, 60],
            n_threads=1,
        )
        self.context.global_scale = 2**40
        self.context.generate_galois_keys()
        self.keys = public(self.context)
        self.server = ts.context_from(self.keys, n_threads=1)

    def seal(self, record):
        return ts.ckks_vector(self.context, record).serialize()

    def run(self, request):
        return (ts.ckks_vector_from(self.server, request).dot(self.weight) + self.bias).serialize()

    def open(self, answer):
        return ts.ckks_vector_from(self.context, answer).decrypt()


def public(context):
    """What the client uploads once: its context without the secret key."""
    return context.serialize(save_secret_key=False)

"""From torch modules to encrypted answers: torch against the circuit in the clear, this against SEAL."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from cloakwork_privacy.ckks.secret import SecretKeys
from cloakwork_privacy.compiler import clear
from cloakwork_privacy.compiler.compile import compile as compiled
from cloakwork_privacy.compiler.program import Program
from cloakwork_privacy.compiler.report import Report
from cloakwork_privacy.errors import PrivacyError
from cloakwork_privacy.evaluate import Evaluator


class Square(nn.Module):
    def forward(self, values):
        return values * values


class Residual(nn.Module):
    """values + body(values)."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, values):
        return values + self.body(values)


class Both(nn.Module):
    """values and body(values), side by side."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, values):
        return torch.cat((values, self.body(values)), dim=1)


ACTIVATIONS = (Square, nn.ReLU, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh)


def settled(norm):
    """A batch normalisation that has seen data, as it were."""
    norm.running_mean.normal_(std=0.3)
    norm.running_var.uniform_(0.5, 2.0)
    return norm


@st.composite
def tables(draw):
    """(module, input shape, degree) of a small perceptron."""
    torch.manual_seed(draw(st.integers(0, 1 << 30)))
    size, hidden, activation = draw(st.integers(1, 9)), draw(st.integers(2, 9)), draw(activations())
    layers = [nn.Linear(size, hidden), activation]
    if draw(st.booleans()):
        layers.insert(1, settled(nn.BatchNorm1d(hidden)))
    width, deep = hidden, draw(st.booleans())
    if deep:
        second = nn.Sequential(nn.Linear(hidden, hidden), draw(activations()))
        wrap = draw(st.sampled_from([nn.Identity, Residual, Both]))
        layers.append(second if wrap is nn.Identity else wrap(second))
        width = 2 * hidden if wrap is Both else hidden
    layers.append(nn.Linear(width, draw(st.integers(2, 4))))
    return nn.Sequential(*layers), (size,), draw(st.integers(2, 3 if deep else 5))


@st.composite
def images(draw):
    """(module, input shape, degree) of a small convolutional network."""
    torch.manual_seed(draw(st.integers(0, 1 << 30)))
    channels, inputs, side = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(5, 7))
    kernel, stride, padding = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 1))
    layers = [nn.Conv2d(inputs, channels, kernel, stride=stride, padding=padding)]
    if draw(st.booleans()):
        layers.append(settled(nn.BatchNorm2d(channels)))
    layers.append(draw(activations()))
    if draw(st.booleans()):
        layers.append(nn.AvgPool2d(2))
    layers.append(nn.Flatten())
    shape = (inputs, side, side)
    width = nn.Sequential(*layers).eval()(torch.zeros(1, *shape)).shape[1]
    layers.append(nn.Linear(width, draw(st.integers(2, 4))))
    return nn.Sequential(*layers), shape, draw(st.integers(2, 5))


def activations():
    return st.sampled_from(ACTIVATIONS).map(lambda make: make())


def drawn(shape, count=60, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape))


def torch_logits(module, records):
    with torch.no_grad():
        return module.double().eval()(torch.tensor(records)).numpy()


def opened(program, records):
    """The logits that a client reads of a server's answer."""
    server, keys = Evaluator(program), SecretKeys.generate(program.signature)
    request = keys.seal(records)
    return keys.logits(server.run(request, server.parse_keys(keys.evaluation_keys())), request)


def agree(result, module, records):
    """The chain from torch to decrypted answers holds, link by link."""
    expected = torch_logits(module, records)
    for purpose, program in result.programs.items():
        plain = clear.logits(program, records)
        within = result.report.approximation_error + 1e-6 * max(1.0, np.abs(expected).max())
        assert np.abs(plain - expected).max() <= within
        promised = result.report.programs[purpose]
        few = records[:2] if purpose == "latency" else records
        assert np.abs(opened(program, few) - plain[: len(few)]).max() <= promised.predicted_error
        assert promised.measured_error <= promised.predicted_error


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(tables())
def test_perceptrons(model):
    module, shape, degree = model
    records = drawn(shape)
    result = compiled(module, records, degree=degree, finish="none", tolerance=0.05)
    assert set(result.programs) == {"latency", "throughput"}
    agree(result, module, records)


@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(images())
def test_convolutional_networks(model):
    module, shape, degree = model
    records = drawn(shape)
    agree(compiled(module, records, degree=degree, finish="none", tolerance=0.05), module, records)


def perceptron(inputs=4, hidden=6, outputs=3, activation=Square, seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, hidden), activation(), nn.Linear(hidden, outputs))


@pytest.fixture(scope="module")
def records():
    return drawn((4,), count=80)


@pytest.fixture(scope="module")
def labels(records):
    """What a perceptron with ReLUs decides, with every tenth label wrong."""
    decided = torch_logits(perceptron(activation=nn.ReLU), records).argmax(axis=1)
    return np.where(np.arange(80) % 10, decided, (decided + 1) % 3)


@pytest.fixture(scope="module")
def classifier(records, labels):
    module = nn.Sequential(perceptron(activation=nn.ReLU), nn.Softmax(dim=1))
    return compiled(module, records, labels=labels)


def test_a_report_survives_its_file(classifier, tmp_path):
    classifier.save(tmp_path)
    report = Report.from_json((tmp_path / "report.json").read_bytes())
    assert report == classifier.report
    for purpose, program in classifier.programs.items():
        loaded = Program.load(tmp_path / purpose)
        assert loaded.signature == program.signature
        assert {path.name for path in (tmp_path / purpose).iterdir()} == {
            "signature.json",
            "circuit.json",
            "constants.safetensors",
        }


def test_a_report_says_what_was_compiled(classifier):
    report = classifier.report
    (layer,) = report.layers
    assert (report.inputs, report.outputs) == (4, 3)
    assert (layer.size, layer.activation, layer.degree) == (6, "relu", 3)
    assert layer.low < 0 < layer.high
    assert 0 < layer.error < layer.high - layer.low
    for purpose, promised in report.programs.items():
        signature = classifier.programs[purpose].signature
        assert promised.modulus_bits == signature.parameters.modulus_bits
        assert promised.poly_degree == signature.parameters.poly_degree
        assert promised.depth == 2
        assert promised.records == (1 if purpose == "latency" else signature.max_records)
        assert min(promised.key_bytes, promised.request_bytes, promised.answer_bytes) > 0
        assert min(promised.predicted_ms, promised.measured_ms) > 0
    assert report.batch_from is None or 1 < report.batch_from <= 8192


def test_labels_give_accuracies(classifier):
    report = classifier.report
    assert report.float_accuracy == pytest.approx(0.9)
    assert report.agreement >= 0.8
    assert report.accuracy >= 0.7


def test_without_labels_there_are_no_accuracies(records):
    report = compiled(perceptron(), records, throughput=False).report
    assert (report.float_accuracy, report.accuracy, report.agreement) == (None, None, None)


def test_many_classes_are_a_softmax(classifier, records):
    signature = classifier.programs["latency"].signature
    assert (signature.finish, signature.output_shape) == ("softmax", (3,))
    assert signature.finished(clear.logits(classifier.programs["latency"], records[:5])).shape == (5, 3)


def test_two_classes_are_one_logit(records):
    module = nn.Sequential(perceptron(outputs=2), nn.Softmax(dim=1))
    program = compiled(module, records, throughput=False).programs["latency"]
    assert (program.signature.finish, len(program.signature.take)) == ("binary", 1)
    chances = program.signature.finished(clear.logits(program, records))
    assert chances == pytest.approx(torch_logits(module, records), abs=2e-5)


def test_a_sigmoid_is_one_logit(records):
    module = nn.Sequential(perceptron(outputs=1), nn.Sigmoid())
    program = compiled(module, records, throughput=False).programs["latency"]
    assert program.signature.finish == "binary"
    chances = program.signature.finished(clear.logits(program, records))[:, 1:]
    assert chances == pytest.approx(torch_logits(module, records), abs=2e-5)


def test_regressions_are_as_they_are_and_their_tolerance_is_relative(records):
    module = perceptron(outputs=2)
    with torch.no_grad():
        module[2].weight *= 1000
        module[2].bias *= 1000
    result = compiled(module, records)
    assert result.programs["latency"].signature.finish == "none"
    agree(result, module, records[:20])
    largest = np.abs(torch_logits(module, records)).max()
    assert all(each.predicted_error <= 0.0025 * largest for each in result.report.programs.values())


@pytest.mark.parametrize("tolerance", [0.3, 0.003])
def test_a_tolerance_is_kept(records, tolerance):
    result = compiled(perceptron(), records, tolerance=tolerance, throughput=False)
    promised = result.report.programs["latency"]
    # On top of the circuit's error comes what is done to the answer, about 1e-4.
    assert promised.measured_error <= promised.predicted_error <= np.hypot(tolerance, 0.001)


def test_models_of_one_logit_and_no_activation_need_no_keys(records):
    module = nn.Linear(4, 1)
    result = compiled(module, records)
    signature = result.programs["latency"].signature
    assert (signature.packing, signature.parameters.poly_degree) == ("coefficients", 2048)
    assert result.report.programs["latency"].guaranteed
    agree(result, module, records)


def test_models_of_many_logits_and_no_activation(records):
    module = nn.Linear(4, 5)
    agree(compiled(module, records), module, records)


@pytest.mark.parametrize("outputs", [1, 3])
def test_models_of_one_feature(outputs):
    module, records = perceptron(inputs=1, outputs=outputs), drawn((1,))
    agree(compiled(module, records), module, records)


def test_a_first_layer_wider_than_its_input():
    module, records = perceptron(inputs=3, hidden=70), drawn((3,))
    agree(compiled(module, records), module, records)


def test_dead_units_and_unread_features(records):
    module = perceptron(hidden=8)
    with torch.no_grad():
        module[0].weight[[1, 2]] = 0.0  # constant
        module[0].weight[3] = 1e-25  # as good as constant
        module[0].weight[5] *= 1e-7  # rounds to zero at most scales
        module[0].weight[:, 2] = 0.0  # nobody reads the third feature
        module[2].weight[:, 6] = 0.0  # nobody reads the seventh unit
    result = compiled(module, records)
    assert result.programs["throughput"].signature.gather == (0, 1, 3)
    matrix = result.programs["throughput"].circuit.constants["c0000"].vector
    assert matrix.shape == (4, 3)
    agree(result, module, records)


def test_a_logit_may_be_constant_while_others_are_not(records):
    module = perceptron(outputs=3)
    with torch.no_grad():
        module[2].weight[1] = 0.0
    result = compiled(module, records)
    assert set(result.programs) == {"latency", "throughput"}
    agree(result, module, records)


def test_a_model_of_constants_is_refused(records):
    module = perceptron()
    nn.init.zeros_(module[2].weight)
    with pytest.raises(PrivacyError, match="same for every record") as refused:
        compiled(module, records)
    assert refused.value.code == "model_unsupported"


def test_a_concatenation_in_which_each_part_has_rows_of_its_own(records):
    """Maps of two sources whose rows read one of them each: half of either matrix is zeros."""
    module = nn.Sequential(Both(nn.Sequential(nn.Linear(4, 4), Square())), Square(), nn.Linear(8, 2))
    agree(compiled(module, records), module, records)


def test_constant_features_are_no_trouble(records):
    given = records.copy()
    given[:, 1], given[:, 3] = 7.0, 0.0
    module = perceptron()
    agree(compiled(module, given), module, given)


def test_more_features_than_ciphertexts_are_worth_it_have_no_throughput_program():
    module, wide = perceptron(inputs=4100, hidden=2), drawn((4100,), count=20)
    result = compiled(module, wide)
    assert set(result.programs) == {"latency"}
    assert result.report.batch_from is None


def test_of_many_features_few_may_matter():
    module, wide = perceptron(inputs=5000, hidden=2), drawn((5000,), count=20)
    with torch.no_grad():
        module[0].weight[:, 3:] = 0.0
        module[0].weight *= 30
    result = compiled(module, wide)
    assert result.programs["throughput"].signature.gather == (0, 1, 2)
    agree(result, module, wide[:2])


@pytest.fixture(scope="module")
def narrow():
    """A deep network on columns of very different ranges, of which a client accepts eight times as much."""
    torch.manual_seed(3)
    sizes, layers = (6, 8, 8), []
    for size in sizes:
        layers += [nn.Linear(size, 8), Square()]
    module, ranges = nn.Sequential(*layers, nn.Linear(8, 3)), [1.0, 1.0, 1.0, 100.0, 100.0, 1e4]
    with torch.no_grad():
        module[0].weight *= 2 / torch.tensor(ranges)
    return compiled(module, drawn((6,), count=100) * ranges, tolerance=2.0)


@pytest.mark.parametrize("purpose", ["latency", "throughput"])
def test_a_record_that_wraps_around_is_refused_and_not_answered(narrow, purpose):
    program = narrow.programs[purpose]
    assert not narrow.report.programs[purpose].guaranteed
    signature = program.signature
    shift, gain = np.array(signature.shift), np.array(signature.gain)
    assert signature.limit == 8.0
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(8, 6))
    far = shift + 0.99 * signature.limit * signs / gain
    server, keys = Evaluator(program), SecretKeys.generate(signature)
    public = server.parse_keys(keys.evaluation_keys())
    for record in far:
        request = keys.seal(record[None])
        with pytest.raises(PrivacyError, match="unlike those") as refused:
            keys.open(server.run(request, public), request)
        assert refused.value.code == "answer_out_of_range"


def test_a_record_of_twice_the_calibrated_size_is_answered(narrow):
    """Within four times of what calibration has seen nothing wraps around, guaranteed or not."""
    program = narrow.programs["latency"]
    shift, gain = np.array(program.signature.shift), np.array(program.signature.gain)
    record = (shift + np.array([1.1, -0.3, 0.2, 0.5, -1.1, 0.4]) / gain)[None]
    assert opened(program, record) == pytest.approx(clear.logits(program, record), abs=2.0)


def test_options_that_make_no_sense_are_refused(records):
    for options, code in (({"degree": 0}, "degree_invalid"), ({"margin": 2.0}, "margin_invalid")):
        with pytest.raises(PrivacyError) as refused:
            compiled(perceptron(activation=nn.ReLU), records, **options)
        assert refused.value.code == code


def test_calibration_is_checked():
    for wrong, code in (
        (np.full((3, 4), np.nan), "not_finite"),
        (np.array([["a"] * 4]), "wrong_dtype"),
        (np.zeros((0, 4)), "wrong_shape"),
    ):
        with pytest.raises(PrivacyError) as refused:
            compiled(perceptron(), wrong)
        assert refused.value.code == code


def test_one_network_makes_one_program(classifier, records, labels):
    """Compiling again gives the very same circuit: nothing in it is random."""
    module = nn.Sequential(perceptron(activation=nn.ReLU), nn.Softmax(dim=1))
    again = compiled(module, records, labels=labels, throughput=False)
    assert again.programs["latency"].signature == classifier.programs["latency"].signature
    kept = dataclasses.replace(again.report.programs["latency"], measured_ms=0.0, measured_error=0.0)
    assert kept == dataclasses.replace(
        classifier.report.programs["latency"], measured_ms=0.0, measured_error=0.0
    )


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_calibration_of_no_size_is_refused_by_its_name(size):
    with pytest.raises(PrivacyError, match="calibration records") as refused:
        compiled(nn.Linear(3, 2), np.full((4, 3), size))
    assert refused.value.code == "out_of_range"

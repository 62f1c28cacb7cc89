"""Scales, levels and parameters: secure, sufficient, and books that agree with the circuit's own."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from networks import SQUARE, compiled, dense, networks, records

from cloakwork_privacy.ckks.parameters import LARGEST_MODULUS_BITS
from cloakwork_privacy.compiler import clear
from cloakwork_privacy.compiler.network import Affine, Network, Polynomial, Stage
from cloakwork_privacy.compiler.placement import place
from cloakwork_privacy.compiler.scales import Scale, Sizes, Unfit
from cloakwork_privacy.compiler.schedule import Schedule
from cloakwork_privacy.errors import PrivacyError

RANDOM = np.random.default_rng(11)


@settings(max_examples=8, deadline=None)
@given(networks(most_stages=2, most_degree=4))
def test_programs_compute_their_network_in_the_clear(network):
    given = records(network)
    expected = network(given)
    program, planned = compiled(network, given, deviation=1e-2 * max(1.0, np.abs(expected).max()))
    bits = program.signature.parameters.modulus_bits
    assert sum(bits) <= LARGEST_MODULUS_BITS[program.signature.parameters.poly_degree]
    assert clear.logits(program, given) == pytest.approx(expected, abs=1e-6 * max(1, np.abs(expected).max()))
    assert program.signature.answer_scale == planned.choice.placed.scale


def test_each_rotation_key_reaches_the_level_it_is_used_at_and_no_higher():
    network = Network(
        16,
        (Stage(dense(RANDOM, 16, (0, 16)), SQUARE), Stage(dense(RANDOM, 16, (1, 16)), SQUARE)),
        dense(RANDOM, 4, (2, 16)),
    )
    given = records(network)
    program, _ = compiled(network, given)
    signature = program.signature
    for index, level in enumerate(signature.rotation_levels):
        lower = list(signature.rotation_levels)
        lower[index] = level - 1
        if lower[index]:
            short = dataclasses.replace(signature, rotation_levels=tuple(lower))
            with pytest.raises(ValueError, match="no key"):
                clear.logits(dataclasses.replace(program, signature=short), given[:1])
    assert min(signature.rotation_levels) < signature.parameters.levels


def test_too_deep_and_too_wide_are_refused_with_a_remedy():
    deep = Network(4, (), dense(RANDOM, 4, (0, 4)))
    gentle = Polynomial((0.0, 0.5, *np.full(14, 1e-5)))
    for index in range(6):
        first = dense(RANDOM, 4, (index, 4))
        stage = Stage(Affine({index: first.terms[index] / 8}, first.bias), gentle)
        deep = Network(4, (*deep.stages, stage), dense(RANDOM, 2, (index + 1, 4)))
    with pytest.raises(PrivacyError, match=r"too deep.*lower degree") as refused:
        compiled(deep, records(deep))
    assert refused.value.code == "model_unsupported"
    wide = Network(4, (Stage(dense(RANDOM, 9000, (0, 4)), SQUARE),), dense(RANDOM, 2, (1, 9000)))
    with pytest.raises(PrivacyError, match="wider than"):
        compiled(wide, records(wide, count=4))


def placed(schedule, primes, *, peak=1.0, factor=2.0**20, given=2.0**30, waterline=2.0**25):
    registers = len(schedule.steps) + 1
    sizes = Sizes(
        rms=[0.3] * registers,
        peak=[peak] * registers,
        answer=peak,
        final=registers - 1,
        width=[1] * registers,
        weights=[0.3] * (registers - 1),
        reach=[0.0] * (registers - 1),
        bundle=False,
        averaged=1,
        period=16,
    )
    return place(schedule, sizes, Scale(8192, primes, given, factor, waterline))


def test_a_sum_is_relinearised_and_rescaled_once():
    schedule = Schedule()
    total = schedule.add(schedule.square(0), schedule.multiply(0, schedule.rotate(0, 1)))
    schedule.multiply_plain(total, np.ones(4096), last=True)
    names = [operation[0] for operation in placed(schedule, (2.0**55, 2.0**35)).operations]
    assert names.count("relinearise") == 1
    assert names.count("rescale") == 1


def test_a_value_that_does_not_fit_is_unfit():
    schedule = Schedule()
    schedule.multiply_plain(schedule.square(0), np.ones(4096), last=True)
    placed(schedule, (2.0**50, 2.0**40))
    with pytest.raises(Unfit):
        placed(schedule, (2.0**50, 2.0**40), peak=2.0**32)
    with pytest.raises(Unfit):
        placed(schedule, (2.0**50,))


def test_a_product_takes_the_scale_of_what_it_is_added_to():
    schedule = Schedule()
    square = schedule.square(0)
    schedule.add(square, schedule.multiply_plain(0, np.array([0.5]), like=(square,)))
    result = placed(schedule, (2.0**60, 2.0**40), given=2.0**29)
    scales = [operand.scale for _, _, operand, _ in result.operations if operand is not None]
    assert scales == [2.0**29]

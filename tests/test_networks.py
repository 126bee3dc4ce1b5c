"""What every network must do, whatever it learns: start at zero, mind its condition, take samples of any rank."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import ornstein as orn
from ornstein.networks import build, choose_network, set_memory_format
from ornstein.networks.layers import fold, unfold

NONE = float("nan")
SHAPES = {1: (2, 24), 2: (3, 12, 8), 3: (2, 8, 4, 6)}


def awake(network: torch.nn.Module) -> torch.nn.Module:
    """The network with weights that are nowhere zero, as after some training."""
    torch.manual_seed(0)
    with torch.no_grad():
        for value in network.parameters():
            value.normal_(std=0.2)
    return network


def call(network: torch.nn.Module, shape, condition=None, rows: int = 3) -> torch.Tensor:
    y = torch.randn(rows, *shape, generator=torch.Generator().manual_seed(1))
    return network(y, torch.linspace(-5, 5, rows), condition)


@pytest.mark.parametrize(("name", "shape"), [
    ("unet", (1, 8, 8)), ("unet", (3, 32, 32)), ("unet", (5, 17, 23)), ("unet", (3, 72, 72)), ("unet", (2, 5, 4)),
    ("dit", (1, 8, 8)), ("dit", (4, 12, 20)), ("dit", (3, 15, 15)), ("mlp", (2,)), ("mlp", (3, 4, 4)),
    ("unet", (1, 1)), ("unet", (2, 13)), ("unet", (3, 301)), ("unet", (5, 7, 6, 9)), ("unet", (1, 1, 3, 20)),
    ("dit", (2, 96)), ("dit", (1, 31)), ("dit", (5, 8, 12, 8)),
])
def test_the_suited_network_takes_the_shape_starts_at_zero_and_hears_its_condition(name, shape):
    network = build(name, {"shape": list(shape), "classes": 2, **choose_network(shape, name)[1]})
    assert torch.equal(call(network, shape), torch.zeros(3, *shape))
    awake(network)
    one, other = (call(network, shape, torch.full((3,), label)) for label in (0, 1))
    assert one.shape == (3, *shape)
    assert (one - other).abs().flatten(1).amax(1).min() > 1e-4
    assert torch.equal(call(network, shape), call(network, shape, torch.full((3,), -1)))


@pytest.mark.parametrize("name", ["unet", "dit", "mlp"])
def test_a_row_does_not_depend_on_the_others_and_noise_level_matters(name):
    network = awake(build(name, {"shape": [1, 8, 8], "classes": 0, **choose_network((1, 8, 8), name)[1]})).double()
    y = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    log_snr = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    whole = network(y, log_snr)
    changed = network(torch.cat([y[:1], 5 * y[1:]]), torch.cat([log_snr[:1], -log_snr[1:]]))
    assert torch.allclose(whole[0], changed[0], rtol=1e-10)
    assert (whole[1] - network(y, log_snr + 0.5)[1]).abs().max() > 1e-4


@pytest.mark.parametrize(("name", "rank"), [(name, rank) for name in ("unet", "dit", "mlp") for rank in (1, 2, 3)])
def test_vector_conditions_are_heard_and_a_row_of_nan_is_none(name, rank):
    shape = SHAPES[rank]
    options = {"shape": list(shape), "classes": 0, "conditions": 2, **choose_network(shape, name)[1]}
    network = awake(build(name, options))
    told = torch.tensor([[0.3, -1.0], [NONE, NONE], [0.3, 1.0]])
    some, none = call(network, shape, told), call(network, shape)
    assert torch.equal(some[1], none[1])
    assert torch.equal(none, call(network, shape, torch.full((3,), -1)))
    for row in (0, 2):
        assert (some[row] - none[row]).abs().max() > 1e-4
    other = call(network, shape, told.masked_fill(told == 1.0, 1.1))
    assert torch.equal(other[:2], some[:2])
    assert (other[2] - some[2]).abs().max() > 1e-5
    some.square().sum().backward()
    assert all(value.grad is None or value.grad.isfinite().all() for value in network.parameters())


@pytest.mark.parametrize("name", ["unet", "dit", "mlp"])
def test_what_is_not_asked_for_costs_nothing(name):
    """Without vector conditions a network has the weights, from a seed, and the description that it had before them."""
    options = {"shape": [1, 8, 8], "classes": 2, **choose_network((1, 8, 8), name)[1]}
    torch.manual_seed(0)
    plain = build(name, options)
    torch.manual_seed(0)
    zero = build(name, {**options, "conditions": 0})
    assert plain.options == zero.options
    assert "conditions" not in plain.options
    assert not [key for key in plain.state_dict() if "conditions" in key]
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), zero.parameters(), strict=True))
    again = build(name, build(name, {**options, "classes": 0, "conditions": 3}).options)
    assert again.options["conditions"] == 3


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.data())
def test_folding_is_undone_by_unfolding_and_a_place_is_a_block(rank, factor, channels, data):
    sides = [factor * data.draw(st.integers(1, 3)) for _ in range(rank)]
    x = torch.arange(2 * channels * torch.Size(sides).numel(), dtype=torch.float32).reshape(2, channels, *sides)
    folded = fold(x, factor)
    assert folded.shape == (2, channels * factor**rank, *(side // factor for side in sides))
    assert torch.equal(unfold(folded, factor), x)
    block = x[(..., *[slice(0, factor)] * rank)].flatten(1)
    assert torch.equal(folded[(..., *[0] * rank)], block)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_folding_a_volume_of_equal_slices_folds_the_slice(factor, channels, length):
    """As `pixel_unshuffle` does: the ranks agree on the order of the channels."""
    picture = torch.randn(2, channels, factor, factor * length)
    volume = picture[:, :, None].expand(-1, -1, factor, -1, -1)
    folded = fold(volume, factor).unflatten(1, (channels, factor, factor**2))
    assert torch.equal(folded[:, :, 0, :, 0], F.pixel_unshuffle(picture, factor).unflatten(1, (channels, -1)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_share_of_the_input_passes_whatever_the_stem_folds_away(rank):
    """With `through` the answer to any y can be g y, which a stem of more values than channels cannot give."""
    shape = (3, *[8] * rank)
    network = orn.UNet(shape, widths=[4], depths=[1], stem=4, through=True)
    with torch.no_grad():
        network.modulation.linear.bias[-3 * 4**rank:] = 0.7
    y = torch.randn(2, *shape)
    assert torch.allclose(network(y, torch.zeros(2)), 0.7 * y)
    assert "through" not in orn.UNet(shape).options
    assert build("unet", network.options).options == network.options


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_layout_puts_a_networks_weights_back_as_they_were_trained(rank):
    """Weights read from a file lie in plain order; the same sums come of them only in the network's own order."""
    shape = SHAPES[rank]
    network = awake(build("unet", {"shape": list(shape), "classes": 0, **choose_network(shape)[1]}))
    other = build("unet", network.options)
    plain = {name: value.contiguous() for name, value in network.state_dict().items()}
    other.load_state_dict(plain, assign=True)
    assert set_memory_format(other) is other
    assert [a.stride() for a in other.parameters()] == [b.stride() for b in network.parameters()]
    assert torch.equal(call(other, shape), call(network, shape))
    if rank > 1:
        weight = network.get_parameter("into.weight")
        assert weight.stride(1) == 1


@pytest.mark.parametrize("name", ["unet", "dit", "mlp"])
def test_bf16_stays_close_to_float32(name):
    network = build(name, {"shape": [1, 8, 8], "classes": 0, **choose_network((1, 8, 8), name)[1]})
    torch.manual_seed(0)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.02 * torch.randn_like(value))
    exact = call(network, (1, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        rough = call(network, (1, 8, 8))
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() < 0.03 * exact.norm()


@given(st.integers(1, 3), st.data())
def test_the_suited_network_is_small_enough_for_a_processor(rank, data):
    """To lengths of 4,096 and sides of 256 or, of volumes, 64: below 8 M weights, and few places to convolve."""
    most = {1: 4096, 2: 256, 3: 64}[rank]
    shape = [data.draw(st.integers(1, 5)), *(data.draw(st.integers(1, most)) for _ in range(rank))]
    name, options = choose_network(shape)
    assert name == "unet"
    with torch.device("meta"):
        network = build(name, {"shape": shape, "classes": 0, **options})
    assert sum(value.numel() for value in network.parameters()) < 8e6
    if rank != 2:
        assert network.place[0].shape[2:].numel() <= {1: 128, 3: 1024}[rank]


@pytest.mark.parametrize(("make", "message"), [
    (lambda: orn.UNet((8,)), r"shape is \(8,\); a UNet takes \(C, L\) or \(C, H, W\) or \(C, D, H, W\)"),
    (lambda: orn.UNet((1, 2, 3, 4, 5)), "a UNet takes"),
    (lambda: orn.UNet((1, 8, 8), widths=[32], depths=[1, 1]), "they must have one entry per level"),
    (lambda: orn.UNet((1, 8), classes=2, conditions=1), "classes is 2 and conditions 1; a network takes one"),
    (lambda: orn.MLP((2,), classes=2, conditions=1), "a network takes one of the two"),
    (lambda: orn.DiT((1, 9, 9)), r"a DiT of patch 2 takes \(C, H, W\) with sides that are multiples of 2"),
    (lambda: orn.DiT((1, 8, 8, 9), patch=4), r"takes \(C, D, H, W\) with sides that are multiples of 4"),
    (lambda: orn.DiT((8,)), r"takes \(C, L\) or"),
    (lambda: orn.DiT((1, 8, 8), width=100, heads=3), "width is 100; it must be a multiple of heads, 3"),
    (lambda: build("unet", {"shape": [1, 8, 8], "width": 3}), "'width' is unknown; did you mean 'widths'"),
    (lambda: choose_network((1, 8, 8), "vit"), "network 'vit' is unknown"),
])
def test_what_no_network_can_be_built_from_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

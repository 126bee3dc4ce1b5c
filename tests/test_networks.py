"""What every network must do, whatever it learns: start at zero, mind its condition, take any picture."""

from __future__ import annotations

import pytest
import torch

import ornstein as orn
from ornstein.networks import build, suit


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
])
def test_the_suited_network_takes_the_shape_starts_at_zero_and_hears_its_condition(name, shape):
    network = build(name, {"shape": list(shape), "classes": 2, **suit(shape, name)[1]})
    assert torch.equal(call(network, shape), torch.zeros(3, *shape))
    awake(network)
    one, other = (call(network, shape, torch.full((3,), label)) for label in (0, 1))
    assert one.shape == (3, *shape)
    assert (one - other).abs().amax((1,) if len(shape) == 1 else (1, 2, 3)).min() > 1e-4
    assert torch.equal(call(network, shape), call(network, shape, torch.full((3,), -1)))


@pytest.mark.parametrize("name", ["unet", "dit", "mlp"])
def test_a_row_does_not_depend_on_the_others_and_noise_level_matters(name):
    network = awake(build(name, {"shape": [1, 8, 8], "classes": 0, **suit((1, 8, 8), name)[1]})).double()
    y = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    log_snr = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    whole = network(y, log_snr)
    changed = network(torch.cat([y[:1], 5 * y[1:]]), torch.cat([log_snr[:1], -log_snr[1:]]))
    assert torch.allclose(whole[0], changed[0], rtol=1e-10)
    assert (whole[1] - network(y, log_snr + 0.5)[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["unet", "dit", "mlp"])
def test_bf16_stays_close_to_float32(name):
    network = build(name, {"shape": [1, 8, 8], "classes": 0, **suit((1, 8, 8), name)[1]})
    torch.manual_seed(0)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.02 * torch.randn_like(value))
    exact = call(network, (1, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        rough = call(network, (1, 8, 8))
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: orn.UNet((8,)), r"shape is \(8,\); a UNet takes pictures"),
    (lambda: orn.UNet((1, 8, 8), widths=[32], depths=[1, 1]), "they must have one entry a level"),
    (lambda: orn.DiT((1, 9, 9)), "H and W multiples of 2"),
    (lambda: orn.DiT((1, 8, 8), width=100, heads=3), "width is 100; it must be a multiple of heads, 3"),
    (lambda: build("unet", {"shape": [1, 8, 8], "width": 3}), "'width' is unknown; did you mean 'widths'"),
    (lambda: suit((1, 8, 8), "vit"), "network 'vit' is unknown"),
])
def test_what_no_network_can_be_built_from_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

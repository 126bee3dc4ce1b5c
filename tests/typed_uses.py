"""What a user may write, for type checkers: `test_types.py` holds that they report each wrong line and no other."""

from collections.abc import Iterator

from torch import Tensor

import ornstein as orn


def right(x: Tensor, t: Tensor) -> orn.Report:
    model: orn.NetworkDenoiser = orn.load("runs/digits")
    drawn: Tensor = orn.sample(model, 4, sampler="ddim", nfe=8, seed=1)
    clean: Tensor = model(drawn, 0.5, condition=3).x
    noise: list[Tensor] = [frame.estimate.eps for frame in orn.generate(model, 2)]
    settings: orn.Settings = orn.Settings(minutes=3, schedule="exploding", schedule_options={"sigma_max": 50})
    other: orn.Settings = settings.replace(density="mixed", minutes=None, images=64).with_text(["batch=32"])
    trained: orn.NetworkDenoiser = orn.Trainer(orn.load_data("digits", size=8), settings=other).fit()
    chains: list[orn.Chain] = [orn.Chain([0.1, 0.2]), orn.Chain.linear(T=len(noise))]
    bits: Tensor | None = orn.elbo(trained, clean, levels=17).bits_per_dim
    signal, _ = chains[0].level(t)
    print(bits, signal, orn.ExactGaussian(x[0], x[1], orn.Cosine()).draw(3, seed=0), orn.__version__)
    return orn.evaluate(trained, "digits")


class Straight(orn.Schedule):
    def level(self, t: Tensor) -> orn.Level:
        return orn.Level(1 - t, t)


def wrong(model: orn.NetworkDenoiser, settings: orn.Settings, x: Tensor) -> Iterator[object]:
    yield orn.sampel(model)  # wrong
    yield orn.sample(3, nfe=8)  # wrong
    yield orn.sample(model, 3, nonsense=1)  # wrong
    yield next(iter(orn.generate(model))).latents  # wrong
    yield model(x).x  # wrong
    yield orn.Settings(minuts=3)  # wrong
    yield orn.Settings(schedule="cosin")  # wrong
    yield settings.replace(minuts=3)  # wrong
    yield settings.replace(seed="one")  # wrong
    yield orn.Chain()  # wrong
    yield orn.Exploding(sigma=50)  # wrong
    yield orn.elbo(model, x, levels="all").bits  # wrong
    yield orn.save("runs/digits", model)  # wrong

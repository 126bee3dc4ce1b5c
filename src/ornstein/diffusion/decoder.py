"""The reverse decoder: p(z_s | z_t, w), the learned reverse step (section 20.2)."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Independent

from ornstein.arguments import require
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.encoder import Encoder, gaussian, transition
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import per_row
from ornstein.diffusion.schedule import Schedule
from ornstein.isolation import isolation

__all__ = ["VARIANCES", "Decoder", "reverse_law"]

VARIANCES = ("posterior", "beta")


class Decoder:
    """The encoder's posterior with the data replaced by the denoiser's estimate of them.

    p(z_s | z_t, w) = N(m(x-hat, z_t), variance), where m is the mean (20.16) of q(z_s | z_t, x).

    Args:
        denoiser: gives x-hat = E[x | z_t].
        variance: "posterior", the variance (20.17), exact if the data are a single point; "beta", the `added` of the
            step (beta_n for neighbours of a chain), exact if the data are N(0, I); or a tensor of variances that
            broadcasts against z.

    Raises:
        ValueError: an unknown name, or a tensor with negative entries.
    """

    def __init__(self, denoiser: Denoiser, variance: str | Tensor = "posterior") -> None:
        if isinstance(variance, Tensor):
            if not (variance >= 0).all():
                raise ValueError(f"variance has the entry {float(variance.min())}; variances must be >= 0")
        else:
            require("variance", variance, VARIANCES)
        self.denoiser, self.variance = denoiser, variance

    def reverse(self, z: Tensor, s: Tensor | float, t: Tensor | float, condition: Condition = None) -> Independent:
        """p(z_s | z_t, w), one call of the denoiser.

        Args:
            z: (B, ...) latents at time t.
            s, t: times () or (B,), s < t.
            condition: as for the denoiser.

        Returns:
            The law of z_s, event shape z.shape[1:].

        Raises:
            ValueError: unless 0 <= s < t <= 1.
        """
        with isolation(evaluating=[self.denoiser]):
            return reverse_law(self.denoiser(z, t, condition), self.denoiser.schedule, s, t, self.variance)


def reverse_law(estimate: Estimate, schedule: Schedule, s: Tensor | float, t: Tensor | float,
                variance: str | Tensor = "posterior") -> Independent:
    """p(z_s | z_t, w) from an estimate at time t; arguments and errors as for `Decoder`."""
    law = Encoder(schedule).posterior(estimate.x, estimate.z, s, t)
    if isinstance(variance, Tensor):
        return gaussian(law.mean, variance.to(law.mean).sqrt())
    if variance == "beta":
        return gaussian(law.mean, per_row(transition(schedule, s, t)[3].sqrt(), law.mean))
    return law

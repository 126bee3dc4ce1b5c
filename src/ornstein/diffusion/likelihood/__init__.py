"""Likelihoods of data under a model: bounds (section 20.2) and the likelihood of the flow (section 20.3)."""

from __future__ import annotations

from ornstein.diffusion.likelihood.bound import Bound, elbo
from ornstein.diffusion.likelihood.continuous import continuous_elbo
from ornstein.diffusion.likelihood.levels import dequantise
from ornstein.diffusion.likelihood.ode import Flow, ode_likelihood, ode_log_prob
from ornstein.diffusion.likelihood.times import bound_times
from ornstein.diffusion.likelihood.variance import optimal_variance

__all__ = ["Bound", "Flow", "bound_times", "continuous_elbo", "dequantise", "elbo", "ode_likelihood", "ode_log_prob",
           "optimal_variance"]

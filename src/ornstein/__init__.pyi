"""The public names and the room each lives in; `__init__.py` reads this list too, so there is no other."""

from ornstein.adoption.adopt import adopt as adopt
from ornstein.checkpoint import load as load, save as save
from ornstein.data import DataSpec as DataSpec, Dataset as Dataset, load_data as load_data
from ornstein.diffusion.damping import Damped as Damped
from ornstein.diffusion.decoder import Decoder as Decoder
from ornstein.diffusion.denoiser import Denoiser as Denoiser, NetworkDenoiser as NetworkDenoiser
from ornstein.diffusion.editing.inpaint import inpaint as inpaint
from ornstein.diffusion.editing.interpolate import interpolate as interpolate
from ornstein.diffusion.editing.invert import invert as invert
from ornstein.diffusion.editing.operator import Operator as Operator
from ornstein.diffusion.editing.restore import restore as restore
from ornstein.diffusion.editing.vary import vary as vary
from ornstein.diffusion.encoder import Encoder as Encoder, draw as draw
from ornstein.diffusion.estimate import Estimate as Estimate
from ornstein.diffusion.exact import (
    ExactDataset as ExactDataset, ExactGaussian as ExactGaussian, ExactMixture as ExactMixture,
)
from ornstein.diffusion.grid import grid as grid
from ornstein.diffusion.guidance import Guided as Guided
from ornstein.diffusion.level import Level as Level
from ornstein.diffusion.likelihood import (
    Bound as Bound, Flow as Flow, bound_times as bound_times, continuous_elbo as continuous_elbo,
    dequantise as dequantise, elbo as elbo, ode_likelihood as ode_likelihood, ode_log_prob as ode_log_prob,
    optimal_variance as optimal_variance,
)
from ornstein.diffusion.loss import denoising_loss as denoising_loss
from ornstein.diffusion.samplers import generate as generate, sample as sample, samplers as samplers
from ornstein.diffusion.samplers.rule import Rule as Rule, Step as Step
from ornstein.diffusion.score import (
    denoising_score_loss as denoising_score_loss, explicit_score_loss as explicit_score_loss,
    implicit_score_loss as implicit_score_loss, level_losses as level_losses,
)
from ornstein.diffusion.schedule import (
    Chain as Chain, Cosine as Cosine, Exploding as Exploding, Linear as Linear, Schedule as Schedule,
)
from ornstein.evaluation.report_files import write_report as write_report
from ornstein.evaluation.compare import compare as compare
from ornstein.evaluation.evaluate import evaluate as evaluate
from ornstein.evaluation.nearest import Neighbour as Neighbour, nearest as nearest
from ornstein.evaluation.report import Report as Report
from ornstein.exporting.onnx import export as export
from ornstein.figures.save import save_film as save_film, save_pictures as save_pictures
from ornstein.networks import DiT as DiT, MLP as MLP, UNet as UNet
from ornstein.request import Request as Request
from ornstein.settings import Settings as Settings
from ornstein.sheet import save_sheet as save_sheet
from ornstein.training.reaverage import reaverage as reaverage
from ornstein.training.trackers import TensorBoard as TensorBoard, Tracker as Tracker
from ornstein.training.trainer import Trainer as Trainer
from ornstein.tuning.tune import tune as tune

__version__: str

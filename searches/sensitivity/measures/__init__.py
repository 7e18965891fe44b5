"""The measures of sensitivity by name, one file each."""

from __future__ import annotations

from searches.sensitivity.measures import (
    distance,
    entropy,
    fisher,
    fisher_output,
    hessian,
    kl,
    layer_noise,
    loss,
    mse,
    noise,
    sqnr,
    taylor,
)
from searches.sensitivity.measures.measure import Measure

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        distance.DISTANCE,
        kl.KL,
        noise.NOISE,
        mse.MSE,
        loss.LOSS,
        fisher_output.FISHER_OUTPUT,
        fisher.FISHER,
        hessian.HESSIAN,
        taylor.TAYLOR1,
        taylor.TAYLOR2,
        layer_noise.LAYER_NOISE,
        sqnr.SQNR,
        entropy.ENTROPY,
    )
}
__all__ = ["MEASURES", "Measure"]

"""Metrics: `register` lists them as data, `suite` measures them, the other modules compute one kind each."""

from jaxtalk.metrics.material import Faces, Material, Pictures
from jaxtalk.metrics.pixel import box_mask, quantised
from jaxtalk.metrics.register import METRICS, Metric
from jaxtalk.metrics.suite import Suite

__all__ = ["METRICS", "Faces", "Material", "Metric", "Pictures", "Suite", "box_mask", "quantised"]

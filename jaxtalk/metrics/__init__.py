"""Metrics: `register` lists them as data and measures; `pixel` holds PSNR and SSIM."""

from jaxtalk.metrics.register import METRICS, FrameMetric, box_mask, measure, quantised

__all__ = ["METRICS", "FrameMetric", "box_mask", "measure", "quantised"]

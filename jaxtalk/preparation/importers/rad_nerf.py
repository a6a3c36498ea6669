"""Folders of RAD-NeRF, ER-NeRF, SyncTalk and TalkingGaussian: `data/ID/`, made by their `process.py`.

Cameras are written as AD-NeRF writes them, but rays pass through the middles of pixels, (column + 0.5 - cx) / focal, as
ours do. `gt_imgs` are the pictures that they learn from and are tested on, with the background replaced by `bc.jpg`.
Near and far are not kept: these systems sample a box.
"""

from __future__ import annotations

from jaxtalk.preparation.importers.nerf_folder import Layout

LAYOUT = Layout(
    name="rad_nerf",
    pictures=("gt_imgs", "ori_imgs"),
    first_centre=0.5,
    depth_files=(),
)

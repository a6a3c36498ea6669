"""Folders of AD-NeRF and DFRF: `dataset/ID/` (DFRF: `dataset/ID/0/`), made by their `process_data`.

Their rays pass through whole pixel numbers, (column - cx) / focal, so the centre of the first pixel is at 0 (card
gdrf.md, section 5.3); ours is at 0.5. `com_imgs` are the pictures that they learn from and are tested on, with the
background replaced by `bc.jpg`. DeepSpeech windows lie in `aud.npy`; near and far in the configuration of the head.
"""

from __future__ import annotations

from jaxtalk.preparation.importers.nerf_folder import Layout

LAYOUT = Layout(
    name="ad_nerf",
    pictures=("com_imgs", "ori_imgs"),
    first_centre=0.0,
    depth_files=("HeadNeRF_config.txt", "TorsoNeRF_config.txt", "config.txt", "TorsoNeRFTest_config.txt"),
)

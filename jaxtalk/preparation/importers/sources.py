"""What `jaxtalk prepare --from` knows: folders that users of other systems hold."""

from __future__ import annotations

from pathlib import Path

from jaxtalk.clip import Clip
from jaxtalk.errors import JaxtalkError
from jaxtalk.preparation import features
from jaxtalk.preparation.job import PrepareOptions

SOURCES = ("ad_nerf", "rad_nerf", "deep3d")


def import_clip(source: str, path: str | Path, out: str | Path, options: PrepareOptions) -> Clip:
    """Makes the clip `out` of what another system made.

    Args:
      source: 'ad_nerf' (also DFRF's folders), 'rad_nerf' (also ER-NeRF's, SyncTalk's and TalkingGaussian's), or
        'deep3d' (a video with Deep3D's coefficients).
      path: the folder; of 'deep3d' the video, too.
      out: the clip's folder.
      options: those of `prepare_clip`; pictures keep their size, so size, start, end and coefficients are of 'deep3d'
        alone.

    Raises:
      JaxtalkError: one line for whatever the user can mend.
    """
    from jaxtalk.preparation.importers import ad_nerf, deep3d_folder, nerf_clip, rad_nerf

    if source == "deep3d":
        return deep3d_folder.import_video(path, out, options)
    layouts = {"ad_nerf": ad_nerf.LAYOUT, "rad_nerf": rad_nerf.LAYOUT}
    if source not in layouts:
        raise JaxtalkError(f"--from {source}: not one of {', '.join(SOURCES)}")
    for name in ("size", "start", "end", "coefficients", "coefficients_fps"):
        if getattr(options, name) != getattr(PrepareOptions, name):
            option = name.replace("_", "-")
            raise JaxtalkError(f"--{option}: a folder of {source} is taken whole and at its own size; leave it out")
    features.check_ready([Path(out)], options.features, options.overwrite)
    clip = nerf_clip.import_folder(path, out, layouts[source], options)
    features.add_features([clip], options.features)
    return clip


def what_was_not_found(clip: Clip) -> list[str]:
    """What the folder of an imported clip lacked, with what stands in for it."""
    return list(clip.meta.source.get("not_found", ()))

"""Where a pixel lies relative to the fitted head, and what that alone says about its label."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import binary_fill_holes

from jaxtalk.clip import MASK_BACKGROUND, MASK_HEAD, MASK_TORSO
from jaxtalk.preparation.silhouette import FACE, NECK, SCALP

IMPOSSIBLE = -12.0  # log prior
UNKNOWN = -1
EAR_LOBES = -0.3  # their height over the chin
SHOULDERS = -0.15  # and the shoulders', at the highest: a chin on the chest
BESIDE = 0.06  # hair is beside the ears if it reaches farther out than the mesh may be wrong


@dataclasses.dataclass(frozen=True)
class HeadGeometry:
    """One frame at the working size [L, L]. Lengths are parts of the height of the head's silhouette."""

    inside: np.ndarray  # bool: the mesh of face, ears and scalp covers the pixel
    outside: np.ndarray  # distance to that silhouette
    below: np.ndarray  # how far the pixel's row is below the lowest row of the silhouette (the chin); negative above
    side: np.ndarray  # distance from the head's middle column
    neck: np.ndarray  # bool: the mesh of the neck covers the pixel
    scalp: np.ndarray  # bool: hair must be here, if there is any: scalp and a thin ring above it

    @classmethod
    def of(cls, parts: np.ndarray) -> HeadGeometry:
        """From what the mesh covers, `silhouette` labels [L, L]; a frame that shows no head has everything far away."""
        import cv2

        size = parts.shape[0]
        inside = binary_fill_holes((parts == FACE) | (parts == SCALP))  # an open mouth shows no skin
        rows, columns = np.mgrid[:size, :size]
        if not inside.any():
            far, none = np.full(parts.shape, np.inf), np.zeros(parts.shape, bool)
            return cls(none, far, far, far, none, none)
        covered = np.flatnonzero(inside.any(axis=1))
        top, chin = int(covered[0]), int(covered[-1])
        height = max(chin - top, 1)
        outside = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5) / height
        middle = np.nonzero(inside)[1].mean()
        brow = top + 0.4 * height
        ring = (outside > 0) & (outside < 0.035) & (rows < top + 0.35 * height)
        return cls(
            inside=inside,
            outside=outside,
            below=(rows - chin) / height,
            side=np.abs(columns - middle) / height,
            neck=(parts == NECK) & ~inside,
            scalp=((parts == SCALP) & (rows < brow)) | ring,
        )

    def seeds(self) -> np.ndarray:
        """[L, L] int8: the label where the place alone decides, `UNKNOWN` elsewhere."""
        seeds = np.full(self.inside.shape, UNKNOWN, np.int8)
        seeds[~self.inside & (self.below > 0.12) & (self.side < 0.12)] = MASK_TORSO
        seeds[self.neck & (self.side < 0.3)] = MASK_TORSO
        border = np.zeros_like(self.inside)
        edge = max(1, len(border) // 40)
        border[:edge] = border[:, :edge] = border[:, -edge:] = True
        seeds[border & (self.outside > 0.12) & (self.below < -0.25)] = MASK_BACKGROUND
        seeds[(self.outside > 0.4) & (self.below < -0.15)] = MASK_BACKGROUND
        seeds[self.inside] = MASK_HEAD
        return seeds

    @property
    def clothes(self) -> np.ndarray:
        """[L, L] bool: where the torso shows its colours for sure, and hair does not hang over it."""
        bottom = np.arange(len(self.inside))[:, None] >= len(self.inside) * 15 // 16
        return (self.side < 0.25) | (bottom & (self.below > 0.2))

    def log_prior(self) -> np.ndarray:
        """[3, L, L] log prior of the labels, up to a constant: hair near the head, shoulders below it."""
        prior = np.zeros((3, *self.inside.shape), np.float32)
        if not self.inside.any():
            prior[MASK_HEAD] = IMPOSSIBLE
            return prior
        low = np.clip(self.below / 0.2, 0, 1)
        prior[MASK_HEAD] = -((self.outside / 0.25) ** 2) - 3 * (self.neck & (self.side < 0.3))
        prior[MASK_BACKGROUND] = np.where(self.inside, IMPOSSIBLE, -0.3 - 3 * np.exp(-((self.outside / 0.04) ** 2)))
        prior[MASK_BACKGROUND] -= 3 * np.clip(0.75 - self.side, 0, 1) * low
        shoulders = 4 * np.clip(self.below / 0.2, -1, 0) - 2 * np.maximum(self.side - 0.5, 0)
        edge = slice(-max(1, len(shoulders) // 40), None)
        shoulders[edge] += 3 * ((self.side < 0.6) & (self.below > 0.2))[edge]  # the picture ends in the chest
        prior[MASK_TORSO] = np.where((self.below > SHOULDERS) | self.neck, shoulders, IMPOSSIBLE)
        return prior

    def strands(self, hair: np.ndarray) -> np.ndarray:
        """[L, L] bool: hair that hangs below the ears, given pixels [L, L] that look like hair.

        It comes down in an unbroken strand from hair beside the ears, clear of the mesh. So a dark suit does not become
        part of a head of dark hair, and long hair is not taken for clothes.
        """
        found = np.zeros_like(hair)
        rows = np.flatnonzero(self.below[:, 0] >= EAR_LOBES)
        if not rows.size or rows[0] == 0:
            return found
        free = hair & ~self.inside
        strand = free[rows[0] - 1] & (self.outside[rows[0] - 1] > BESIDE)
        for row in rows:
            wide = strand.copy()
            wide[1:] |= strand[:-1]
            wide[:-1] |= strand[1:]
            strand = wide & free[row]
            found[row] = strand
        return found

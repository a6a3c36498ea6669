"""One synthetic speaker's utterance as a clip, with everything in its track exact."""

from __future__ import annotations

import concurrent.futures
import os

import numpy as np

import jaxtalk
from jaxtalk.clip import Camera, Clip, ClipMeta, ClipWriter, Track
from jaxtalk.errors import JaxtalkError
from jaxtalk.faces import procedural
from jaxtalk.faces.landmarks import BLENDSHAPE_NAMES, face_box, mouth_box
from jaxtalk.synthetic.look import sample_look
from jaxtalk.synthetic.motion import Motion, portrait_camera, sample_motion
from jaxtalk.synthetic.mouth import mouth_coefficients, viseme_trajectory
from jaxtalk.synthetic.phonemes import SYMBOLS, sample_delivery
from jaxtalk.synthetic.render import Pose, Renderer
from jaxtalk.synthetic.voice import speak

GENERATOR_VERSION = "1"  # changes when the same seeds give another clip
_PROXY_SPACING = 0.006  # metres between proxy points


def write_speaker(
    path: str | os.PathLike[str], *, identity: int, utterance: int, seconds: float, size: int, fps: float = 25.0
) -> Clip:
    """Writes the clip of person `identity` saying utterance `utterance`; the same arguments give the same bytes.

    `features/phonemes.npy` holds the utterance's sounds (`phonemes.TIMELINE`; numbers index `phonemes.SYMBOLS`, which
    `meta.source` repeats). Masks count hair as head and the neck as torso.

    Raises:
      JaxtalkError: fewer than two frames, or a size too small to see a face.
    """
    count = round(seconds * fps)
    if count < 2 or size < 16:
        raise JaxtalkError(f"{path}: {seconds} s at {fps} fps and {size} pixels is no clip; ask for more")
    times = np.arange(count) / fps
    speech = speak(utterance, identity, seconds)
    motion = sample_motion(identity, utterance, times, seconds, speech.phonemes)
    expression = expression_track(utterance, times, speech.phonemes, motion)
    camera = portrait_camera(size)
    renderer = Renderer(sample_look(identity), camera, size)

    writer = ClipWriter(path)

    def draw(i: int) -> None:
        image, labels = renderer.render(expression[i], motion.gaze[i], motion.head[i], motion.torso[i])
        writer.frame(i, image)
        writer.mask(i, labels)

    with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # drawing lets go of the GIL
        for _ in pool.map(draw, range(count)):
            pass
    writer.background(renderer.background())
    writer.audio(speech.samples, speech.rate)
    (writer.folder / "features").mkdir(exist_ok=True)
    np.save(writer.folder / "features" / "phonemes.npy", speech.phonemes)
    track = _track(renderer, motion, expression, times, camera)
    near, far = _depth_range(renderer, motion.head)
    meta = ClipMeta(
        identity=f"synthetic-{identity}",
        fps=fps,
        num_frames=count,
        size=(size, size),
        camera=camera,
        near=near,
        far=far,
        face_model=procedural.procedural_face_model().info,
        sample_rate=speech.rate,
        synthetic=True,
        language="babble",
        emotion=sample_delivery(utterance).emotion,
        source={"identity": identity, "utterance": utterance, "seconds": seconds, "generator": GENERATOR_VERSION,
                "face_model": procedural.VERSION, "jaxtalk": jaxtalk.__version__, "phonemes": list(SYMBOLS)},
        consent={"subject": "none: a synthetic person", "source": "jaxtalk.synthetic", "scope": "any"},
        stages={"synthetic": {"version": GENERATOR_VERSION}},
    )  # fmt: skip
    return writer.finish(meta, track)


def expression_track(utterance: int, times: np.ndarray, timeline: np.ndarray, motion: Motion) -> np.ndarray:
    """Coefficients [F, E] of the procedural face: the mouth from the phonemes, eyes and brows from the motion."""
    delivery = sample_delivery(utterance)
    values = mouth_coefficients(viseme_trajectory(timeline, times, delivery), delivery.smile)
    raised, lowered = np.clip(motion.brow, 0, 1), np.clip(-motion.brow, 0, 1)
    values["browInnerUp"] = raised
    for side in ("Left", "Right"):
        values[f"browOuterUp{side}"] = raised
        values[f"browDown{side}"] = lowered
        values[f"eyeBlink{side}"] = motion.blink
        values[f"eyeSquint{side}"] = np.full(len(times), 0.5 * max(delivery.smile, 0.0)) * (1 - motion.blink)
    names = procedural.procedural_face_model().expression_names
    return np.stack([values.get(name, np.zeros(len(times))) for name in names], -1).astype(np.float32)


def _track(renderer: Renderer, motion: Motion, expression: np.ndarray, times: np.ndarray, camera: Camera) -> Track:
    landmarks = _landmarks(renderer, motion.head, expression, camera)
    size = (renderer.size, renderer.size)
    names = procedural.procedural_face_model().expression_names
    openness = 1 - expression[:, [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]]
    return Track(
        time=times,
        rotation=np.stack([pose.rotation for pose in motion.head]).astype(np.float32),
        translation=np.stack([pose.translation for pose in motion.head]).astype(np.float32),
        expression=expression,
        blendshapes=_blendshapes(expression, motion.gaze),
        landmarks=landmarks,
        face_box=face_box(landmarks, size),
        mouth_box=mouth_box(landmarks, size),
        gaze=motion.gaze.astype(np.float32),
        eye_openness=openness.astype(np.float32),
        valid=np.ones(len(times), bool),
        identity=renderer.look.shape,
        proxy_points=_proxy_points(renderer),
    )


def _landmarks(renderer: Renderer, poses: list[Pose], expression: np.ndarray, camera: Camera) -> np.ndarray:
    """[F, 68, 2] pixels: the model's landmark vertices, posed and projected."""
    model = procedural.procedural_face_model()
    vertices = model.landmark_vertices
    moved = renderer.neutral[vertices] + np.einsum("fe,evc->fvc", expression, model.expression_basis[:, vertices])
    points = np.stack([pose.apply(face) for pose, face in zip(poses, moved, strict=True)])
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([camera.cx - camera.focal * x / z, camera.cy + camera.focal * y / z], -1).astype(np.float32)


def _blendshapes(expression: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """[F, 52]: the coefficients that have ARKit's names, and the looks from the gaze; zero elsewhere."""
    names = procedural.procedural_face_model().expression_names
    out = np.zeros((len(expression), len(BLENDSHAPE_NAMES)), np.float32)
    for i, name in enumerate(names):
        if name in BLENDSHAPE_NAMES:
            out[:, BLENDSHAPE_NAMES.index(name)] = expression[:, i]
    right, up = np.clip(gaze[:, 0] / 0.6, -1, 1), np.clip(gaze[:, 1] / 0.6, -1, 1)
    looks = {"eyeLookOutLeft": right, "eyeLookInRight": right, "eyeLookInLeft": -right, "eyeLookOutRight": -right}
    looks |= {f"eyeLook{way}{side}": s * up for way, s in (("Up", 1), ("Down", -1)) for side in ("Left", "Right")}
    for name, value in looks.items():
        out[:, BLENDSHAPE_NAMES.index(name)] = np.maximum(value, 0)
    return np.clip(out, 0, 1)


def _proxy_points(renderer: Renderer) -> np.ndarray:
    """[P, 3] one point in each small cube that the neutral skin or the hair passes through."""
    points = renderer.head_surface()
    cubes = np.floor(points / _PROXY_SPACING).astype(np.int64)
    _, first = np.unique(cubes, axis=0, return_index=True)
    return points[np.sort(first)].astype(np.float32)


def _depth_range(renderer: Renderer, poses: list[Pose]) -> tuple[float, float]:
    """Distances that enclose the head with its hair in every frame, with 2 cm for what expressions add."""
    surface = renderer.head_surface()
    depths = [-pose.apply(surface[::7])[:, 2] for pose in poses]
    return float(min(d.min() for d in depths)) - 0.02, float(max(d.max() for d in depths)) + 0.02

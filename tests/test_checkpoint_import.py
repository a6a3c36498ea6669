"""Checkpoints of AD-NeRF and DFRF render with our code as they do with theirs, and nothing in them is lost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from flax import nnx

from jaxtalk import cli
from jaxtalk.audio import clip_windows
from jaxtalk.clip import Camera, Clip, ClipMeta, ClipWriter, FaceModelInfo, Track
from jaxtalk.errors import JaxtalkError
from jaxtalk.few_shot.config import read as read_few_shot
from jaxtalk.few_shot.picture import see
from jaxtalk.few_shot.references import encode, look
from jaxtalk.methods.ad_nerf import import_checkpoint as ad_nerf
from jaxtalk.methods.ad_nerf.config import read
from jaxtalk.methods.api import Drive, load_method
from jaxtalk.methods.dfrf import import_checkpoint as dfrf
from jaxtalk.rays.published import Imported
from jaxtalk.rays.rendering import rays_through
from jaxtalk.rays.settings import FieldConfig
from jaxtalk.rays.speech_code import speech_code
from jaxtalk.training.adopted import RECORD, adopt
from jaxtalk.training.run import open_run
from tests.goldens import ad_nerf_scene as scene
from tests.goldens.drawn import uniform
from tests.nerf_folder_case import save_like_torch

GOLDEN = Path(__file__).parent / "goldens" / "ad_nerf.npz"
HEAD_ENTRIES = (
    "network_fn_state_dict",
    "network_fine_state_dict",
    "network_audnet_state_dict",
    "network_audattnet_state_dict",
)
OPTIMISER = {"state": {0: {"step": 3, "exp_avg": np.zeros(2)}}, "param_groups": [{"lr": 5e-4, "betas": (0.9, 0.999)}]}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def shapes(golden: dict[str, np.ndarray]) -> dict[str, Any]:
    return json.loads(str(golden["shapes"]))


@pytest.fixture(scope="module")
def trees(shapes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the three files hold: AD-NeRF's head and torso (`body`), DFRF's model."""

    def entries(system: str) -> dict[str, Any]:
        names = [entry.split("/")[1] for entry in shapes if entry.startswith(f"{system}/") and entry.count("/") == 1]
        return {name: scene.state(f"{system}/{name}", shapes[f"{system}/{name}"]) for name in names}

    optimisers = {"optimizer_state_dict": OPTIMISER, "optimizer_aud_state_dict": OPTIMISER}
    late = optimisers | {"optimizer_audatt_state_dict": OPTIMISER}
    model = entries("dfrf")
    slots = {f"slot_att.{name}": array for name, array in model["attention_state_dict"].items()}
    for name in ("network_fn_state_dict", "network_fine_state_dict"):
        own = scene.state(f"dfrf/{name}/nerf_model", shapes[f"dfrf/{name}/nerf_model"])
        model[name] = {f"nerf_model.{key}": array for key, array in own.items()} | slots
    return {
        "head": {"global_step": 399_999, **entries("head"), **late},
        "body": {"global_step": 309_999, **entries("body"), **optimisers},
        "dfrf": {"global_step": 299_999, **model, **late},
    }


@pytest.fixture(scope="module")
def files(trees: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: save_like_torch(folder / f"400000_{name}.tar", tree) for name, tree in trees.items()}


def _write_clip(path: Path, unit: float, **source: Any) -> Clip:
    """The scene of the goldens as an imported clip, in a folder whose unit is so many metres."""
    size, count = scene.SIZE, scene.FRAMES
    matrices = np.stack([scene.camera_to_world(i) for i in range(count)])
    rotation = matrices[:, :3, :3].transpose(0, 2, 1)
    translation = -unit * np.einsum("fij,fj->fi", rotation, matrices[:, :3, 3])
    writer = ClipWriter(path)
    rng = np.random.default_rng(0)
    for i in range(count):
        writer.frame(i, rng.integers(0, 255, (size, size, 3), dtype=np.uint8))
        writer.mask(i, np.ones((size, size), np.uint8))
    writer.background(np.round(255 * scene.background()).astype(np.uint8))
    writer.audio(0.1 * rng.normal(size=round(16000 * count / 25)), 16000)
    (writer.folder / "features").mkdir()
    np.save(writer.folder / "features" / "deepspeech.npy", scene.speech())
    box = np.tile([3.0, 3, 9, 9], (count, 1))
    track = Track(
        time=np.arange(count) / 25,
        rotation=rotation.astype(np.float32),
        translation=translation.astype(np.float32),
        expression=np.zeros((count, 2), np.float32),
        blendshapes=np.zeros((count, 52), np.float32),
        landmarks=np.full((count, 68, 2), 6, np.float32),
        face_box=box,
        mouth_box=box,
        gaze=np.zeros((count, 2), np.float32),
        eye_openness=np.ones((count, 2), np.float32),
        valid=np.ones(count, bool),
        identity=np.zeros(3, np.float32),
        proxy_points=(0.1 * unit * rng.normal(size=(50, 3))).astype(np.float32),
    )
    meta = ClipMeta(
        identity="scene",
        fps=25.0,
        num_frames=count,
        size=(size, size),
        camera=Camera(scene.FOCAL, size / 2 + 0.5, size / 2 + 0.5),
        near=scene.NEAR * unit,
        far=scene.FAR * unit,
        face_model=FaceModelInfo("none", 3, 2),
        source={"metres_per_unit": unit, "split": {"train": [[0, 11]], "val": [[12, 15]]}} | source,
    )
    return writer.finish(meta, track)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return _write_clip(tmp_path_factory.mktemp("clips") / "scene", 1.0)


def _unwritten(found: Imported) -> Any:
    """A run that was not written to disk."""
    return SimpleNamespace(workdir=Path(), config=found.config, networks=found.networks.get)


def _drive(clip: Clip, run: Any) -> Drive:
    """Of the pictured frames."""
    windows = clip_windows(load_method(run.config.method).audio_feature(run.config), clip)
    track = clip.track
    return Drive(windows, track.rotation, track.translation, track.eye_openness).take(np.array(scene.PICTURES))


def _rendered(clip: Clip, run: Any) -> np.ndarray:
    return load_method(run.config.method).fit(run, clip).render(_drive(clip, run))


def _golden_pictures(golden: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return np.stack([golden[f"{name}/{frame}"] for frame in scene.PICTURES])


# --- AD-NeRF


@pytest.fixture(scope="module")
def imported(files: dict[str, Path], clip: Clip) -> Imported:
    return ad_nerf.import_checkpoint([files["body"], files["head"]], clip)


def _published(tree: dict[str, Any], golden: dict[str, np.ndarray], inputs: int) -> dict[str, Any]:
    """A file with fields of the published size, all ones."""
    shapes, prefix = json.loads(str(golden["published"]))[str(inputs)], "nerf_model." if inputs == 383 else ""
    full = {f"{prefix}{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}
    tree = dict(tree)
    for entry in ("network_fn_state_dict", "network_fine_state_dict"):
        others = {name: array for name, array in tree[entry].items() if name.startswith("slot_att.")}
        tree[entry] = full | others
    return tree


def test_the_published_sizes(
    trees: dict[str, dict[str, Any]], golden: dict[str, np.ndarray], clip: Clip, tmp_path: Path
) -> None:
    """Parameters as counted in the reference (card gdrf, B), less `feature_linear`, which nobody asks."""
    sizes = {"head": 127, "body": 169, "dfrf": 383}
    files = {
        name: save_like_torch(tmp_path / f"{name}.tar", _published(trees[name], golden, inputs))
        for name, inputs in sizes.items()
    }
    found = ad_nerf.import_checkpoint([files["head"], files["body"]], clip)
    model = read(found.config).model
    assert model.head == FieldConfig() == model.torso
    networks = {**found.networks["head"], **found.networks["torso"]}
    few_shot = dfrf.import_checkpoint([files["dfrf"]], clip)
    assert read_few_shot(few_shot.config).model.field == FieldConfig()

    def count(network: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network)))

    counts = {name: count(network) for name, network in networks.items()}
    assert counts["head"] == counts["head_coarse"] == 595_844 and counts["torso"] == counts["torso_coarse"]
    assert (counts["audio"], counts["attention"]) == (32_800, 2_149)
    counts = {name: count(network) for name, network in few_shot.networks["field"].items()}
    assert (counts["encoder"], counts["references"], counts["field"]) == (83_328, 216_832, 726_916)
    assert counts["warp"] == 36_962


def test_sizes_are_read_off_the_file(imported: Imported) -> None:
    settings = read(imported.config)
    model = settings.model
    assert model.torso is not None and model.torso_pose_frequencies == 3
    for field in (model.head, model.torso):
        assert dataclasses.astuple(field)[:7] == (8, scene.WIDTH, (4,), 3, scene.WIDTH // 2, 10, 4)
    assert (model.audio.code_size, model.audio.channels, model.audio.attention_windows) == (64, 29, 8)
    stages = settings.stages
    assert stages.head is not None and stages.torso is not None
    assert (stages.head.steps, stages.torso.steps) == (400_000, 310_000) and settings.feature == "deepspeech"
    assert imported.config.data.size == 12 and imported.config.data.test_seconds == pytest.approx(4 / 25)


def test_codes_and_fields_are_theirs(imported: Imported, clip: Clip, golden: dict[str, np.ndarray]) -> None:
    networks, model = dict(imported.networks["head"]), read(imported.config).model
    windows = jnp.asarray(clip_windows(model.audio.feature("deepspeech"), clip))
    for smooth, name in ((False, "code"), (True, "smooth")):
        codes = speech_code(networks, model.audio, windows, smooth)
        for frame in scene.PICTURES:
            np.testing.assert_allclose(codes[frame], golden[f"{name}/{frame}"], rtol=1e-4, atol=1e-5)
    head: Any = networks["head"]
    points, directions = uniform("points", (20, 3, 3), -0.1, 0.1), uniform("directions", (20, 3), -1, 1)
    density, color = head(points, directions, golden[f"code/{scene.PICTURES[-1]}"])
    np.testing.assert_allclose(density, golden["points/density"], atol=1e-4 * np.abs(golden["points/density"]).max())
    raw = np.log(color / (1 - color))
    np.testing.assert_allclose(raw, golden["points/colour"], atol=1e-4 * np.abs(golden["points/colour"]).max())


def _check_pictures(found: np.ndarray, wanted: np.ndarray, most: float = 1e-3) -> None:
    """Samples fall where earlier ones saw something: a few pixels gather the rounding of both passes."""
    error = np.abs(found - wanted)
    assert np.percentile(error, 95) < 1e-4 and error.max() < most, np.percentile(error, [50, 95, 100])


def test_head_and_torso_render_as_published(
    files: dict[str, Path], tmp_path: Path, golden: dict[str, np.ndarray]
) -> None:
    """From files and clip to pictures; the clip's folder counts in decimetres (a run in metres is tested below)."""
    clip = _write_clip(tmp_path / "scene", 0.1)
    found = ad_nerf.import_checkpoint([files["head"], files["body"]], clip)
    _check_pictures(_rendered(clip, _unwritten(found)), _golden_pictures(golden, "whole"))


@pytest.mark.parametrize(
    ("step", "resaved", "name"), [(399_999, False, "head"), (199_999, False, "own"), (7, True, "head")]
)
def test_a_head_alone_hears_smoothed_codes_when_it_was_trained_on_them(
    step: int,
    resaved: bool,
    name: str,
    trees: dict[str, dict[str, Any]],
    clip: Clip,
    tmp_path: Path,
    golden: dict[str, np.ndarray],
) -> None:
    """From step 200,000 on; and always where torso training saved it again, with its own count of steps."""
    tree = {**trees["head"], "global_step": step}
    if resaved:
        del tree["optimizer_audatt_state_dict"]
    found = ad_nerf.import_checkpoint([save_like_torch(tmp_path / "head.tar", tree)], clip)
    wanted = _golden_pictures(golden, name)
    _check_pictures(_rendered(clip, _unwritten(found)), wanted)
    assert np.abs(wanted - _golden_pictures(golden, "own" if name == "head" else "head")).max() > 0.02
    assert list(found.networks) == ["head"] and found.config.stages.head.steps == step + 1


def test_a_run_is_all_that_synthesis_and_evaluation_need(
    files: dict[str, Path], tmp_path: Path, golden: dict[str, np.ndarray]
) -> None:
    """Clip and checkpoints gone, the run renders the same, speaks, and is tested on the folder's validation frames."""
    import shutil

    from jaxtalk.evaluation.runner import evaluate
    from jaxtalk.synthesis import synthesize

    clip = _write_clip(tmp_path / "scene", 1.0)
    words = ("ad_nerf", files["head"], files["body"], "--clip", clip.path, "--workdir", tmp_path / "run")
    said = CliRunner().invoke(cli.main, ["import-checkpoint", *map(str, words)])
    assert said.exit_code == 0 and said.stdout.endswith("run: head at step 400000, torso at step 310000\n")
    assert "note: at the ends of a recording" in said.stderr
    run = open_run(tmp_path / "run")
    _check_pictures(_rendered(clip, run), _golden_pictures(golden, "whole"))
    shutil.copy(clip.path / "audio.wav", tmp_path / "speech.wav")
    shutil.copy(clip.path / "features" / "deepspeech.npy", tmp_path / "speech.npy")
    shutil.rmtree(clip.path)
    record = json.loads((tmp_path / "run" / RECORD).read_text())
    assert record["method"] == "ad_nerf" and set(record["files"]) == {"400000_head.tar", "400000_body.tar"}
    result = synthesize(
        tmp_path / "run", tmp_path / "speech.wav", tmp_path / "said.mp4", features=tmp_path / "speech.npy"
    )
    assert result.frames == scene.FRAMES and result.path.is_file()
    evaluate(tmp_path / "run", "self", video_seconds=0)
    results = json.loads((tmp_path / "run" / "eval" / "self" / "results.json").read_text())
    assert len(results["clips"]["scene"]["times"]) == 4


# --- DFRF


@pytest.mark.parametrize("unit", [pytest.param(1.0, marks=pytest.mark.slow), 0.1])
def test_dfrf_sees_its_references_as_published(
    unit: float, files: dict[str, Path], tmp_path: Path, golden: dict[str, np.ndarray]
) -> None:
    """Feature maps, what points find there (warped, gathered, asked), and a picture."""
    clip = _write_clip(tmp_path / "scene", unit)
    imported = dfrf.import_checkpoint([files["dfrf"]], clip)
    model, networks = read_few_shot(imported.config).model, dict(imported.networks["field"])
    field: Any = networks["field"]
    track, camera, frame = clip.track, clip.meta.camera, scene.PICTURES[0]
    column, row = np.meshgrid(np.arange(scene.SIZE) + 0.5, np.arange(scene.SIZE) + 0.5)
    pixels = np.stack([column, row], -1).reshape(-1, 2).astype(np.float32)[:: scene.SKIPPED]
    behind = scene.background().reshape(-1, 3)[:: scene.SKIPPED]

    @jax.jit
    def answers(windows: jax.Array, images: jax.Array, noise: jax.Array) -> tuple[jax.Array, ...]:
        vector = jnp.array([camera.focal, camera.cx, camera.cy])
        views = encode(networks, model, images, track.rotation[:4], track.translation[:4], vector)
        code = speech_code(networks, model.audio, windows, True)[frame]
        bounds = jnp.tile(jnp.array([clip.meta.near, clip.meta.far]), (len(pixels), 1))
        rays = rays_through(pixels, track.rotation[frame], track.translation[frame], vector, bounds)
        points = rays.origins + 0.8 * unit * rays.directions
        found = look(networks, model, views, points, field.encode(points), code, noise, clip.meta.size)
        density, color = field(points[:, None], rays.directions, code, found.features[:, None])
        pictures, _ = see(networks, model, views, code, rays, jnp.asarray(behind), noise, None, clip.meta.size)
        return views.maps[:, ::3, ::3], unit * density, jnp.log(color / (1 - color)), pictures[-1].color

    windows = clip_windows(model.audio.feature("deepspeech"), clip)
    images = uniform("references", (4, scene.SIZE, scene.SIZE, 3))
    *values, picture = answers(windows, images, scene.noise())
    for value, name in zip(values, ("maps", "density", "colour"), strict=True):
        wanted = golden[f"dfrf/{name}"]
        np.testing.assert_allclose(value, wanted, atol=2e-4 * np.abs(wanted).max(), err_msg=name)
    _check_pictures(
        np.asarray(picture), golden["dfrf/picture"], 5e-3
    )  # places are whole numbers, and rounding moves one


@pytest.mark.slow
def test_a_dfrf_run_has_a_head(files: dict[str, Path], clip: Clip, tmp_path: Path) -> None:
    """No adaptation: the head is what the file holds, smoothed as training had it."""
    run = adopt("dfrf", [files["dfrf"]], clip.path, tmp_path / "run")
    avatar = load_method("dfrf").fit(run, clip)
    frames = avatar.render(_drive(clip, run))
    assert frames.shape == (2, scene.SIZE, scene.SIZE, 3) and np.isfinite(frames).all() and frames.std() > 0.02
    again = open_run(tmp_path / "run")
    assert again.stages["field"].steps == 300_000 and again.config.data.audio_feature == "deepspeech"
    assert len(json.loads((tmp_path / "run" / RECORD).read_text())["notes"]) == 4


# --- what is refused


def _without(tree: dict[str, Any], entry: str, name: str | None = None) -> dict[str, Any]:
    tree = dict(tree)
    if name is None:
        del tree[entry]
    else:
        tree[entry] = {key: value for key, value in tree[entry].items() if key != name}
    return tree


def _with(tree: dict[str, Any], entry: str, name: str, value: np.ndarray) -> dict[str, Any]:
    return {**tree, entry: {**tree[entry], name: value}}


FINE, AUD = "network_fine_state_dict", "network_audnet_state_dict"
FAULTS = {
    "missing layer": (lambda t: _without(t, FINE, "pts_linears.3.weight"), r"keys 1 missing: pts_linears\.3\.weight"),
    "missing first layer": (lambda t: _without(t, FINE, "pts_linears.0.weight"), r"has no pts_linears\.0\.weight"),
    "left over": (lambda t: _with(t, FINE, "extra.weight", np.zeros(2)), r"1 not of this network: extra\.weight"),
    "misshapen": (lambda t: _with(t, FINE, "rgb_linear.weight", np.zeros((3, 7))), r"shape: rgb_linear\.weight \(3, 7"),
    "not finite": (lambda t: _with(t, FINE, "rgb_linear.bias", np.full(3, np.nan)), r"not finite: rgb_linear\.bias"),
    "speech": (lambda t: _without(t, AUD, "encoder_conv.2.bias"), r"audnet_state_dict: .* encoder_conv\.2\.bias"),
    "no entry": (lambda t: _without(t, FINE), "no entry 'network_fine_state_dict'"),
    "no step": (lambda t: _without(t, "global_step"), "no entry 'global_step'"),
    "another system's": (lambda t: {**t, "unet_state_dict": {}}, "entry 'unet_state_dict' has no place"),
    "no state dict": (lambda t: {**t, FINE: [1, 2]}, "network_fine_state_dict is no state dict"),
    "other encoding": (lambda t: _with(t, FINE, "pts_linears.0.weight", np.zeros((32, 130))), "66 of its inputs"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_odd_key_is_named(fault: str, trees: dict[str, dict[str, Any]], clip: Clip, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    file = save_like_torch(tmp_path / "head.tar", change(trees["head"]))
    with pytest.raises(JaxtalkError, match=message) as caught:
        adopt("ad_nerf", [file], clip.path, tmp_path / "run")
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_files_that_do_not_belong_together(
    files: dict[str, Path], trees: dict[str, dict[str, Any]], clip: Clip, tmp_path: Path
) -> None:
    with pytest.raises(JaxtalkError, match="0 heads and 1 torsos"):
        ad_nerf.import_checkpoint([files["body"]], clip)
    with pytest.raises(JaxtalkError, match="2 heads and 0 torsos"):
        ad_nerf.import_checkpoint([files["head"], files["head"]], clip)
    early = save_like_torch(tmp_path / "early.tar", _without(trees["head"], "network_audattnet_state_dict"))
    with pytest.raises(JaxtalkError, match=r"early\.tar: no entry 'network_audattnet_state_dict'"):
        ad_nerf.import_checkpoint([early, files["body"]], clip)
    assert read(ad_nerf.import_checkpoint([early], clip).config).model.audio.attention_windows == 0
    with pytest.raises(JaxtalkError, match="2 files: DFRF's networks lie in one"):
        dfrf.import_checkpoint([files["dfrf"], files["dfrf"]], clip)
    with pytest.raises(JaxtalkError, match="no entry 'attention_state_dict'"):
        dfrf.import_checkpoint([files["head"]], clip)
    with pytest.raises(JaxtalkError, match=r"has no place in our networks"):
        ad_nerf.import_checkpoint([files["dfrf"]], clip)
    other = _with(trees["dfrf"], FINE, "slot_att.fc6.bias", np.zeros(32))
    with pytest.raises(JaxtalkError, match=r"network_fine_state_dict: slot_att\.fc6\.bias is not what"):
        dfrf.import_checkpoint([save_like_torch(tmp_path / "other.tar", other)], clip)


def test_clips_that_do_not_fit(files: dict[str, Path], tmp_path: Path, fake_clip: Clip, clip: Clip) -> None:
    with pytest.raises(JaxtalkError, match=r"not made of the folder.*prepare --from ad_nerf FOLDER"):
        adopt("ad_nerf", [files["head"]], fake_clip.path, tmp_path / "run")
    deaf = _write_clip(tmp_path / "deaf", 1.0)
    (deaf.path / "features" / "deepspeech.npy").unlink()
    with pytest.raises(JaxtalkError, match=r"no features/deepspeech\.npy"):
        adopt("ad_nerf", [files["head"]], deaf.path, tmp_path / "run")
    with pytest.raises(JaxtalkError, match=r"gdrf: no published checkpoints .* for ad_nerf, dfrf"):
        adopt("gdrf", [files["head"]], clip.path, tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(JaxtalkError, match="a run is here already"):
        adopt("ad_nerf", [files["head"]], clip.path, tmp_path / "run")
    whole = _write_clip(tmp_path / "whole", 1.0, split={"train": [[0, 15]], "val": []})
    assert ad_nerf.import_checkpoint([files["head"]], whole).config.data.test_seconds == 0

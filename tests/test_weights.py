"""Pretrained files: found, fetched, checked; and ICT-FaceKit's OBJ files converted."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from jaxtalk import weights
from jaxtalk.errors import JaxtalkError
from jaxtalk.weights import fetch, ict_facekit, store

CONTENT = b"a network of someone's"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JAXTALK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def landmarker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file at a file:// address that the register takes for the landmarker."""
    published = tmp_path / "published.task"
    published.write_bytes(CONTENT)
    entry = dataclasses.replace(
        weights.REGISTER["face_landmarker"], source=published.as_uri(), sha256=hashlib.sha256(CONTENT).hexdigest()
    )
    monkeypatch.setattr(store, "REGISTER", {**weights.REGISTER, "face_landmarker": entry})
    return published


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*")) if cache.exists() else []


def test_names_and_register() -> None:
    assert {"face_landmarker", "ict_facekit", "alexnet", "lpips_alex"} <= set(weights.names())
    for entry in weights.REGISTER.values():
        assert entry.source.startswith("https://") and entry.licence and entry.purpose
        assert entry.layout is None or entry.file == f"{entry.name}.npz"
        name = entry.source.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        if entry.sha256 and len(entry.sha256) == 8:  # the digits stand in the name of the published file
            assert name.endswith(f"-{entry.sha256}")
    assert len(str(weights.REGISTER["face_landmarker"].sha256)) == 64


def test_unknown_name(cache: Path) -> None:
    for call in (weights.get, weights.find):
        with pytest.raises(JaxtalkError, match=r"known are alexnet, .*face_landmarker, ict_facekit"):
            call("bfm")


def test_download_is_checked_and_kept(cache: Path, landmarker: Path) -> None:
    path = weights.get("face_landmarker")
    assert path == cache / "face_landmarker.task" and path.read_bytes() == CONTENT
    assert leftovers(cache) == ["face_landmarker.task"]
    landmarker.unlink()
    assert weights.get("face_landmarker") == path == weights.find("face_landmarker")


def test_wrong_hash_is_refused_and_nothing_is_left(cache: Path, landmarker: Path) -> None:
    landmarker.write_bytes(CONTENT[:-1])
    with pytest.raises(JaxtalkError, match="not the published face_landmarker"):
        weights.get("face_landmarker")
    assert leftovers(cache) == []


def test_a_bad_file_does_not_replace_a_good_one(cache: Path, landmarker: Path, tmp_path: Path) -> None:
    good = weights.get("face_landmarker")
    bad = tmp_path / "bad.task"
    bad.write_bytes(b"other")
    with pytest.raises(JaxtalkError, match=r"bad\.task"):
        weights.get("face_landmarker", source=bad)
    assert good.read_bytes() == CONTENT and leftovers(cache) == ["face_landmarker.task"]


def test_a_cut_connection_leaves_nothing(
    cache: Path, landmarker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    class Cut(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(fetch.urllib.request, "urlopen", lambda *_, **__: Cut(CONTENT))
    with pytest.raises(JaxtalkError, match="reset by peer"):
        weights.get("face_landmarker")
    assert leftovers(cache) == []


def test_no_network_says_how_to_give_the_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("name resolution failed")

    monkeypatch.setattr(fetch.urllib.request, "urlopen", offline)
    for name in (name for name, entry in weights.REGISTER.items() if entry.direct):
        with pytest.raises(JaxtalkError, match=rf"name resolution failed.*jaxtalk weights get {name} --from") as caught:
            weights.get(name)
        assert "\n" not in str(caught.value)
    assert [name for name in leftovers(cache) if not name.endswith(".partial")] == []


def test_from_a_file(cache: Path, landmarker: Path, tmp_path: Path) -> None:
    given = tmp_path / "mine.task"
    given.write_bytes(CONTENT)
    assert weights.get("face_landmarker", source=given).read_bytes() == CONTENT
    with pytest.raises(JaxtalkError, match=r"absent\.task"):
        weights.get("face_landmarker", source=tmp_path / "absent.task")


def test_find_takes_a_path_or_looks_in_the_cache(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(JaxtalkError, match="jaxtalk weights get ict_facekit"):
        weights.find("ict_facekit")
    given = tmp_path / "mine.npz"
    with pytest.raises(JaxtalkError, match=r"mine\.npz"):
        weights.find("ict_facekit", given)
    given.touch()
    assert weights.find("ict_facekit", given) == given


def write_objs(folder: Path) -> np.ndarray:
    """A published folder with meshes of 5 vertices, a quad and a triangle; gives the neutral vertices."""
    folder.mkdir(parents=True)
    neutral = np.arange(15.0).reshape(5, 3) / 4
    for number, name in enumerate(ict_facekit.OBJ_NAMES):
        vertices = neutral + 0.01 * number
        lines = ["# somebody's mesh", "mtllib some.mtl"]
        lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
        lines += ["vt 0.5 0.5", "vn 0 0 1", "f 1/1/1 2/1/1 3/1/1 4/1/1", "f 3/1 4/1 5/1"]
        (folder / f"{name}.obj").write_text("\n".join(lines))
    return neutral


def check_converted(path: Path, neutral: np.ndarray) -> None:
    with np.load(path) as data:
        np.testing.assert_allclose(data["neutral"], neutral, atol=1e-6)
        np.testing.assert_array_equal(data["faces_quad"], [[0, 1, 2, 3], [2, 3, 4, -1]])
        assert data["identity_deltas"].shape == (100, 5, 3) and data["expression_deltas"].shape == (57, 5, 3)
        np.testing.assert_allclose(data["identity_deltas"][7], 0.08, atol=1e-5)  # the eighth file after the neutral one
        names = list(data["expression_names"])
        assert names[0] == "PupilDilate_L" and names == sorted(names)
        np.testing.assert_allclose(
            data["expression_deltas"][names.index("jawOpen")],
            0.01 * ict_facekit.OBJ_NAMES.index("jawOpen"),
            atol=1e-5,
        )


@pytest.mark.parametrize("where", ["FaceXModel", "."])
def test_ict_from_a_folder(cache: Path, tmp_path: Path, where: str) -> None:
    neutral = write_objs(tmp_path / "FaceXModel")
    check_converted(weights.get("ict_facekit", source=tmp_path / where), neutral)
    assert leftovers(cache) == ["ict_facekit.npz"]


def test_ict_download_goes_on_where_it_was_cut(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    neutral = write_objs(tmp_path / "FaceXModel")
    published = (tmp_path / "FaceXModel").as_uri()
    lost = tmp_path / "FaceXModel" / "jawOpen.obj"
    text = lost.read_text()
    lost.unlink()
    with pytest.raises(JaxtalkError, match=r"jawOpen\.obj: cannot download"):
        weights.get("ict_facekit", source=published)
    assert not (cache / "ict_facekit.npz").exists()
    lost.write_text(text)
    fetched: list[str] = []
    urlopen = fetch.urllib.request.urlopen

    def counted(url: str, timeout: float) -> object:
        fetched.append(url.rsplit("/", 1)[-1])
        return urlopen(url, timeout=timeout)

    monkeypatch.setattr(fetch.urllib.request, "urlopen", counted)
    check_converted(weights.get("ict_facekit", source=published), neutral)
    assert fetched[0] == "jawOpen.obj" and "generic_neutral_mesh.obj" not in fetched
    assert leftovers(cache) == ["ict_facekit.npz"]


def test_ict_folder_with_a_missing_or_odd_mesh_is_refused(cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "FaceXModel"
    write_objs(folder)
    (folder / "identity004.obj").write_text("v 0 0 0\nv 1 1 1\n")
    with pytest.raises(JaxtalkError, match=r"identity004\.obj: 2 vertices"):
        weights.get("ict_facekit", source=folder)
    (folder / "identity004.obj").write_text("v 0 zero 0\n")
    with pytest.raises(JaxtalkError, match=r"identity004\.obj: not a readable OBJ"):
        weights.get("ict_facekit", source=folder)
    (folder / "identity004.obj").unlink()
    with pytest.raises(JaxtalkError, match=r"identity004\.obj: missing"):
        weights.get("ict_facekit", source=folder)
    assert not (cache / "ict_facekit.npz").exists()


def test_ict_takes_a_converted_file_and_refuses_another(cache: Path, tmp_path: Path) -> None:
    neutral = write_objs(tmp_path / "FaceXModel")
    converted = weights.get("ict_facekit", source=tmp_path)
    kept = tmp_path / "kept.npz"
    converted.rename(kept)
    check_converted(weights.get("ict_facekit", source=kept), neutral)
    np.savez(tmp_path / "other.npz", neutral=np.zeros(3))
    for bad in (tmp_path / "other.npz", tmp_path / "FaceXModel" / "jawOpen.obj"):
        with pytest.raises(JaxtalkError, match=f"{bad}: not a converted ICT-FaceKit file"):
            weights.get("ict_facekit", source=bad)
    check_converted(cache / "ict_facekit.npz", neutral)

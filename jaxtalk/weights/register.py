"""The register of pretrained files, as data."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType


@dataclasses.dataclass(frozen=True)
class Weights:
    """One entry.

    Args:
      name: what `jaxtalk weights` and `weights.load` call it.
      purpose: what it is and what needs it.
      licence: of the file, and what it was trained on where that says more.
      source: URL of the published file (of 'ict_facekit' the folder), or the page that tells where to get it.
      file: its name in the cache.
      sha256: of the published file, or as many of its first digits as its publisher gives.
      layout: 'module:NAME' under `jaxtalk.weights.layouts`, for a file that is converted to one of our networks.
      direct: `source` is the file itself. Otherwise a person has to fetch it.
    """

    name: str
    purpose: str
    licence: str
    source: str
    file: str
    sha256: str | None = None
    layout: str | None = None
    direct: bool = True


_TORCHVISION = "https://download.pytorch.org/models/"
_IMAGENET = "BSD-3-Clause (torchvision); trained on ImageNet (non-commercial research)"
_LPIPS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"
_DFA = (
    "https://raw.githubusercontent.com/ShunyuYao/DFA-NeRF/c2b3d9906d322da91d16692df80f400f3f333fb4/"
    "data_util/face_disentangle_3dmm/pretrained_models/64_32/"
)
_ARCFACE = "https://github.com/deepinsight/insightface/tree/master/recognition/arcface_torch"

_ENTRIES = (
    Weights(
        name="face_landmarker",
        purpose="MediaPipe FaceLandmarker: 478 landmarks, 52 blendshapes and head pose of a picture (preparation)",
        licence="Apache-2.0 (Google)",
        source="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
        "face_landmarker.task",
        file="face_landmarker.task",
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    ),
    Weights(
        name="ict_facekit",
        purpose="ICT-FaceKit Light: the parametric face fitted to real video (preparation), 158 OBJ files converted",
        licence="MIT (USC Institute for Creative Technologies)",
        source="https://raw.githubusercontent.com/ICT-VGL/ICT-FaceKit/master/FaceXModel",
        file="ict_facekit.npz",
    ),
    Weights(
        name="alexnet",
        purpose="AlexNet's convolutions (metric lpips/alex)",
        licence=_IMAGENET,
        source=f"{_TORCHVISION}alexnet-owt-7be5be79.pth",
        file="alexnet.npz",
        sha256="7be5be79",
        layout="alexnet:ALEXNET",
    ),
    Weights(
        name="vgg16",
        purpose="VGG16's convolutions (metric lpips/vgg, perceptual loss)",
        licence=_IMAGENET,
        source=f"{_TORCHVISION}vgg16-397923af.pth",
        file="vgg16.npz",
        sha256="397923af",
        layout="vgg:VGG16",
    ),
    Weights(
        name="vgg19",
        purpose="VGG19's convolutions (perceptual loss)",
        licence=_IMAGENET,
        source=f"{_TORCHVISION}vgg19-dcbb9e9d.pth",
        file="vgg19.npz",
        sha256="dcbb9e9d",
        layout="vgg:VGG19",
    ),
    Weights(
        name="lpips_alex",
        purpose="LPIPS 0.1's weights of AlexNet's channels (metric lpips/alex)",
        licence="BSD-2-Clause (Zhang et al. 2018)",
        source=f"{_LPIPS}alex.pth",
        file="lpips_alex.npz",
        sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        layout="lpips:ALEX",
    ),
    Weights(
        name="lpips_vgg",
        purpose="LPIPS 0.1's weights of VGG16's channels (metric lpips/vgg)",
        licence="BSD-2-Clause (Zhang et al. 2018)",
        source=f"{_LPIPS}vgg.pth",
        file="lpips_vgg.npz",
        sha256="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        layout="lpips:VGG",
    ),
    Weights(
        name="inception_fid",
        purpose="Inception-v3 as FID's authors published it (metric fid)",
        licence="Apache-2.0 (Google, ported by pytorch-fid); trained on ImageNet (non-commercial research)",
        source="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        file="inception_fid.npz",
        sha256="6726825d",
        layout="inception:INCEPTION_FID",
    ),
    Weights(
        name="iresnet50",
        purpose="ArcFace's IResNet-50: who somebody is (metric csim)",
        licence="non-commercial research (InsightFace)",
        source=_ARCFACE,
        file="iresnet50.npz",
        layout="iresnet:IRESNET50",
        direct=False,
    ),
    Weights(
        name="iresnet100",
        purpose="ArcFace's IResNet-100: who somebody is (metric csim)",
        licence="non-commercial research (InsightFace)",
        source=_ARCFACE,
        file="iresnet100.npz",
        layout="iresnet:IRESNET100",
        direct=False,
    ),
    Weights(
        name="syncnet",
        purpose="SyncNet: how well lips and speech agree (metrics sync, lse_c, lse_d, av_offset)",
        licence="MIT (code, joonson/syncnet_python); none stated for the file (Chung and Zisserman 2016)",
        source="https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
        file="syncnet.npz",
        layout="syncnet:SYNCNET",
    ),
    Weights(
        name="wav2lip_expert",
        purpose="Wav2Lip's sync expert, a loss of mouth and speech",
        licence="non-commercial research (Wav2Lip, trained on LRS2)",
        source="https://github.com/Rudrabha/Wav2Lip",
        file="wav2lip_expert.npz",
        layout="wav2lip_expert:WAV2LIP_EXPERT",
        direct=False,
    ),
    Weights(
        name="wav2vec2_base",
        purpose="wav2vec 2.0 base: features of speech",
        licence="Apache-2.0 (Meta, through transformers)",
        source="https://huggingface.co/facebook/wav2vec2-base/resolve/main/pytorch_model.bin",
        file="wav2vec2_base.npz",
        layout="wav2vec2:WAV2VEC2_BASE",
    ),
    Weights(
        name="resnet34",
        purpose="ResNet-34 of ImageNet (reference encoders)",
        licence=_IMAGENET,
        source=f"{_TORCHVISION}resnet34-b627a593.pth",
        file="resnet34.npz",
        sha256="b627a593",
        layout="resnet:RESNET34",
    ),
    Weights(
        name="resnet50",
        purpose="ResNet-50 of ImageNet, first version",
        licence=_IMAGENET,
        source=f"{_TORCHVISION}resnet50-0676ba61.pth",
        file="resnet50.npz",
        sha256="0676ba61",
        layout="resnet:RESNET50",
    ),
    Weights(
        name="deep3d_resnet50",
        purpose="Deep3DFaceRecon's ResNet-50: the 257 coefficients of a face in a picture",
        licence="MIT (code, sicxu/Deep3DFaceRecon_pytorch); its face model BFM is for non-commercial research",
        source="https://github.com/sicxu/Deep3DFaceRecon_pytorch",
        file="deep3d_resnet50.npz",
        layout="deep3d:DEEP3D_RESNET50",
        direct=False,
    ),
    Weights(
        name="dfa_disentangler",
        purpose="DFA-NeRF's encoder: expression coefficients into mouth and the rest",
        licence="MIT (ShunyuYao/DFA-NeRF)",
        source=f"{_DFA}dis_ckpt.pth",
        file="dfa_disentangler.npz",
        sha256="7c08603de066f072232ecbeeed684e51f5bcd9fa20a98a5c24efe10bc6481215",
        layout="disentangler:ENCODER",
    ),
    Weights(
        name="dfa_cat",
        purpose="DFA-NeRF's decoder: mouth and the rest back to expression coefficients",
        licence="MIT (ShunyuYao/DFA-NeRF)",
        source=f"{_DFA}cat_ckpt.pth",
        file="dfa_cat.npz",
        sha256="3e9d86ab821c2c52c903d0c1106e904695beb4b5eb55888da8233b111dc5e167",
        layout="disentangler:DECODER",
    ),
)
REGISTER = MappingProxyType({entry.name: entry for entry in _ENTRIES})

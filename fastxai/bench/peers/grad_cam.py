"""The `grad-cam` package."""

from __future__ import annotations

from fastxai.bench.peers.subject import Answer, Explain, Subject


def prepare(subject: Subject) -> Explain:
    """`GradCAM` on the layer that we record, with the picture's classes named to it, one a call."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = GradCAM(model=subject.module, target_layers=[subject.module.get_submodule(subject.layer)])

    def explain(index: int) -> Answer:
        picture = subject.picture(index)
        return {
            target: cam(input_tensor=picture, targets=[ClassifierOutputTarget(target)])[0]
            for target in subject.targets[index].tolist()
        }

    return explain

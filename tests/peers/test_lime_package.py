"""LIME against the installed `lime` package: same segments, same seed, float32."""

import numpy as np
import pytest
import torch

import fastxai as fx

SEED = 3


@pytest.mark.timeout(600)
def test_lime_agrees_with_the_package(photos, request, monkeypatch):
    from lime.lime_image import LimeImageExplainer

    samples = request.config.getoption("--lime-samples")
    model = fx.load_model("embedded", device="cpu", precision="fp32", compile=False)
    lime = fx.Lime(samples=samples, sampling="lime")
    settings = fx.Settings(precision="fp32", rows={"predict": 8, "scores": 8, "gradients": 8})
    found = fx.explain(model, [*as_pictures(photos)], lime, targets="top5", seed=SEED, settings=settings)
    result = found["lime"]
    worst = {"coefficients": 0.0, "score": 0.0}
    for image in range(4):
        picture = found.images[image].permute(1, 2, 0).contiguous().numpy()
        segments = result.segments[image].numpy().astype(np.int64)
        explainer = LimeImageExplainer(random_state=SEED)
        scores = keep_scores(explainer, monkeypatch)
        peer = explainer.explain_instance(
            picture,
            classifier(model),
            top_labels=5,
            hide_color=0,
            num_samples=samples,
            segmentation_fn=lambda _, segments=segments: segments,
        )
        assert peer.top_labels == found.targets[image].tolist()
        for place, label in enumerate(peer.top_labels):
            theirs = np.zeros(segments.max() + 1)
            for segment, weight in peer.local_exp[label]:
                theirs[segment] = weight
            ours = result.weights[image, place, : len(theirs)].double().numpy()
            error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
            worst["coefficients"] = max(worst["coefficients"], error)
            # Both fit in float64; the scores are float32 from calls of 8 and of 10 rows, which differ in the last bits.
            assert error < 1e-3
            assert set(np.argsort(-ours)[:10]) == set(np.argsort(-theirs)[:10])
            np.testing.assert_allclose(result.intercept[image, place].item(), peer.intercept[label], atol=1e-5)
            worst["score"] = max(worst["score"], abs(result.score[image, place].item() - scores[label]))
            assert abs(result.score[image, place].item() - scores[label]) < 1e-3
    print(f"\nlime, {samples} samples: worst relative error of coefficients {worst['coefficients']:.1e}, "
          f"of R^2 {worst['score']:.1e}")  # fmt: skip


def keep_scores(explainer, monkeypatch):
    """R^2 by label: the package returns only that of the label it fitted last."""
    scores, fit = {}, explainer.base.explain_instance_with_data

    def spy(data, labels, distances, label, *args, **options):
        found = fit(data, labels, distances, label, *args, **options)
        scores[label] = found[2]
        return found

    monkeypatch.setattr(explainer.base, "explain_instance_with_data", spy)
    return scores


def as_pictures(photos):
    from PIL import Image

    return (Image.fromarray(picture) for picture in photos.values())


def classifier(model):
    module = model.module.eval()
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))

    def probabilities(pictures):
        pixels = torch.from_numpy(np.asarray(pictures)).permute(0, 3, 1, 2)
        with torch.no_grad():
            return module((pixels / 255 - mean) / std).softmax(1).numpy()

    return probabilities

"""KernelSHAP against the installed `shap` package: all coalitions of eight segments of a real picture, float32."""

import numpy as np
import pytest
import torch

import fastxai as fx
from fastxai import ops
from fastxai.models import Scores

SEGMENTS = 8


@pytest.mark.filterwarnings("ignore")  # of the package, as it is imported
@pytest.mark.timeout(600)
def test_kernel_shap_agrees_with_the_package(photos):
    import shap

    model = fx.load_model("embedded", device="cpu", precision="fp32", compile=False)
    settings = fx.Settings(precision="fp32", rows={"predict": 8, "scores": 8, "gradients": 8})
    config = fx.KernelShap(samples=2**SEGMENTS, segments=fx.Grid(2, 4), surrogate="linear")
    found = fx.explain(model, [photos["chelsea"]], config, targets="top2", settings=settings)
    labels, picture = found["kernel-shap"].segments[:1], found.images[:1]
    seen: dict[bytes, np.ndarray] = {}

    with model.open(settings) as session:

        def scores(coalitions: np.ndarray) -> np.ndarray:
            fresh = [row for row in coalitions.astype(bool) if row.tobytes() not in seen]
            for start in range(0, len(fresh), 8):
                rows = np.stack(fresh[start : start + 8])
                words = fx.sampling.pack(torch.from_numpy(rows))
                inputs = ops.compose_rows(
                    picture, labels, words, torch.zeros(len(rows), dtype=torch.int64), torch.zeros(3),
                    mean=model.preprocess.mean, std=model.preprocess.std, dtype=torch.float32,
                )  # fmt: skip
                read = session.read(Scores(), inputs, found.targets.expand(len(rows), -1)).scores
                seen.update({row.tobytes(): score for row, score in zip(rows, read.double().numpy(), strict=True)})
            return np.stack([seen[row.tobytes()] for row in coalitions.astype(bool)])

        explainer = shap.KernelExplainer(scores, np.zeros((1, SEGMENTS)))
        theirs = explainer.shap_values(np.ones((1, SEGMENTS)), nsamples=2**SEGMENTS, l1_reg=False, silent=True)[0].T
    ours = found["kernel-shap"].weights[0].double().numpy()
    # The same regression on the same values; float32 scores of calls of other shapes differ in the last bits.
    assert np.linalg.norm(ours - theirs) < 1e-4 * np.linalg.norm(theirs)
    np.testing.assert_allclose(found["kernel-shap"].base[0].double().numpy(), explainer.expected_value, atol=1e-6)

"""Code for lime with its import line changed: the same calls on the package's explainer and on ours."""

import lime.lime_image
import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

import fastxai as fx
from fastxai.errors import ArgumentError, ArgumentTypeError, CannotRun
from fastxai.interop.lime import LimeImageExplainer

# scikit-learn's ridge and ours in float64, on probabilities in float32 from calls of other shapes, which differ by 1e-7
CLOSE = 1e-4
ROUNDING = 1e-6


@pytest.fixture
def classifier(net, preprocess, photos):
    """With scores so close together on the picture that no probability is almost 1."""
    model = fx.Model(net, preprocess, precision="fp32", compile=False, device="cpu")
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (preprocess.mean, preprocess.std))
    x = (torch.from_numpy(picture(photos)).permute(2, 0, 1)[None] / 255 - mean) / std
    with torch.no_grad():
        net.head.bias.sub_(net(x)[0] - torch.linspace(0, 1, 6))
    return model


def picture(photos, size=24):
    """uint8 [24, 24, 3]"""
    return np.ascontiguousarray(photos["chelsea"][::12, ::18][:size, :size])


def squares(image):
    rows, columns = np.arange(image.shape[0]) // 6, np.arange(image.shape[1]) // 6
    return rows[:, None] * 4 + columns[None]


def function_of(model):
    """What users of lime write: pictures [n, H, W, 3] -> probabilities."""
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (model.preprocess.mean, model.preprocess.std))

    def predict(images):
        rows = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std
        with torch.no_grad():
            return model.module(rows).softmax(1).numpy()

    return predict


def explained(package, image, classifier, seed=5, made=None, **options):
    kind = lime.lime_image.LimeImageExplainer if package == "lime" else LimeImageExplainer
    options = {"segmentation_fn": squares, "num_samples": 120, "top_labels": 3, **options}
    return kind(random_state=seed, **(made or {})).explain_instance(image, classifier, **options)


def assert_same(ours, theirs):
    assert ours.top_labels == theirs.top_labels
    assert np.array_equal(ours.segments, theirs.segments)
    assert np.array_equal(ours.image, theirs.image)
    assert list(ours.local_exp) == list(theirs.local_exp)
    scale = max(abs(weight) for pairs in theirs.local_exp.values() for _, weight in pairs)
    assert scale > 1e-4
    for label, pairs in theirs.local_exp.items():
        assert ours.intercept[label] == pytest.approx(theirs.intercept[label], abs=CLOSE * scale + ROUNDING)
        mine = dict(ours.local_exp[label])
        assert set(mine) == {feature for feature, _ in pairs}
        for feature, weight in pairs:
            assert mine[feature] == pytest.approx(weight, abs=CLOSE * scale + ROUNDING)
        sizes = [abs(weight) for _, weight in ours.local_exp[label]]
        assert sizes == sorted(sizes, reverse=True)
    assert ours.score == pytest.approx(theirs.score, abs=1e-3)
    np.testing.assert_allclose(ours.local_pred, theirs.local_pred, atol=CLOSE)


@pytest.mark.parametrize("given", ["model", "function"])
@pytest.mark.parametrize("hide_color", [0, None, (200, 10, 99)], ids=["black", "mean", "colour"])
def test_agrees_with_the_package(given, hide_color, photos, classifier):
    image, predict = picture(photos), function_of(classifier)
    theirs = explained("lime", image, predict, hide_color=hide_color)
    ours = explained("ours", image, classifier if given == "model" else predict, hide_color=hide_color)
    assert_same(ours, theirs)
    for options in ({}, {"positive_only": False}, {"positive_only": False, "negative_only": True, "hide_rest": True}):
        for label in ours.top_labels:
            for mine, peer in zip(
                ours.get_image_and_mask(label, num_features=4, **options),
                theirs.get_image_and_mask(label, num_features=4, **options),
                strict=True,
            ):
                assert mine.dtype == peer.dtype and np.array_equal(mine, peer)


SELECTED = {
    "highest weights": ({}, {"num_features": 8}),
    "forward selection": ({}, {"num_features": 3}),
    "lasso path": ({"feature_selection": "lasso_path"}, {"num_features": 5}),
    "no selection": ({"feature_selection": "none"}, {"num_features": 3}),
    "wide kernel": ({"kernel_width": 0.8}, {}),
    "own kernel": ({"kernel": lambda d, kernel_width: 1 / (1 + d + kernel_width)}, {}),
    "other distance": ({"kernel_width": 3.0}, {"distance_metric": "euclidean"}),
    "given labels": ({}, {"top_labels": None, "labels": (4, 0)}),
    "seed of the segmentation": ({}, {"random_seed": 3}),
}


@pytest.mark.parametrize("name", SELECTED)
def test_every_option_of_the_package_agrees(name, photos, classifier):
    made, options = SELECTED[name]
    image = picture(photos)
    theirs = explained("lime", image, function_of(classifier), made=made, **options)
    ours = explained("ours", image, classifier, made=made, **options)
    if options.get("top_labels", 3) is None:
        assert ours.top_labels is None
        ours.top_labels = theirs.top_labels = []
    assert_same(ours, theirs)


def test_a_regressor_of_the_caller_agrees(photos, classifier):
    image = picture(photos)
    found = [
        explained(package, image, given, model_regressor=Lasso(alpha=1e-4))
        for package, given in (("ours", classifier), ("lime", function_of(classifier)))
    ]
    assert_same(*found)


def test_one_object_keeps_its_stream_from_picture_to_picture(photos, classifier):
    image = picture(photos)
    options = {"segmentation_fn": squares, "num_samples": 60, "top_labels": 2}
    ours, theirs = LimeImageExplainer(random_state=1), lime.lime_image.LimeImageExplainer(random_state=1)
    for turn in (image, image[::-1].copy()):
        assert_same(
            ours.explain_instance(turn, classifier, **options),
            theirs.explain_instance(turn, function_of(classifier), **options),
        )


def test_defaults_of_the_package_agree_for_float_and_grey_pictures(photos, classifier):
    """Its quickshift; a float picture, and one without channels, as functions may take them."""
    image = picture(photos)

    def predict(images):
        return function_of(classifier)(images * 255)

    for given in (image / 255, image[..., 0] / 255):
        options = {"segmentation_fn": None, "hide_color": 0}
        assert_same(explained("ours", given, predict, **options), explained("lime", given, predict, **options))


def test_numpys_global_stream_is_used_without_a_seed(photos, classifier):
    found = []
    for package, given in (("ours", classifier), ("lime", function_of(classifier))):
        np.random.seed(11)
        found.append(explained(package, picture(photos), given, seed=None))
    assert_same(*found)


def test_the_package_need_not_be_there(photos, classifier, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lime.lime_base", None)
    assert explained("ours", picture(photos), classifier).score is not None
    with pytest.raises(CannotRun, match=r"pip install 'fastxai\[interop\]'"):
        explained("ours", picture(photos), classifier, num_features=3)


def test_a_bare_module_reads_float_pictures(net, inputs):
    image = inputs[0].permute(1, 2, 0).contiguous().numpy()

    def scores(images):
        with torch.no_grad():
            return net(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()

    assert_same(explained("ours", image, net, hide_color=0), explained("lime", image, scores, hide_color=0))


def test_labels_that_do_not_begin_at_0_are_features_of_their_own(photos, classifier):
    """The package's trap: there the last segment is never hidden and feature 0 does nothing."""
    image = picture(photos)
    plain = explained("ours", image, classifier)
    moved = explained("ours", image, classifier, segmentation_fn=lambda picture: 2 * squares(picture) + 7)
    label = plain.top_labels[0]
    assert moved.local_exp[label] == [(2 * feature + 7, weight) for feature, weight in plain.local_exp[label]]
    masks = [found.get_image_and_mask(label, num_features=3)[1] for found in (plain, moved)]
    assert np.array_equal(*masks)


def test_a_picture_of_another_size_is_placed_as_the_model_sees_it(photos, net):
    preprocess = fx.Preprocess((24, 24), 32, "bilinear", (0.5,) * 3, (0.5,) * 3)
    model = fx.Model(net, preprocess, precision="fp32", compile=False, device="cpu")
    found = explained("ours", photos["coffee"], model)
    explained_by_us = fx.explain(model, photos["coffee"], fx.Lime(samples=20), settings=fx.Settings())
    assert np.array_equal(found.image, explained_by_us.images[0].permute(1, 2, 0).numpy())
    assert found.segments.shape == (24, 24)


def test_verbose_prints_as_the_package(photos, classifier, capsys):
    explained("ours", picture(photos), classifier, made={"verbose": True}, top_labels=1)
    said = capsys.readouterr().out.split()
    assert [word for word in said if word.isalpha() or "_" in word] == ["Intercept", "Prediction_local"]


def test_wrong_arguments_are_refused(photos, classifier, net):
    image = picture(photos)
    for match, options in {
        "segmentation_fn must give whole numbers": {"segmentation_fn": lambda picture: np.zeros((3, 3), int)},
        "hide_color must be None, a number from 0 to 255": {"hide_color": -1},
        "num_samples must be at least 2": {"num_samples": 1},
        "labels must be between 0 and 5": {"top_labels": None, "labels": (6,)},
    }.items():
        with pytest.raises(ArgumentError, match=match):
            explained("ours", image, classifier, **options)
    with pytest.raises(ArgumentError, match="image must be float model input"):
        explained("ours", image, net)
    with pytest.raises(ArgumentError, match=r"image must be uint8 \[H, W, 3\] for a fastxai.Model"):
        explained("ours", image / 255, classifier)
    with pytest.raises(ArgumentTypeError, match="image must be an array"):
        explained("ours", [[1]], classifier)
    with pytest.raises(ArgumentError, match=r"classifier_fn must give \[n, classes\]"):
        explained("ours", image, lambda images: np.zeros(len(images)))
    with pytest.raises(CannotRun, match="not finite"):
        explained("ours", image, lambda images: np.full((len(images), 4), np.nan))
    with pytest.raises(ArgumentError, match="feature_selection must be one of"):
        LimeImageExplainer(feature_selection="best")
    with pytest.raises(ArgumentTypeError, match="random_state must be a seed"):
        LimeImageExplainer(random_state="x")
    found = explained("ours", image, classifier)
    with pytest.raises(KeyError, match="label must be one of"):
        found.get_image_and_mask(99)
    with pytest.raises(ValueError, match="must not both be True"):
        found.get_image_and_mask(found.top_labels[0], negative_only=True)

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastxai import ops, sampling


@given(st.integers(1, 130), st.integers(0, 5), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_pack_and_unpack_are_inverse(segments, rows, seed):
    kept = torch.rand(rows, segments, generator=torch.Generator().manual_seed(seed)) < 0.5
    words = sampling.pack(kept)
    assert words.shape == (rows, sampling.word_count(segments))
    assert torch.equal(ops.unpack(words, segments), kept)
    assert torch.equal(sampling.segments_kept(words), kept.sum(1))


def rows_of(keys, counts, image, ordinals):
    index = torch.full((len(ordinals),), image)
    return sampling.bernoulli_coalitions(keys, counts, index, torch.tensor(ordinals))


def test_rows_are_keyed_by_image_and_number_alone():
    keys = sampling.stream_keys(7, ["a", "b"], "lime")
    counts = torch.tensor([40, 100])
    many = rows_of(keys, counts, 0, list(range(50)))
    assert torch.equal(rows_of(keys, counts, 0, [31, 4]), many[[31, 4]])
    alone = sampling.stream_keys(7, ["a"], "lime")
    shorter = rows_of(alone, counts[:1], 0, list(range(50)))
    assert torch.equal(shorter, many[:, : shorter.shape[1]])
    assert not many[:, shorter.shape[1] :].any()  # no bit beyond an image's own segments


def test_row_zero_keeps_all_and_coins_are_fair():
    keys = sampling.stream_keys(0, ["x"], "lime")
    counts = torch.tensor([50])
    kept = ops.unpack(rows_of(keys, counts, 0, list(range(4000))), 50)
    assert kept[0].all()
    share = kept[1:].double().mean(0)
    # 4,000 fair coins a segment: 6 standard deviations are 0.047
    assert (share - 0.5).abs().max() < 0.05
    assert len({tuple(row.tolist()) for row in kept[:200]}) == 200


def test_seed_image_and_method_each_change_the_draws():
    words = [
        rows_of(sampling.stream_keys(seed, [digest], method), torch.tensor([64]), 0, [1, 2, 3])
        for seed, digest, method in [(0, "a", "lime"), (1, "a", "lime"), (0, "b", "lime"), (0, "a", "other")]
    ]
    for i, first in enumerate(words):
        for second in words[i + 1 :]:
            assert not torch.equal(first, second)


def test_lime_coalitions_are_those_of_the_package():
    from lime.lime_image import LimeImageExplainer

    seen = []

    def segments(image):
        return np.arange(12).reshape(3, 4)

    class Spy(LimeImageExplainer):
        def data_labels(self, *args, **options):
            data, labels = super().data_labels(*args, **options)
            seen.append(data)
            return data, labels

    picture = np.zeros((3, 4, 3), np.uint8)
    Spy(random_state=5).explain_instance(
        picture, lambda rows: np.random.RandomState(0).rand(len(rows), 3), num_samples=30, segmentation_fn=segments
    )
    ours = ops.unpack(sampling.lime_coalitions(5, torch.tensor([12]), 30), 12)[0]
    assert np.array_equal(ours.numpy(), seen[0] == 1)


def test_path_draws_cover_their_ranges():
    keys = sampling.stream_keys(0, ["x", "y"], "gradient-shap")
    image = torch.arange(2).repeat_interleave(3000)
    ordinal = torch.arange(3000).repeat(2)
    alpha, index = sampling.path_draws(keys, image, ordinal, 7)
    assert alpha.min() >= 0
    assert alpha.max() < 1
    # the mean of 6,000 uniforms is within 6 standard deviations (0.022) of a half
    assert abs(alpha.mean().item() - 0.5) < 0.023
    assert set(index.tolist()) == set(range(7))
    one, _ = sampling.path_draws(keys, torch.tensor([1]), torch.tensor([17]), 7)
    assert one.item() == alpha[3017].item()


def test_pixel_noise_is_normal_and_keyed():
    keys = sampling.stream_keys(0, ["x"], "gradient-shap")
    noise = sampling.pixel_normals(keys, torch.zeros(2, dtype=torch.int64), torch.tensor([0, 1]), (3, 31, 33))
    assert noise.shape == (2, 3, 31, 33)
    # 6,138 draws: 6 standard deviations of mean and variance are 0.08 and 0.11
    assert abs(noise.mean().item()) < 0.08
    assert abs(noise.var().item() - 1) < 0.11
    again = sampling.pixel_normals(keys, torch.tensor([0]), torch.tensor([1]), (3, 31, 33))
    assert torch.equal(again[0], noise[1])
    uniform = sampling.pixel_uniforms(keys, torch.tensor([0]), torch.tensor([1]), (3, 31, 33))
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1

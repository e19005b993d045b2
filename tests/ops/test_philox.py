"""philox: the known answers of Random123, a twin on Python integers, and the distributions on top."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from fastxai.errors import ArgumentError, ArgumentTypeError
from fastxai.ops import normals, random_words, uniforms

FORMS = ["torch", "numba", "cuda"]
WORDS = st.integers(0, 2**32 - 1)

# counter, key, answer: philox4x32 with 10 rounds in the kat_vectors file of Random123
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def twin(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 % 2**32, (p0 >> 32) ^ c[3] ^ k[1], p0 % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return tuple(c)


def unsigned(words):
    return [word & 0xFFFFFFFF for word in words.tolist()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_the_twin_knows_the_answers(counter, key, answer):
    assert twin(counter, key) == answer


@pytest.mark.parametrize("form", FORMS)
def test_known_answer_of_zeros(host_gpu, form):
    zero = torch.zeros(1, dtype=torch.int64)
    got = random_words(zero.expand(1, 2), zero, zero, 4, 0, implementation=form)
    assert unsigned(got[0]) == list(KNOWN[0][2])


@pytest.mark.parametrize("form", ["torch", "numba"])
@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers_of_the_rounds(form, counter, key, answer):
    """The other vectors have a block number or an ordinal that a call cannot reach, so they go to the forms."""
    from fastxai.ops import philox

    c0, c1, c2, c3 = counter
    keys, ordinal = torch.tensor([key]), c1 | c2 << 32
    ordinal = torch.tensor([ordinal - 2**64 if ordinal >= 2**63 else ordinal])
    if form == "torch":
        # The difference between counters is the block number: shift it by hand.
        original = torch.arange
        try:
            torch.arange = lambda blocks, **options: original(blocks, **options) + c0
            got = philox._torch(keys, ordinal, 4, c3)
        finally:
            torch.arange = original
        assert unsigned(got[0]) == list(answer)
    elif c0 == 0:
        out = torch.empty(1, 4, dtype=torch.int32)
        philox._fill(out.numpy(), keys.numpy(), torch.zeros(1, dtype=torch.int64).numpy(), ordinal.numpy(), c3)
        assert unsigned(out[0]) == list(answer)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("words", [1, 3, 4, 19, 111])
def test_equals_the_twin(host_gpu, form, words):
    g = torch.Generator().manual_seed(words)
    keys = torch.randint(0, 2**32, (5, 2), generator=g)
    keys[0] = 2**32 - 1
    image = torch.tensor([0, 4, 1, 0, 3, 2, 0])
    ordinal = torch.tensor([0, 1, 2**32 - 1, 2**32, 2**40 + 7, 5, 2**63 - 2])
    got = random_words(keys, image, ordinal, words, 2**32 - 5, implementation=form)
    assert got.dtype == torch.int32
    assert got.shape == (7, words)
    for r in range(7):
        number = int(ordinal[r])
        wanted = [
            word
            for j in range(-(-words // 4))
            for word in twin((j, number % 2**32, number >> 32, 2**32 - 5), keys[image[r]].tolist())
        ]
        assert unsigned(got[r]) == wanted[:words]


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_agree_on_many_rows(host_gpu, form):
    g = torch.Generator().manual_seed(0)
    keys = torch.randint(0, 2**32, (2, 16), generator=g).t()  # not contiguous
    image = torch.randint(0, 16, (700,), generator=g)
    ordinal = torch.randint(0, 2**40, (1400,), generator=g)[::2]
    wanted = random_words(keys, image, ordinal, 10, 3, implementation="torch")
    assert torch.equal(random_words(keys, image, ordinal, 10, 3, implementation=form), wanted)
    assert len(set(wanted.flatten().tolist())) > 6990  # of 7000 words; 0.006 doubles are expected


# One kernel that stands in for a GPU's serves all examples.
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(FORMS),
    keys=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4),
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**63 - 2)), max_size=6),
    words=st.integers(0, 13),
    stream=WORDS,
    ways=st.tuples(*[st.integers(0, 3)] * 3),
)
def test_any_call_equals_the_twin(relaid, host_gpu, form, keys, rows, words, stream, ways):
    rows = [(b % len(keys), ordinal) for b, ordinal in rows]
    columns = (torch.tensor(keys), *torch.tensor(rows, dtype=torch.int64).view(-1, 2).unbind(1))
    inputs = (relaid(tensor, way) for tensor, way in zip(columns, ways, strict=True))
    got = random_words(*inputs, words, stream, implementation=form)
    assert got.shape == (len(rows), words)
    for line, (b, ordinal) in zip(got, rows, strict=True):
        blocks = [twin((j, ordinal % 2**32, ordinal >> 32, stream), keys[b]) for j in range(-(-words // 4))]
        assert unsigned(line) == [word for block in blocks for word in block][:words]


def test_more_words_and_more_rows_extend_the_sequence():
    keys = torch.tensor([[1, 2], [3, 4]])
    image, ordinal = torch.tensor([0, 1, 0]), torch.tensor([9, 9, 10])
    long = random_words(keys, image, ordinal, 50, 0)
    assert torch.equal(random_words(keys, image, ordinal, 7, 0), long[:, :7])
    assert torch.equal(random_words(keys[1:], torch.tensor([0]), torch.tensor([9]), 50, 0), long[1:2])
    assert not torch.equal(random_words(keys, image, ordinal, 50, 1), long)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_asked(host_gpu, form):
    none = torch.zeros(0, dtype=torch.int64)
    assert random_words(torch.zeros(1, 2, dtype=torch.int64), none, none, 3, 0, implementation=form).shape == (0, 3)
    one = torch.zeros(1, dtype=torch.int64)
    assert random_words(torch.zeros(1, 2, dtype=torch.int64), one, one, 0, 0, implementation=form).shape == (1, 0)


def test_uniforms_are_exact():
    words = torch.tensor([0, 0xFF, 0x100, 2**31 - 1, -(2**31), -1], dtype=torch.int32)
    got = uniforms(words)
    assert got.dtype == torch.float32
    assert got.tolist() == [0.0, 0.0, 2**-24, (2**23 - 1) * 2**-24, 0.5, 1 - 2**-24]


def many_words(count):
    one = torch.zeros(1, dtype=torch.int64)
    return random_words(torch.tensor([[7, 8]]), one, one, count, 0)[0]


def test_uniforms_and_normals_have_their_distributions():
    # A fixed sequence: these p-values are constants. 0.01 would be passed by 98% of sequences.
    assert stats.kstest(uniforms(many_words(20_000)).numpy(), "uniform").pvalue > 0.01
    drawn = normals(many_words(20_000))
    assert stats.kstest(drawn.numpy(), "norm").pvalue > 0.01
    pairs = drawn.view(-1, 2)
    # The correlation of 10,000 independent pairs has a deviation of 0.01; four of them.
    assert abs(float(torch.corrcoef(pairs.T)[0, 1])) < 0.04


def test_normals_equal_the_formula():
    words = many_words(200)
    got = normals(words.view(10, 20)).flatten().tolist()
    for i, (a, b) in enumerate(zip(unsigned(words[::2]), unsigned(words[1::2]), strict=True)):
        radius = math.sqrt(-2 * math.log(((a >> 8) + 1) / 2**24))
        angle = 2 * math.pi * ((b >> 8) / 2**24)
        # One rounding to float32 (6e-8 relative), on a value of which cos may have taken most.
        assert got[2 * i] == pytest.approx(radius * math.cos(angle), rel=1e-7, abs=1e-14)
        assert got[2 * i + 1] == pytest.approx(radius * math.sin(angle), rel=1e-7, abs=1e-14)


def test_normals_at_the_ends():
    ends = normals(torch.tensor([0, 0, -1, 0], dtype=torch.int32))
    assert ends[0] == pytest.approx(math.sqrt(2 * 24 * math.log(2)))  # the largest there is
    assert ends[1:].tolist() == [0.0, 0.0, 0.0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    patterns=st.lists(WORDS | st.sampled_from([0, 0xFF, 0x100, 2**31, 2**32 - 1]), min_size=24, max_size=24),
    shape=st.sampled_from([(24,), (1, 2), (3, 8), (2, 3, 4), (12, 2), (0, 4), (3, 0)]),
    way=st.integers(0, 3),
)
def test_any_words_in_any_layout(relaid, patterns, shape, way):
    patterns = patterns[: math.prod(shape)]
    top = [word >> 8 for word in patterns]
    words = torch.tensor([word - (word >> 31 << 32) for word in patterns], dtype=torch.int32).view(shape)
    assert uniforms(relaid(words, way)).flatten().tolist() == [value / 2**24 for value in top]
    got = normals(relaid(words, way))
    assert got.shape == shape
    wanted = []
    for a, b in zip(top[::2], top[1::2], strict=True):
        radius, angle = math.sqrt(-2 * math.log((a + 1) / 2**24)), 2 * math.pi * (b / 2**24)
        wanted += [radius * math.cos(angle), radius * math.sin(angle)]
    # as above: one rounding to float32, on a value of which cos may have taken most
    assert got.flatten().tolist() == pytest.approx(wanted, rel=1e-7, abs=1e-14)


def test_normals_do_not_depend_on_layout_or_neighbours():
    words = many_words(3 * 514).view(3, 514)
    together = normals(words)
    assert torch.equal(normals(words[1:2, 2:20]), together[1:2, 2:20])
    assert torch.equal(normals(words.t().contiguous().t()), together)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"keys": torch.zeros(2, 3, dtype=torch.int64)},
            ArgumentError,
            r"keys must be int64 \[B, 2\], got int64 \[2, 3\]",
        ),
        ({"keys": torch.tensor([[0, 2**32]])}, ArgumentError, "keys must be between 0 and 4294967295"),
        ({"keys": torch.tensor([[0, -1]])}, ArgumentError, "keys must be between 0 and 4294967295"),
        ({"keys": torch.zeros(1, 2, dtype=torch.int32)}, ArgumentError, "keys must be int64"),
        ({"keys": [[1, 2]]}, ArgumentTypeError, "keys must be a tensor, got list"),
        (
            {"keys": torch.zeros(1, 2, dtype=torch.int64, device="meta")},
            ArgumentError,
            "keys must be on a device that holds values, got meta",
        ),
        (
            {"image": torch.zeros(2, dtype=torch.int64, device="meta")},
            ArgumentError,
            "image must be on cpu like keys, got meta",
        ),
        (
            {"ordinal": torch.zeros(2, dtype=torch.int64, device="meta")},
            ArgumentError,
            "ordinal must be on cpu like keys, got meta",
        ),
        ({"image": torch.tensor([0, -1])}, ArgumentError, "image must be between 0 and 0, got values from -1 to 0"),
        ({"image": torch.tensor([0, 1])}, ArgumentError, "image must be between 0 and 0"),
        ({"image": torch.tensor([0, 0], dtype=torch.int32)}, ArgumentError, "image must be int64"),
        ({"ordinal": torch.tensor([0, -1])}, ArgumentError, "ordinal must be between 0"),
        ({"ordinal": torch.tensor([0])}, ArgumentError, r"ordinal must be int64 \[R=2\]"),
        ({"words": -1}, ArgumentError, "words must be between"),
        ({"words": 1.5}, ArgumentTypeError, "words must be a whole number"),
        ({"stream": 2**32}, ArgumentError, "stream must be between"),
        ({"stream": "0"}, ArgumentTypeError, "stream must be a whole number, got '0'"),
        ({"implementation": "numpy"}, ArgumentError, "implementation must be one of"),
    ],
)
def test_wrong_arguments(change, error, message):
    two = torch.zeros(2, dtype=torch.int64)
    arguments = {"keys": torch.zeros(1, 2, dtype=torch.int64), "image": two, "ordinal": two, "words": 3, "stream": 0}
    random_words(**arguments)
    with pytest.raises(error, match=message):
        random_words(**{**arguments, **change})


def test_wrong_words():
    with pytest.raises(ArgumentError, match="words must be int32"):
        uniforms(torch.zeros(4))
    with pytest.raises(ArgumentError, match=r"words must be int32 \[..., n\], got int64 \[4\]"):
        normals(torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ArgumentTypeError, match="words must be a tensor, got list"):
        uniforms([1])
    with pytest.raises(ArgumentError, match="words must come in pairs, got 3"):
        normals(torch.zeros(3, dtype=torch.int32))

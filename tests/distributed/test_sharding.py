import pytest
import torch
from PIL import Image

import fastxai as fx
from fastxai.distributed import Share, run_share
from fastxai.errors import ArgumentError

SETTINGS = fx.Settings(precision="fp32", rows={"predict": 4, "scores": 8, "gradients": 4})


def test_shares_hold_every_image_once():
    ids = [f"folder/{number}.png" for number in range(3000)] + ["odd\nname", "\udcff"]
    for count in (1, 2, 7):
        held = [[i for i in ids if Share(part, count).holds(i)] for part in range(count)]
        assert sorted(image_id for part in held for image_id in part) == sorted(ids)
        # binomial: 6 standard deviations around an even share
        assert all(abs(len(part) - len(ids) / count) < 6 * (len(ids) / count) ** 0.5 for part in held)


def test_shares_in_any_order_give_the_rows_of_one_run(convolutional, noise_pictures, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, picture in enumerate(noise_pictures(9)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    methods = (fx.Lime(samples=20, segments=fx.Slic(segments=9)), fx.GradCam())
    whole = fx.run(convolutional, folder, methods, out=tmp_path / "whole", settings=SETTINGS)
    for share in ("2/3", "0/3", "1/3"):
        run = run_share(convolutional, folder, methods, out=tmp_path / "shared", share=share, settings=SETTINGS)
    assert sorted(run.ids) == sorted(whole.ids)
    together, alone = run.found(whole.ids), whole.read(0, len(whole))
    assert together.ids == alone.ids
    for name in alone:
        for field, value in alone[name].data.items():
            assert torch.equal(together[name].data[field].nan_to_num(-7), value.nan_to_num(-7)), (name, field)


@pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/2", "0/0"])
def test_wrong_shares_are_refused(text):
    with pytest.raises(ArgumentError, match="shard must be i/N"):
        Share.parse(text)

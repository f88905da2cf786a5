"""Augmentation presets, and evaluation pixels and annotations that follow the model's image processor."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from transformers import CLIPImageProcessor, CLIPImageProcessorPil

from concepthash_hf.data import decode_image, eval_transform, load_photos, train_transform

from .conftest import picture


def test_eval_pixels_are_the_saved_image_processor_s(image_processor, shared_dir, tmp_path):
    """One source of truth: also after saving and loading it, on real photos of many shapes."""
    image_processor.save_pretrained(tmp_path)
    saved = CLIPImageProcessor.from_pretrained(tmp_path)
    transform = eval_transform(image_processor)
    for path in sorted((shared_dir / "data" / "flowers102" / "test" / "sunflower").glob("*.jpg"))[:5]:
        expected = saved(Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"][0]
        assert torch.equal(transform(decode_image(path)), expected)


def test_eval_pixels_follow_method_section_4():
    """Shorter side to 256 bicubic, centre crop 224, CLIP's mean and std: recomputed with PIL."""
    processor = CLIPImageProcessor(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224})
    image = picture(width=400, height=300)
    resized = image.resize((int(256 * 400 / 300), 256), Image.Resampling.BICUBIC)
    left, top = (resized.width - 224) // 2, 16
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224))) / 255
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    values = eval_transform(processor)(image).permute(1, 2, 0).numpy()
    levels = np.abs(values - (expected - mean) / std) * std * 255
    assert levels.max() < 2.01 and levels.mean() < 0.1  # torchvision's uint8 kernel overshoots a little otherwise


@pytest.mark.parametrize("preset", ["paper", "reference", "gentle"])
def test_presets_give_normalised_crops_that_vary(image_processor, preset):
    transform = train_transform(preset, image_processor)
    image = decode_image(picture(width=80, height=60))
    first, second = transform(image), transform(image)
    assert type(first) is torch.Tensor and first.dtype == torch.float32 and first.shape == (3, 56, 56)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    once = transform(image)
    torch.manual_seed(3)
    assert torch.equal(once, transform(image))


def test_mirrored_or_not_it_is_the_whole_picture_that_is_shown(image_processor):
    transform, image = train_transform("mirror", image_processor), decode_image(picture(width=80, height=60))
    plain = eval_transform(image_processor)(image)
    assert not torch.equal(plain, plain.flip(-1))
    shown = [torch.equal(transform(image), plain) for _ in range(40)]
    assert 5 < sum(shown) < 35
    assert all(
        torch.equal(values, plain) or torch.equal(values, plain.flip(-1)) for values in map(transform, [image] * 8)
    )


def test_presets_normalise_as_the_image_processor(image_processor):
    """Of one colour, nothing but the normalisation is left."""
    grey = Image.new("RGB", (64, 64), (100, 150, 200))
    expected = eval_transform(image_processor)(grey)
    torch.testing.assert_close(train_transform("paper", image_processor)(grey), expected)


def test_presets_are_the_documented_steps(image_processor):
    paper = train_transform("paper", image_processor)
    crop = next(step for step in paper.transforms if isinstance(step, v2.RandomResizedCrop))
    assert crop.interpolation == v2.InterpolationMode.BICUBIC and tuple(crop.size) == (56, 56)
    assert (tuple(crop.scale), tuple(crop.ratio)) == ((0.08, 1.0), (3 / 4, 4 / 3))  # torchvision's defaults
    gentle = train_transform("gentle", image_processor).transforms
    assert [tuple(step.scale) for step in gentle if isinstance(step, v2.RandomResizedCrop)] == [(0.6, 1.0)]
    reference = [type(step).__name__ for step in train_transform("reference", image_processor).transforms]
    assert reference[:4] == ["Resize", "RandomHorizontalFlip", "TrivialAugmentWide", "CenterCrop"]
    assert train_transform("reference", image_processor).transforms[0].size == [64]


def test_wrong_presets_and_processors_are_named(image_processor):
    with pytest.raises(ValueError, match="'papers'"):
        train_transform("papers", image_processor)
    with pytest.raises(ValueError, match="square centre crop"):
        eval_transform(CLIPImageProcessor(crop_size={"height": 224, "width": 200}))
    with pytest.raises(ValueError, match="square centre crop"):
        eval_transform(CLIPImageProcessor(do_center_crop=False))


PROCESSORS = [
    CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}),
    CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}),
    CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
    CLIPImageProcessor(size={"height": 70, "width": 60}, crop_size={"height": 56, "width": 56}),
    CLIPImageProcessor(size={"shortest_edge": 51}, crop_size={"height": 56, "width": 56}),
    CLIPImageProcessor(do_resize=False, crop_size={"height": 56, "width": 56}),
]


@pytest.mark.parametrize(
    "processor", PROCESSORS, ids=["torchvision", "pil", "no margin", "stretched", "padded", "cropped"]
)
@pytest.mark.parametrize(("width", "height"), [(300, 200), (201, 333), (57, 40), (64, 64), (500, 128)])
def test_points_land_where_the_picture_s_dots_do(processor, width, height):
    """White dots drawn on black: their centre of mass in the pixel values, against the points carried along."""
    transform = eval_transform(processor)
    radius = max(min(width, height) // 16, 2)
    for fraction in (0.35, 0.5, 0.62):
        x, y = width * fraction, height * (1 - fraction)
        across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        dot = ((across - x) ** 2 + (down - y) ** 2 <= radius**2).astype(np.uint8) * 255
        values = transform(Image.fromarray(dot).convert("RGB"))[0]
        weight = (values - values.min()).double().clamp(min=0)
        place = torch.arange(56) + 0.5
        centre = torch.stack([(weight.sum(0) * place).sum(), (weight.sum(1) * place).sum()]) / weight.sum()
        (moved,) = transform.points(torch.tensor([[x, y]]), width, height)
        if torch.isfinite(moved).all() and moved.min() > 8 and moved.max() < 48:  # the whole dot is inside the crop
            torch.testing.assert_close(moved.double(), centre, atol=0.6, rtol=0)
        mask = transform.mask(torch.from_numpy(dot))
        assert mask.dtype == torch.uint8 and mask.shape == (56, 56)
        assert mask.untyped_storage().nbytes() == 56 * 56  # and not the whole resized mask
        assert ((mask > 127) == (weight > weight.max() / 2)).double().mean() > 0.97


def test_the_shorter_side_that_drafts_need(image_processor):
    assert eval_transform(image_processor).shorter_side == 64
    stretched = CLIPImageProcessor(size={"height": 70, "width": 60}, crop_size={"height": 56, "width": 56})
    assert eval_transform(stretched).shorter_side == 70


def test_points_outside_the_crop_or_unseen_are_nan(image_processor):
    points = torch.tensor([[0.0, 50.0], [100.0, 50.0], [float("nan"), 3.0], [199.9, 99.9]])
    moved = eval_transform(image_processor).points(points, 200, 100)
    assert moved.isnan().all(-1).tolist() == [True, False, True, True]
    torch.testing.assert_close(moved[1], torch.tensor([28.0, 28.0]))  # the middle stays the middle


def test_a_crop_has_its_upper_and_its_left_edge_and_not_the_others():
    processor = CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    points = torch.tensor([[0.0, 0.0], [55.9, 55.9], [56.0, 3.0], [3.0, 56.0], [-0.1, 3.0], [3.0, -0.1]])
    moved = eval_transform(processor).points(points, 56, 56)
    assert moved.isnan().all(-1).tolist() == [False, False, True, True, True, True]
    torch.testing.assert_close(moved[:2], points[:2])


def test_points_scale_with_the_picture(image_processor):
    """A photo twice as large with its parts twice as far shows them in the same place."""
    transform = eval_transform(image_processor)
    points = torch.rand(20, 2) * torch.tensor([120.0, 90.0])
    once, twice = transform.points(points, 120, 90), transform.points(points * 2, 240, 180)
    torch.testing.assert_close(once, twice, equal_nan=True)


def test_real_parts_fall_on_the_bird(shared_dir, image_processor):
    """CUB's part locations survive resize and crop: eyes above legs in nearly every photo that shows both."""
    splits = load_photos(shared_dir / "data" / "cub100")
    photos = splits.torch_dataset("query", eval_transform(image_processor), with_parts=True)
    names = {name: row for row, name in enumerate(splits.part_names)}
    above = []
    for row in range(0, len(photos), 40):
        item = photos[row]
        assert item["parts"].shape == (15, 2)
        eye, leg = item["parts"][names["left eye"]], item["parts"][names["left leg"]]
        if torch.isfinite(eye).all() and torch.isfinite(leg).all():
            above.append(bool(eye[1] < leg[1]))
    assert len(above) > 5 and np.mean(above) > 0.9

"""ConceptHasher and its indexes, as a program uses them: a real small model, real files."""

import io
import json
import os
import re
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from bird_photos import NAMES, save_untrained, write_photos
from PIL import Image

import concepthash_hf.hasher
import concepthash_hf.photo_index
from concepthash_hf import ConceptHasher, ConceptHashModel, ConceptHashVisionModel
from concepthash_hf.codes import hamming_distance, pack_bits, unpack_bits
from concepthash_hf.data import BadImageError, decode_image, eval_transform, load_collection
from concepthash_hf.data.file_facts import file_facts, is_changed
from concepthash_hf.data.inputs import as_photos, is_one_photo
from concepthash_hf.hasher import open_photo_index, renew_index
from concepthash_hf.hits import Hits, PhotoHit
from concepthash_hf.index import HammingIndex
from concepthash_hf.model_card import CardPhotos, model_card
from concepthash_hf.photo_index import PhotoIndex, Source
from concepthash_hf.word_radius import word_radius


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("model") / "untrained")


@pytest.fixture(scope="module")
def other_saved(tmp_path_factory):
    return save_untrained(tmp_path_factory.mktemp("other") / "other", seed=1)


@pytest.fixture(scope="module")
def hasher(saved):
    return ConceptHasher(saved)


@pytest.fixture
def birds(tmp_path):
    return write_photos(tmp_path / "birds", 4)


def codes_by_hand(hasher: ConceptHasher, paths: list[Path]) -> np.ndarray:
    transform = eval_transform(hasher.image_processor)
    pixel_values = torch.stack([transform(decode_image(path)) for path in paths])
    return hasher.model.get_hash_codes(pixel_values).cpu().numpy()


def phone_photo(file: Path) -> Path:
    """As phones save them: lying on its side, with a note that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8))
    lying.resize((500, 300)).save(file, exif=exif, quality=95)
    return file


def test_a_photo_has_one_code_however_it_is_given(hasher, birds, tmp_path):
    path = birds / NAMES[0] / "0.png"
    picture = decode_image(path)
    array = np.asarray(picture)
    tensor = torch.from_numpy(array.copy()).movedim(-1, 0)
    given = [path, str(path), path.read_bytes(), picture, array, tensor, tensor / 255, array.astype(float) / 255]
    grey = array[..., :1]
    assert hasher.encode(grey).tolist() == hasher.encode(grey[..., 0]).tolist() and len(hasher.encode(grey)) == 1
    expected = codes_by_hand(hasher, [path])
    for photo in given:
        assert hasher.encode(photo).tolist() == expected.tolist(), type(photo)
    assert hasher.encode(given).tolist() == expected.tolist() * len(given)
    assert hasher.encode(np.stack([array, array])).tolist() == expected.tolist() * 2


def test_outputs_and_folders(hasher, birds):
    paths = sorted(birds.rglob("*.png"))
    codes, logits, sub_codes = (hasher.encode(birds, output=name) for name in ("codes", "logits", "sub_codes"))
    assert codes.tolist() == codes_by_hand(hasher, paths).tolist()
    assert codes.tolist() == pack_bits(logits > 0).tolist()
    assert sub_codes.shape == (20, 3, 4) and (sub_codes.reshape(20, 12) == unpack_bits(codes, 12)).all()
    with pytest.raises(ValueError, match='"codes", "logits" or "sub_codes"'):
        hasher.encode(birds, output="code")


def test_batches_and_workers_change_nothing(saved, hasher, birds):
    slow = ConceptHasher(saved, "cpu", batch_size=3, num_workers=2)
    assert slow.encode(birds).tolist() == hasher.encode(birds).tolist()


def test_a_phone_photo_is_hashed_upright(hasher, tmp_path):
    photo = phone_photo(tmp_path / "phone.jpg")
    upright = tmp_path / "upright.png"
    decode_image(photo).save(upright)
    assert Image.open(photo).size == (500, 300) and Image.open(upright).size == (300, 500)
    lying = np.asarray(Image.open(photo))
    assert hasher.encode(photo).tolist() == hasher.encode(upright).tolist()
    assert hasher.encode(Image.open(photo)).tolist() == hasher.encode(upright).tolist()
    logits = [hasher.encode(given, output="logits") for given in (photo, upright, lying)]
    assert np.array_equal(logits[0], logits[1]) and not np.allclose(logits[0], logits[2], atol=1e-3)


def test_the_snippet_of_a_card_hashes_as_the_hasher_does(saved, hasher, tmp_path, monkeypatch):
    photos = CardPhotos("birds", "birds", 4, 1, 4, True)
    card = str(model_card(hasher.model.config, photos, str(saved)))
    snippet = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    files = [phone_photo(tmp_path / "one.jpg"), tmp_path / "two.jpg", tmp_path / "three.jpg"]
    Image.fromarray(np.arange(4000, dtype=np.uint16).reshape(50, 80) * 16).save(files[1], "png")
    Image.new("RGBA", (40, 60), (0, 0, 0, 0)).save(files[2], "png")
    names = {}
    exec(snippet, names)
    assert names["codes"].tolist() == hasher.encode(files).tolist()


@pytest.mark.parametrize(
    ("photos", "error"),
    [
        ([], "no photos given; expected a path, a folder"),
        (7, "expected a path, a folder, .* got int"),
        (np.zeros((3, 8, 8, 8, 3), np.uint8), r"\(H, W, 3\)"),
        (np.full((8, 8, 3), 300), "uint8, or floating point from 0 to 1; got int64 from 300"),
        (torch.randn(3, 8, 8), "Pixel values of an image processor go to model.get_hash_codes"),
        (torch.zeros(8, 8, 3), r"a tensor of photos is \(3, H, W\)"),
        ("nowhere.jpg", "nowhere.jpg: no such file"),
    ],
)
def test_what_is_no_photo(hasher, photos, error):
    with pytest.raises((TypeError, ValueError), match=error):
        hasher.encode(photos)


NOISE = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
NOISE[0, 0, :, 0] = range(24)
NOISE[1, :, :16] = np.arange(256).reshape(16, 16, 1)  # every value there is


@pytest.mark.parametrize(
    ("photos", "expected"),
    [
        (NOISE, NOISE),
        (NOISE[0], NOISE[:1]),
        (NOISE / 255, NOISE),
        ((NOISE / 255).astype(np.float32), NOISE),
        (torch.from_numpy(NOISE).movedim(-1, 1), NOISE),
        (torch.from_numpy(NOISE[1]).movedim(-1, 0), NOISE[1:]),
        (torch.from_numpy(NOISE // 128).movedim(-1, 1).bfloat16(), NOISE // 128 * 255),
        (np.ones((4, 6, 3)), np.full((1, 4, 6, 3), 255)),
        (np.full((4, 6, 3), 0.999), np.full((1, 4, 6, 3), 255)),
        (NOISE[..., 0], NOISE[..., [0, 0, 0]]),
        (NOISE[..., :1], NOISE[..., [0, 0, 0]]),
        (NOISE[0, ..., :1], NOISE[:1, ..., [0, 0, 0]]),
        *((torch.from_numpy(NOISE[:, None, :, :width, 0]), NOISE[:, :, :width, [0, 0, 0]]) for width in (1, 3, 4, 24)),
        (torch.from_numpy(NOISE[:1, :, :, 0]), NOISE[:1, :, :, [0, 0, 0]]),
    ],
)
def test_arrays_and_tensors_are_these_pictures(photos, expected):
    assert [np.asarray(decode_image(photo)).tolist() for photo in as_photos(photos)] == expected.tolist()
    assert is_one_photo(photos) == (len(expected) == 1)


@pytest.mark.parametrize(
    "photos",
    [
        np.full((4, 6, 3), -0.1),
        np.full((4, 6, 3), 1.1),
        np.zeros((0, 4, 6, 3), np.uint8),
        np.zeros(6, np.uint8),
        torch.zeros(4, 4, 6, dtype=torch.uint8),
        torch.zeros(4, 6, dtype=torch.uint8),
    ],
)
def test_arrays_and_tensors_that_are_no_pictures(photos):
    with pytest.raises(ValueError, match="(array|tensor) of photos is"):
        as_photos(photos)


def test_one_photo_or_several(birds):
    photo = birds / NAMES[0] / "0.png"
    for one in (photo, str(photo), photo.read_bytes(), {"bytes": photo.read_bytes(), "path": None}, Image.open(photo)):
        assert is_one_photo(one) and len(as_photos(one)) == 1
    (birds / "link.png").symlink_to(elsewhere := birds.with_name("elsewhere.png"))
    shutil.copy(photo, elsewhere)
    for several, number in (([photo], 1), (birds, 20), (str(birds), 20), ([birds, photo], 21)):
        assert not is_one_photo(several) and len(as_photos(several)) == number


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        ({"file_size": 1, "file_modified": 1}, {"file_size": 1, "file_modified": 1, "file_sha256": "a"}, False),
        ({"file_size": 1, "file_modified": 1}, {"file_size": 2, "file_modified": 1}, True),
        ({"file_size": 1, "file_modified": 1}, {"file_size": 1, "file_modified": 2}, True),
        ({"file_size": 1, "file_modified": 1}, {}, True),
        (
            {"file_size": 1, "file_modified": 1, "file_sha256": "a"},
            {"file_size": 1, "file_modified": 2, "file_sha256": "a"},
            False,
        ),
        (
            {"file_size": 1, "file_modified": 1, "file_sha256": "a"},
            {"file_size": 1, "file_modified": 1, "file_sha256": "b"},
            True,
        ),
    ],
)
def test_a_changed_photo_is_told_by_its_content_or_else_by_size_and_time(before, now, changed):
    assert is_changed(before, now) == is_changed(now, before) == changed


def test_a_photo_may_change_twice_within_a_second(birds):
    photo = birds / NAMES[0] / "0.png"
    before, time = file_facts(photo), photo.stat().st_mtime_ns
    os.utime(photo, ns=(time, time // 10**9 * 10**9 + (time + 10**8) % 10**9))
    assert is_changed(before, file_facts(photo))


def test_an_unreadable_photo_is_named(hasher, birds):
    (birds / NAMES[1] / "1.png").write_bytes(b"no picture")
    with pytest.raises(BadImageError, match=f"{NAMES[1]}/1.png.*not a picture"):
        hasher.encode(birds)


def test_words(hasher, saved):
    model = ConceptHashModel.from_pretrained(saved)
    words = [name.replace("_", " ") for name in NAMES]
    expected = model.get_text_hash_codes(model.class_embeddings).numpy()
    assert hasher.encode_names(words).tolist() == expected.tolist()
    assert hasher.encode_names(words[0]).tolist() == expected[:1].tolist()


def test_a_model_without_words(saved, tmp_path, birds):
    tower = ConceptHashVisionModel.from_pretrained(saved)
    tower.save_pretrained(tmp_path / "tower")
    shutil.copy(saved / "preprocessor_config.json", tmp_path / "tower")
    hasher = ConceptHasher(tmp_path / "tower")
    index = hasher.index(birds)
    assert len(index.search(birds / NAMES[0] / "1.png")) == 5
    with pytest.raises(ValueError, match="tower reads no words: it was saved without its text tower"):
        index.search("owl")


def test_what_is_no_model(saved, tmp_path):
    ConceptHashModel.from_pretrained(saved).save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="no image processor in .*bare.* save it there"):
        ConceptHasher(tmp_path / "bare")
    clip = saved.with_name("untrained-clip")
    with pytest.raises(ValueError, match="is a 'clip' model, which makes no codes"):
        ConceptHasher(clip)


def test_explanations(hasher, birds):
    one, other = birds / NAMES[0] / "0.png", birds / NAMES[4] / "0.png"
    codes = hasher.encode([one, other])
    assert hasher.explain(one).code.tolist() == codes[0].tolist()
    assert hasher.match(one, other).distance == hamming_distance(codes[0], codes[1])
    with pytest.raises(ValueError, match="expected one photo, got 20"):
        hasher.explain(birds)


class TestIndex:
    @pytest.fixture
    def index(self, hasher, birds):
        return hasher.index(birds)

    def test_photos_and_words_find_what_their_codes_find(self, hasher, index, birds):
        photo = birds / NAMES[2] / "1.png"
        for query, code in ((str(photo), hasher.encode(photo)), ("spotted owl", hasher.encode_names("spotted owl"))):
            hits, found = index.search(query, k=7), index.codes.search(code, 7)
            assert [hit.id for hit in hits] == found.ids[0].tolist()
            assert [hit.distance for hit in hits] == found.distances[0].tolist()
            assert [list(hit.concept_distances) for hit in hits] == found.concept_distances[0].tolist()
            assert all(hit.label == hit.id.split("/")[0] for hit in hits)
            assert all(hit.photo().size == (32, 32) for hit in hits)

    def test_several_queries(self, index, birds):
        photos = [str(birds / NAMES[0] / f"{number}.png") for number in range(2)]
        several = index.search([photos[0], "an owl", Image.open(photos[1])], k=2)
        assert [hits.name for hits in several] == ["0.png", "an owl", "photo"]
        assert [hit.id for hit in several[2]] == [hit.id for hit in index.search(photos[1], k=2)]
        assert len(index.search(birds / NAMES[0])) == 4  # a folder
        assert isinstance(index.search([photos[0]]), list)

    def test_one_query_has_hits_and_several_have_a_list(self, hasher, birds, tmp_path):
        (tmp_path / "solo").mkdir()
        photo = shutil.copy(birds / NAMES[0] / "0.png", tmp_path / "solo" / "0.png")
        index, array = hasher.index(birds), np.asarray(decode_image(photo))
        tensor = torch.from_numpy(array.copy()).movedim(-1, 0)
        for one in (
            photo,
            str(photo),
            Path(photo).read_bytes(),
            array,
            array[..., 0],
            tensor,
            tensor.bfloat16() / 255,
        ):
            assert isinstance(index.search(one), Hits), type(one)
        several = (tmp_path / "solo", str(tmp_path / "solo"), [photo], array[None], array[None, ..., 0], tensor[None])
        for few in several:
            (hits,) = index.search(few)
            assert isinstance(hits, Hits), type(few)

    def test_an_index_of_one_photo(self, hasher, birds):
        for photo in (birds / NAMES[0] / "0.png", str(birds / NAMES[0] / "0.png")):
            assert len(hasher.index(photo)) == 1

    def test_words_of_any_length_and_folders(self, index, birds, monkeypatch):
        assert len(index.search("a small bird with a red head " * 20, k=2)) == 2
        monkeypatch.chdir(birds)
        assert [hits.name for hits in index.search(f"./{NAMES[0]}", k=1)] == [f"{number}.png" for number in range(4)]
        assert index.search(NAMES[0], k=1).name == NAMES[0]  # a word, also where a folder is called so
        with pytest.raises(ValueError, match="words are Unicode text"):
            index.search("\ud800")

    def test_a_misspelt_photo_is_not_searched_as_words(self, index):
        with pytest.raises(BadImageError, match="nwe.jpg: no such file"):
            index.search("nwe.jpg")

    def test_k_above_the_size_gives_what_there_is(self, index):
        assert len(index.search("owl", k=1000)) == 20
        with pytest.raises(ValueError, match="k is a number of items from 1"):
            index.search("owl", k=0)

    def test_shown_in_a_notebook_and_a_terminal(self, index, birds):
        Image.new("RGB", (8, 8)).save(birds / NAMES[0] / "<b>&.png")
        index.update()
        hits = index.search(str(birds / NAMES[0] / "<b>&.png"), k=4)
        assert repr(hits).startswith("Hits('<b>&.png': 4 photos, by distance: ") and len(repr(hits)) < 150
        page = hits._repr_html_()
        assert page.count("<img") == 5 and "&lt;b&gt;&amp;.png" in page and "<b>" not in page
        assert (
            repr(index)
            == f"PhotoIndex(21 photos of {birds}, 12 bits by untrained at revision {index.codes.spec.revision})"
        )

    def test_why(self, index, birds):
        hits = index.search(str(birds / NAMES[0] / "0.png"))
        assert np.asarray(hits[0].why()).std() > 10
        assert np.asarray(index.search("owl")[0].why()).std() > 10
        assert np.asarray(hits.figure()).std() > 10

    def test_codes_of_another_model_are_refused(self, index, other_saved, tmp_path):
        index.save(tmp_path / "index")
        with pytest.raises(ValueError, match="made by untrained at revision .* these are of revision"):
            open_photo_index(tmp_path / "index", other_saved)
        codes = ConceptHasher(other_saved).encode(np.zeros((8, 8, 3), np.uint8))
        for theirs in (codes, codes[:1], codes.copy()):
            with pytest.raises(ValueError, match="made by untrained at revision"):
                index.codes.search(theirs, 1)

    def test_saved_and_opened_it_knows_its_model_and_its_photos(self, index, birds, tmp_path):
        index.save(tmp_path / "index")
        opened = open_photo_index(tmp_path / "index")
        assert [hit.id for hit in opened.search("owl")] == [hit.id for hit in index.search("owl")]
        assert str(opened.update()) == "+0 new, 0 changed, 0 gone"
        moved = birds.rename(tmp_path / "moved")
        with pytest.raises(FileNotFoundError, match="is not in .*birds; if the photos .* have moved, say where"):
            opened.search("owl")[0].photo()
        again = open_photo_index(tmp_path / "index", photos=moved)
        assert again.search("owl")[0].photo().size == (32, 32)
        assert str(again.update()) == "+0 new, 0 changed, 0 gone"

    def test_one_that_another_process_has_just_made_is_not_written_over(self, saved, birds, tmp_path, monkeypatch):
        others = write_photos(tmp_path / "others", 1)

        def load_while_another_is_faster(*args, **kwargs) -> ConceptHasher:
            monkeypatch.undo()
            renew_index(tmp_path / "index", birds, saved)
            return ConceptHasher(*args, **kwargs)

        monkeypatch.setattr(concepthash_hf.hasher, "ConceptHasher", load_while_another_is_faster)
        with pytest.raises(ValueError, match="this is an index of .*birds, not of .*others: give another folder"):
            renew_index(tmp_path / "index", others, saved)
        assert len(HammingIndex.load(tmp_path / "index")) == 20

    def test_a_model_that_has_moved_is_remembered(self, saved, birds, tmp_path):
        model, index = shutil.copytree(saved, tmp_path / "model"), tmp_path / "index"
        renew_index(index, birds, model)
        moved = model.rename(tmp_path / "moved")
        with pytest.raises(
            FileNotFoundError, match="the model of this index is not in .*model any more: say where it"
        ):
            open_photo_index(index)
        renew_index(index, birds, moved)
        assert open_photo_index(index).hasher.name_or_path == str(moved)

    def test_no_secret_is_saved(self, saved, birds, tmp_path):
        ConceptHasher(saved, token="hf_secret", dtype=torch.float32).index(birds).save(tmp_path / "index")
        assert not any(b"hf_secret" in file.read_bytes() for file in (tmp_path / "index").iterdir())

    def test_an_index_of_codes_alone_wants_a_model(self, hasher, saved, birds, tmp_path):
        HammingIndex.from_codes(hasher.encode(birds), num_bits=12, num_concepts=3).save(tmp_path / "codes")
        with pytest.raises(ValueError, match="does not say which model made it"):
            open_photo_index(tmp_path / "codes")
        hits = open_photo_index(tmp_path / "codes", saved).search(str(birds / NAMES[0] / "0.png"))
        assert hits[0].distance == 0 and hits[0].label is None
        with pytest.raises(FileNotFoundError, match="keeps codes, not photos"):
            hits[0].photo()

    def test_duplicates(self, index, birds):
        shutil.copy(birds / NAMES[0] / "0.png", birds / NAMES[3] / "copy.png")
        index.update()
        groups = index.duplicates()
        assert any({f"{NAMES[0]}/0.png", f"{NAMES[3]}/copy.png"} <= set(group) for group in groups)


class TestWordsForNothingHere:
    """Photos that have the codes of the model's own class names, so that all distances are known."""

    def index_of(self, hasher, names, labels=None):
        model = hasher.model
        codes = model.get_text_hash_codes(model.class_embeddings).numpy()
        rows = [NAMES.index(name) for name in names]
        codes = HammingIndex.from_codes(
            codes[rows],
            ids=[f"{name}.png" for name in names],
            num_bits=12,
            num_concepts=3,
            metadata={"label": list(names) if labels is None else labels},
        )
        return PhotoIndex(hasher, codes, Source(hasher.name_or_path, {}))

    def test_said_where_no_photo_is_nearer_than_to_a_stranger(self, hasher):
        codes = hasher.model.get_text_hash_codes(hasher.model.class_embeddings).numpy()
        between = hamming_distance(codes[:, None], codes[None])
        said = []
        for left_out, name in enumerate(NAMES):
            others = [other for other in NAMES if other != name]
            index, rows = self.index_of(hasher, others), [NAMES.index(other) for other in others]
            apart = np.where(np.eye(5, dtype=bool), 99, between)[:, rows].min(1)
            radius = sorted(apart)[1] - 1
            for other in others:
                hits = index.search(other.replace("_", " "), k=2)
                assert hits[0].distance == 0 and hits.radius == radius and not hits.nothing_near
                assert (
                    hits.note == ""
                    and "stranger" not in repr(hits) + hits.table()
                    and not hits.to_dict()["nothing_near"]
                )
            hits = index.search(name, k=2)
            assert hits.nothing_near == (between[left_out][rows].min() > radius)
            said.append(hits.nothing_near)
            if hits.nothing_near:
                words = f"no photo is closer than a stranger would be: what is here is found within {radius} bit"
                assert words in repr(hits) and words in hits.table().splitlines()[-1] and words in hits._repr_html_()
                assert hits.to_dict()["nothing_near"] is True and np.asarray(hits.figure()).std() > 10
        assert sum(said) >= 3

    def test_not_said_where_it_is_not_known(self, hasher, birds):
        assert self.index_of(hasher, NAMES, labels=[""] * 5).search("owl").radius is None
        index = self.index_of(hasher, NAMES)
        assert index.search("owl", concept_weights={0: 1}).radius is None
        photo = index.search(birds / NAMES[0] / "0.png")
        assert photo.radius is None and not photo.nothing_near and "nothing_near" not in photo.to_dict()

    def test_it_follows_the_photos(self, hasher, birds):
        index = self.index_of(hasher, NAMES, labels=[""] * 5)
        assert index.search("owl").radius is None
        index.add(birds)  # with labels
        expected = word_radius(hasher, index.codes)
        assert expected is not None and index.search("owl").radius == expected


class TestChanges:
    @pytest.fixture
    def index(self, hasher, birds):
        return hasher.index(birds)

    def check(self, index, hasher, birds):
        """Every row is what it would be if all were hashed anew."""
        fresh = hasher.index(birds)
        assert sorted(index.codes.ids) == sorted(fresh.codes.ids)
        assert index.codes.get_codes(fresh.codes.ids).tolist() == fresh.codes.get_codes(fresh.codes.ids).tolist()
        for mine, theirs in zip(*(i.codes.get_metadata(fresh.codes.ids) for i in (index, fresh)), strict=True):
            mine, theirs = (
                {k: v for k, v in row.items() if k not in ("file_sha256", "split")} for row in (mine, theirs)
            )
            assert mine == theirs

    def test_new_changed_and_gone(self, index, hasher, birds):
        for number in (5, 6, 7):
            Image.fromarray(np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)).save(
                birds / NAMES[0] / f"{number}.png"
            )
        shutil.copy(birds / NAMES[4] / "0.png", birds / NAMES[1] / "0.png")
        os.utime(birds / NAMES[1] / "0.png", ns=(1, 1))
        (birds / NAMES[2] / "0.png").unlink()
        shutil.rmtree(birds / NAMES[3])
        hashed = []
        changes = watching(index, hashed).update()
        assert str(changes) == "+3 new, 1 changed, 5 gone" and changes.unchanged == 14
        assert len(hashed) == 4
        self.check(index, hasher, birds)

    def test_a_replaced_photo_of_the_same_size(self, index, hasher, birds):
        file, hashed = birds / NAMES[0] / "0.png", []
        before = file.stat()
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
        assert str(watching(index, hashed).update()) == "+0 new, 1 changed, 0 gone" and len(hashed) == 1
        self.check(index, hasher, birds)

    def test_content_is_compared_where_it_is_asked_for(self, index, birds):
        hashed = []
        index = watching(index, hashed)
        index.update(with_content=True)
        for file in birds.rglob("*.png"):
            os.utime(file, ns=(1, 1))
        assert str(index.update(with_content=True)) == "+0 new, 0 changed, 0 gone" and hashed == []
        file = birds / NAMES[0] / "0.png"
        same_size = file.read_bytes()[:-20] + bytes(20)
        file.write_bytes(same_size)
        os.utime(file, ns=(1, 1))
        assert str(index.update()) == "+0 new, 0 changed, 0 gone"  # neither size nor time tell
        changes = index.update(with_content=True)
        assert changes.changed + len(changes.unreadable) == 1

    def test_a_corrected_label_in_a_table_is_no_new_hashing(self, hasher, birds):
        table = birds / "photos.csv"
        rows = [f"{name}/{number}.png,{name}" for name in NAMES for number in range(4)]
        table.write_text("\n".join(["file,label", *rows]))
        hashed = []
        index = watching(hasher.index(table), hashed)
        rows[0] = f"{NAMES[0]}/0.png,{NAMES[1]}"
        table.write_text("\n".join(["file,label", *rows]))
        assert str(index.update()) == "+0 new, 1 changed, 0 gone" and hashed == []
        assert index.codes.get_metadata([f"{NAMES[0]}/0.png"])[0]["label"] == NAMES[1]
        self.check(index, hasher, table)

    def test_unreadable_photos_are_counted_and_tried_again(self, index, hasher, birds):
        file = birds / NAMES[0] / "0.png"
        good = file.read_bytes()
        file.write_bytes(good[:50])
        changes = index.update()
        assert str(changes) == "+0 new, 0 changed, 0 gone, 1 unreadable" and changes.unreadable[0].path == str(file)
        assert len(index) == 19
        file.write_bytes(good)
        assert str(index.update()) == "+1 new, 0 changed, 0 gone"
        self.check(index, hasher, birds)

    def test_photos_from_elsewhere_are_added_and_stay(self, index, hasher, birds, tmp_path):
        more = write_photos(tmp_path / "more", 1)
        assert str(index.add(more)) == "+5 new, 0 changed, 0 gone"
        assert str(index.add(str(more))) == "+0 new, 0 changed, 0 gone"
        assert str(index.add([Image.new("RGB", (9, 9)), more / NAMES[0] / "0.png"])) == "+1 new, 0 changed, 0 gone"
        assert str(index.update()) == "+0 new, 0 changed, 0 gone" and len(index) == 26
        hits = index.search(str(more / NAMES[0] / "0.png"), k=26)
        assert str(more / NAMES[0] / "0.png") in [hit.id for hit in hits]
        shutil.rmtree(more)
        (birds / NAMES[0] / "0.png").unlink()
        assert str(index.update()) == "+0 new, 0 changed, 1 gone" and len(index) == 25

    def test_pictures_without_a_file_each_get_a_number_of_their_own(self, hasher):
        """Also after one that could not be read, and after one that was taken out."""
        grey = [Image.new("RGB", (32, 32), (value,) * 3) for value in (10, 30, 200, 90)]
        index = hasher.index([grey[0], b"broken", grey[1]])
        assert index.codes.ids.tolist() == ["photo 1", "photo 3"]
        assert str(index.add([grey[2]])) == "+1 new, 0 changed, 0 gone"
        index.codes.remove(["photo 1"])
        assert str(index.add([grey[3]])) == "+1 new, 0 changed, 0 gone"
        assert index.codes.ids.tolist() == ["photo 3", "photo 4", "photo 5"]
        assert index.codes.get_codes(["photo 5"]).tolist() == hasher.encode([grey[3]]).tolist()

    def test_its_own_folder_by_another_name_is_its_own(self, index, birds, monkeypatch):
        shutil.copy(birds / NAMES[0] / "0.png", birds / NAMES[0] / "9.png")
        monkeypatch.chdir(birds.parent)
        assert str(index.add("birds")) == "+1 new, 0 changed, 0 gone"
        (birds / NAMES[0] / "9.png").unlink()
        assert str(index.update()) == "+0 new, 0 changed, 1 gone"

    def test_codes_of_which_nothing_is_noted_are_made_again(self, hasher, birds):
        ids, unknown = hasher.index(birds).codes.ids, HammingIndex(hasher.spec)
        unknown.add(np.zeros((20, 2), np.uint8), ids)
        index = PhotoIndex(hasher, unknown, Source("", {}, str(birds)))
        assert str(index.update()) == "+0 new, 20 changed, 0 gone"
        self.check(index, hasher, birds)

    def test_pictures_in_a_table_are_those_of_today(self, hasher, tmp_path):
        table = tmp_path / "photos.parquet"

        def write(*shades: int) -> None:
            columns = {"id": list("abc"), "label": ["grey", "white", "grey"], "image": list(map(grey_png, shades))}
            pq.write_table(pa.table({name: values[: len(shades)] for name, values in columns.items()}), table)

        write(10, 20)
        index = hasher.index(table)
        assert index.photo("a").getpixel((0, 0)) == (10, 10, 10)
        write(99, 20, 30)
        assert str(index.update()) == "+1 new, 1 changed, 0 gone"
        assert [index.photo(id).getpixel((0, 0))[0] for id in "abc"] == [99, 20, 30]

    def test_other_photos_of_the_same_ids_take_no_place(self, hasher, tmp_path):
        """Pictures inside tables are numbered, in each table from 0."""
        for name, shades in {"one": (10, 20, 30), "other": (40, 50, 60)}.items():
            columns = {"label": list("aab"), "image": list(map(grey_png, shades))}
            pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
        index = hasher.index(tmp_path / "one.parquet")
        before = index.codes.get_codes(index.ids).tolist()
        with pytest.raises(ValueError, match='3 of these photos have ids.*its own collection; the first is 0.*"id"'):
            index.add(tmp_path / "other.parquet")
        assert len(index) == 3 and index.codes.get_codes(index.ids).tolist() == before
        shutil.copy(tmp_path / "one.parquet", tmp_path / "copy.parquet")
        assert str(index.add(tmp_path / "copy.parquet")) == "+0 new, 0 changed, 0 gone"  # the same pictures

    @pytest.mark.parametrize("as_folder", [True, False])
    def test_a_part_of_its_collection_stays_one(self, index, birds, as_folder):
        """Also a photo that has changed: it keeps its label, and goes when its file does."""
        file = birds / NAMES[0] / "0.png"
        Image.new("RGB", (31, 31), "red").save(file)
        assert str(index.add(file.parent if as_folder else [file])) == "+0 new, 1 changed, 0 gone"
        (row,) = index.codes.get_metadata([f"{NAMES[0]}/0.png"])
        assert row["label"] == NAMES[0] and row["origin"] is None
        file.unlink()
        assert str(index.update()) == "+0 new, 0 changed, 1 gone"

    def test_an_index_of_a_name_is_of_no_other_photos(self, saved, birds, tmp_path, monkeypatch):
        monkeypatch.setattr(concepthash_hf.photo_index, "load_collection", lambda *_, **__: load_collection(birds))
        renew_index(tmp_path / "index", "someone/birds", saved)
        for others in (birds, "else/birds"):
            with pytest.raises(ValueError, match="index of someone/birds, not of .*another folder"):
                renew_index(tmp_path / "index", others)
        assert len(open_photo_index(tmp_path / "index")) == 20

    def test_one_reading_option_more_leaves_the_others(self, saved, birds, tmp_path):
        table = birds / "photos.csv"
        table.write_text("\n".join(["file,kind,place", *(f"{name}/0.png,{name},{name}" for name in NAMES)]))
        renew_index(tmp_path / "index", table, saved, {"label_column": "kind"})
        index, _ = renew_index(tmp_path / "index", table, None, {"follow_symlinks": True})
        assert index.source.options == {"label_column": "kind", "follow_symlinks": True}

    def test_columns_that_an_index_has_itself_are_kept_by_another_name(self, hasher, birds):
        table = birds / "photos.csv"
        rows = [f"{name}/0.png,{name},zoo,9" for name in NAMES]
        table.write_text("\n".join(["file,label,origin,file_size", *rows]))
        (row,) = hasher.index(table).codes.get_metadata([f"{NAMES[0]}/0.png"])
        assert (row["own_origin"], row["own_file_size"], row["origin"]) == ("zoo", "9", None)

    def test_hits_are_json_whatever_a_table_holds(self, hasher, tmp_path):
        days = [datetime(2026, 11, day) for day in (1, 2)]
        columns = {
            "label": list("ab"),
            "seen": days,
            "weight": [float("nan"), 2.5],
            "image": [grey_png(9), grey_png(99)],
        }
        pq.write_table(pa.table(columns), tmp_path / "photos.parquet")
        index = hasher.index(tmp_path / "photos.parquet")
        hits = index.search(Image.new("RGB", (8, 8)), k=2).to_dict()["hits"]
        found = json.loads(json.dumps(sorted(hits, key=lambda hit: hit["id"]), allow_nan=False))
        assert [(hit["seen"], hit["weight"]) for hit in found] == [
            ("2026-11-01T00:00:00", None),
            ("2026-11-02T00:00:00", 2.5),
        ]
        assert len(index.codes.where({"seen": index.codes.facets()["seen"][0]})) == 1

    def test_hits_in_an_index_of_dates_are_json(self):
        hit = PhotoHit("a", 1, (1, 0), {"seen": [datetime(2026, 11, 1)]}, _open=Image.Image, _explain=Image.Image)
        assert json.loads(json.dumps(hit.to_dict()))["seen"] == ["2026-11-01 00:00:00"]

    def test_a_column_called_distance_is_not_the_distance(self, hasher, birds):
        table = birds / "photos.csv"
        table.write_text("\n".join(["file,label,distance", *(f"{name}/0.png,{name},100" for name in NAMES)]))
        hit = hasher.index(table).search(birds / NAMES[0] / "0.png", k=1)[0]
        assert hit.distance == hit.to_dict()["distance"] == 0

    def test_classes_that_are_not_understood_any_more_are_not_lost(self, hasher, birds):
        table = birds / "metadata.csv"
        rows = [f"{name}/{number}.png,{name}" for name in NAMES for number in range(4)]
        table.write_text("\n".join(["file_name,label", *rows]))
        index = hasher.index(birds)
        table.write_text("\n".join(["file_name,label", *rows, "one,two,three"]))
        with pytest.raises(ValueError, match="line 22: 3 cells, but the header has 2"):
            index.update()
        table.write_text("\n".join(["file_name,label", *(row.split(",")[0] + ",bird" for row in rows)]))
        with pytest.raises(ValueError, match="knows the classes of its photos, but those of .* are not understood"):
            index.update()
        assert index.codes.get_metadata([f"{NAMES[0]}/0.png"])[0]["label"] == NAMES[0]

    def test_photos_in_a_folder_that_cannot_be_opened_stay(self, index, birds):
        folder, elsewhere = birds / NAMES[0], birds.parent / "elsewhere"
        folder.rename(elsewhere)
        folder.symlink_to(folder)  # a loop: nobody can look into it
        assert str(index.update()) == "+0 new, 0 changed, 0 gone" and len(index) == 20
        folder.unlink()
        assert str(index.update()) == "+0 new, 0 changed, 4 gone"

    def test_a_collection_that_is_not_there_leaves_the_index(self, index, birds):
        shutil.rmtree(birds)
        with pytest.raises(ValueError, match="neither a known dataset nor a file or folder"):
            index.update()
        assert len(index) == 20

    def test_photos_given_one_by_one_are_no_collection(self, hasher, birds):
        index = hasher.index(sorted(birds.rglob("*.png"))[:3])
        assert len(index) == 3
        with pytest.raises(ValueError, match="of no collection"):
            index.update()


def grey_png(shade: int) -> dict:
    """As a picture stands in a table."""
    written = io.BytesIO()
    Image.new("RGB", (32, 32), (shade,) * 3).save(written, "png")
    return {"bytes": written.getvalue(), "path": None}


def watching(index, hashed: list):
    """Notes which photos are hashed."""
    original = index.hasher.hash_rows

    def hash_rows(pictures, rows):
        hashed.extend(rows)
        return original(pictures, rows)

    from copy import copy

    index.hasher = copy(index.hasher)
    index.hasher.hash_rows = hash_rows
    return index

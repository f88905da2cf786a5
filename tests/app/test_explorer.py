"""What can be asked of a collection, held against index and model themselves."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from bird_photos import NAMES, write_photos
from hostile_birds import HOSTILE

from concepthash_hf.app import drawing
from concepthash_hf.app.explorer import MOST_HITS, Explorer, Query
from concepthash_hf.app.photos import ServedPhotos
from concepthash_hf.app.readings import Comparison, Reading
from concepthash_hf.codes import compose_codes, hamming_distance
from concepthash_hf.data import decode_image
from concepthash_hf.hasher import open_photo_index
from concepthash_hf.index import HammingIndex
from concepthash_hf.photo_index import PhotoIndex


@pytest.fixture(scope="module")
def bird(collection):
    return decode_image(collection / NAMES[1] / "3.png")


@pytest.fixture(scope="module")
def one(explorer, bird) -> Reading:
    return explorer.read_photo(lambda: bird, "a bird")


def test_a_photo_has_the_code_that_the_hasher_gives_it(explorer, hasher, bird, one):
    code = hasher.encode(bird)[0]
    assert one.code.tolist() == explorer.hashed(lambda: bird, "a bird").code.tolist() == code.tolist()
    assert one.sub_codes.tolist() == hasher.encode(bird, output="sub_codes")[0].tolist()
    assert len(one.looks) == 3 and one.photo == one.looks[0].photo


def test_many_at_once_get_their_own(explorer, hasher, collection):
    files = sorted(collection.rglob("*.png"))
    with ThreadPoolExecutor(8) as pool:
        photos = [partial(decode_image, file) for file in files]
        hashed = [reading.code.tolist() for reading in pool.map(lambda photo: explorer.hashed(photo, ""), photos)]
        read = [reading.code.tolist() for reading in pool.map(lambda photo: explorer.read_photo(photo, ""), photos)]
    assert hashed == read == hasher.encode(collection).tolist()
    assert len({tuple(code) for code in hashed}) > 9


def test_words(explorer, hasher):
    reading = explorer.read_words("  spotted \n owl ")
    assert reading.name == "spotted owl" and reading.looks == ()
    assert reading.code.tolist() == hasher.encode_names("spotted owl")[0].tolist()
    for wrong in ("", "  ", "x" * 201):
        with pytest.raises(ValueError, match="words have 1 to 200 letters"):
            explorer.read_words(wrong)


def test_words_that_are_near_nothing(explorer, index, one, monkeypatch):
    far = explorer.search(Query(explorer.read_words("spotted owl"))).found[0].distance
    for radius, is_far in ((far - 1, True), (far, False), (None, None)):
        monkeypatch.setitem(index.__dict__, "word_radius", radius)
        query = Query(explorer.read_words("spotted owl"))
        assert query.reading.radius == radius
        pages = [explorer.search(query, first, 5) for first in (0, 15)]
        assert [page.nothing_near for page in pages] == [is_far, is_far]
        says_so = "no photo is closer than a stranger would be" in drawing.hits(pages[0], query, explorer.spec)
        assert says_so == bool(is_far)
        assert explorer.search(Query(query.reading, (1.0, 0.0, 2.0))).nothing_near is None
        # what is near may be in another part of the collection
        assert explorer.search(Query(query.reading, where={"note": HOSTILE})).nothing_near is None
    assert explorer.search(Query(one)).nothing_near is None


@pytest.mark.parametrize("weights", [None, (1.0, 0.0, 2.0)])
def test_pages_are_the_ranking_of_the_index(explorer, index, one, weights):
    expected = index.codes.search(one.code[None], len(index), weights)
    found = [hit for first in range(0, 40, 15) for hit in explorer.search(Query(one, weights), first, 15).found]
    assert len(found) == len(index) == 40
    assert [hit.distance for hit in found] == expected.distances[0].tolist()
    assert [hit.id for hit in found] == expected.ids[0].tolist()
    assert [list(hit.concept_distances) for hit in found] == expected.concept_distances[0].tolist()
    pages = [explorer.search(Query(one, weights), first, 15) for first in (0, 15, 30, 45)]
    assert [page.has_more for page in pages] == [True, True, False, False]
    assert pages[3].found == () and pages[0].found[0].has_picture


def test_what_is_known_of_a_photo_is_shown_without_where_it_lies(explorer, one):
    for hit in explorer.search(Query(one), 0, 40).found:
        assert set(hit.row) == {"label", "split", "habitat", "note"}
        assert hit.caption == hit.row["label"].replace("_", " ")


def test_filters(explorer, index, one):
    assert explorer.facets()["habitat"] == ["land", "water"]
    assert HOSTILE in explorer.facets()["label"] and "path" not in explorer.facets()
    rows = dict(zip(index.codes.ids, index.codes.get_metadata(index.codes.ids), strict=True))
    where = {"habitat": "water", "note": HOSTILE}
    expected = {id for id, row in rows.items() if row["habitat"] == "water" and row["note"] == HOSTILE}
    page = explorer.search(Query(one, (1.0, 1.0, 0.5), where), 0, 40)
    assert {hit.id for hit in page.found} == expected and page.among == len(expected) > 5
    distances = [hit.distance for hit in page.found]
    assert distances == sorted(distances)
    assert explorer.search(Query(one, None, {"habitat": "air"})).found == ()
    with pytest.raises(ValueError, match="no column 'colour'"):
        explorer.search(Query(one, None, {"colour": "red"}))


@pytest.mark.parametrize(("first", "number"), [(-1, 5), (0, 0), (MOST_HITS, 1), (0, MOST_HITS + 1)])
def test_what_is_too_far_down(explorer, one, first, number):
    with pytest.raises(ValueError, match="hits are numbered from 0 to 999"):
        explorer.search(Query(one), first, number)


def test_weights_that_are_none(explorer, one):
    with pytest.raises(ValueError, match="all are 0|zero|weight"):
        explorer.search(Query(one, (0.0, 0.0, 0.0)))


def test_head_of_this_and_wing_of_that(explorer, index, one, collection):
    other = explorer.read_photo(lambda: decode_image(collection / NAMES[4] / "1.png"), "another")
    mixed = one.mixed(other, [False, True, False])
    assert mixed.sub_codes.tolist() == [
        one.sub_codes[0].tolist(),
        other.sub_codes[1].tolist(),
        one.sub_codes[2].tolist(),
    ]
    assert [look.photo for look in mixed.looks] == [one.looks[0].photo, other.looks[0].photo, one.looks[0].photo]
    assert mixed.photo == one.photo
    code = compose_codes(np.stack([one.code, other.code, one.code]), 12)
    expected = index.codes.search(code[None], 10)
    assert [hit.distance for hit in explorer.search(Query(mixed), 0, 10).found] == expected.distances[0].tolist()
    assert one.mixed(explorer.read_words("owl"), [True, False, False]).looks == ()
    with pytest.raises(ValueError, match="3 concepts, got 2 choices"):
        one.mixed(other, [True, False])


def test_comparisons(explorer, one, index, hasher, bird, collection):
    other_id = f"{NAMES[4]}/1.png"
    other = explorer.read_item(other_id)
    pair, match = Comparison(one, other), hasher.match(bird, collection / other_id)
    assert pair.differing.tolist() == match.differing.tolist() and pair.distance == match.distance > 0
    assert pair.distances == match.distances.tolist()
    words = explorer.read_words("owl")
    assert Comparison(words, other).distance == hamming_distance(words.code, other.code)


def test_a_model_without_concepts(baseline_index, bird, tmp_path):
    """Photos are searched with; there is nothing to see of where it looked."""
    explorer = Explorer(baseline_index, ServedPhotos(baseline_index, tmp_path / "cache"))
    reading = explorer.read_photo(lambda: bird, "a bird")
    assert reading.code.tolist() == baseline_index.hasher.encode(bird)[0].tolist()
    assert reading.looks == () and reading.photo is not None and explorer.proves == ""
    item = explorer.read_item(f"{NAMES[1]}/3.png")
    assert item.code.tolist() == reading.code.tolist() and item.photo == reading.photo
    expected = baseline_index.codes.search(reading.code[None], 24)
    assert [hit.distance for hit in explorer.search(Query(reading)).found] == expected.distances[0].tolist()
    with pytest.raises(ValueError, match="trained by another method than ConceptHash"):
        explorer.describe_concepts()
    explorer.close()


def test_near_duplicates(explorer, index):
    assert explorer.duplicates(1) == index.duplicates(1)


def test_a_photo_that_is_gone_keeps_its_code(hasher, tmp_path):
    birds = write_photos(tmp_path / "birds", 2)
    index = hasher.index(birds)
    explorer = Explorer(index, ServedPhotos(index, tmp_path / "cache"))
    shutil.rmtree(birds)
    id = f"{NAMES[2]}/0.png"
    reading = explorer.read_item(id)
    assert reading.looks == () and reading.code.tolist() == index.codes.get_codes([id])[0].tolist()
    hits = explorer.search(Query(reading)).found
    assert hits[0].distance == 0 and not any(hit.has_picture for hit in hits)
    with pytest.raises(ValueError, match="none of the photos is at hand"):
        explorer.describe_concepts()
    explorer.close()


def test_an_index_of_codes_alone(hasher, tmp_path, one):
    codes = hasher.encode([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)])
    HammingIndex.from_codes(codes, [7, 8], num_bits=12, num_concepts=3).save(tmp_path / "codes")
    index = open_photo_index(tmp_path / "codes", hasher)
    explorer = Explorer(index, ServedPhotos(index, tmp_path / "cache"))
    assert {hit.id for hit in explorer.search(Query(one)).found} == {7, 8}
    assert explorer.facets() == {}
    explorer.close()


def test_a_collection_in_several_indexes(explorer, hasher, index, one, collection, tmp_path):
    """Shows what one index of all shows; so far as it is in databases, less."""
    ids = index.codes.ids
    for start, end in ((0, 15), (15, 40)):
        some = ids[start:end]
        spec = index.codes.spec
        part = HammingIndex.from_codes(
            index.codes.get_codes(some),
            some,
            metadata=index.codes.get_metadata(some),
            num_bits=spec.num_bits,
            num_concepts=spec.num_concepts,
            model_id=spec.model_id,
            revision=spec.revision,
        )
        PhotoIndex(hasher, part, index.source).save(tmp_path / str(start))
    sharded = open_photo_index([tmp_path / "0", tmp_path / "15"], hasher)
    several = Explorer(sharded, ServedPhotos(sharded, tmp_path / "cache"))
    assert several.facets() == explorer.facets() != {}
    assert several.sample(7, seed=1) == explorer.sample(7, seed=1)
    assert several.search(Query(one)) == explorer.search(Query(one))
    assert several.duplicates(1) == explorer.duplicates(1) != []
    assert several.describe_concepts().codes == 40
    several.close()
    with pytest.raises(ValueError, match="are not changed here"):
        sharded.add(collection)


def test_descriptions_of_concepts(explorer):
    described = explorer.describe_concepts()
    assert described is explorer.describe_concepts(), "made once"
    assert described.photos == 24 and described.codes == 40
    assert [about.concept for about in described.concepts] == [0, 1, 2]
    for about in described.concepts:
        assert "Half of what it looks at lies on" in about.place and len(about.crops) == 14

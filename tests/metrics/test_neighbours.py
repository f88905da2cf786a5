import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from concepthash_hf.codes import hamming_distance
from concepthash_hf.metrics import family_metrics, inputs, knn_accuracy


def naive_vote(query, label, database, labels, k):
    """Places at the k-th distance shared evenly, then the decision shared evenly."""
    distances = hamming_distance(query, database)
    last = np.sort(distances)[min(k, len(distances)) - 1]
    tied = distances == last
    share = (min(k, len(distances)) - (distances < last).sum()) / tied.sum()
    classes = range(max(labels.max(), label) + 1)
    votes = [((distances < last) & (labels == c)).sum() + share * (tied & (labels == c)).sum() for c in classes]
    winners = np.isclose(votes, max(votes))
    return winners[label] / winners.sum()


@pytest.mark.parametrize("k", [1, 2, 7, 100, 1000])
def test_vote(random_task, k):
    queries, query_labels, database, labels = random_task
    votes = [naive_vote(q, c, database, labels, k) for q, c in zip(queries, query_labels, strict=True)]
    assert knn_accuracy(*random_task, at=[k])[f"knn_accuracy@{k}"] == pytest.approx(np.mean(votes), abs=1e-12)


def test_vote_without_ties_is_scikit_learns():
    generator = np.random.default_rng(0)
    database = np.packbits(np.tri(65, 64, -1, dtype=bool), axis=1)
    labels, query_labels = generator.integers(0, 2, 65), np.array([0, 1])
    queries = np.zeros((2, 8), dtype=np.uint8)
    classifier = KNeighborsClassifier(5, metric="hamming").fit(np.unpackbits(database, axis=1), labels)
    theirs = classifier.score(np.unpackbits(queries, axis=1), query_labels)
    assert knn_accuracy(queries, query_labels, database, labels, at=[5])["knn_accuracy@5"] == theirs


def test_vote_does_not_know_the_order_of_the_database(random_task):
    queries, query_labels, database, labels = random_task
    order = np.random.default_rng(4).permutation(len(labels))
    assert knn_accuracy(*random_task) == knn_accuracy(queries, query_labels, database[order], labels[order])


def test_a_query_has_no_vote():
    codes = np.array([[0], [1], [1]], dtype=np.uint8)
    ids = [0, 1, 2]
    values = knn_accuracy(codes[:1], [7], codes, [7, 3, 7], at=[1], query_ids=ids[:1], database_ids=ids)
    assert values["knn_accuracy@1"] == 0.5


def test_a_query_has_no_vote_where_all_vote():
    codes = np.array([[0x00], [0x0F]], dtype=np.uint8)
    values = knn_accuracy(codes[:1], [7], codes, [7, 3], at=[5], query_ids=[0], database_ids=[0, 1])
    assert values["knn_accuracy@5"] == 0


def test_where_nobody_votes_nothing_is_right():
    codes = np.array([[0]], dtype=np.uint8)
    assert knn_accuracy(codes, [0], codes, [0], at=[1], query_ids=[0], database_ids=[0])["knn_accuracy@1"] == 0


def test_near_and_last_items_have_one_vote_each():
    codes = np.array([[0x00], [0x01]], dtype=np.uint8)
    assert knn_accuracy(codes[:1], [1], codes, [0, 1], at=[2])["knn_accuracy@2"] == 0.5


def test_a_number_of_neighbours_is_one():
    codes = np.array([[0x00], [0x01]], dtype=np.uint8)
    with pytest.raises(ValueError, match="at counts items"):
        knn_accuracy(codes, [0, 1], codes, [0, 1], at=[0])


def test_vote_needs_one_class_per_item():
    codes = np.array([[0], [1]], dtype=np.uint8)
    with pytest.raises(ValueError, match="one class per query"):
        knn_accuracy(codes, np.eye(2), codes, np.eye(2))


class TestFamilies:
    FAMILIES = [0, 0, 1]

    def test_wrong_neighbours_within_the_family(self):
        database = np.array([[0b0000], [0b0001], [0b1111]], dtype=np.uint8)
        labels = [0, 1, 2]
        # right; wrong but a relative; wrong; tied between the right class and a relative
        queries = np.array([[0b0000], [0b0001], [0b1111], [0b0000]], dtype=np.uint8)
        query_labels = [0, 0, 0, 1]
        values = family_metrics(queries, query_labels, database, labels, self.FAMILIES)
        assert values["precision@1"] == pytest.approx(1 / 4)
        assert values["family_precision@1"] == pytest.approx(3 / 4)
        assert values["wrong_top1_in_family"] == pytest.approx(2 / 3)
        assert values["wrong_top1_in_family_by_chance"] == pytest.approx(1 / 2)

    def test_a_naive_count(self, random_task):
        queries, query_labels, database, labels = random_task
        families = np.array([0, 0, 0, 1, 1, 2, 2])
        wrong = relatives = chance = 0.0
        for query, label in zip(queries, query_labels, strict=True):
            distances = hamming_distance(query, database)
            nearest = labels[distances == distances.min()]
            errors = nearest != label
            wrong += errors.mean()
            relatives += (errors & (families[nearest] == families[label])).mean()
            others = labels[labels != label]
            chance += errors.mean() * (families[others] == families[label]).mean()
        values = family_metrics(*random_task, families)
        assert values["wrong_top1_in_family"] == pytest.approx(relatives / wrong)
        assert values["wrong_top1_in_family_by_chance"] == pytest.approx(chance / wrong)

    def test_no_wrong_neighbour_has_no_family(self):
        codes = np.array([[0], [255]], dtype=np.uint8)
        values = family_metrics(codes, [0, 1], codes, [0, 1], [0, 0])
        assert values["wrong_top1_in_family"] is values["wrong_top1_in_family_by_chance"] is None

    def test_one_wrong_neighbour_has_one(self):
        codes = np.array([[0], [255]], dtype=np.uint8)
        values = family_metrics(codes, [0, 0], codes, [0, 1], [0, 0])
        assert values["wrong_top1_in_family"] == values["wrong_top1_in_family_by_chance"] == 1

    def test_an_item_that_is_left_out_is_not_there(self, random_task):
        _, _, database, labels = random_task
        families, ids = np.array([0, 0, 0, 1, 1, 2, 2]), np.arange(len(labels))
        for query in range(10):
            one = slice(query, query + 1)
            values = family_metrics(
                database[one], labels[one], database, labels, families, query_ids=ids[one], database_ids=ids
            )
            others = np.delete(database, query, axis=0), np.delete(labels, query)
            assert values == pytest.approx(family_metrics(database[one], labels[one], *others, families))

    @pytest.mark.parametrize(
        ("families", "message"),
        [([0, 0], "has 2 entries, but the labels go from 0 to 2"), ([[0], [1]], "class_families must be integers")],
    )
    def test_bad_families(self, families, message):
        codes = np.array([[0], [1], [2]], dtype=np.uint8)
        with pytest.raises(ValueError, match=message):
            family_metrics(codes, [0, 1, 2], codes, [0, 1, 2], families)

    @pytest.mark.parametrize("side", [1, 3])
    def test_bad_labels(self, side):
        codes = np.array([[0], [1]], dtype=np.uint8)
        task = [codes, [0, 1], codes, [0, 1]]
        task[side] = [0.5, 1.0]
        with pytest.raises(ValueError, match="^" + ("query_labels", "database_labels")[side // 2]):
            family_metrics(*task, [0, 1])


def test_chunks_do_not_matter(random_task, monkeypatch):
    before = knn_accuracy(*random_task)
    monkeypatch.setattr(inputs, "PAIRS_PER_CHUNK", 250)
    assert knn_accuracy(*random_task) == pytest.approx(before, abs=1e-15)

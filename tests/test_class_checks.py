import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from concepthash_hf import ConceptHashModel
from concepthash_hf.class_checks import check_distinct_embeddings, coinciding_names, describe_coinciding
from concepthash_hf.language import clean_class_name, embed_class_names
from concepthash_hf.toy_clip import save_toy_clip


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_groups_are_those_of_equal_embeddings(which):
    embeddings = torch.randn(7, 16, generator=torch.Generator().manual_seed(0))[which]
    noise = 1e-7 * torch.randn(len(which), 16, generator=torch.Generator().manual_seed(1))
    names = [f"name {place}" for place in range(len(which))]
    expected = [
        [name for name, kind in zip(names, which, strict=True) if kind == wanted] for wanted in dict.fromkeys(which)
    ]
    assert coinciding_names(embeddings + noise, names) == [group for group in expected if len(group) > 1]


def test_names_close_to_each_other_differ():
    embeddings = torch.randn(2, 512).expand(2, -1).clone()
    embeddings[1] = embeddings[0] + 1e-3
    check_distinct_embeddings(embeddings, ["a", "b"])


@pytest.mark.parametrize("number", [2, 100])
def test_what_differs_by_rounding_alone_coincides_however_many(number):
    """On whatever side of each other; by a matrix product, distances would be off by more than is allowed here."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        nearby = torch.nn.functional.normalize(torch.randn(number, 512, generator=generator), dim=1)
        embeddings = torch.nn.functional.normalize(torch.randn(512, generator=generator), dim=0) + 4.5e-6 * nearby
        names = list(map(str, range(number)))
        assert coinciding_names(embeddings, names) == [names]


def test_a_long_list_of_names_is_cut_and_says_so():
    """Whether the groups are many or one of them is large."""
    assert "'a' = 'b' = 'c' = 'd' = 'e';" in describe_coinciding([list("abcde")])
    assert "'a' = 'b' = 'c' = 'd' = 'e' ...;" in describe_coinciding([list("abcdef")])
    assert "'4' = 'z' ...;" in describe_coinciding([[str(number), "z"] for number in range(6)])


@pytest.mark.parametrize("width", [8, 512])
def test_many_classes(width, monkeypatch):
    """As many as iNaturalist has; of which few are compared with each other."""
    compared, cdist = [], torch.cdist

    def counted(some, others, **kwargs):
        compared.append(len(some) * len(others))
        return cdist(some, others, **kwargs)

    monkeypatch.setattr(torch, "cdist", counted)
    embeddings = torch.randn(10_000, width, generator=torch.Generator().manual_seed(0))
    embeddings[[7, 9999]] = embeddings[5].clone()
    embeddings[42] = embeddings[6000].clone()
    assert coinciding_names(embeddings, list(map(str, range(10_000)))) == [["5", "7", "9999"], ["42", "6000"]]
    assert sum(compared) < 10_000**2 / 100


def test_names_that_a_tokenizer_does_not_know_are_refused(tmp_path):
    """A small tokenizer gives words it has never seen one token; so does a fine-tuned toy model."""
    save_toy_clip(tmp_path, ["azure jay", "red tanager"])
    model = ConceptHashModel.from_clip(tmp_path, class_names=["azure jay", "red tanager"], num_bits=8, adapter_dim=4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    names = ["bolt", "azure jay", "screw", "washer"]
    embeddings = embed_class_names(model.text_model, tokenizer, names)
    with pytest.raises(ValueError, match="one and the same to the text model: 'bolt' = 'screw' = 'washer'"):
        check_distinct_embeddings(embeddings, names)
    check_distinct_embeddings(embeddings[:2], names[:2])


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("100.5 mm", "100.5 mm"),
        ("200.5_mm", "200.5 mm"),
        ("123.456.789", "123.456.789"),
    ],
)
def test_only_the_index_of_cub_is_dropped(name, clean):
    assert clean_class_name(name) == clean

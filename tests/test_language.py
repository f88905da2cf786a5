"""Class names -> prompts -> class embeddings."""

import pytest
import torch
from transformers import AutoTokenizer, CLIPTextModel, T5Config

from concepthash_hf.language import class_prompts, clean_class_name, embed_class_names, load_text_model

CLIPS = ["reference/tiny-clip", "bench/tiny-clip"]
NAMES = ["blue jay", "Acadian flycatcher", "737-300", "a"]


@pytest.fixture(scope="module", params=CLIPS, ids=["reference", "bench"])
def clip_text(request, shared_dir):
    """A text tower and its tokenizer."""
    folder = shared_dir / request.param
    model = CLIPTextModel.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def small_clip_text(shared_dir):
    folder = shared_dir / CLIPS[0]
    return CLIPTextModel.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)


def embed_directly(model: CLIPTextModel, tokenizer, text: str) -> torch.Tensor:
    """What the definition says: the tower's pooled output for one text alone, without padding."""
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).pooler_output[0]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


# names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("200.Common_Yellowthroat", "Common Yellowthroat"),
        ("American_Three_toed_Woodpecker", "American Three toed Woodpecker"),
        ("Chuck_will_Widow", "Chuck will Widow"),
        ("indigo bunting", "indigo bunting"),
        ("737-300", "737-300"),
        ("A340-300", "A340-300"),
        ("F-16A/B", "F-16A/B"),
        ("F/A-18", "F/A-18"),
        ("DC-9-30", "DC-9-30"),
        ("Boeing 717", "Boeing 717"),
        ("BMW M3 Coupe 2012", "BMW M3 Coupe 2012"),
        ("Ram C/V Cargo Van Minivan 2012", "Ram C/V Cargo Van Minivan 2012"),
        ("2012 Fiat 500 Abarth", "2012 Fiat 500 Abarth"),
        ("500", "500"),
        ("007", "007"),
        ("1.8 Turbo", "1.8 Turbo"),
        ("12.Foo", "12.Foo"),
        ("Anna's Hummingbird", "Anna's Hummingbird"),
        ("Brewer's Blackbird (Female/Juvenile)", "Brewer's Blackbird (Female/Juvenile)"),
        ("  two__words ", "two words"),
        ("rosa_canina_L.", "rosa canina L."),
        ("Бородач", "Бородач"),
    ],
)
def test_names_become_words_and_keep_their_digits(name, words):
    assert clean_class_name(name) == words


# prompts


def test_prompts():
    assert class_prompts("001.Blue_Jay") == ["a photo of a Blue Jay"]
    assert class_prompts("blue jay", "a {}, a type of bird") == ["a blue jay, a type of bird"]
    assert class_prompts(["blue jay", "Cyanocitta_cristata"], ["a {}", "the {}"]) == [
        "a blue jay",
        "the blue jay",
        "a Cyanocitta cristata",
        "the Cyanocitta cristata",
    ]


def test_a_name_with_braces_is_taken_literally():
    assert class_prompts("odd {0} name") == ["a photo of a odd {0} name"]


# embeddings


def test_embeddings_are_the_towers_pooled_output_for_the_prompt(clip_text):
    model, tokenizer = clip_text
    embeddings = embed_class_names(model, tokenizer, NAMES)
    assert embeddings.shape == (len(NAMES), model.config.hidden_size)
    assert embeddings.dtype == torch.float32
    assert not embeddings.requires_grad
    for name, embedding in zip(NAMES, embeddings, strict=True):
        close(embedding, embed_directly(model, tokenizer, f"a photo of a {name}"))
    assert len(embeddings.unique(dim=0)) == len(NAMES)


def test_names_are_cleaned_first(small_clip_text):
    embeddings = embed_class_names(*small_clip_text, ["001.Black_footed_Albatross", "Black footed Albatross"])
    close(embeddings[0], embeddings[1])


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_and_padding_change_nothing(small_clip_text, batch_size):
    names = ["a", "a very much longer name of a bird", "bb", "ccc", "a"]
    expected = torch.cat([embed_class_names(*small_clip_text, [name]) for name in names])
    close(embed_class_names(*small_clip_text, names, batch_size=batch_size), expected)


def test_template(small_clip_text):
    model, tokenizer = small_clip_text
    embedding = embed_class_names(model, tokenizer, ["blue jay"], template="a {}, a type of bird")
    close(embedding[0], embed_directly(model, tokenizer, "a blue jay, a type of bird"))


def test_several_names_and_templates_of_a_class_are_averaged(small_clip_text):
    model, tokenizer = small_clip_text
    names = [["blue jay", "jaybird", "Cyanocitta cristata"], "gull", ["tern"]]
    templates = ["a photo of a {}", "a {}"]
    # a batch boundary runs through the first class
    embeddings = embed_class_names(model, tokenizer, names, templates, batch_size=4)
    for embedding, synonyms in zip(embeddings, [names[0], ["gull"], ["tern"]], strict=True):
        texts = [text.replace("{}", synonym) for synonym in synonyms for text in templates]
        close(embedding, torch.stack([embed_directly(model, tokenizer, text) for text in texts]).mean(0))


def test_a_name_longer_than_the_tower_reads_is_cut_at_its_end(small_clip_text):
    model, tokenizer = small_clip_text
    length = model.config.max_position_embeddings
    ids = tokenizer("a photo of a " + "b " * 200, truncation=True, max_length=length, return_tensors="pt")
    assert ids["input_ids"].shape == (1, length)
    with torch.no_grad():
        expected = model(**ids).pooler_output
    close(embed_class_names(model, tokenizer, ["b " * 200]), expected)


def test_a_half_precision_tower_gives_float32(small_clip_text, shared_dir):
    model = CLIPTextModel.from_pretrained(shared_dir / CLIPS[0], dtype=torch.bfloat16)
    embeddings = embed_class_names(model, small_clip_text[1], NAMES)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings, embed_class_names(*small_clip_text, NAMES), rtol=0, atol=0.1)


def test_towers_of_the_first_clips_read_the_largest_id(small_clip_text, shared_dir):
    """Their configs say eos_token_id=2, which stands for that."""
    model, tokenizer = small_clip_text
    first = CLIPTextModel.from_pretrained(shared_dir / CLIPS[0], dtype=torch.float32, eos_token_id=2).eval()
    assert model.config.eos_token_id != 2
    close(embed_class_names(first, tokenizer, NAMES), embed_class_names(model, tokenizer, NAMES))


# bad input


@pytest.mark.parametrize("empty", ["", "  ", "_", "001.", []])
def test_an_empty_name_is_refused(small_clip_text, empty):
    with pytest.raises(ValueError, match="one name that is not empty, got"):
        embed_class_names(*small_clip_text, ["blue jay", empty])


def test_no_names_are_refused(small_clip_text):
    with pytest.raises(ValueError, match="no class names"):
        embed_class_names(*small_clip_text, [])


def test_one_string_instead_of_a_list_is_refused(small_clip_text):
    with pytest.raises(ValueError, match="are a list, got the string 'blue jay'"):
        embed_class_names(*small_clip_text, "blue jay")


@pytest.mark.parametrize("template", ["a photo", "a photo of a {name}", "", ["a {}", "a photo"], []])
def test_a_template_without_a_place_for_the_name_is_refused(small_clip_text, template):
    with pytest.raises(ValueError, match="template"):
        embed_class_names(*small_clip_text, ["blue jay"], template=template)


def test_the_message_about_a_template_shows_it_and_how_it_should_be():
    with pytest.raises(ValueError, match="'my bird'") as error:
        class_prompts("blue jay", "my bird")
    assert "a photo of a {}" in str(error.value)


def test_the_tokenizer_of_another_clip_is_refused(small_clip_text, shared_dir):
    model, tokenizer = small_clip_text
    other = AutoTokenizer.from_pretrained(shared_dir / "bench" / "tiny-clip")
    with pytest.raises(ValueError, match="does not belong to this text tower.*7944.*1000 tokens.*513"):
        embed_class_names(model, other, ["blue jay"])
    larger = CLIPTextModel.from_pretrained(shared_dir / "bench" / "tiny-clip", dtype=torch.float32)
    with pytest.raises(ValueError, match="does not belong to this text tower.*513.*7945 tokens.*7944"):
        embed_class_names(larger, tokenizer, ["blue jay"])


def test_a_text_model_with_a_decoder_is_refused(tmp_path):
    T5Config(d_model=16, num_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="type 't5' cannot be used: it has an encoder and a decoder. Give a CLIP"):
        load_text_model(tmp_path)

"""CSV files in every shape: equal reading, or an error that names the file."""

import csv
import io
import json

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from concepthash_hf.data.text_tables import read_csv, read_json

# everything that can be written down, also quotes, separators and line breaks; cells are compared without the spaces
# around them, which is how labels are read
CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
NAMES = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=6)


@st.composite
def tables(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    rows = draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), min_size=1, max_size=5))
    return names, [row for row in rows if any(cell.strip() for cell in row)]


def as_csv(names, rows, separator, quoting, end):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end)
    writer.writerows([names, *rows])
    return text.getvalue()


@given(
    tables(),
    st.sampled_from(",;\t"),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
)
@example((["0", "1"], [["", "\r0"]]), ",", csv.QUOTE_ALL, "utf-8", "\n")
@example((["0", "1"], [["a\rb", "a\r\nb"]]), ",", csv.QUOTE_ALL, "utf-8", "\n")
def test_what_was_written_is_read(tmp_path_factory, table, separator, quoting, encoding, end):
    names, rows = table
    # before Python 3.13 a carriage return is written without quotes, and is then the end of a line
    assume(quoting == csv.QUOTE_ALL or not any("\r" in cell for row in rows for cell in row))
    if len(names) == 1:
        separator = ","  # nothing tells which it is
    file = tmp_path_factory.mktemp("csv") / "photos.csv"
    file.write_bytes(as_csv(names, rows, separator, quoting, end).encode(encoding))
    if not rows:
        with pytest.raises(ValueError, match="no rows"):
            read_csv(file)
        return
    columns = read_csv(file)
    assert list(columns) == [name.strip() for name in names]
    written = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]
    assert [[cell.strip() for cell in column] for column in columns.values()] == written


@given(st.binary(max_size=60) | st.text("ab,;\"'\t\r\n\0\ufeff 1", max_size=40).map(str.encode))
def test_any_bytes_are_a_table_or_an_error_that_names_the_file(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("csv") / "photos.csv"
    file.write_bytes(content)
    for read in (read_csv, read_json):
        try:
            columns = read(file)
        except ValueError as error:
            assert "photos.csv" in str(error)
        else:
            assert len({len(column) for column in columns.values()}) == 1


@given(st.permutations(["file_name", "species", "split", "place", "number"]), st.sampled_from(",;\t"))
def test_the_order_of_columns_does_not_matter(tmp_path_factory, names, separator):
    file = tmp_path_factory.mktemp("csv") / "photos.csv"
    file.write_text(as_csv(names, [[name.upper() for name in names]] * 2, separator, csv.QUOTE_MINIMAL, "\n"))
    assert read_csv(file) == {name: [name.upper()] * 2 for name in names}


def test_names_of_columns_have_no_spaces_around_them(tmp_path):
    (tmp_path / "photos.tsv").write_text("file_name \t species\n0.png\twren\n")
    assert read_csv(tmp_path / "photos.tsv") == {"file_name": ["0.png"], "species": ["wren"]}


def test_cells_of_hundreds_of_thousands_of_letters(tmp_path):
    (tmp_path / "photos.csv").write_text(f"image,note\n0.png,{'x' * 500_000}\n")
    assert read_csv(tmp_path / "photos.csv")["note"] == ["x" * 500_000]


@given(st.lists(CELLS, min_size=1, max_size=4))
@example(["a\u2028b", "\x85"])
def test_what_was_written_as_json_lines_is_read(tmp_path_factory, cells):
    """Where only a line break parts the lines, and no other character that Unicode counts as one."""
    file = tmp_path_factory.mktemp("json") / "photos.jsonl"
    file.write_text("\n".join(json.dumps({"note": cell}, ensure_ascii=False) for cell in cells), encoding="utf-8")
    assert read_json(file) == {"note": cells}
